/* SPDX-License-Identifier: PostgreSQL */
/*
 * Opening server connections. Owns the io and deadline events, the trace, and the look-up of host names (libpq's own
 * blocks), of a server that is CONNECTING or RENEWING.
 */
#include "connect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "params.h"
#include "pooler.h"
#include "resolver.h"
#include "server.h"
#include "sqlstate.h"

static void
fail(struct server *s, const char *error)
{
	connect_stop(s);
	server_connect_failed(s, SQLSTATE_NONE, error);
}

/* In libpq's words, which are the server's if it has said anything. */
static void
fail_by_server(struct server *s)
{
	char text[1024], sqlstate[SQLSTATE_SIZE];

	snprintf(text, sizeof(text), "%s", PQerrorMessage(s->conn));
	sqlstate_take(text, sqlstate);
	connect_stop(s);
	server_connect_failed(s, sqlstate, text);
}

void
connect_stop(struct server *s)
{
	event_del(&s->io);
	event_del(&s->deadline);
	pooler_stop(s);
	if (s->lookup != NULL)
		resolver_abandon(s->lookup);
	s->lookup = NULL;
	params_free(s->params, s->conn);
	s->params = NULL;
}

/* Notices are no events of the broker's; libpq would print them to stderr. */
static void
drop_notice(void *arg, const PGresult *result)
{
	log_debug("notice from a server: %s", PQresultErrorMessage(result));
}

/* libpq knows them only now when a service file names them. For shells; written before the first word says IDLE. */
static void
publish_identity(const struct server *s)
{
	struct segment_header *h = s->pool->seg.header;

	if (strncmp(h->user, PQuser(s->conn), LAYOUT_NAME) != 0)
		snprintf(h->user, sizeof(h->user), "%s", PQuser(s->conn));
	if (strncmp(h->dbname, PQdb(s->conn), LAYOUT_NAME) != 0)
		snprintf(h->dbname, sizeof(h->dbname), "%s", PQdb(s->conn));
}

/* The connection is made: can it be lent? Then it is the server's backend. */
static const char *
check(struct server *s)
{
	struct backend_key key;
	int n, r;

	if (PQsslInUse(s->conn) || PQgssEncInUse(s->conn))
		return "the connection is encrypted (TLS or GSS), and such a connection cannot be leased: "
		       "set "
		       "sslmode=disable gssencmode=disable in conninfo, and hostnossl in the server's "
		       "pg_hba.conf";
	if (PQtransactionStatus(s->conn) != PQTRANS_IDLE)
		return "the server has not come to rest";
	if (PQprotocolVersion(s->conn) != 3 || PQsocket(s->conn) < 0)
		return "the server does not speak protocol 3";
	n = params_finish(s->params, s->conn, s->baseline, sizeof(s->baseline), &key);
	s->params = NULL;
	if (n < 0)
		return "the server reports no parameters, or more than fit (2047 bytes)";
	s->baseline_size = (size_t)n;
	publish_identity(s);
	r = backend_take(s->conn, &key, &s->backend);
	explicit_bzero(&key, sizeof(key));
	if (r != 0)
		return strerror(-r);
	if (s->pool->upstream == UPSTREAM_POOLER)
		s->backend.is_local = false; /* the pooler is */
	s->conn = NULL;
	return NULL;
}

void
connect_asked(struct server *s, const char *error)
{
	if (error == NULL)
		error = check(s);
	if (error == NULL) {
		event_del(&s->deadline);
		server_connected(s);
	} else if (*error == '\0') {
		fail_by_server(s);
	} else {
		fail(s, error);
	}
}

/* The connection is made. */
static void
ask(struct server *s)
{
	if (s->pool->upstream == UPSTREAM_DIRECT) {
		s->pid = (uint32_t)PQbackendPID(s->conn);
		connect_asked(s, NULL);
	} else if (pooler_ask(s) != 0) {
		fail(s, "out of memory");
	}
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

	snprintf(text, sizeof(text), "%s within connect_timeout (%" PRIu64 " ms)",
	    s->lookup != NULL ? "the host's name was not looked up" : "no answer",
	    s->pool->settings->connect_timeout / 1000000);
	s->pool->connect_timeouts++;
	pool_suspect(s->pool, clock_ns());
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
	event_del(&s->io);
	switch (PQconnectPoll(s->conn)) {
	case PGRES_POLLING_READING:
		watch(s, EV_READ);
		return;
	case PGRES_POLLING_WRITING:
		watch(s, EV_WRITE);
		return;
	case PGRES_POLLING_OK:
		ask(s);
		return;
	default:
		fail_by_server(s);
		return;
	}
}

/* The conn, to hosts whose addresses are known, or that libpq need not look up (NULL). */
static void
begin(struct server *s, const struct hosts *hosts)
{
	const struct target *target = &s->pool->target;
	const char *keywords[TARGET_KEYWORDS + 1], *values[TARGET_KEYWORDS + 1];
	unsigned n = target->count;

	memcpy(keywords, target->keywords, n * sizeof(keywords[0]));
	memcpy(values, target->values, n * sizeof(values[0]));
	if (hosts != NULL) {
		keywords[n] = "host";
		values[n++] = hosts->host;
		keywords[n] = "hostaddr";
		values[n++] = hosts->hostaddr;
		keywords[n] = "port";
		values[n++] = hosts->port;
	}
	keywords[n] = values[n] = NULL;
	s->conn = PQconnectStartParams(keywords, values, 1);
	if (s->conn == NULL) {
		fail(s, "out of memory");
		return;
	}
	if (PQstatus(s->conn) == CONNECTION_BAD) {
		fail_by_server(s);
		return;
	}
	PQsetErrorVerbosity(s->conn, PQERRORS_VERBOSE); /* for fail_by_server */
	PQsetNoticeReceiver(s->conn, drop_notice, NULL);
	s->params = params_trace(s->conn);
	if (s->params == NULL) {
		fail(s, "out of memory");
		return;
	}
	watch(s, EV_WRITE);
}

static void
on_looked_up(void *context, const struct hosts *hosts, const char *error)
{
	struct server *s = context;

	s->lookup = NULL;
	if (hosts == NULL)
		fail(s, error);
	else
		begin(s, hosts);
}

void
connect_start(struct server *s)
{
	const struct pool *p = s->pool;
	uint64_t ns = p->settings->connect_timeout;
	struct timeval timeout = {
	    .tv_sec = (time_t)(ns / UINT64_C(1000000000)),
	    .tv_usec = (suseconds_t)(ns % UINT64_C(1000000000) / 1000),
	};
	int r;

	event_assign(&s->io, p->context->base, -1, 0, on_io, s);
	evtimer_assign(&s->deadline, p->context->base, on_deadline, s);
	if (evtimer_add(&s->deadline, &timeout) != 0) {
		fail(s, "out of memory");
		return;
	}
	if (!p->target.has_names) {
		begin(s, NULL);
		return;
	}
	r = resolver_start(p->context->resolver, p->index, &p->target.hosts, on_looked_up, s, &s->lookup);
	if (r == -EAGAIN)
		fail(s, "look-ups of the host's name hang: see to the system's name service (nsswitch.conf, "
		        "resolv.conf)");
	else if (r != 0)
		fail(s, strerror(-r));
}
