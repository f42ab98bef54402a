/* SPDX-License-Identifier: PostgreSQL */
/*
 * pglease_exec_cached as long as nothing comes between: statements are prepared once and shared, bounded, and
 * behave as PQexecParams. What comes between is in test_statements_lost.c.
 */
#include "statements.h"

#include <stdio.h>
#include <string.h>

#define DOUBLE "select $1::int * 2"

static pglease_lease lease;

START_TEST(prepared_once_for_all_leases_of_a_process)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn;
	char number[16], expected[16];

	for (int i = 0; i < 5; i++) {
		snprintf(number, sizeof(number), "%d", i);
		snprintf(expected, sizeof(expected), "%d", 2 * i);
		conn = it_acquire(pool, &lease);
		ck_assert_str_eq(statements_value(conn, DOUBLE, number), expected);
		ck_assert_int_eq(statements_executions(conn, DOUBLE), i + 1);
		it_release(&lease);
	}
	ck_assert_uint_eq(statements_prepared(), 1);
	ck_assert_uint_eq(statements_reused(), 4);
	/* In a block too, and what was prepared in one that failed stays. */
	conn = it_acquire(pool, &lease);
	it_query(conn, "begin");
	ck_assert_str_eq(statements_value(conn, "select 'in a block'", NULL), "in a block");
	it_query(conn, "rollback");
	ck_assert_str_eq(statements_value(conn, "select 'in a block'", NULL), "in a block");
	ck_assert_uint_eq(statements_prepared(), 2);
	it_release(&lease);
}
END_TEST

static void
double_21(PGconn *conn)
{
	ck_assert_str_eq(statements_value(conn, DOUBLE, "21"), "42");
}

START_TEST(prepared_once_for_all_processes)
{
	static const statements_step steps[] = {double_21};
	pglease_pool *pool = statements_start(NULL);
	struct it_worker a = statements_peer(steps), b = statements_peer(steps);
	PGconn *conn;
	char identity[256];
	int pid;

	conn = it_acquire(pool, &lease);
	double_21(conn);
	pid = PQbackendPID(conn);
	snprintf(identity, sizeof(identity), "%s", statements_identity(conn, DOUBLE));
	it_release(&lease);
	statements_tell(&a, "a00r");
	statements_tell(&b, "a0r");
	statements_tell(&a, "a0r");
	conn = it_acquire(pool, &lease);
	/* The same session, the same statement, prepared at the same time; all the executions are its own. */
	ck_assert_int_eq(PQbackendPID(conn), pid);
	ck_assert_str_eq(statements_identity(conn, DOUBLE), identity);
	ck_assert_int_eq(statements_executions(conn, DOUBLE), 5);
	ck_assert_uint_eq(statements_prepared(), 1);
	ck_assert_uint_eq(statements_reused(), 4);
	it_release(&lease);
	statements_dismiss(&a);
	statements_dismiss(&b);
	it_await_published("app", "statements_reused", 4);
	ck_assert_uint_eq(it_published("app", "statements_prepared"), 1);
}
END_TEST

/* What calls before have left on the stack, in a few lines of what the next call will have there. */
static void __attribute__((noinline))
scribble_below(size_t at)
{
	volatile char below[8192];

	for (size_t i = at; i < at + 64; i++)
		below[i] = (char)i;
	(void)below[at];
}

START_TEST(a_long_statement_is_one_too)
{
	static char text[700] = DOUBLE " /* ";
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);
	size_t used = strlen(text);

	memset(text + used, 'x', sizeof(text) - used - 4);
	strcpy(text + sizeof(text) - 4, " */");
	for (size_t at = 0; at < 8192; at += 64) {
		scribble_below(at);
		ck_assert_str_eq(statements_value(conn, text, "21"), "42");
	}
	ck_assert_uint_eq(statements_prepared(), 1);
	ck_assert_uint_eq(statements_reused(), 8192 / 64 - 1);
	it_release(&lease);
}
END_TEST

