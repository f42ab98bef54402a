/* SPDX-License-Identifier: PostgreSQL */
/* Between two lessees, the client's part. */
#include "reset.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adopt.h"
#include "lease.h"
#include "resets.h"

#define ANSWER_CHUNK 8192
#define CANCEL_LOOK_NS UINT64_C(100000000)
#define PEEK_ROUNDS 8    /* of libpq's reading before we call a session too talkative to be idle */

int
reset_peek(PGconn *conn, bool own)
{
	char byte;

	for (int round = 0; round < PEEK_ROUNDS; round++) {
		ssize_t n = recv(PQsocket(conn), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || !own)
			break;
		/* PQisBusy parses what PQconsumeInput read: notifications, notices, changed parameters. */
		if (!PQconsumeInput(conn) || PQisBusy(conn) || PQstatus(conn) != CONNECTION_OK)
			break;
	}
	return error_set(PGLEASE_EBROKEN, "the idle connection was closed, or has sent what nobody asked for");
}

bool
reset_is_unverified(const struct pool_state *state, uint32_t slot, uint64_t now)
{
	const struct slot *s = &state->seg.slot[slot];

	return atomic_load_explicit(&s->unverified, memory_order_relaxed) != 0 &&
	       clock_since(now, atomic_load_explicit(&s->asked_at, memory_order_relaxed)) >= RESET_CHECK_NS;
}

/* Whole: a partial write is doubt, too. */
static int
send_raw(const struct shell *shell, const uint8_t *message, size_t size)
{
	ssize_t n;

	do
		n = send(PQsocket(shell->conn), message, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)size || size == 0)
		return error_set(PGLEASE_EBROKEN, "the connection does not take a reset");
	return 0;
}

/* The reset's messages. Their size; 0: none, or not to be had. */
static size_t
message_of(const struct pool_state *state, uint32_t slot, enum reset_kind kind, bool ask, uint8_t *message)
{
	char sql[LAYOUT_RESET_SQL];

	resets_sql(&state->seg, sql);
	return resets_message(kind, sql, ask ? segment_baseline(&state->seg, slot) : NULL, message);
}

static void
note_owed(struct pool_state *state, uint32_t slot, uint64_t owed)
{
	atomic_store_explicit(&state->seg.slot[slot].owed, owed, memory_order_relaxed);
}

int
reset_send(struct pool_state *state, uint32_t slot, const struct shell *shell, enum reset_kind kind, bool ask)
{
	uint8_t message[RESETS_MESSAGE];

	note_owed(state, slot, resets_owed(kind, ask ? RESET_ASKED : 0, shell->generation));
	return send_raw(shell, message, message_of(state, slot, kind, ask, message));
}

int
reset_send_with(struct pool_state *state, uint32_t slot, const struct shell *shell, bool owed, enum reset_kind kind,
    bool ask, const struct startup *startup)
{
	uint8_t message[RESETS_MESSAGE + RESETS_QUERY(STARTUP_SQL)];
	size_t size = 0;

	if (owed) {
		note_owed(state, slot,
		    atomic_load_explicit(&state->seg.slot[slot].owed, memory_order_relaxed) | RESET_SETS);
	} else {
		note_owed(state, slot, resets_owed(kind, RESET_SETS | (ask ? RESET_ASKED : 0), shell->generation));
		size = message_of(state, slot, kind, ask, message);
		if (size == 0 && (ask || kind != RESET_NONE))
			return send_raw(shell, message, 0);
	}
	return send_raw(shell, message, size + resets_query(message + size, startup->sql, startup->size));
}

/* As wait_fd. A cancel comes without a word: it is looked for. */
static int
wait_answer(int fd, uint64_t deadline, const _Atomic bool *cancelled)
{
	for (;;) {
		uint64_t until = clock_ns() + CANCEL_LOOK_NS;
		bool last = cancelled == NULL || until >= deadline;
		int n = wait_fd(fd, POLLIN, last ? deadline : until);

		if (n != 0 || last || atomic_load(cancelled))
			return n;
	}
}

