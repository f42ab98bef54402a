/* SPDX-License-Identifier: PostgreSQL */
/* See pooler.h. Owns the second connection, and its events; the first is the server's, and so is the deadline of it all. */
#include "pooler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "connect.h"
#include "log.h"

#define QUERY "select pg_catalog.pg_backend_pid()"
/* Both connections, twice. */
#define QUESTIONS 4
#define TRANSACTIONS \
	"it is a pooler that gives each transaction another session (PgBouncer's pool_mode transaction or statement), and such sessions cannot " \
	"be leased: set pool_mode=session for this database, or let conninfo name PostgreSQL itself"

struct pooler {
	struct server *server;
	PGconn *second;
	struct event io, late;
	unsigned asked; /* questions that have been answered */
	uint32_t pid[QUESTIONS];
	bool waits; /* another connection of the pool is being compared: what comes of that counts for this one, too */
	bool is_next; /* it has waited for one that is gone: now it is compared itself, when `late` comes */
	bool alone; /* there is no second connection: the first is asked once more, and then it is to do */
	char why[128];
};

static void
drop(struct server *s)
{
	struct pooler *q = s->pooler;

	event_del(&q->io);
	event_del(&q->late);
	PQfinish(q->second);
	free(q);
	s->pooler = NULL;
}

/* Only then others may wait (is_being_compared). */
static bool
compares(const struct pooler *q)
{
	return q->second != NULL || q->alone || q->is_next;
}

void
pooler_stop(struct server *s)
{
	static const struct timeval at_once = {0};
	struct pool *p = s->pool;
	bool compared;

	if (s->pooler == NULL)
		return;
	compared = compares(s->pooler);
	drop(s);
	/* One of those that wait for it takes its place; not from here: who stops one connection may be about to stop all. */
	for (uint32_t i = 0; compared && i < p->seg.nslots; i++) {
		struct pooler *other = p->server[i].pooler;

		if (other != NULL && other->waits) {
			other->waits = false;
			other->is_next = true;
			evtimer_add(&other->late, &at_once);
			return;
		}
	}
}

static void
tell(struct pooler *q, const char *error)
{
	struct server *s = q->server;

	if (error == NULL)
		s->pid = q->pid[0];
	drop(s);
	connect_asked(s, error);
}

/* `error`: NULL: it can be lent; "": libpq has the words. What it says of the upstream is told to those that wait for that. */
static void
end(struct pooler *q, enum upstream found, const char *error)
{
	struct pool *p = q->server->pool;
	bool compared = compares(q);

	p->upstream = found;
	tell(q, error);
	for (uint32_t i = 0; compared && i < p->seg.nslots; i++) {
		struct pooler *other = p->server[i].pooler;

		if (other != NULL && other->waits)
			tell(other, error == NULL ? NULL : *error != '\0' ? error : "which sessions this pooler gives was not found out");
	}
}

static void
settle_alone(struct pooler *q)
{
	log_event(LOG_LEVEL_WARNING, LOG_ABOUT(ABOUT_POOL(q->server->pool)),
	    "the upstream is a pooler; it is taken to be in session mode, for a second connection to make sure cannot be had: %s", q->why);
	end(q, UPSTREAM_POOLER, NULL);
}

static PGconn *
conn_of(const struct pooler *q)
{
	return q->asked % 2 == 0 ? q->server->conn : q->second;
}

static void on_io(evutil_socket_t fd, short what, void *arg);
static void go_alone(struct pooler *q, const char *why);

static void
watch(struct pooler *q, PGconn *conn, short what)
{
	if (event_assign(&q->io, q->server->pool->context->base, PQsocket(conn), what, on_io, q) != 0 || event_add(&q->io, NULL) != 0)
		end(q, UPSTREAM_UNKNOWN, "the event loop takes no more descriptors");
}

static void
failed(struct pooler *q)
{
	if (conn_of(q) == q->server->conn)
		end(q, UPSTREAM_UNKNOWN, "");
	else
		go_alone(q, PQerrorMessage(q->second));
}

static void
ask(struct pooler *q)
{
	if (PQsendQuery(conn_of(q), QUERY) != 1 || PQflush(conn_of(q)) != 0)
		failed(q);
	else
		watch(q, conn_of(q), EV_READ);
}

/* The same target again, to the address that libpq has found. */
static int
connect_second(struct pooler *q)
{
	PQconninfoOption *options = PQconninfo(q->server->conn);
	const char *keywords[64], *values[64];
	unsigned n = 0;

	for (const PQconninfoOption *o = options; o != NULL && o->keyword != NULL && n < 63; o++) {
		if (o->val == NULL)
			continue;
		keywords[n] = o->keyword;
		values[n++] = o->val;
	}
	keywords[n] = NULL;
	q->second = n != 0 ? PQconnectStartParams(keywords, values, 0) : NULL;
	PQconninfoFree(options);
	return q->second != NULL ? 0 : -ENOMEM;
}

/* Two thirds of connect_timeout are for all that may not come. */
static bool
add_late(struct pooler *q)
{
	uint64_t us = q->server->pool->settings->connect_timeout / 3000;
	struct timeval timeout = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};

	return evtimer_add(&q->late, &timeout) == 0;
}