START_TEST(types_given_make_another_statement)
{
	static const Oid int8[] = {20}, unknown[] = {0};
	static const Oid *const types[] = {NULL, int8, unknown};
	static const Oid expected[] = {25, 20, 25};
	const char *value = "1";
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);

	for (unsigned i = 0; i < 6; i++) {
		PGresult *result = pglease_exec_cached(conn, "select $1", 1, types[i % 3], &value, NULL, NULL, 0);

		ck_assert_uint_eq(PQftype(result, 0), expected[i % 3]);
		PQclear(result);
	}
	ck_assert_uint_eq(statements_prepared(), 2); /* a type of 0 is none */
	it_release(&lease);
}
END_TEST

START_TEST(binary_values_go_both_ways)
{
	static const char in[] = {0, 0, 1, 0}, out[] = {0, 0, 2, 0};
	static const Oid int4[] = {23};
	static const int length[] = {4}, format[] = {1};
	const char *value = in;
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);

	for (unsigned i = 0; i < 2; i++) {
		PGresult *result = pglease_exec_cached(conn, "select $1 * 2", 1, int4, &value, length, format, 1);

		ck_assert_int_eq(PQgetlength(result, 0, 0), 4);
		ck_assert_mem_eq(PQgetvalue(result, 0, 0), out, 4);
		PQclear(result);
	}
	it_release(&lease);
}
END_TEST

/* The texts of the statements that are prepared. */
static const char *
prepared(PGconn *conn)
{
	return it_query(conn, "select string_agg(statement, ' ' order by statement) from pg_prepared_statements");
}

START_TEST(bounded_and_the_least_recently_used_goes)
{
	pglease_pool *pool = statements_start("prepared_statements = 3\n");
	PGconn *conn = it_acquire(pool, &lease);
	char sql[64];

	statements_value(conn, "table pg_am", NULL);
	statements_value(conn, "table pg_cast", NULL);
	statements_value(conn, "table pg_enum", NULL);
	statements_value(conn, "table pg_am", NULL);
	statements_value(conn, "table pg_type", NULL);
	ck_assert_str_eq(prepared(conn), "table pg_am table pg_enum table pg_type");
	/* In a transaction block as well; in one that has failed nothing is deallocated. */
	it_query(conn, "begin");
	statements_value(conn, "table pg_proc", NULL);
	ck_assert_str_eq(prepared(conn), "table pg_am table pg_proc table pg_type");
	statements_fails(conn, "select 1/0", NULL, "22012");
	statements_fails(conn, "table pg_class", NULL, "25P02");
	statements_fails(conn, "table pg_am", NULL, "25P02");
	it_query(conn, "rollback");
	ck_assert_str_eq(prepared(conn), "select 1/0 table pg_proc table pg_type");
	for (unsigned i = 0; i < 50; i++) {
		snprintf(sql, sizeof(sql), "select %u", i);
		ck_assert_int_eq(atoi(statements_value(conn, sql, NULL)), (int)i);
		ck_assert_int_eq(statements_count(conn), 3);
	}
	ck_assert_str_eq(prepared(conn), "select 47 select 48 select 49");
	ck_assert_uint_eq(statements_prepared(), 56);
	ck_assert_uint_eq(statements_evicted(), 53);
	it_release(&lease);
}
END_TEST

static void
use_peers(PGconn *conn)
{
	statements_value(conn, "table pg_am", NULL);
	statements_value(conn, "table pg_enum", NULL);
}

START_TEST(another_process_evicts_what_it_did_not_prepare)
{
	static const statements_step steps[] = {use_peers};
	pglease_pool *pool = statements_start("prepared_statements = 2\n");
	struct it_worker peer = statements_peer(steps);
	PGconn *conn = it_acquire(pool, &lease);

	statements_value(conn, "table pg_am", NULL);
	statements_value(conn, "table pg_cast", NULL);
	it_release(&lease);
	statements_tell(&peer, "a0r");
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(prepared(conn), "table pg_am table pg_enum");
	ck_assert_uint_eq(statements_evicted(), 1);
	it_release(&lease);
	statements_dismiss(&peer);
}
END_TEST

