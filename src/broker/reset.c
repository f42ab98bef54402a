/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's reset: the pool's own, raw as lessees send it, or the answer to one that a lessee has sent; before it a
 * ROLLBACK where the session is in doubt; with it a question after the values of all baseline parameters (the broker's
 * PGconn has not heard what the server reported to the lessee). A keepalive of a clean session is an empty query
 * instead, with the same care. Owns the io and deadline events of a server that is RESETTING.
 */
#include "reset.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "params.h"
#include "resets.h"
#include "server.h"
#include "word.h"

enum step { STEP_ROLLBACK, STEP_RESET, STEP_NOTHING };

#define UNEXPECTED "the server's answer is not the expected one"

static void advance(struct server *s);

static void
done(struct server *s, const char *error)
{
	reset_stop(s);
	server_was_reset(s, error);
}

void
reset_stop(struct server *s)
{
	event_del(&s->io);
	event_del(&s->deadline);
}

/* D1. */
static bool
send_reset(struct server *s)
{
	const struct pool *p = s->pool;
	uint8_t message[RESETS_MESSAGE];
	enum reset_kind kind = resets_kind(&p->seg);
	size_t size = resets_message(kind, p->settings->reset_sql, s->baseline, message);

	resets_answer_init(&s->answer, &p->seg, s->slot, s->baseline, kind, true);
	return size != 0 && send(PQsocket(s->conn), message, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

static bool
send_step(struct server *s)
{
	s->reset_results = 0;
	switch ((enum step)s->reset_step) {
	case STEP_ROLLBACK:
		return PQsendQuery(s->conn, "ROLLBACK") != 0;
	case STEP_RESET:
		return send_reset(s);
	case STEP_NOTHING:
		return PQsendQuery(s->conn, "") != 0;
	}
	return false;
}

/* Whether a result is the one and only that the step may give. */
static bool
is_expected(struct server *s, PGresult *result)
{
	if (s->reset_results++ != 0)
		return false;
	switch ((enum step)s->reset_step) {
	case STEP_ROLLBACK:
		return PQresultStatus(result) == PGRES_COMMAND_OK &&
		       strcmp(PQcmdStatus(result), "ROLLBACK") == 0;
	case STEP_RESET: /* not by libpq */
		break;
	case STEP_NOTHING:
		return PQresultStatus(result) == PGRES_EMPTY_QUERY;
	}
	return false;
}

/* D3: the answer to a raw reset. */
static void
read_answer(struct server *s)
{
	uint8_t buf[4096];
	ssize_t n = recv(PQsocket(s->conn), buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	switch (n <= 0 ? RESETS_BAD : resets_answer_feed(&s->answer, buf, (size_t)n)) {
	case RESETS_MORE:
		return;
	case RESETS_BAD:
		done(s, n <= 0 ? "the connection is lost" : UNEXPECTED);
		return;
	case RESETS_DONE:
		resets_done(&s->answer); /* D4 */
		/* A lessee that has gone has set what it wanted: once more. */
		if (!s->answer.sets)
			done(s, NULL);
		else if (!send_reset(s))
			done(s, "the connection is lost");
		return;
	}
}

static void
on_io(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;

	if (s->reset_step == STEP_RESET) {
		read_answer(s);
		return;
	}
	if ((what & EV_WRITE) != 0 && PQflush(s->conn) < 0) {
		done(s, "the connection is lost");
		return;
	}
	if ((what & EV_READ) != 0 && !PQconsumeInput(s->conn)) {
		done(s, "the connection is lost");
		return;
	}
	advance(s);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	done(arg, "no answer within reset_timeout");
}

static void
watch(struct server *s)
{
	int unsent = PQflush(s->conn);
	short what = (short)(EV_READ | (unsent > 0 ? EV_WRITE : 0) | (s->reset_step == STEP_RESET ? EV_PERSIST : 0));

	if (unsent < 0 ||
	    event_assign(&s->io, s->pool->context->base, PQsocket(s->conn), what, on_io, s) != 0 ||
	    event_add(&s->io, NULL) != 0)
		done(s, "the connection is lost");
}

static void
advance(struct server *s)
{
	const char *name;

	while (!PQisBusy(s->conn)) {
		PGresult *result = PQgetResult(s->conn);
		PGnotify *notify;
		bool expected;

		if (result != NULL) {
			expected = is_expected(s, result);
			PQclear(result);
			if (!expected) {
				done(s, UNEXPECTED);
				return;
			}
			continue;
		}
		while ((notify = PQnotifies(s->conn)) != NULL)
			PQfreemem(notify); /* of the lessee's LISTEN, sent before it was discarded */
		if (s->reset_results != 1 || PQtransactionStatus(s->conn) != PQTRANS_IDLE) {
			done(s, UNEXPECTED);
			return;
		}
		if (s->reset_step == STEP_NOTHING) {
			if (params_equal(s->baseline, s->baseline_size, s->conn, &name))
				done(s, NULL);
			else
				done(s, "its parameters are not those of its baseline any more");
			return;
		}
		s->reset_step = STEP_RESET; /* after STEP_ROLLBACK */
		if (!send_step(s)) {
			done(s, "the connection is lost");
			return;
		}
		break;
	}
	watch(s);
}

void
reset_start(struct server *s)
{
	uint64_t ns = s->pool->settings->reset_timeout;
	struct timeval timeout = {
	    .tv_sec = (time_t)(ns / UINT64_C(1000000000)),
	    .tv_usec = (suseconds_t)(ns % UINT64_C(1000000000) / 1000),
	};
	uint64_t owed = atomic_load_explicit(&s->pool->seg.slot[s->slot].owed, memory_order_relaxed);
	enum reset_kind kind;
	uint32_t flags;
	char byte;

	event_assign(&s->io, s->pool->context->base, -1, 0, on_io, s);
	evtimer_assign(&s->deadline, s->pool->context->base, on_deadline, s);
	/* Anything that waits in the stream, but an answer that is owed, belongs to the lease that has ended: in doubt. */
	if (s->session != SLOT_OWED && (recv(PQsocket(s->conn), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
					   (errno != EAGAIN && errno != EWOULDBLOCK))) {
		done(s, "the session has unread answers");
		return;
	}
	if (PQsetnonblocking(s->conn, 1) != 0 || evtimer_add(&s->deadline, &timeout) != 0) {
		done(s, "the connection is lost");
		return;
	}
	if (s->session == SLOT_OWED) {
		s->reset_step = STEP_RESET;
		if (!resets_is_owed(owed, s->generation, &kind, &flags)) {
			done(s, "a client has written over its slot");
			return;
		}
		resets_answer_init(&s->answer, &s->pool->seg, s->slot, s->baseline, kind, (flags & RESET_ASKED) != 0);
		if ((flags & RESET_SETS) != 0)
			resets_answer_sets(&s->answer, NULL);
	} else {
		s->reset_step = s->in_doubt ? STEP_ROLLBACK : s->session == SLOT_DIRTY ? STEP_RESET : STEP_NOTHING;
		if (!send_step(s)) {
			done(s, "the connection is lost");
			return;
		}
	}
	watch(s);
}
