/* SPDX-License-Identifier: PostgreSQL */
/*
 * Opening server connections. Owns the io and deadline events, and the trace, of a server that is CONNECTING.
 * (libpq resolves host names while it connects, and that blocks.)
 */
#include "connect.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "params.h"
#include "server.h"

static void
fail(struct server *s, const char *error)
{
	connect_stop(s);
	server_connect_failed(s, error);
}

void
connect_stop(struct server *s)
{
	event_del(&s->io);
	event_del(&s->deadline);
	params_free(s->params, s->conn);
	s->params = NULL;
}

/* Notices are no events of the broker's; libpq would print them to stderr. */
static void
drop_notice(void *arg, const PGresult *result)
{
	log_debug("notice from a server: %s", PQresultErrorMessage(result));
}

/* The connection is made: can it be lent? */
static const char *
check(struct server *s)
{
	int n;

	if (PQsslInUse(s->conn) || PQgssEncInUse(s->conn))
		return "the connection is encrypted (TLS or GSS), and such a connection cannot be leased: "
		       "set "
		       "sslmode=disable gssencmode=disable in conninfo, and hostnossl in the server's "
		       "pg_hba.conf";
	if (PQprotocolVersion(s->conn) != 3 || PQsocket(s->conn) < 0)
		return "the server does not speak protocol 3";
	n = params_finish(s->params, s->conn, s->baseline, sizeof(s->baseline));
	s->params = NULL;
	if (n < 0)
		return "the server reports no parameters, or more than fit (2047 bytes)";
	s->baseline_size = (size_t)n;
	s->pid = (uint32_t)PQbackendPID(s->conn);
	return NULL;
}

static void step(struct server *s);

static void
on_io(evutil_socket_t fd, short what, void *arg)
{
	step(arg);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	char text[128];

	snprintf(text, sizeof(text), "no answer within connect_timeout (%" PRIu64 " ms)",
	    s->pool->settings->connect_timeout / 1000000);
	fail(s, text);
}

static void
watch(struct server *s, short what)
{
	/* The descriptor can be another one after each step: libpq tries one address after the other. */
	if (event_assign(&s->io, s->pool->context->base, PQsocket(s->conn), what, on_io, s) != 0 ||
	    event_add(&s->io, NULL) != 0)
		fail(s, "the event loop takes no more descriptors");
}

static void
step(struct server *s)
{
	const char *error;

	event_del(&s->io);
	switch (PQconnectPoll(s->conn)) {
	case PGRES_POLLING_READING:
		watch(s, EV_READ);
		return;
	case PGRES_POLLING_WRITING:
		watch(s, EV_WRITE);
		return;
	case PGRES_POLLING_OK:
		error = check(s);
		if (error != NULL) {
			fail(s, error);
			return;
		}
		event_del(&s->deadline);
		server_connected(s);
		return;
	default:
		fail(s, PQerrorMessage(s->conn));
		return;
	}
}

void
connect_start(struct server *s)
{
	/* What comes after is stronger: our sslmode is only a default, and a conninfo may name the application. */
	const char *keywords[8], *values[8];
	char application[LAYOUT_NAME + 16];
	struct timeval timeout;
	uint64_t ns = s->pool->settings->connect_timeout;
	int n = 0;

	snprintf(application, sizeof(application), "pglease %s", s->pool->settings->name);
	if (getenv("PGSSLMODE") == NULL) {
		keywords[n] = "sslmode";
		values[n++] = "disable";
	}
	if (getenv("PGGSSENCMODE") == NULL) {
		keywords[n] = "gssencmode";
		values[n++] = "disable";
	}
	keywords[n] = "fallback_application_name";
	values[n++] = application;
	keywords[n] = "dbname";
	values[n++] = s->pool->conninfo;
	keywords[n] = values[n] = NULL;

	event_assign(&s->io, s->pool->context->base, -1, 0, on_io, s);
	evtimer_assign(&s->deadline, s->pool->context->base, on_deadline, s);
	s->conn = PQconnectStartParams(keywords, values, 1);
	if (s->conn == NULL) {
		fail(s, "out of memory");
		return;
	}
	if (PQstatus(s->conn) == CONNECTION_BAD) {
		fail(s, PQerrorMessage(s->conn));
		return;
	}
	PQsetNoticeReceiver(s->conn, drop_notice, NULL);
	s->params = params_trace(s->conn);
	timeout.tv_sec = (time_t)(ns / UINT64_C(1000000000));
	timeout.tv_usec = (suseconds_t)(ns % UINT64_C(1000000000) / 1000);
	if (s->params == NULL || evtimer_add(&s->deadline, &timeout) != 0) {
		fail(s, "out of memory");
		return;
	}
	watch(s, EV_WRITE);
}
