/* SPDX-License-Identifier: PostgreSQL */
/* See statements.h. */
#include "statements.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "script.h"

pglease_pool *
statements_start(const char *extra)
{
	char settings[256];

	snprintf(settings, sizeof(settings), "reset_kind = light\n%s", extra != NULL ? extra : "");
	return statements_start_with(settings);
}

pglease_pool *
statements_start_with(const char *settings)
{
	it_start(1, 1, settings);
	return it_attach();
}

static PGresult *
execute(PGconn *conn, const char *sql, const char *param)
{
	return pglease_exec_cached(conn, sql, param != NULL, NULL, &param, NULL, NULL, 0);
}

const char *
statements_value(PGconn *conn, const char *sql, const char *param)
{
	static char value[256];
	PGresult *result = execute(conn, sql, param);
	ExecStatusType status = PQresultStatus(result);

	ck_assert_msg(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, "%s: %s", sql, PQerrorMessage(conn));
	snprintf(value, sizeof(value), "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return value;
}

void
statements_fails(PGconn *conn, const char *sql, const char *param, const char *sqlstate)
{
	PGresult *result = execute(conn, sql, param);

	ck_assert_msg(PQresultStatus(result) == PGRES_FATAL_ERROR, "%s did not fail", sql);
	ck_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), sqlstate);
	PQclear(result);
}

/* A query of pg_prepared_statements for the statement that is prepared for `sql`; "" if there is none. */
static const char *
ask(PGconn *conn, const char *what, const char *sql)
{
	static char value[256];
	char query[256];
	PGresult *result;

	snprintf(query, sizeof(query),
	    "select %s from pg_prepared_statements where name like 'pglease\\_%%' and statement = $1", what);
	result = PQexecParams(conn, query, 1, NULL, &sql, NULL, NULL, 0);
	ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(conn));
	ck_assert_int_le(PQntuples(result), 1);
	snprintf(value, sizeof(value), "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return value;
}

int
statements_executions(PGconn *conn, const char *sql)
{
	const char *n = ask(conn, "generic_plans + custom_plans", sql);

	return *n != '\0' ? atoi(n) : -1;
}

const char *
statements_identity(PGconn *conn, const char *sql)
{
	return ask(conn, "name || ' ' || prepare_time", sql);
}

int
statements_count(PGconn *conn)
{
	return atoi(it_query(conn, "select count(*) from pg_prepared_statements where name like 'pglease\\_%'"));
}

static uint64_t
sum(enum slot_counter counter)
{
	struct script_client script;
	uint64_t total = 0;

	script_attach(&script);
	for (uint32_t i = 0; i < script.seg.nblocks; i++)
		total += counter_get(&script.seg.block[i].counter[counter]);
	script_detach(&script);
	return total;
}

uint64_t
statements_prepared(void)
{
	return sum(COUNTER_STATEMENTS_PREPARED);
}

uint64_t
statements_reused(void)
{
	return sum(COUNTER_STATEMENTS_REUSED);
}

uint64_t
statements_evicted(void)
{
	return sum(COUNTER_STATEMENTS_EVICTED);
}

static void
peer(int socket, const void *arg)
{
	const statements_step *steps = arg;
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn = NULL;
	char letter;

	while (recv(socket, &letter, 1, 0) == 1 && letter != 'q') {
		if (letter == 'a')
			conn = it_acquire(pool, &lease);
		else if (letter == 'r')
			it_release(&lease);
		else
			steps[letter - '0'](conn);
		it_say(socket, letter);
	}
}

struct it_worker
statements_peer(const statements_step steps[])
{
	return it_worker(peer, steps);
}

void
statements_tell(const struct it_worker *worker, const char *letters)
{
	for (; *letters != '\0'; letters++) {
		it_say(worker->socket, *letters);
		it_hear(worker->socket, *letters);
	}
}

void
statements_dismiss(struct it_worker *worker)
{
	it_say(worker->socket, 'q');
	it_join(worker);
}
