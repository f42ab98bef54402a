/* SPDX-License-Identifier: PostgreSQL */
/*
 * pglease_exec_cached when what is known and what is prepared part: the application deallocates, tables
 * change, the session is reset or replaced, a lessee dies in between.
 */
#include "statements.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define ONE "select 1"
#define TWO "select 2"

static pglease_lease lease;

/* Both are prepared. */
static void
use_both(PGconn *conn)
{
	ck_assert_str_eq(statements_value(conn, ONE, NULL), "1");
	ck_assert_str_eq(statements_value(conn, TWO, NULL), "2");
}

static void
deallocate_all(PGconn *conn)
{
	it_query(conn, "deallocate all");
}

static void
discard_all(PGconn *conn)
{
	it_query(conn, "discard all");
}

static void (*const losses[])(PGconn *conn) = {deallocate_all, discard_all};

START_TEST(deallocated_by_the_application)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);
	uint64_t prepared = 0;

	for (unsigned i = 0; i < 2; i++) {
		use_both(conn);
		losses[i](conn);
		ck_assert_int_eq(statements_count(conn), 0);
		use_both(conn);
		ck_assert_int_eq(statements_count(conn), 2);
		prepared += i == 0 ? 4 : 2;
		ck_assert_uint_eq(statements_prepared(), prepared);
		/* Now they are as good as before, also in a transaction. */
		it_query(conn, "begin");
		use_both(conn);
		it_query(conn, "commit");
		ck_assert_int_eq(statements_executions(conn, ONE), 2);
		ck_assert_int_eq(statements_executions(conn, TWO), 2);
	}
	it_release(&lease);
}
END_TEST

START_TEST(deallocated_before_a_transaction)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);

	for (unsigned i = 0; i < 2; i++) {
		use_both(conn);
		losses[i](conn);
		/* It cannot be hidden: the first one fails, as a PQexecPrepared would. */
		it_query(conn, "begin");
		statements_fails(conn, ONE, NULL, "26000");
		it_query(conn, "rollback");
		/* And only that one: what else may be missing is not risked in a transaction. */
		it_query(conn, "begin");
		use_both(conn);
		it_query(conn, "commit");
		ck_assert_int_eq(statements_executions(conn, ONE), 1);
		ck_assert_int_eq(statements_executions(conn, TWO), -1);
		use_both(conn);
		ck_assert_int_eq(statements_count(conn), 2);
	}
	/* A transaction that is only known to have begun when earlier results are read. */
	deallocate_all(conn);
	ck_assert_int_eq(PQsendQuery(conn, "begin"), 1);
	ck_assert_str_eq(statements_value(conn, ONE, NULL), "1");
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_INTRANS);
	it_release(&lease);
}
END_TEST

/* The doubt that one lost statement throws on the others ends when they turn out to be there. */
START_TEST(only_one_deallocated)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);
	char sql[128];

	use_both(conn);
	snprintf(sql, sizeof(sql), "deallocate %.40s", statements_identity(conn, ONE));
	it_query(conn, sql);
	use_both(conn); /* ONE anew; TWO is there */
	ck_assert_uint_eq(statements_prepared(), 3);
	ck_assert_int_eq(statements_executions(conn, TWO), 2);
	it_query(conn, "begin");
	use_both(conn);
	it_query(conn, "commit");
	ck_assert_int_eq(statements_executions(conn, ONE), 2);
	ck_assert_int_eq(statements_executions(conn, TWO), 3);
	it_release(&lease);
}
END_TEST

START_TEST(deallocated_by_another_process)
{
	static const statements_step steps[] = {use_both, deallocate_all, discard_all};
	pglease_pool *pool = statements_start(NULL);
	struct it_worker peer = statements_peer(steps);
	PGconn *conn = it_acquire(pool, &lease);

	use_both(conn);
	it_release(&lease);
	statements_tell(&peer, "a01r");
	conn = it_acquire(pool, &lease);
	use_both(conn);
	it_release(&lease);
	statements_tell(&peer, "a02r");
	conn = it_acquire(pool, &lease);
	use_both(conn);
	ck_assert_int_eq(statements_count(conn), 2);
	ck_assert_uint_eq(statements_prepared(), 6);
	it_release(&lease);
	statements_dismiss(&peer);
}
END_TEST

/* The table is full of what is not there any more. */
START_TEST(deallocated_and_no_room)
{
	pglease_pool *pool = statements_start("prepared_statements = 2\n");
	PGconn *conn = it_acquire(pool, &lease);

	use_both(conn);
	deallocate_all(conn);
	ck_assert_str_eq(statements_value(conn, "select 3", NULL), "3");
	/* Now it is known that TWO may be missing as well: no transaction is risked to make room. */
	it_query(conn, "begin");
	ck_assert_str_eq(statements_value(conn, "select 4", NULL), "4");
	it_query(conn, "commit");
	ck_assert_int_eq(statements_executions(conn, "select 4"), -1);
	ck_assert_str_eq(statements_value(conn, "select 4", NULL), "4");
	ck_assert_int_eq(statements_executions(conn, "select 3"), 1);
	ck_assert_int_eq(statements_executions(conn, "select 4"), 1);
	it_release(&lease);
}
END_TEST

