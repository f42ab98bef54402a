/* SPDX-License-Identifier: PostgreSQL */
/* The victims' operations: each phase of a worker's life. */
#include "scenarios.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crew.h"
#include "pairs.h"
#include "pglease.h"
#include "stand.h"
#include "trace.h"

#define LONG_MS 20000
#define SHORT_MS 1

const char *const pool_name[NPOOLS] = {"grant", "wake", "always", "watch"};

/* The victim's own; a fork of a process that has used none of it. */
static const struct scenario *mine;
static pglease *client;
static pglease_pool *pool;
static pglease_lease lease;
static PGconn *conn;

static void
need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "# victim of \"%s\": %s: %s\n", mine->name, what, pglease_error_message());
	_exit(3);
}

static bool
attach(void)
{
	return pglease_attach(NULL, NULL, &client) == 0 &&
	       pglease_pool_open(client, pool_name[mine->pool], &pool) == 0;
}

static void
attached(void)
{
	need(attach(), "attach");
}

static bool
acquire(void)
{
	return pglease_acquire(pool, LONG_MS, &lease, &conn) == 0;
}

static void
traces(const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	need(PQresultStatus(result) == PGRES_COMMAND_OK, sql);
	PQclear(result);
}

/* Holds a lease of a session that it has used. */
static void
holding(void)
{
	attached();
	need(acquire(), "acquire");
	traces("set " CREW_SETTING " = 'the victim'");
}

static void
in_transaction(void)
{
	holding();
	traces("begin; create temporary table kill_traces ()");
}

static void
used_before(void)
{
	holding();
	need(pglease_release(&lease) == 0, "release");
}

/* Its session is as the reset has left it, and it can say so. */
static void
holding_clean(void)
{
	attached();
	need(acquire(), "acquire");
}

static bool
time_out(void)
{
	return pglease_acquire(pool, SHORT_MS, &lease, &conn) == PGLEASE_ETIMEOUT;
}

static bool
try(void)
{
	return pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn) == PGLEASE_ETIMEOUT;
}

static bool
release(void)
{
	return pglease_release(&lease) == 0;
}

static bool
release_clean(void)
{
	return pglease_release_as(&lease, PGLEASE_SESSION_CLEAN) == 0;
}

static bool
release_dirty(void)
{
	return pglease_release_as(&lease, PGLEASE_SESSION_DIRTY) == 0;
}

static bool
release_broken(void)
{
	return pglease_release_as(&lease, PGLEASE_SESSION_BROKEN) == 0;
}

static bool
detach(void)
{
	pglease_detach(client);
	return true;
}

/* A query runs under its lease. */
static void
querying(void)
{
	holding();
	need(PQsendQuery(conn, "select pg_sleep(1000)") == 1, "a query");
}

static bool
cancel(void)
{
	PGcancel *request = PQgetCancel(conn);
	char error[256];
	bool good = request != NULL && PQcancel(request, error, sizeof(error));

	PQfreeCancel(request);
	return good;
}

const struct scenario scenarios[] = {
    {.name = "attach", .pool = POOL_WAKE, .operate = attach},
    {.name = "acquire, its own session", .pool = POOL_WAKE, .prepare = used_before, .operate = acquire},
    {.name = "acquire, adoption and reset", .pool = POOL_WAKE, .prepare = attached, .operate = acquire},
    {.name = "acquire, a reset owed", .pool = POOL_ALWAYS, .prepare = attached, .operate = acquire},
    {.name = "wait, granted",
        .pool = POOL_GRANT,
        .prepare = used_before,
        .operate = acquire,
        .holder_holds = true,
        .sleeps = true},
    {.name = "wait, woken",
        .pool = POOL_WAKE,
        .prepare = used_before,
        .operate = acquire,
        .holder_holds = true,
        .sleeps = true},
    {.name = "time-out",
        .pool = POOL_GRANT,
        .prepare = used_before,
        .operate = time_out,
        .holder_holds = true},
    {.name = "time-out at once",
        .pool = POOL_WAKE,
        .prepare = attached,
        .operate = try,
        .holder_holds = true},
    {.name = "release, left dirty", .pool = POOL_WAKE, .prepare = holding, .operate = release},
    {.name = "release, left dirty and watched", .pool = POOL_WATCH, .prepare = holding, .operate = release},
    {.name = "release, clean", .pool = POOL_WAKE, .prepare = holding_clean, .operate = release_clean},
    {.name = "release, reset sent ahead", .pool = POOL_WAKE, .prepare = holding, .operate = release_dirty},
    {.name = "release, hand-over",
        .pool = POOL_GRANT,
        .prepare = holding,
        .operate = release,
        .next_waits = true},
    {.name = "release, a waiter woken",
        .pool = POOL_WAKE,
        .prepare = holding,
        .operate = release,
        .next_waits = true},
    {.name = "release, rolled back", .pool = POOL_WAKE, .prepare = in_transaction, .operate = release},
    {.name = "release, broken",
        .pool = POOL_WAKE,
        .prepare = holding,
        .operate = release_broken,
        .next_waits = true},
    {.name = "cancel",
        .pool = POOL_WAKE,
        .prepare = querying,
        .operate = cancel,
        .next_waits = true,
        .system_calls = true},
    {.name = "detach", .pool = POOL_WAKE, .prepare = used_before, .operate = detach},
    {.name = "detach, holding a lease",
        .pool = POOL_WAKE,
        .prepare = holding,
        .operate = detach,
        .next_waits = true},
};
const unsigned nscenarios = sizeof(scenarios) / sizeof(scenarios[0]);

