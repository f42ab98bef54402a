/* SPDX-License-Identifier: PostgreSQL */
/* What all scenarios play on: one PostgreSQL, one broker with a pool of each kind, the view and the crew. */
#include "scenarios.h"

#include <stdio.h>
#include <stdlib.h>

#include "crew.h"
#include "pglease_test.h"
#include "report.h"
#include "view.h"

/* One slot, so that one that is lost is missed at once; no maintenance by the clock. */
#define SLOT(n, e)                                                               \
	{                                                                        \
		.name = n, .min = 1, .max = 1,                                   \
		.extra = "keepalive = 0\nidle_timeout = 0\nmax_lifetime = 0\nbroker_down = fail\n" e \
	}
static const pglease_test_pool pools[NPOOLS] = {
    SLOT("grant", "grant_after = 0\nreset_after = 0\n"),
    SLOT("wake", "grant_after = 1h\nreset_after = 0\n"),
    SLOT("always", "grant_after = 1h\nreset_after = 0\nreset = always\n"),
    SLOT("watch", "grant_after = 1h\nreset_after = 1ms\n"),
};

static pglease_test_env *env;

pglease_test_env *
stage_env(void)
{
	return env;
}

static void
see(void)
{
	view_open(pool_name, NPOOLS);
	crew_start(pool_name, NPOOLS);
	view_know_clients();
}

void
stage_start(void)
{
	/* Few clients, so that the dead ones' places are used again soon. */
	static const pglease_test_options options =
	    PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = pools, .npools = NPOOLS, .extra = "max_clients = 6\n");

	if (env != NULL)
		return;
	if (pglease_test_env_new(&options, &env) != 0)
		report_fail("%s", pglease_test_error_message());
	see();
}

/* The bound of the promise: no session of a dead broker outlives its last holder by more. */
#define OUTLIVE UINT64_C(5000000000)

static void
await_no_session(void)
{
	PGconn *conn = pglease_test_connect(env);
	uint64_t start = clock_ns();
	int sessions = 1;

	if (conn == NULL)
		report_fail("%s", pglease_test_error_message());
	while (sessions != 0 && clock_ns() - start < OUTLIVE) {
		PGresult *result = PQexec(conn,
		    "select pg_stat_clear_snapshot(), count(*) from pg_stat_activity where backend_type = "
		    "'client backend' and pid <> pg_backend_pid()");

		sessions = PQresultStatus(result) == PGRES_TUPLES_OK ? atoi(PQgetvalue(result, 0, 1)) : -1;
		PQclear(result);
	}
	PQfinish(conn);
	if (sessions != 0)
		report_fail("%d sessions of the dead broker are left on the server", sessions);
}

void
stage_renew(void)
{
	crew_stop();
	view_close();
	if (pglease_test_broker_kill(env) != 0)
		report_fail("%s", pglease_test_error_message());
	await_no_session();
	if (pglease_test_broker_start(env) != 0)
		report_fail("no new broker of the same name: %s", pglease_test_error_message());
	see();
}

bool
stage_stop(void)
{
	bool good;

	if (env == NULL)
		return true;
	crew_stop();
	view_close();
	good = pglease_test_env_free(env) == 0;
	env = NULL;
	if (!good)
		printf("# %s\n", pglease_test_error_message());
	return good;
}

void
stage_abandon(void)
{
	stage_stop();
}