/* Prepared under the name already, and the table does not know. */
START_TEST(there_already)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);
	char name[64], sql[128];

	statements_value(conn, ONE, NULL);
	snprintf(name, sizeof(name), "%.40s", statements_identity(conn, ONE));
	for (unsigned block = 0; block < 2; block++) {
		snprintf(sql, sizeof(sql), "deallocate %s", name);
		it_query(conn, sql);
		it_query(conn, "begin");
		statements_fails(conn, ONE, NULL, "26000");
		it_query(conn, "rollback");
		snprintf(sql, sizeof(sql), "prepare %s as %s", name, ONE);
		it_query(conn, sql);
		if (block == 1) {
			it_query(conn, "begin");
			statements_fails(conn, ONE, NULL, "42P05");
			it_query(conn, "rollback");
		}
		ck_assert_str_eq(statements_value(conn, ONE, NULL), "1");
		ck_assert_str_eq(statements_value(conn, ONE, NULL), "1");
		ck_assert_uint_eq(statements_prepared(), 1);
	}
	it_release(&lease);
}
END_TEST

#define ALL "select * from t order by 1"

static void
expect_columns(PGconn *conn, int n)
{
	PGresult *result = pglease_exec_cached(conn, ALL, 0, NULL, NULL, NULL, NULL, 0);

	ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(conn));
	ck_assert_int_eq(PQnfields(result), n);
	PQclear(result);
}

static void
expect_two_columns(PGconn *conn)
{
	expect_columns(conn, 2);
}

START_TEST(other_columns)
{
	static const statements_step steps[] = {expect_two_columns};
	pglease_pool *pool = statements_start(NULL);
	struct it_worker peer = statements_peer(steps);
	PGconn *conn = it_acquire(pool, &lease);

	it_query(conn, "create table t (a int)");
	expect_columns(conn, 1);
	it_query(conn, "alter table t add b int");
	it_release(&lease);
	statements_tell(&peer, "a00r");
	conn = it_acquire(pool, &lease);
	expect_columns(conn, 2);
	ck_assert_uint_eq(statements_prepared(), 2);
	/* In a transaction the first one fails. */
	it_query(conn, "alter table t add c int");
	it_query(conn, "begin");
	statements_fails(conn, ALL, NULL, "0A000");
	it_query(conn, "rollback");
	it_query(conn, "begin");
	expect_columns(conn, 3);
	it_query(conn, "commit");
	expect_columns(conn, 3);
	ck_assert_uint_eq(statements_prepared(), 3);
	ck_assert_int_eq(statements_count(conn), 1);
	it_release(&lease);
	statements_dismiss(&peer);
}
END_TEST

#define COUNT "select count(*) from t where a = $1"

START_TEST(other_types)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);

	it_query(conn, "create table t (a int)");
	ck_assert_str_eq(statements_value(conn, COUNT, "1"), "0");
	/* The operator is not there for the type that was inferred. */
	it_query(conn, "alter table t alter a type text; insert into t values ('1')");
	ck_assert_str_eq(statements_value(conn, COUNT, "1"), "1");
	it_query(conn, "truncate t; alter table t alter a type int using 0");
	it_query(conn, "begin");
	statements_fails(conn, COUNT, "1", "42883");
	it_query(conn, "rollback");
	ck_assert_str_eq(statements_value(conn, COUNT, "1"), "0");
	/* It is, but the value is not of the type: an error, and then it works. */
	it_query(conn, "alter table t alter a type bigint");
	statements_fails(conn, COUNT, "5000000000", "22003");
	ck_assert_str_eq(statements_value(conn, COUNT, "5000000000"), "0");
	ck_assert_uint_eq(statements_prepared(), 4);
	ck_assert_int_eq(statements_count(conn), 1);
	it_release(&lease);
}
END_TEST

/* What fails is not executed again when it may have begun: a procedure may have committed its first half. */
START_TEST(nothing_is_done_twice)
{
	static const char call[] = "call p($1)";
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);

	it_query(conn, "create table log (n int)");
	it_query(conn, "create procedure p(how text) language plpgsql as $$ begin insert into log values (1); commit; "
		       "if how = 'value' then perform 'x'::int; elsif how = 'operator' then perform 1 where point '1,1' = 1; "
		       "end if; end $$");
	statements_value(conn, call, "well");
	statements_fails(conn, call, "operator", "42883");
	statements_fails(conn, call, "value", "22P02");
	ck_assert_uint_eq(statements_reused(), 2); /* else nothing was tried */
	ck_assert_str_eq(it_query(conn, "select count(*) from log"), "3");
	it_release(&lease);
}
END_TEST