/*
 * In session mode the first connection still has its backend, and tells it at once. Where each transaction has another, somebody may
 * have that one now: then another pid comes, or nothing for a while.
 */
static void
go_alone(struct pooler *q, const char *why)
{
	snprintf(q->why, sizeof(q->why), "%s", why);
	event_del(&q->io);
	event_del(&q->late);
	PQfinish(q->second);
	q->second = NULL;
	q->alone = true;
	if (q->asked == 3) { /* it has told it twice */
		settle_alone(q);
		return;
	}
	q->asked = 2;
	if (!add_late(q))
		end(q, UPSTREAM_UNKNOWN, "out of memory");
	else
		ask(q);
}

static void
begin_second(struct pooler *q)
{
	if (connect_second(q) != 0 || !add_late(q))
		end(q, UPSTREAM_UNKNOWN, "out of memory");
	else if (PQstatus(q->second) == CONNECTION_BAD)
		failed(q);
	else
		watch(q, q->second, EV_WRITE);
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	struct pooler *q = arg;

	if (q->is_next) {
		q->is_next = false;
		begin_second(q);
		return;
	}
	/* A connection that owes an answer cannot be lent. */
	if (conn_of(q) == q->server->conn)
		end(q, UPSTREAM_UNKNOWN, "it is a pooler that does not answer, or not over the same session");
	else
		go_alone(q, "no answer in a third of connect_timeout");
}

static bool
is_being_compared(const struct pool *p)
{
	for (uint32_t i = 0; i < p->seg.nslots; i++)
		if (p->server[i].pooler != NULL && compares(p->server[i].pooler))
			return true;
	return false;
}

/* Another connection of the pool has this backend, as far as is known: one that hangs up or ends has given it up. */
static bool
is_anothers(const struct server *s, uint32_t pid)
{
	const struct pool *p = s->pool;

	for (uint32_t i = 0; i < p->seg.nslots; i++)
		if (&p->server[i] != s && p->server[i].pid == pid && !p->server[i].hung_up &&
		    (p->server[i].state == SERVER_LENT || p->server[i].state == SERVER_RESETTING))
			return true;
	return false;
}

static void
judge(struct pooler *q)
{
	const struct server *s = q->server;
	const uint32_t *pid = q->pid;

	if (q->asked == 1) {
		if (pid[0] == (uint32_t)PQbackendPID(s->conn))
			end(q, UPSTREAM_DIRECT, NULL);
		else if (is_anothers(s, pid[0]))
			end(q, UPSTREAM_UNKNOWN, TRANSACTIONS);
		else if (s->pool->upstream == UPSTREAM_POOLER)
			end(q, UPSTREAM_POOLER, NULL);
		else if (is_being_compared(s->pool))
			q->waits = true;
		else
			begin_second(q);
	} else if (pid[0] == pid[1] || (q->asked > 2 && pid[q->asked - 1] != pid[q->asked - 3])) {
		end(q, UPSTREAM_UNKNOWN, TRANSACTIONS);
	} else if (q->alone) {
		settle_alone(q);
	} else if (q->asked == QUESTIONS) {
		log_event(LOG_LEVEL_INFO, LOG_ABOUT(ABOUT_POOL(s->pool)), "the upstream is a pooler in session mode");
		end(q, UPSTREAM_POOLER, NULL);
	} else {
		ask(q);
	}
}

/* A result that is there, or the end of an answer. */
static void
read_answer(struct pooler *q)
{
	PGconn *conn = conn_of(q);
	PGresult *result;
	bool has_pid = false;

	if (PQconsumeInput(conn) != 1) {
		failed(q);
		return;
	}
	while (PQisBusy(conn) == 0) {
		result = PQgetResult(conn);
		if (result == NULL) {
			if (!has_pid) {
				failed(q);
				return;
			}
			q->asked++;
			judge(q);
			return;
		}
		if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1) {
			q->pid[q->asked] = (uint32_t)strtoul(PQgetvalue(result, 0, 0), NULL, 10);
			has_pid = true;
		}
		PQclear(result);
	}
	watch(q, conn, EV_READ);
}

static void
on_io(evutil_socket_t fd, short what, void *arg)
{
	struct pooler *q = arg;

	if (q->second == NULL || q->asked != 1 || PQstatus(q->second) == CONNECTION_OK) {
		read_answer(q);
		return;
	}
	switch (PQconnectPoll(q->second)) {
	case PGRES_POLLING_READING:
		watch(q, q->second, EV_READ);
		return;
	case PGRES_POLLING_WRITING:
		watch(q, q->second, EV_WRITE);
		return;
	case PGRES_POLLING_OK:
		ask(q);
		return;
	default:
		failed(q);
		return;
	}
}

int
pooler_ask(struct server *s)
{
	struct pooler *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return -ENOMEM;
	q->server = s;
	s->pooler = q;
	event_assign(&q->io, s->pool->context->base, -1, 0, on_io, q);
	evtimer_assign(&q->late, s->pool->context->base, on_late, q);
	ask(q);
	return 0;
}
