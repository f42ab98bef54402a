/* SPDX-License-Identifier: PostgreSQL */
/* See script.h. */
#include "script.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "handoff.h"
#include "it.h"
#include "paths.h"
#include "rows.h"
#include "slots.h"

#define PATIENCE_S 30 /* ends a failing test; no passing one waits for it */

void
script_begin(struct script_packet *p, uint32_t code)
{
	p->size = 4;
	script_put32(p, code);
}

void
script_put(struct script_packet *p, const void *bytes, size_t n)
{
	ck_assert_uint_le(p->size + n, sizeof(p->bytes));
	memcpy(p->bytes + p->size, bytes, n);
	p->size += n;
}

void
script_put32(struct script_packet *p, uint32_t n)
{
	n = htonl(n);
	script_put(p, &n, sizeof(n));
}

void
script_put_text(struct script_packet *p, const char *text)
{
	script_put(p, text, strlen(text) + 1);
}

void
script_end(struct script_packet *p)
{
	uint32_t length = htonl((uint32_t)p->size);

	memcpy(p->bytes, &length, sizeof(length));
}

void
script_code(struct script_packet *p, uint32_t code)
{
	script_begin(p, code);
	script_end(p);
}

void
script_startup(struct script_packet *p, uint32_t version, const char *options)
{
	script_begin(p, version);
	script_put_text(p, "user");
	script_put_text(p, "somebody");
	script_put_text(p, "database");
	script_put_text(p, "something");
	if (options != NULL) {
		script_put_text(p, "options");
		script_put_text(p, options);
	}
	script_put(p, "", 1);
	script_end(p);
}

void
script_cancel(struct script_packet *p, uint32_t pid, const void *key, size_t key_size)
{
	script_begin(p, SCRIPT_CANCEL);
	script_put32(p, pid);
	script_put(p, key, key_size);
	script_end(p);
}