/* A lease or none: either is right, depending on who was faster. */
static bool
acquire_or_not(void)
{
	int r = pglease_acquire(pool, SHORT_MS, &lease, &conn);

	if (r != 0)
		conn = NULL;
	return r == 0 || r == PGLEASE_ETIMEOUT;
}

/* The lease may have been revoked. */
static bool
release_or_not(void)
{
	int r = pglease_release(&lease);

	return r == 0 || r == PGLEASE_ESTALE;
}

static bool
release_dirty_or_not(void)
{
	int r = pglease_release_as(&lease, PGLEASE_SESSION_DIRTY);

	return r == 0 || r == PGLEASE_ESTALE;
}

/* If it has a lease: the session has nothing of another's, and the answer is its own. */
static bool
leased_clean(void)
{
	PGresult *result;
	bool good;

	if (conn == NULL)
		return true;
	result = PQexec(conn, "select coalesce(current_setting('" CREW_SETTING "', true), '') || 42");
	good = PQresultStatus(result) == PGRES_TUPLES_OK && strcmp(PQgetvalue(result, 0, 0), "42") == 0;
	if (!good)
		fprintf(stderr, "# not its own session: %s%s\n", PQerrorMessage(conn),
		    PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return pglease_release(&lease) == 0 && good;
}

/* Used it before, and has none now. */
static void
warm(void)
{
	used_before();
	conn = NULL;
}

int scenario_socket[2];

/*
 * A process that shares the victim's shell, sends a cancel for each byte that it hears, and answers when it
 * has returned.
 */
static void
holding_with_canceller(void)
{
	char byte, error[256];
	PGcancel *cancel;

	holding();
	cancel = PQgetCancel(conn);
	need(cancel != NULL, "PQgetCancel");
	if (fork() != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(scenario_socket[0]);
	while (recv(scenario_socket[1], &byte, 1, 0) == 1) {
		byte = PQcancel(cancel, error, sizeof(error)) ? 'c' : 'f';
		send(scenario_socket[1], &byte, 1, MSG_NOSIGNAL);
	}
	_exit(0);
}

#define WARM                                                                                \
	{                                                                                   \
		.prepare = warm, .operate = acquire, .finish = leased_clean, .sleeps = true \
	}
#define WARM_SHORT                                                                 \
	{                                                                          \
		.prepare = warm, .operate = acquire_or_not, .finish = leased_clean \
	}
#define ON(p, ...)                                         \
	{                                                  \
		.pool = p, .prepare = holding, __VA_ARGS__ \
	}

const struct pair pairs[] = {
    {.name = "release || acquire, granted", .a = ON(POOL_GRANT, .operate = release), .b = WARM},
    {.name = "release || acquire, woken", .a = ON(POOL_WAKE, .operate = release), .b = WARM},
    {.name = "release with a reset || acquire", .a = ON(POOL_WAKE, .operate = release_dirty), .b = WARM},
    {.name = "release || time-out, granted", .a = ON(POOL_GRANT, .operate = release), .b = WARM_SHORT},
    {.name = "release || time-out, woken", .a = ON(POOL_WAKE, .operate = release), .b = WARM_SHORT},
    {.name = "release || time-out, another waits",
        .a = ON(POOL_GRANT, .operate = release),
        .b = WARM_SHORT,
        .next_waits = true},
    {.name = "release || revoke", .a = ON(POOL_WAKE, .operate = release_or_not), .action = pair_revoke},
    {.name = "release with a reset || revoke",
        .a = ON(POOL_WAKE, .operate = release_dirty_or_not),
        .action = pair_revoke},
    {.name = "hand-over || revoke",
        .a = ON(POOL_GRANT, .operate = release_or_not),
        .action = pair_revoke,
        .next_waits = true},
    {.name = "release || cancel",
        .a = {.pool = POOL_WAKE, .prepare = holding_with_canceller, .operate = release},
        .action = pair_cancel},
    {.name = "hand-over || cancel",
        .a = {.pool = POOL_GRANT, .prepare = holding_with_canceller, .operate = release},
        .action = pair_cancel,
        .next_waits = true},
    {.name = "release || cancel that does not return",
        .a = {.pool = POOL_WAKE, .prepare = holding_with_canceller, .operate = release},
        .action = pair_cancel_and_wait},
};
const unsigned npairs = sizeof(pairs) / sizeof(pairs[0]);

/* The broker stands still, and the first goes its way. */
const struct pair stands[] = {
    {.name = "the broker's revocation || release",
        .a = ON(POOL_WAKE, .operate = release_or_not),
        .action = stand_revoke},
    {.name = "the broker's revocation || hand-over",
        .a = ON(POOL_GRANT, .operate = release_or_not),
        .action = stand_revoke,
        .next_waits = true},
    {.name = "the broker's cancel || release",
        .a = {.pool = POOL_WAKE, .prepare = holding_with_canceller, .operate = release},
        .action = stand_cancel},
    {.name = "the broker's cancel || hand-over",
        .a = {.pool = POOL_GRANT, .prepare = holding_with_canceller, .operate = release},
        .action = stand_cancel,
        .next_waits = true},
};
const unsigned nstands = sizeof(stands) / sizeof(stands[0]);

static struct scenario asking; /* the client of a service, as far as it is like a victim */

static int
ask_attach(void)
{
	int r = pglease_attach(NULL, NULL, &client);

	return r != 0 ? r : pglease_pool_open(client, pool_name[mine->pool], &pool);
}

static int
ask_acquire(void)
{
	return pglease_acquire(pool, LONG_MS, &lease, &conn);
}

static int
ask_release(void)
{
	return pglease_release(&lease);
}

static int
ask_replace(void)
{
	return pglease_release_as(&lease, PGLEASE_SESSION_BROKEN);
}

static int
ask_detach(void)
{
	pglease_detach(client);
	return 0;
}

static int
ask_cancel(void)
{
	PGcancel *cancel = PQgetCancel(conn);
	char error[256];

	PQcancel(cancel, error, sizeof(error)); /* an answer to it is its connection's end, whoever ends it */
	PQfreeCancel(cancel);
	return 0;
}

const struct service services[] = {
    {.name = "an attach", .pool = POOL_WAKE, .operate = ask_attach},
    {.name = "an adoption", .pool = POOL_WAKE, .prepare = attached, .operate = ask_acquire},
    {.name = "a session to reset", .pool = POOL_WATCH, .prepare = holding, .operate = ask_release},
    {.name = "a connection to replace and to grant",
        .pool = POOL_GRANT,
        .prepare = holding,
        .operate = ask_replace,
        .next_waits = true},
    {.name = "a cancel", .pool = POOL_WAKE, .prepare = holding, .operate = ask_cancel},
    {.name = "a detach", .pool = POOL_WAKE, .prepare = holding, .operate = ask_detach},
    {.name = "the death of a lessee", .pool = POOL_GRANT, .prepare = holding, .next_waits = true},
    {.name = "the death of a client", .pool = POOL_WAKE, .prepare = used_before},
};
const unsigned nservices = sizeof(services) / sizeof(services[0]);

void
service_live(const void *arg)
{
	const struct service *s = arg;
	int r;

	asking = (struct scenario){.name = s->name, .pool = s->pool};
	mine = &asking;
	if (s->prepare != NULL)
		s->prepare();
	trace_mark();
	if (s->operate == NULL)
		for (;;)
			pause();
	/* A broker with a breakpoint on each instruction may take longer than an exchange may: asked again. */
	do
		r = s->operate();
	while (r == PGLEASE_ETIMEOUT);
	if (r == PGLEASE_EGONE || r == PGLEASE_ENOBROKER)
		_exit(SERVICE_REFUSED);
	need(r == 0, "what it asked the broker for");
}

void
scenario_live(const void *arg)
{
	mine = arg;
	if (mine->prepare != NULL)
		mine->prepare();
	trace_mark();
	need(mine->operate(), "its operation");
	trace_mark();
	if (mine->finish != NULL)
		need(mine->finish(), "what it finds after its operation");
}
