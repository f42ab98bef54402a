/* SPDX-License-Identifier: PostgreSQL */
/* What the benchmarks stand on. Owns nothing. */
#include "stand.h"

#include <stdio.h>

#include "measure.h"

pglease_test_env *
stand_start(const pglease_test_options *options)
{
	pglease_test_env *env;

	if (pglease_test_env_new(options, &env) != 0)
		measure_die("env", pglease_test_error_message());
	return env;
}

void
stand_stop(pglease_test_env *env)
{
	if (pglease_test_env_free(env) != 0)
		measure_die("env", pglease_test_error_message());
}

void
stand_attach(const pglease_test_env *env, const char *pool, pglease **ret_client, pglease_pool **ret_pool)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;

	options.socket_dir = pglease_test_socket_dir(env);
	if (pglease_attach(pglease_test_instance(env), &options, ret_client) != 0 ||
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
stand_tables(pglease_test_env *env, unsigned scale)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", scale);
	if (pglease_test_program(env, "pgbench", (const char *const[]){"-i", "-q", "-s", text, NULL}) != 0)
		measure_die("pgbench -i", pglease_test_error_message());
}

void
stand_check(PGresult *result, ExecStatusType expected)
{
	if (PQresultStatus(result) != expected)
		measure_die("query", PQresultErrorMessage(result));
	PQclear(result);
}