/* What a literal means depends on these; of each text only its own setting tells one meaning from another. */
static const struct {
	const char *set, *sql;
} settings[] = {
    {"set datestyle = 'ISO, DMY'", "select extract(month from '01/02/2020'::date)"},
    {"set standard_conforming_strings = off; set escape_string_warning = off", "select length('\\\\')"},
    {"set timezone = 'Asia/Tokyo'", "select extract(epoch from '2020-01-01 12:00'::timestamptz)"},
    {"set intervalstyle = 'sql_standard'", "select extract(epoch from '-1 2:00:00'::interval)"},
    {"set client_encoding = 'LATIN1'", "select length('\xc3\xa9')"},
};
#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

static void
under_other_settings(PGconn *conn)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		char usual[64], other[64];

		snprintf(usual, sizeof(usual), "%s", it_query(conn, settings[i].sql));
		it_query(conn, settings[i].set);
		snprintf(other, sizeof(other), "%s", it_query(conn, settings[i].sql));
		ck_assert_str_ne(usual, other); /* else it shows nothing */
		ck_assert_str_eq(statements_value(conn, settings[i].sql, NULL), other);
		it_query(conn, "reset all");
	}
}

static void
under_usual_settings(PGconn *conn)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		char usual[64];

		snprintf(usual, sizeof(usual), "%s", it_query(conn, settings[i].sql));
		ck_assert_str_eq(statements_value(conn, settings[i].sql, NULL), usual);
	}
}

START_TEST(literals_read_under_other_settings)
{
	static const statements_step steps[] = {under_other_settings, under_usual_settings};
	pglease_pool *pool = statements_start(NULL);
	struct it_worker peer = statements_peer(steps);
	PGconn *conn;

	statements_tell(&peer, "a0r");
	conn = it_acquire(pool, &lease);
	under_usual_settings(conn);
	it_release(&lease);
	statements_tell(&peer, "a10r");
	conn = it_acquire(pool, &lease);
	under_usual_settings(conn);
	ck_assert_uint_eq(statements_prepared(), 2 * SETTINGS);
	it_release(&lease);
	statements_dismiss(&peer);
}
END_TEST

static void
in_schema_two(PGconn *conn)
{
	it_query(conn, "set search_path = two");
	ck_assert_str_eq(statements_value(conn, ALL, NULL), "2");
}

START_TEST(another_search_path)
{
	static const statements_step steps[] = {in_schema_two};
	pglease_pool *pool = statements_start(NULL);
	struct it_worker peer = statements_peer(steps);
	PGconn *conn = it_acquire(pool, &lease);

	it_query(conn, "create table t as select 1 as a; create schema two; create table two.t as select 2 as a");
	ck_assert_str_eq(statements_value(conn, ALL, NULL), "1");
	it_release(&lease);
	statements_tell(&peer, "a0r");
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(statements_value(conn, ALL, NULL), "1");
	it_release(&lease);
	statements_dismiss(&peer);
}
END_TEST

/* Each session's table begins empty: no statement is looked for that is not there. */
START_TEST(another_session)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);
	int pid = PQbackendPID(conn);

	use_both(conn);
	PQclear(PQexec(conn, "select pg_terminate_backend(pg_backend_pid())"));
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	ck_assert_int_ne(PQbackendPID(conn), pid);
	it_query(conn, "begin"); /* in which it would show if they were thought to be there */
	use_both(conn);
	use_both(conn);
	it_query(conn, "commit");
	ck_assert_int_eq(statements_count(conn), 2);
	ck_assert_uint_eq(statements_prepared(), 4);
	ck_assert_uint_eq(statements_reused(), 2);
	it_release(&lease);
}
END_TEST

/* The same when it is the lessee who asks for another session, and holds the slot meanwhile. */
START_TEST(another_session_by_pqreset)
{
	pglease_pool *pool = statements_start(NULL);
	PGconn *conn = it_acquire(pool, &lease);
	int pid = PQbackendPID(conn);

	use_both(conn);
	PQreset(conn);
	ck_assert_int_eq(PQstatus(conn), CONNECTION_OK);
	ck_assert_int_ne(PQbackendPID(conn), pid);
	it_query(conn, "begin");
	use_both(conn);
	use_both(conn);
	it_query(conn, "commit");
	ck_assert_int_eq(statements_count(conn), 2);
	ck_assert_uint_eq(statements_prepared(), 4);
	ck_assert_uint_eq(statements_reused(), 2);
	it_release(&lease);
}
END_TEST

