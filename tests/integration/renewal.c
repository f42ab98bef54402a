/* SPDX-License-Identifier: PostgreSQL */
#include "renewal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handoff.h"
#include "it.h"

struct renewal renewal;

/* Attached, with a lease and its connection's descriptor. */
void
renewal_adopt(struct script_client *c, struct script_claim *of)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	of->attempt = ATTEMPT;
	script_claim_packet(&p, SCRIPT_3_0, of);
	script_send_packet(sock, &p);
	script_expect_welcome(sock, c, of, NULL);
	renewal.descriptor = script_take_descriptor(sock);
}

void
renewal_begin(const char *extra)
{
	it_leaks_on_purpose = true; /* what a lost connection leaves with its client, by the script */
	it_start(1, 1, extra);
	script_attach(&renewal.client);
	script_lease(&renewal.client, &renewal.claim);
	renewal_adopt(&renewal.client, &renewal.claim);
}

/* What PQreset sends to the broker. */
int
renewal_ask(const struct script_claim *of)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	script_claim_packet(&p, SCRIPT_3_0, of);
	script_send_packet(sock, &p);
	return sock;
}

uint64_t
renewal_generation(void)
{
	return atomic_load(&renewal.client.seg.slot[renewal.claim.slot].generation);
}

unsigned
renewal_flags(void)
{
	return word_flags(slot_load(&renewal.client.seg, renewal.claim.slot));
}

struct wanted_word {
	bool (*is)(uint64_t w);
};

static int
word_is(void *context)
{
	const struct wanted_word *wanted = context;

	return wanted->is(slot_load(&renewal.client.seg, renewal.claim.slot));
}

void
renewal_await_word(bool (*is)(uint64_t w), const char *what)
{
	struct wanted_word wanted = {.is = is};

	ck_assert_msg(pglease_test_await(word_is, &wanted, IT_PATIENCE_MS) == 0, "the word never was %s", what);
}

bool
renewal_is_not_leased(uint64_t w)
{
	return word_state(w) != SLOT_LEASED;
}

bool
renewal_is_cancelling(uint64_t w)
{
	return word_state(w) == SLOT_LEASED && (word_flags(w) & SLOT_CANCELLING) != 0;
}

bool
renewal_is_retired(uint64_t w)
{
	return word_state(w) == SLOT_LEASED && (word_flags(w) & SLOT_RETIRE) != 0;
}

/* PostgreSQL answers on it. */
void
renewal_assert_serves(int fd)
{
	static const char query[] = "Q\0\0\0\x0dselect 7\0";
	static const uint8_t end[] = {'Z', 0, 0, 0, 5, 'I'};
	uint8_t answer[512];
	size_t at = 0;

	script_send(fd, query, sizeof(query) - 1);
	while (at < sizeof(end) || memcmp(answer + at - sizeof(end), end, sizeof(end)) != 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		ck_assert_int_eq(poll(&p, 1, 30000), 1);
		n = recv(fd, answer + at, sizeof(answer) - at, MSG_DONTWAIT);
		ck_assert_int_gt(n, 0);
		at += (size_t)n;
	}
	ck_assert_int_eq(answer[0], 'T');
}

/* The connection behind it has ended, for whoever holds it. */
void
renewal_assert_fenced(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;

	ck_assert_int_eq(poll(&p, 1, 30000), 1);
	ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	ck_assert_int_eq(send(fd, "X", 1, MSG_NOSIGNAL), -1);
	ck_assert_int_eq(errno, EPIPE);
	close(fd);
}

/* What the segment says of the slot is another connection's when the answer has come. */
void
renewal_expect_welcome(int sock, uint32_t *ret_key)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};

	ck_assert_int_eq(poll(&p, 1, 30000), 1);
	script_expect_welcome(sock, &renewal.client, &renewal.claim, ret_key);
}

/* The other connection, in the claim that names it from now on. */
static void
expect_renewed(int sock, unsigned most)
{
	uint64_t before = renewal.claim.generation;

	renewal_expect_welcome(sock, NULL);
	renewal.claim.generation = renewal_generation();
	ck_assert_uint_gt(renewal.claim.generation, before);
	ck_assert_uint_le(renewal.claim.generation, before + most);
	ck_assert_uint_eq(slot_load(&renewal.client.seg, renewal.claim.slot), word_with_flags(renewal.claim.word, 0));
	renewal.descriptor = script_take_descriptor(sock);
	renewal_assert_serves(renewal.descriptor);
}

void
renewal_expect_renewed(int sock)
{
	expect_renewed(sock, 1);
}

void
renewal_expect_renewed_after_abandoned(int sock)
{
	expect_renewed(sock, 2);
}

void
renewal_stop_server(void)
{
	renewal.stopped = pglease_test_server_pid(it_env);
	ck_assert_int_eq(kill(renewal.stopped, SIGSTOP), 0);
}

void
renewal_continue_server(void)
{
	ck_assert_int_eq(kill(renewal.stopped, SIGCONT), 0);
}

/* Under way: the old connection is closed, the other one not made. */
int
renewal_ask_and_await(const struct script_claim *of)
{
	int sock = renewal_ask(of);

	/* N1; the broker does N2 in the same step. The log would not do: an earlier renewal may have said the same. */
	renewal_await_word(renewal_is_retired, "wanted back");
	return sock;
}

void
renewal_give_back(void)
{
	uint64_t w = slot_load(&renewal.client.seg, renewal.claim.slot);

	ck_assert(slot_return(&renewal.client.seg, renewal.claim.slot, &w, 0)); /* S10 */
}

/* Somebody else's lease is as if nothing had been. */
void
renewal_assert_recovered(void)
{
	pglease_pool *pool = it_attach();
	pglease_stats stats;
	pglease_lease lease;

	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.total, 1);
	ck_assert_uint_eq(stats.idle, 1);
}