START_TEST(nothing_is_kept_without_the_setting_or_the_lease)
{
	pglease_pool *pool = statements_start("prepared_statements = 0\n");
	PGconn *conn = it_acquire(pool, &lease), *direct = pglease_test_connect(it_env);

	ck_assert_ptr_nonnull(direct);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_str_eq(statements_value(conn, DOUBLE, "4"), "8");
		ck_assert_str_eq(statements_value(direct, DOUBLE, "4"), "8");
	}
	ck_assert_int_eq(statements_count(conn), 0);
	ck_assert_int_eq(statements_count(direct), 0);
	ck_assert_ptr_null(pglease_exec_cached(NULL, DOUBLE, 0, NULL, NULL, NULL, NULL, 0));
	PQfinish(direct);
	it_release(&lease);
}
END_TEST

/* Everything that a caller can tell of a result, but for the name of a prepared statement in a message. */
static void
same(const char *sql, const PGresult *plain, const PGresult *cached)
{
	const char *state = PQresultErrorField(plain, PG_DIAG_SQLSTATE);

	ck_assert_msg(PQresultStatus(plain) == PQresultStatus(cached), "%s: %s, not %s", sql,
	    PQresStatus(PQresultStatus(cached)), PQresStatus(PQresultStatus(plain)));
	ck_assert_ptr_eq(plain == NULL ? NULL : "there", cached == NULL ? NULL : "there");
	if (plain == NULL)
		return;
	if (state != NULL)
		ck_assert_str_eq(PQresultErrorField(cached, PG_DIAG_SQLSTATE), state);
	ck_assert_str_eq(PQcmdStatus((PGresult *)cached), PQcmdStatus((PGresult *)plain));
	ck_assert_int_eq(PQntuples(cached), PQntuples(plain));
	ck_assert_int_eq(PQnfields(cached), PQnfields(plain));
	for (int row = 0; row < PQntuples(plain); row++) {
		for (int field = 0; field < PQnfields(plain); field++) {
			ck_assert_str_eq(PQgetvalue(cached, row, field), PQgetvalue(plain, row, field));
			ck_assert_uint_eq(PQftype(cached, field), PQftype(plain, field));
			ck_assert_str_eq(PQfname(cached, field), PQfname(plain, field));
		}
	}
}

START_TEST(results_and_errors_are_those_of_pqexecparams)
{
	static const struct {
		const char *sql;
		int n;
		const char *value;
		bool prepared;
	} calls[] = {
	    {"select 1 as a, 'x'::text as b union all select 2, null order by 1", 0, NULL, true},
	    {"select $1::date", 1, "2026-02-28", true},
	    {"select $1::date", 1, "no date", true},
	    {"select $1", 1, NULL, true},
	    {"select $2", 1, "one too few", false},
	    {"select 1", 1, "one too many", true},
	    {"selct 1", 0, NULL, false},
	    {"select 1; select 2", 0, NULL, false},
	    {"", 0, NULL, true},
	    {"table none_such", 0, NULL, false},
	    {"select 1/0", 0, NULL, true},
	    {"set work_mem = '5MB'", 0, NULL, true},
	    {"vacuum pg_am", 0, NULL, true},
	    {"execute none_such", 0, NULL, true},
	    {"deallocate none_such", 0, NULL, true},
	    {NULL, 0, NULL, false},
	    {"select 1", -1, NULL, false},
	    {"select 1", 65536, NULL, false},
	};
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		const char *const *values = &calls[i].value;
		PGresult *plain = PQexecParams(conn, calls[i].sql, calls[i].n, NULL, values, NULL, NULL, 0);
		uint64_t before = statements_prepared() + statements_reused();

		for (unsigned again = 0; again < 3; again++) {
			PGresult *cached =
			    pglease_exec_cached(conn, calls[i].sql, calls[i].n, NULL, values, NULL, NULL, 0);

			same(calls[i].sql != NULL ? calls[i].sql : "no command", plain, cached);
			PQclear(cached);
		}
		ck_assert_msg(statements_prepared() + statements_reused() - before == (calls[i].prepared ? 3 : 0),
		    "%s: %s", calls[i].sql, PQresultErrorMessage(plain));
		PQclear(plain);
	}
	/* Transactions by cached statements, also the end of one that has failed. */
	statements_value(conn, "begin", NULL);
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_INTRANS);
	statements_fails(conn, "select 1/0", NULL, "22012");
	statements_value(conn, "rollback", NULL);
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
	it_release(&lease);
}
END_TEST