int
reset_read(struct pool_state *state, uint32_t slot, const struct shell *shell, uint64_t deadline,
    const _Atomic bool *cancelled, struct startup *startup)
{
	uint64_t owed = atomic_load_explicit(&state->seg.slot[slot].owed, memory_order_relaxed);
	enum reset_kind kind;
	uint32_t flags;
	bool look = true;
	struct resets_answer answer;
	enum answer_verdict verdict = ANSWER_MORE;
	uint8_t buf[ANSWER_CHUNK];
	int fd = PQsocket(shell->conn);

	if (!resets_is_owed(owed, shell->generation, &kind, &flags) || ((flags & RESET_SETS) != 0) != (startup != NULL))
		/* scribbled on */
		return error_set(PGLEASE_EBROKEN, "the slot's kind of reset is not sound");
	resets_answer_init(&answer, &state->seg, slot, segment_baseline(&state->seg, slot), kind, (flags & RESET_ASKED) != 0);
	if (startup != NULL) {
		resets_answer_sets(&answer, &startup->told);
		look = false; /* it was sent only now: what is there is a part */
	}
	while (verdict == ANSWER_MORE) {
		ssize_t n = look ? recv(fd, buf, sizeof(buf), MSG_DONTWAIT) : -1;

		if (n > 0) {
			verdict = resets_answer_feed(&answer, buf, (size_t)n);
			look = n == sizeof(buf);
			continue;
		}
		if (!look)
			errno = EAGAIN;
		look = true;
		if (n == 0)
			return error_set(PGLEASE_EBROKEN, "the server closed the connection during a reset");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return error_set_errno(PGLEASE_EBROKEN, errno, "reading the answer to a reset");
		n = wait_answer(fd, deadline, cancelled);
		if (n == 0) /* half an answer is nobody's */
			return error_set(answer.received.total == 0 ? PGLEASE_ETIMEOUT : PGLEASE_EBROKEN,
			    "the server did not answer a reset in time");
		if (n < 0)
			return error_set_errno(PGLEASE_EBROKEN, (int)-n, "poll");
	}
	if (verdict == ANSWER_BAD)
		return error_set(PGLEASE_EBROKEN, "the server's answer to a reset was not the expected one");
	resets_done(&answer); /* D4 */
	if (kind != RESET_NONE)
		lease_count(state, shell, COUNTER_RESETS_FULL + (enum slot_counter)kind, 1);
	return 0;
}

static const char conforming_name[] = "standard_conforming_strings", encoding_name[] = "client_encoding";

static uint64_t
bit_of(const struct pool_state *state, uint32_t slot, const char *name)
{
	unsigned bit = 0; /* one that the server does not report never changes */

	baseline_find(segment_baseline(&state->seg, slot), name, &bit);
	return UINT64_C(1) << bit;
}

void
reset_remember(const struct pool_state *state, uint32_t slot, struct shell *shell)
{
	shell->encoding = PQclientEncoding(shell->conn);
	shell->encoding_bit = bit_of(state, slot, encoding_name);
	shell->conforming = reset_is_conforming(shell->conn);
	shell->conforming_bit = bit_of(state, slot, conforming_name);
}

uint64_t
reset_off_baseline(const struct pool_state *state, uint32_t slot, const struct shell *shell, bool whole)
{
	uint64_t off = 0;
	const char *name, *value, *believed;
	unsigned bit = 0;

	if (reset_is_conforming(shell->conn) != shell->conforming)
		off |= shell->conforming_bit;
	if (PQclientEncoding(shell->conn) != shell->encoding)
		off |= shell->encoding_bit;
	if (!whole)
		return off;
	for (size_t at = 0; (name = baseline_next(segment_baseline(&state->seg, slot), &at, &value)) != NULL; bit++) {
		believed = PQparameterStatus(shell->conn, name);
		if (believed == NULL || strcmp(believed, value) != 0)
			off |= UINT64_C(1) << (bit < 63 ? bit : 63);
	}
	return off;
}