static int
connect_to(const char *path, int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = PATIENCE_S};
	int sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(sock, 0);
	ck_assert_int_eq(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	ck_assert_int_eq(setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	ck_assert_msg(connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0, "%s: %s", path,
	    strerror(errno));
	return sock;
}

int
script_connect_adopt(void)
{
	char path[PATHS_MAX];

	ck_assert_int_eq(paths_adopt_socket(pglease_test_socket_dir(it_env), path, sizeof(path)), 0);
	return connect_to(path, SOCK_STREAM);
}

int
script_connect_control(void)
{
	char path[PATHS_MAX];

	ck_assert_int_eq(paths_control_socket(pglease_test_socket_dir(it_env), path, sizeof(path)), 0);
	return connect_to(path, SOCK_SEQPACKET);
}

void
script_send(int sock, const void *bytes, size_t n)
{
	ck_assert_msg(send(sock, bytes, n, MSG_NOSIGNAL) == (ssize_t)n, "send: %s", strerror(errno));
}

void
script_send_packet(int sock, const struct script_packet *p)
{
	script_send(sock, p->bytes, p->size);
}

static void
receive(int sock, void *buf, size_t n)
{
	ssize_t got = recv(sock, buf, n, MSG_WAITALL);

	ck_assert_msg(got == (ssize_t)n, "%zd of %zu bytes came: %s", got, n,
	    got < 0 ? strerror(errno) : "end of file");
}

void
script_expect(int sock, const void *bytes, size_t n)
{
	uint8_t buf[16384];

	ck_assert_uint_le(n, sizeof(buf));
	receive(sock, buf, n);
	ck_assert_mem_eq(buf, bytes, n);
}

void
script_expect_end(int sock)
{
	char byte;
	ssize_t n = recv(sock, &byte, 1, 0);

	/* A reset is an end too: the broker had not read all that was sent. */
	ck_assert_msg(n == 0 || (n < 0 && errno == ECONNRESET), "not the end: %s",
	    n < 0 ? strerror(errno) : "a byte came");
	close(sock);
}

void
script_expect_error(int sock, const char *sqlstate, const char *word)
{
	char head[] = "SFATAL\0VFATAL\0C?????\0M", body[1024];
	uint32_t length;

	script_expect(sock, "E", 1);
	receive(sock, &length, sizeof(length));
	length = ntohl(length) - 4;
	ck_assert_uint_lt(length, sizeof(body));
	receive(sock, body, length);
	memcpy(memchr(head, '?', sizeof(head)), sqlstate, 5);
	ck_assert_uint_gt(length, sizeof(head));
	ck_assert_mem_eq(body, head, sizeof(head) - 1);
	/* The message's zero, and the one that ends the fields. */
	ck_assert_uint_eq(sizeof(head) - 1 + strlen(body + sizeof(head) - 1) + 2, length);
	ck_assert_int_eq(body[length - 1], '\0');
	ck_assert_msg(
	    strstr(body + sizeof(head) - 1, word) != NULL, "no \"%s\" in: %s", word, body + sizeof(head) - 1);
	script_expect_end(sock);
}

void
script_expect_refusal(int sock, int code, const char *word)
{
	struct wire_error error;
	char text[sizeof(error.text) + 1];
	int fd;

	ck_assert_int_eq(wire_recv(sock, &error, sizeof(error), &fd), sizeof(error));
	ck_assert_int_eq(fd, -1);
	ck_assert(wire_is(&error, sizeof(error), WIRE_ERROR));
	snprintf(text, sizeof(text), "%.*s", (int)sizeof(error.text), error.text);
	ck_assert_msg(error.code == code, "code %d: %s", error.code, text);
	ck_assert_msg(
	    strstr(text, word) != NULL && strchr(text, '\n') == NULL, "no \"%s\" in: %s", word, text);
	script_expect_end(sock);
}

void
script_attach(struct script_client *c)
{
	struct wire_hello hello = {
	    .layout_version = LAYOUT_VERSION, .layout_hash = layout_hash(), .program = "script"};
	struct wire_open open_message = {.pool = "app"};
	uint64_t w;
	int fd, row;

	c->control = script_connect_control();
	wire_header_init(&hello.header, WIRE_HELLO);
	script_send(c->control, &hello, sizeof(hello));
	ck_assert_int_eq(wire_recv(c->control, &c->welcome, sizeof(c->welcome), NULL), sizeof(c->welcome));
	ck_assert(wire_is(&c->welcome, sizeof(c->welcome), WIRE_WELCOME));
	wire_header_init(&open_message.header, WIRE_OPEN);
	script_send(c->control, &open_message, sizeof(open_message));
	ck_assert_int_eq(wire_recv(c->control, &c->pool, sizeof(c->pool), &fd), sizeof(c->pool));
	ck_assert(wire_is(&c->pool, sizeof(c->pool), WIRE_POOL));
	ck_assert_int_eq(segment_map(fd, &c->seg), 0);
	close(fd);
	row = row_claim(&c->seg, c->welcome.client, 0, &w); /* R1 */
	ck_assert_int_ge(row, 0);
	c->row = (uint32_t)row;
}

void
script_detach(struct script_client *c)
{
	uint64_t w = row_load(&c->seg, c->row);
	struct wire_header bye;

	ck_assert(row_free(&c->seg, c->row, &w)); /* R6 */
	wire_header_init(&bye, WIRE_DETACH);
	script_send(c->control, &bye, sizeof(bye));
	script_expect_end(c->control);
	segment_unmap(&c->seg);
}

struct wanted_lease {
	struct script_client *c;
	struct script_claim *claim;
};

static int
lease_one(void *context)
{
	const struct wanted_lease *wanted = context;
	struct script_client *c = wanted->c;
	uint64_t w;
	int slot = slot_find_idle(&c->seg, -1, 0, true, &w);

	if (slot < 0 || !slot_lease(&c->seg, (uint32_t)slot, &w, c->row, c->welcome.client)) /* S6 */
		return 0;
	*wanted->claim = (struct script_claim){
	    .pool = c->pool.pool,
	    .slot = (uint32_t)slot,
	    .client = c->welcome.client,
	    .generation = atomic_load(&c->seg.slot[slot].generation),
	    .sequence = word_seq(w),
	    .word = w,
	};
	atomic_store(&c->seg.slot[slot].leased_at, clock_ns());
	memcpy(wanted->claim->nonce, c->welcome.nonce, sizeof(wanted->claim->nonce));
	return 1;
}

void
script_lease(struct script_client *c, struct script_claim *ret)
{
	struct wanted_lease wanted = {.c = c, .claim = ret};

	/* A script does not queue: it looks until a slot is idle. */
	ck_assert_msg(pglease_test_await(lease_one, &wanted, IT_PATIENCE_MS) == 0, "no slot was idle");
}

void
script_release(struct script_client *c, struct script_claim *claim)
{
	/* S8, S9 */
	ck_assert_int_ne(
	    handoff_give(&c->seg, claim->slot, &claim->word, c->welcome.client, SLOT_DIRTY, clock_ns()),
	    HANDOFF_LOST);
}

void
script_claim_packet(struct script_packet *p, uint32_t version, const struct script_claim *claim)
{
	static uint64_t attempts;
	char nonce[2 * WIRE_NONCE + 1], options[256];

	for (unsigned i = 0; i < WIRE_NONCE; i++)
		snprintf(nonce + 2 * i, 3, "%02x", claim->nonce[i]);
	snprintf(options, sizeof(options), WIRE_ADOPT_FORMAT, claim->pool, claim->slot, claim->generation,
	    claim->sequence, claim->client, claim->attempt != 0 ? claim->attempt : ++attempts, nonce);
	script_startup(p, version, options);
}

/* A message of the server's: type, length, body. */
static void
put_message(struct script_packet *p, char type, const void *body, size_t n)
{
	script_put(p, &type, 1);
	script_put32(p, (uint32_t)(4 + n));
	script_put(p, body, n);
}

void
script_expect_welcome(
    int sock, const struct script_client *c, const struct script_claim *claim, uint32_t *ret_key)
{
	struct script_packet expected = {.size = 0};
	const char *at = segment_baseline(&c->seg, claim->slot);
	uint32_t key;

	put_message(&expected, 'R', "\0\0\0", 4);
	while (*at != '\0') {
		size_t n = strlen(at) + 1;

		n += strlen(at + n) + 1;
		put_message(&expected, 'S', at, n);
		at += n;
	}
	script_put(&expected, "K\0\0\0\x0c", 5);
	script_put32(&expected, atomic_load(&c->seg.slot[claim->slot].server_pid));
	script_expect(sock, expected.bytes, expected.size);
	receive(sock, &key, sizeof(key));
	ck_assert_uint_ne(key, 0);
	script_expect(sock, "Z\0\0\0\x05I", 6);
	if (ret_key != NULL)
		*ret_key = key;
}

char
script_answer(int sock, int *ret_fd)
{
	char byte = 0;

	ck_assert_int_eq(wire_recv(sock, &byte, 1, ret_fd), 1);
	return byte;
}

int
script_take_descriptor(int sock)
{
	int fd;

	script_send(sock, WIRE_FD_REQUEST, strlen(WIRE_FD_REQUEST));
	ck_assert_int_eq(script_answer(sock, &fd), WIRE_FD_OK);
	ck_assert_int_ge(fd, 0);
	script_expect_end(sock);
	return fd;
}

uint64_t
script_counter(const struct script_client *c, enum broker_counter counter)
{
	return counter_get(&c->seg.header->broker_counter[counter]);
}