START_TEST(modes_of_the_connection)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);
	PGresult *result;
	char buffer[64], *line = NULL;

	/* Non-blocking: as good as ever. */
	ck_assert_int_eq(PQsetnonblocking(conn, 1), 0);
	ck_assert_str_eq(statements_value(conn, DOUBLE, "1"), "2");
	ck_assert_str_eq(statements_value(conn, DOUBLE, "1"), "2");
	ck_assert_int_eq(PQsetnonblocking(conn, 0), 0);
	ck_assert_uint_eq(statements_prepared(), 1);
	/* In pipeline mode there are no synchronous calls. */
	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	result = pglease_exec_cached(conn, DOUBLE, 0, NULL, NULL, NULL, NULL, 0);
	ck_assert_ptr_null(result);
	ck_assert_ptr_nonnull(strstr(PQerrorMessage(conn), "pipeline"));
	ck_assert_int_eq(PQexitPipelineMode(conn), 1);
	/* The unread results of an earlier command, row by row, are discarded. */
	ck_assert_int_eq(PQsendQuery(conn, "select generate_series(1, 1000)"), 1);
	ck_assert_int_eq(PQsetSingleRowMode(conn), 1);
	result = PQgetResult(conn);
	ck_assert_int_eq(PQresultStatus(result), PGRES_SINGLE_TUPLE);
	PQclear(result);
	ck_assert_str_eq(statements_value(conn, DOUBLE, "3"), "6");
	/* COPY, both ways, twice. */
	it_query(conn, "create temp table t (a text)");
	for (int i = 1; i <= 2; i++) {
		result = pglease_exec_cached(conn, "copy t from stdin", 0, NULL, NULL, NULL, NULL, 0);
		ck_assert_int_eq(PQresultStatus(result), PGRES_COPY_IN);
		PQclear(result);
		ck_assert_int_eq(PQputCopyData(conn, "x\n", 2), 1);
		ck_assert_int_eq(PQputCopyEnd(conn, NULL), 1);
		while ((result = PQgetResult(conn)) != NULL) {
			ck_assert_int_eq(PQresultStatus(result), PGRES_COMMAND_OK);
			PQclear(result);
		}
		snprintf(buffer, sizeof(buffer), "%d", i);
		ck_assert_str_eq(statements_value(conn, "select count(*) from t", NULL), buffer);
		result = pglease_exec_cached(conn, "copy (select 'x') to stdout", 0, NULL, NULL, NULL, NULL, 0);
		ck_assert_int_eq(PQresultStatus(result), PGRES_COPY_OUT);
		PQclear(result);
		ck_assert_int_eq(PQgetCopyData(conn, &line, 0), 2);
		PQfreemem(line);
		ck_assert_int_eq(PQgetCopyData(conn, &line, 0), -1);
		while ((result = PQgetResult(conn)) != NULL)
			PQclear(result);
	}
	it_release(&lease);
}
END_TEST

IT_MAIN("statements kept", prepared_once_for_all_leases_of_a_process, prepared_once_for_all_processes, a_long_statement_is_one_too,
    types_given_make_another_statement, binary_values_go_both_ways, bounded_and_the_least_recently_used_goes,
    another_process_evicts_what_it_did_not_prepare, nothing_is_kept_without_the_setting_or_the_lease,
    results_and_errors_are_those_of_pqexecparams, modes_of_the_connection)
