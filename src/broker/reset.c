/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's reset: the pool's own, raw as lessees send it, or the answer to one that a lessee has sent; before it a
 * ROLLBACK where the session is in doubt; with it a question after the values of all baseline parameters (the broker has
 * not heard what the server reported to the lessee). A keepalive of a clean session is an empty query instead, with the
 * same care. Owns the io and deadline events of a server that is RESETTING.
 */
#include "reset.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "resets.h"
#include "server.h"
#include "word.h"

enum step { STEP_ROLLBACK, STEP_RESET, STEP_NOTHING };

#define UNEXPECTED "the server's answer is not the expected one"
#define OTHER_PARAMETERS "its parameters are not those of its baseline any more"
#define LOST "the connection is lost"

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

/* They fit into an idle session's buffer: a socket that takes less has something wrong. */
static bool
send_whole(const struct server *s, const uint8_t *message, size_t size)
{
	return size != 0 && send(s->backend.fd, message, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
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
	return send_whole(s, message, size);
}

static bool
send_query(struct server *s, const char *sql, const char *baseline)
{
	uint8_t message[RESETS_QUERY(16)];

	plain_answer_init(&s->plain, sql, baseline);
	return send_whole(s, message, resets_query(message, sql, strlen(sql)));
}

static bool
send_step(struct server *s)
{
	switch ((enum step)s->reset_step) {
	case STEP_ROLLBACK:
		return send_query(s, "ROLLBACK", NULL);
	case STEP_RESET:
		return send_reset(s);
	case STEP_NOTHING:
		return send_query(s, "", s->baseline);
	}
	return false;
}

/* What follows the step whose answer has been read. */
static void
step_is_done(struct server *s)
{
	switch ((enum step)s->reset_step) {
	case STEP_NOTHING:
		done(s, s->plain.off_baseline ? OTHER_PARAMETERS : NULL);
		return;
	case STEP_ROLLBACK:
		s->reset_step = STEP_RESET;
		break;
	case STEP_RESET:
		resets_done(&s->answer); /* D4 */
		/* A lessee that has gone has set what it wanted: once more. */
		if (!s->answer.sets) {
			done(s, NULL);
			return;
		}
		break;
	}
	if (!send_step(s))
		done(s, LOST);
}

/* D3, of a reset. */
static void
on_io(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	uint8_t buf[4096];
	ssize_t n = recv(s->backend.fd, buf, sizeof(buf), MSG_DONTWAIT);
	enum answer_verdict verdict;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		done(s, LOST);
		return;
	}
	verdict = s->reset_step == STEP_RESET ? resets_answer_feed(&s->answer, buf, (size_t)n)
					      : plain_answer_feed(&s->plain, buf, (size_t)n);
	if (verdict == ANSWER_BAD)
		done(s, UNEXPECTED);
	else if (verdict == ANSWER_DONE)
		step_is_done(s);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	done(arg, "no answer within reset_timeout");
}

static bool
watch(struct server *s, uint64_t timeout_ns)
{
	struct timeval timeout = {
	    .tv_sec = (time_t)(timeout_ns / UINT64_C(1000000000)),
	    .tv_usec = (suseconds_t)(timeout_ns % UINT64_C(1000000000) / 1000),
	};

	evtimer_assign(&s->deadline, s->pool->context->base, on_deadline, s);
	return event_assign(&s->io, s->pool->context->base, s->backend.fd, EV_READ | EV_PERSIST, on_io, s) == 0 &&
	       event_add(&s->io, NULL) == 0 && evtimer_add(&s->deadline, &timeout) == 0;
}

void
reset_start(struct server *s)
{
	uint64_t owed = atomic_load_explicit(&s->pool->seg.slot[s->slot].owed, memory_order_relaxed);
	enum reset_kind kind;
	uint32_t flags;
	char byte;

	if (!watch(s, s->pool->settings->reset_timeout)) {
		done(s, "the event loop takes no more descriptors");
		return;
	}
	/* Anything that waits in the stream, but an answer that is owed, belongs to the lease that has ended: in doubt. */
	if (s->session != SLOT_OWED && (recv(s->backend.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
					   (errno != EAGAIN && errno != EWOULDBLOCK))) {
		done(s, "the session has unread answers");
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
		return;
	}
	s->reset_step = s->in_doubt ? STEP_ROLLBACK : s->session == SLOT_DIRTY ? STEP_RESET : STEP_NOTHING;
	if (!send_step(s))
		done(s, LOST);
}
