/* SPDX-License-Identifier: PostgreSQL */
/* What the benchmarks stand on. Owns nothing. */
#include "stand.h"

#include <stdio.h>

#include "measure.h"

struct fixture *
stand_start(const struct fixture_options *options)
{
	struct fixture *fixture;

	if (fixture_start(options, &fixture) != 0)
		measure_die("fixture", fixture_error());
	return fixture;
}

void
stand_stop(struct fixture *fixture)
{
	if (fixture_stop(fixture) != 0)
		measure_die("fixture", fixture_error());
}

void
stand_attach(const struct fixture *fixture, const char *pool, pglease **ret_client, pglease_pool **ret_pool)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;

	options.socket_dir = fixture_socket_dir(fixture);
	if (pglease_attach(fixture_instance(fixture), &options, ret_client) != 0 ||
	    pglease_pool_open(*ret_client, pool, ret_pool) != 0)
		measure_die("attach", pglease_error_message());
}

PGconn *
stand_connect(const char *conninfo)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		measure_die("connect", PQerrorMessage(conn));
	return conn;
}

void
stand_tables(struct fixture *fixture, unsigned scale)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", scale);
	if (fixture_run(fixture, "pgbench", (const char *const[]){"-i", "-q", "-s", text, NULL}) != 0)
		measure_die("pgbench -i", fixture_error());
}

void
stand_check(PGresult *result, ExecStatusType expected)
{
	if (PQresultStatus(result) != expected)
		measure_die("query", PQresultErrorMessage(result));
	PQclear(result);
}