/* DISCARD ALL by the next lessee, who has to wait for it. */
START_TEST(reset_in_full_by_a_lessee)
{
	static const statements_step steps[] = {use_both};
	pglease_pool *pool = statements_start_with("reset_kind = full\nreset_after = 0\n");
	struct it_worker peer = statements_peer(steps);
	PGconn *conn = it_acquire(pool, &lease);

	use_both(conn);
	it_release(&lease);
	statements_tell(&peer, "a00r");
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(statements_count(conn), 0);
	it_query(conn, "begin"); /* in which it would show if they were thought to be there */
	use_both(conn);
	it_query(conn, "commit");
	ck_assert_uint_eq(statements_prepared(), 6);
	ck_assert_uint_eq(it_published("app", "opened"), 1);
	it_release(&lease);
	statements_dismiss(&peer);
}
END_TEST

START_TEST(reset_in_full_by_the_broker)
{
	pglease_pool *pool = statements_start_with("reset_kind = full\nreset_after = 1ms\n");
	PGconn *conn = it_acquire(pool, &lease);

	use_both(conn);
	it_release(&lease);
	it_await_published("app", "broker_resets", 1);
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(statements_count(conn), 0);
	it_query(conn, "begin");
	use_both(conn);
	it_query(conn, "commit");
	ck_assert_uint_eq(statements_prepared(), 4);
	it_release(&lease);
}
END_TEST

/* Nothing else was left in the session: no reset, and the statements are the next process's, too. */
START_TEST(released_as_clean)
{
	static const statements_step steps[] = {use_both};
	pglease_pool *pool = statements_start_with("reset_kind = full\n");
	struct it_worker peer = statements_peer(steps);
	PGconn *conn = it_acquire(pool, &lease);

	use_both(conn);
	it_ok(pglease_release_as(&lease, PGLEASE_SESSION_CLEAN));
	statements_tell(&peer, "a0r");
	ck_assert_uint_eq(statements_prepared(), 2);
	ck_assert_uint_eq(statements_reused(), 2);
	statements_dismiss(&peer);
}
END_TEST

static void
use_table(PGconn *conn)
{
	statements_value(conn, ALL, NULL);
}

static void
await_sql(PGconn *conn, const char *sql, const char *expected)
{
	static const struct timespec step = {.tv_nsec = 5000000};

	/* The server tells nobody: it is looked at, and the bound only ends a failure. */
	for (unsigned i = 0; i < 4000; i++) {
		if (strcmp(it_query(conn, sql), expected) == 0)
			return;
		nanosleep(&step, NULL);
	}
	ck_abort_msg("%s never became %s", sql, expected);
}

/* Killed when the server has its Parse, before the answer could be noted: a lock holds the server up meanwhile. */
START_TEST(killed_between_preparing_and_noting)
{
	static const statements_step steps[] = {use_table};
	pglease_pool *pool = statements_start(NULL);
	struct it_worker peer = statements_peer(steps);
	PGconn *locker = pglease_test_connect(it_env), *watcher = pglease_test_connect(it_env);
	PGconn *conn = it_acquire(pool, &lease);
	int pid = PQbackendPID(conn);
	char sql[160];

	ck_assert_ptr_nonnull(locker);
	ck_assert_ptr_nonnull(watcher);
	it_query(conn, "create table t as select 7 as a");
	it_release(&lease);
	it_query(locker, "begin; lock table t");
	statements_tell(&peer, "a");
	it_say(peer.socket, '0');
	snprintf(sql, sizeof(sql), "select count(*) from pg_stat_activity where pid = %d and wait_event_type = 'Lock'", pid);
	await_sql(watcher, sql, "1");
	it_kill(&peer);
	it_query(locker, "commit");
	conn = it_acquire(pool, &lease);
	/* Nothing of it to be found: another session, and an empty table. */
	ck_assert_int_ne(PQbackendPID(conn), pid);
	ck_assert_int_eq(statements_count(conn), 0);
	ck_assert_str_eq(statements_value(conn, ALL, NULL), "7");
	ck_assert_str_eq(statements_value(conn, ALL, NULL), "7");
	ck_assert_int_eq(statements_executions(conn, ALL), 2);
	ck_assert_uint_eq(statements_prepared(), 1);
	it_release(&lease);
	PQfinish(locker);
	PQfinish(watcher);
}
END_TEST

IT_MAIN("statements lost", deallocated_by_the_application, deallocated_before_a_transaction, only_one_deallocated,
    deallocated_by_another_process, deallocated_and_no_room, there_already, other_columns, other_types,
    nothing_is_done_twice, literals_read_under_other_settings, another_search_path, another_session,
    another_session_by_pqreset, reset_in_full_by_a_lessee, reset_in_full_by_the_broker, released_as_clean,
    killed_between_preparing_and_noting)