/* ParameterStatus of each parameter, of those that it may be wrong about, that the PGconn is wrong about. The size; 0: none; more than `size`: no room. */
static size_t
messages(const struct pool_state *state, uint32_t slot, const struct shell *shell, const struct resets_told *told,
    uint8_t *buf, size_t size)
{
	const PGconn *conn = shell->conn;
	const char *name, *value, *believed, *other;
	uint64_t maybe = shell->off | (told != NULL ? told->bits : 0);
	size_t used = 0;
	unsigned place = 0;

	for (size_t at = 0; (name = baseline_next(segment_baseline(&state->seg, slot), &at, &value)) != NULL; place++) {
		uint64_t left = maybe >> (place < 63 ? place : 63);
		size_t n, v;
		uint32_t length;

		if (left == 0)
			break;
		if ((left & 1) == 0)
			continue;
		if (told != NULL && (other = resets_told_find(told, name)) != NULL)
			value = other;
		believed = PQparameterStatus(conn, name);
		if (believed != NULL && strcmp(believed, value) == 0)
			continue;
		n = strlen(name) + 1;
		v = strlen(value) + 1;
		length = htonl((uint32_t)(4 + n + v));
		if (5 + n + v > size - used)
			return size + 1;
		buf[used] = 'S';
		memcpy(buf + used + 1, &length, sizeof(length));
		memcpy(buf + used + 5, name, n);
		memcpy(buf + used + 5 + n, value, v);
		used += 5 + n + v;
	}
	return used;
}

/*
 * libpq takes such a message at any time when it is idle. For the moment of its reading, its socket is one of our own; the
 * server's open file stays open meanwhile, by another number.
 */
static int
say(PGconn *conn, const uint8_t *buf, size_t size)
{
	int pair[2], saved, sock = PQsocket(conn), r = PGLEASE_EBROKEN;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		return PGLEASE_EBROKEN;
	saved = fcntl(sock, F_DUPFD_CLOEXEC, 0);
	if (saved >= 0) {
		if (send(pair[1], buf, size, MSG_NOSIGNAL) == (ssize_t)size && dup3(pair[0], sock, O_CLOEXEC) == sock) {
			if (PQconsumeInput(conn) && !PQisBusy(conn))
				r = 0;
			if (dup3(saved, sock, O_CLOEXEC) != sock)
				r = PGLEASE_EBROKEN;
		}
		close(saved);
	}
	close(pair[0]);
	close(pair[1]);
	return r;
}

int
reset_tell(const struct pool_state *state, uint32_t slot, const struct shell *shell, const struct resets_told *told)
{
	uint8_t buf[LAYOUT_BASELINE * 2];
	size_t size = messages(state, slot, shell, told, buf, sizeof(buf));

	if (size == 0)
		return 0;
	if (size > sizeof(buf) || say(shell->conn, buf, size) != 0 ||
	    messages(state, slot, shell, told, buf, sizeof(buf)) != 0)
		return PGLEASE_EBROKEN;
	return 0;
}

int
reset_run(const struct pool_state *state, PGconn *conn, const char *sql)
{
	uint64_t deadline =
	    clock_ns() + atomic_load_explicit(&state->seg.header->reset_timeout_ns, memory_order_relaxed);
	PGresult *result;
	bool good = true;

	if (!PQsendQuery(conn, sql))
		return PGLEASE_EBROKEN;
	for (;;) {
		while (PQisBusy(conn)) {
			if (wait_fd(PQsocket(conn), POLLIN, deadline) <= 0 || !PQconsumeInput(conn))
				return PGLEASE_EBROKEN;
		}
		if ((result = PQgetResult(conn)) == NULL)
			break;
		good = good && PQresultStatus(result) == PGRES_COMMAND_OK;
		PQclear(result);
	}
	return good && PQtransactionStatus(conn) == PQTRANS_IDLE ? 0 : PGLEASE_EBROKEN;
}

int
reset_settle(struct pool_state *state, PGconn *conn, bool *ret_rolled_back)
{
	if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
		return PGLEASE_EBROKEN;
	/* Non-blocking mode may hold back output; without a query in progress there is none. */
	if (PQisnonblocking(conn) && PQsetnonblocking(conn, 0) != 0)
		return PGLEASE_EBROKEN;
	switch (PQtransactionStatus(conn)) { /* UNKNOWN, too, when PQstatus is not CONNECTION_OK */
	case PQTRANS_IDLE:
		return 0;
	case PQTRANS_INTRANS:
	case PQTRANS_INERROR:
		if (reset_run(state, conn, "ROLLBACK") != 0)
			return PGLEASE_EBROKEN;
		*ret_rolled_back = true;
		return 0;
	default: /* a query, COPY or result in progress; or unknown */
		return PGLEASE_EBROKEN;
	}
}
