/* SPDX-License-Identifier: PostgreSQL */
/* Talking to an environment's server directly: SQL, databases, PostgreSQL's programs. */
#include "env_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_MS 120000

extern char **environ;

PGconn *
pglease_test_connect(pglease_test_env *env)
{
	PGconn *conn = environ_connect(env->conninfo, env->foreign);

	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	child_fail(ECONNREFUSED, "%s", PQerrorMessage(conn));
	PQfinish(conn);
	return NULL;
}

int
pglease_test_sql(pglease_test_env *env, const char *sql, char *buf, size_t size)
{
	PGconn *conn = pglease_test_connect(env);
	PGresult *result;
	int r = 0;

	if (conn == NULL)
		return -ECONNREFUSED;
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		r = child_fail(EINVAL, "%s: %s", sql, PQerrorMessage(conn));
	else if (buf != NULL)
		snprintf(buf, size, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	PQfinish(conn);
	return r;
}

int
pglease_test_program(pglease_test_env *env, const char *program, const char *const args[])
{
	char path[UPSTREAM_PATH + 64], log[UPSTREAM_PATH + 64], host[UPSTREAM_PATH + 16];
	const char *argv[32] = {"/usr/bin/env", host, "PGPORT=5432", "PGUSER=postgres", "PGDATABASE=postgres", path, NULL};
	char **environment;
	size_t n = 6;
	int r;

	snprintf(host, sizeof(host), "PGHOST=%s", env->upstream.socket_dir);
	snprintf(path, sizeof(path), "%s/%s", env->upstream.bindir, program);
	snprintf(log, sizeof(log), "%s/%s.log", env->folder, program);
	for (; *args != NULL; args++) {
		if (n == sizeof(argv) / sizeof(argv[0]) - 1)
			return child_fail(E2BIG, "too many arguments for %s", program);
		argv[n++] = *args;
	}
	environment = environ_without(env->foreign);
	if (environment == NULL)
		return child_fail(ENOMEM, "out of memory");
	r = child_run_with(argv, log, &env->upstream.user, environment, RUN_MS);
	if (environment != environ)
		free(environment);
	return r;
}

/* A command on a database, whose name may be anything. */
static int
database_command(pglease_test_env *env, const char *before, const char *name, const char *after, const char *other)
{
	char sql[512], *quoted = NULL, *quoted_other = NULL;
	PGconn *conn = pglease_test_connect(env);
	PGresult *result;
	int r = 0;

	if (conn == NULL)
		return -ECONNREFUSED;
	quoted = PQescapeIdentifier(conn, name, strlen(name));
	quoted_other = PQescapeIdentifier(conn, other, strlen(other));
	if (quoted == NULL || quoted_other == NULL ||
	    snprintf(sql, sizeof(sql), "%s%s%s%s", before, quoted, after, *other != '\0' ? quoted_other : "") >=
	        (int)sizeof(sql)) {
		r = child_fail(EINVAL, "database name: %s", PQerrorMessage(conn));
	} else {
		result = PQexec(conn, sql);
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			r = child_fail(EINVAL, "%s: %s", sql, PQerrorMessage(conn));
		PQclear(result);
	}
	PQfreemem(quoted);
	PQfreemem(quoted_other);
	PQfinish(conn);
	return r;
}

int
pglease_test_database_new(pglease_test_env *env, const char *from, char *buf, size_t size)
{
	char name[32];
	int r;

	snprintf(name, sizeof(name), "test_%u", env->ndatabases + 1);
	if (buf == NULL || strlen(name) >= size)
		return child_fail(EINVAL, "no room for a database's name");
	/* The default strategy of PostgreSQL 15 writes to the WAL instead of a checkpoint: the faster one for what is small. */
	r = database_command(env, "CREATE DATABASE ", name, " TEMPLATE ", from != NULL ? from : "template1");
	if (r)
		return r;
	env->ndatabases++;
	strcpy(buf, name);
	return 0;
}

int
pglease_test_database_drop(pglease_test_env *env, const char *name)
{
	if (name == NULL)
		return child_fail(EINVAL, "name is NULL");
	return database_command(env, "DROP DATABASE ", name, " WITH (FORCE)", "");
}
