/* SPDX-License-Identifier: PostgreSQL */
/*
 * Between two lessees. Messages: PostgreSQL's protocol 3, "Message Formats".
 */
#include "reset.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "adopt.h"

#define ANSWER_MAX 65536 /* bytes of an answer to DISCARD ALL, with whatever notices and notifications precede it */
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

/* The answer, a message at a time. */
struct answer {
	int fd;
	uint64_t deadline;
	size_t total; /* bytes read in all */
};

static int
answer_read(struct answer *a, void *buf, size_t size)
{
	for (size_t got = 0; got < size;) {
		ssize_t n = recv(a->fd, (char *)buf + got, size - got, MSG_DONTWAIT);

		if (n > 0) {
			got += (size_t)n;
			a->total += (size_t)n;
			continue;
		}
		if (n == 0)
			return error_set(PGLEASE_EBROKEN, "the server closed the connection during a reset");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return error_set_errno(PGLEASE_EBROKEN, errno, "reading the answer to a reset");
		n = wait_fd(a->fd, POLLIN, a->deadline);
		if (n == 0)
			return error_set(PGLEASE_ETIMEOUT, "the server did not answer a reset in time");
		if (n < 0)
			return error_set_errno(PGLEASE_EBROKEN, (int)-n, "poll");
	}
	return 0;
}

/* What PQescape* depends on: bit i of struct slot.off_baseline is entry i. */
static const char *const escaping[] = {"standard_conforming_strings", "client_encoding"};
#define ESCAPING (sizeof(escaping) / sizeof(escaping[0]))

bool
reset_conforming(const PGconn *conn)
{
	const char *value = PQparameterStatus(conn, escaping[0]);

	return value != NULL && strcmp(value, "on") == 0;
}

uint32_t
reset_off_baseline(const struct shell *shell)
{
	return (uint32_t)(reset_conforming(shell->conn) != shell->conforming) << 0 |
	       (uint32_t)(PQclientEncoding(shell->conn) != shell->encoding) << 1;
}

/* name\0value\0 of a ParameterStatus against the slot's baseline; then its bit goes from *off. */
static bool
is_baseline(const struct pool_state *state, uint32_t slot, const char *body, size_t size, uint32_t *off)
{
	const char *value = memchr(body, 0, size), *baseline;

	if (value == NULL || ++value == body + size || body[size - 1] != '\0')
		return false;
	baseline = segment_baseline_value(&state->seg, slot, body);
	for (size_t i = 0; i < ESCAPING; i++)
		if (strcmp(body, escaping[i]) == 0)
			*off &= ~(1u << i);
	return baseline != NULL && strcmp(value, baseline) == 0;
}

/* Only the exact answer: CommandComplete, then ReadyForQuery outside a transaction; asynchronous messages in between. */
static int
answer_check(const struct pool_state *state, uint32_t slot, struct answer *a)
{
	static const char tag[] = "DISCARD ALL";
	bool complete = false;
	/* What the last lessee saw changed, and this reset has not put back: changed by the server itself. */
	uint32_t off = atomic_load_explicit(&state->seg.slot[slot].off_baseline, memory_order_relaxed);

	for (;;) {
		char type, body[1024];
		uint32_t length;
		int r;

		if ((r = answer_read(a, &type, 1)) != 0 || (r = answer_read(a, &length, 4)) != 0)
			return r;
		length = ntohl(length);
		if (length < 4 || length - 4 > sizeof(body) || a->total + length > ANSWER_MAX)
			break;
		length -= 4;
		if ((r = answer_read(a, body, length)) != 0)
			return r;
		switch (type) {
		case 'N': /* NoticeResponse */
		case 'A': /* NotificationResponse, of a LISTEN that ends with this reset */
			continue;
		case 'S': /* ParameterStatus */
			if (!is_baseline(state, slot, body, length, &off))
				break;
			continue;
		case 'C': /* CommandComplete */
			if (complete || length != sizeof(tag) || memcmp(body, tag, sizeof(tag)) != 0)
				break;
			complete = true;
			continue;
		case 'Z': /* ReadyForQuery */
			if (!complete || length != 1 || body[0] != 'I' || off != 0)
				break;
			return 0;
		default:
			break;
		}
		break;
	}
	return error_set(PGLEASE_EBROKEN, "the server's answer to a reset was not the expected one");
}

int
reset_session(struct pool_state *state, uint32_t slot, PGconn *conn, uint64_t deadline)
{
	static const char query[] = "Q\0\0\0\020DISCARD ALL"; /* length 16: itself, the text and its zero */
	struct answer a = {.fd = PQsocket(conn), .deadline = deadline};
	ssize_t n;
	int r;

	static_assert(sizeof(query) == 17, "Query message");
	do
		n = send(a.fd, query, sizeof(query), MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(query)) /* a partial write is doubt, too */
		return error_set(PGLEASE_EBROKEN, "the connection does not take a reset");
	r = answer_check(state, slot, &a);
	if (r == 0)
		atomic_store_explicit(&state->seg.slot[slot].off_baseline, 0, memory_order_relaxed);
	return r != 0 ? r : reset_peek(conn, false);
}

bool
reset_agrees(const struct pool_state *state, uint32_t slot, const PGconn *conn)
{
	const char *at = segment_baseline(&state->seg, slot), *end = at + LAYOUT_BASELINE;

	while (at < end && *at != '\0') {
		const char *value = memchr(at, 0, (size_t)(end - at)), *next, *believed;

		if (value == NULL || (next = memchr(value + 1, 0, (size_t)(end - value - 1))) == NULL)
			return false;
		believed = PQparameterStatus(conn, at);
		if (believed == NULL || strcmp(believed, value + 1) != 0)
			return false;
		at = next + 1;
	}
	return true;
}

/* One command through libpq, within the pool's reset_timeout. */
static int
run(PGconn *conn, const char *sql, uint64_t deadline)
{
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
	return good ? 0 : PGLEASE_EBROKEN;
}

void
reset_conn(const struct shell *shell)
{
	PGnotify *notify;

	PQsetNoticeReceiver(shell->conn, shell->notice_receiver, NULL);
	PQsetNoticeProcessor(shell->conn, shell->notice_processor, NULL);
	PQsetErrorVerbosity(shell->conn, PQERRORS_DEFAULT);
	PQsetErrorContextVisibility(shell->conn, PQSHOW_CONTEXT_ERRORS);
	PQuntrace(shell->conn);
	while ((notify = PQnotifies(shell->conn)) != NULL)
		PQfreemem(notify);
}

int
reset_settle(struct pool_state *state, PGconn *conn, bool *ret_rolled_back)
{
	if (PQstatus(conn) != CONNECTION_OK || PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
		return PGLEASE_EBROKEN;
	/* Non-blocking mode may hold back output; without a query in progress there is none. */
	if (PQisnonblocking(conn) && PQsetnonblocking(conn, 0) != 0)
		return PGLEASE_EBROKEN;
	switch (PQtransactionStatus(conn)) {
	case PQTRANS_IDLE:
		return 0;
	case PQTRANS_INTRANS:
	case PQTRANS_INERROR:
		if (run(conn, "ROLLBACK",
			clock_ns() +
			    atomic_load_explicit(&state->seg.header->reset_timeout_ns, memory_order_relaxed)) != 0 ||
		    PQtransactionStatus(conn) != PQTRANS_IDLE)
			return PGLEASE_EBROKEN;
		*ret_rolled_back = true;
		return 0;
	default: /* a query, COPY or result in progress; or unknown */
		return PGLEASE_EBROKEN;
	}
}
