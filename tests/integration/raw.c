/* SPDX-License-Identifier: PostgreSQL */
/* See raw.h. */
#include "raw.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "it.h"

int
raw_adopt(const struct script_client *c, const struct script_claim *claim, struct raw_key *ret)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	script_claim_packet(&p, SCRIPT_3_0, claim);
	script_send_packet(sock, &p);
	script_expect_welcome(sock, c, claim, &ret->key);
	ret->pid = atomic_load(&c->seg.slot[claim->slot].server_pid);
	return script_take_descriptor(sock);
}

void
raw_send_cancel(int sock, const struct raw_key *key)
{
	struct script_packet p;

	script_cancel(&p, key->pid, &key->key, sizeof(key->key));
	script_send_packet(sock, &p);
}

/* The answer is the connection's end: when the server has been told, or at once. */
void
raw_cancel(const struct raw_key *key)
{
	int sock = script_connect_adopt();

	raw_send_cancel(sock, key);
	script_expect_end(sock);
}

/* A connection that the broker has accepted, for it has answered. libpq 17 and later cancel so, when they want encryption. */
int
raw_connect_accepted(void)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	script_code(&p, SCRIPT_SSL);
	script_send_packet(sock, &p);
	script_expect(sock, "N", 1);
	return sock;
}

void
raw_start_query(int fd, const char *sql)
{
	struct script_packet p = {.size = 0};

	script_put(&p, "Q", 1);
	script_put32(&p, (uint32_t)(4 + strlen(sql) + 1));
	script_put_text(&p, sql);
	script_send_packet(fd, &p);
}

bool
raw_is_answered(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

/* Up to ReadyForQuery. Whether it was cancelled. */
bool
raw_read_answer(int fd)
{
	static const uint8_t end[] = {'Z', 0, 0, 0, 5, 'I'};
	char answer[2048];
	size_t at = 0;

	while (at < sizeof(end) || memcmp(answer + at - sizeof(end), end, sizeof(end)) != 0) {
		ssize_t n;

		/* Not blocking: that belongs to the connection, and so to all who hold it. */
		ck_assert(raw_is_answered(fd, 30000));
		n = recv(fd, answer + at, sizeof(answer) - at, MSG_DONTWAIT);
		ck_assert_int_gt(n, 0);
		at += (size_t)n;
	}
	return memmem(answer, at, "C57014", 7) != NULL;
}
