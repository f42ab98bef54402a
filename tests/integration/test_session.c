/* SPDX-License-Identifier: PostgreSQL */
/* What one lessee leaves in a session must not be there for the next one of another process. */
#include "it.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Two worker processes over one connection: `leave` in the first, `find` in the second. */
static void (*leave)(PGconn *conn);
static void (*find)(PGconn *conn);

static void
first(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;

	leave(it_acquire(pool, &lease));
	it_release(&lease);
	it_say(socket, 'l');
	it_hear(socket, 'q'); /* lives on: its shell is still there */
}

static void
second(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn;

	it_hear(socket, 'g');
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
	find(conn);
	ck_assert_str_eq(it_query(conn, "select 'clean'"), "clean");
	it_release(&lease);
	it_say(socket, 'f');
	it_hear(socket, 'q');
}

/* Opened and replaced connections tell which of the two ways it went. */
static pglease_stats
leaves_and_finds(void (*leaver)(PGconn *conn), void (*finder)(PGconn *conn))
{
	struct it_worker a, b;
	pglease_pool *pool;
	pglease_stats stats;

	it_start(1, 1, NULL);
	leave = leaver;
	find = finder;
	a = it_worker(first, NULL);
	it_hear(a.socket, 'l');
	b = it_worker(second, NULL);
	it_say(b.socket, 'g');
	it_hear(b.socket, 'f');
	pool = it_attach();
	it_ok(pglease_stats_get(pool, &stats));
	it_say(a.socket, 'q');
	it_say(b.socket, 'q');
	it_join(&a);
	it_join(&b);
	return stats;
}

static void
leave_settings(PGconn *conn)
{
	it_query(conn, "set search_path = evil; set timezone = 'Asia/Tokyo'; set client_encoding = 'LATIN1'");
	it_query(conn, "set standard_conforming_strings = off; set datestyle = 'German'; set my.own = 'x'");
	it_query(conn, "set session characteristics as transaction read only");
}

static void
find_settings(PGconn *conn)
{
	static const char *const names[] = {"client_encoding", "standard_conforming_strings", "TimeZone", "DateStyle"};

	ck_assert_str_ne(it_query(conn, "show search_path"), "evil");
	ck_assert_str_eq(it_query(conn, "show standard_conforming_strings"), "on");
	ck_assert_str_eq(it_query(conn, "show default_transaction_read_only"), "off");
	ck_assert_str_eq(it_query(conn, "select coalesce(current_setting('my.own', true), '')"), "");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char sql[64];

		snprintf(sql, sizeof(sql), "show %s", names[i]);
		ck_assert_str_eq(it_query(conn, sql), PQparameterStatus(conn, names[i]));
	}
}

START_TEST(settings)
{
	pglease_stats stats = leaves_and_finds(leave_settings, find_settings);

	ck_assert_uint_eq(stats.opened, 1); /* reset, not replaced */
	ck_assert_uint_eq(stats.resets, 1);
}
END_TEST

static void
leave_objects(PGconn *conn)
{
	it_query(conn, "create temp table t as select 1; prepare p as select 1; select pg_advisory_lock(42)");
	it_query(conn, "begin; declare c cursor with hold for select 1; commit; listen ch; notify ch, 'x'");
}

static void
find_objects(PGconn *conn)
{
	ck_assert_str_eq(it_query(conn, "select coalesce(to_regclass('pg_temp.t')::text, '')"), "");
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_prepared_statements"), "0");
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_cursors"), "0");
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_locks where locktype = 'advisory'"), "0");
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_listening_channels()"), "0");
	ck_assert_ptr_null(PQnotifies(conn));
}

START_TEST(temporary_objects_locks_and_listens)
{
	leaves_and_finds(leave_objects, find_objects);
}
END_TEST

static void
leave_role(PGconn *conn)
{
	it_query(conn, "create role other; set role other");
}

static void
find_role(PGconn *conn)
{
	ck_assert_str_eq(it_query(conn, "select current_user"), PQuser(conn));
}

START_TEST(role)
{
	leaves_and_finds(leave_role, find_role);
}
END_TEST

static void
leave_transaction(PGconn *conn)
{
	it_query(conn, "create table kept (i int)");
	it_query(conn, "begin; insert into kept values (1)");
}

static void
find_no_rows(PGconn *conn)
{
	ck_assert_str_eq(it_query(conn, "select count(*) from kept"), "0");
}

START_TEST(open_transaction_is_rolled_back)
{
	pglease_stats stats = leaves_and_finds(leave_transaction, find_no_rows);

	ck_assert_uint_eq(stats.rollbacks, 1);
	ck_assert_uint_eq(stats.opened, 1);
}
END_TEST

static void
leave_failed_transaction(PGconn *conn)
{
	it_query(conn, "create table kept (i int)");
	it_query(conn, "begin; insert into kept values (1)");
	PQclear(PQexec(conn, "select 1/0"));
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_INERROR);
}

START_TEST(failed_transaction_is_rolled_back)
{
	ck_assert_uint_eq(leaves_and_finds(leave_failed_transaction, find_no_rows).rollbacks, 1);
}
END_TEST

static void
leave_copy(PGconn *conn)
{
	it_query(conn, "create table kept (i int)");
	PQclear(PQexec(conn, "copy kept from stdin"));
	PQputCopyData(conn, "1\n", 2);
}

START_TEST(copy_in_progress_costs_the_connection)
{
	pglease_stats stats = leaves_and_finds(leave_copy, find_no_rows);

	ck_assert_uint_eq(stats.opened, 2);
	ck_assert_uint_eq(stats.returned, 1);
}
END_TEST

static void
leave_unread(PGconn *conn)
{
	ck_assert_int_eq(PQsendQuery(conn, "select 'not yours' from generate_series(1, 100000)"), 1);
}

static void
find_own_row(PGconn *conn)
{
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
}

START_TEST(unread_result_costs_the_connection)
{
	ck_assert_uint_eq(leaves_and_finds(leave_unread, find_own_row).opened, 2);
}
END_TEST

static void
leave_single_row(PGconn *conn)
{
	leave_unread(conn);
	PQsetSingleRowMode(conn);
	PQclear(PQgetResult(conn));
}

START_TEST(single_row_mode_left_halfway_costs_the_connection)
{
	ck_assert_uint_eq(leaves_and_finds(leave_single_row, find_own_row).opened, 2);
}
END_TEST

static void
leave_pipeline(PGconn *conn)
{
	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	ck_assert_int_eq(PQsendQueryParams(conn, "select 'not yours'", 0, NULL, NULL, NULL, NULL, 0), 1);
}

START_TEST(pipeline_costs_the_connection)
{
	ck_assert_uint_eq(leaves_and_finds(leave_pipeline, find_own_row).opened, 2);
}
END_TEST

static void
leave_nonblocking(PGconn *conn)
{
	ck_assert_int_eq(PQsetnonblocking(conn, 1), 0);
}

static void
find_blocking(PGconn *conn)
{
	ck_assert_int_eq(PQisnonblocking(conn), 0);
}

START_TEST(nonblocking_mode_is_put_back)
{
	ck_assert_uint_eq(leaves_and_finds(leave_nonblocking, find_blocking).opened, 1);
}
END_TEST

static void
leave_finished(PGconn *conn)
{
	PQfinish(conn); /* against the manual */
}

START_TEST(pqfinish_on_a_lease_harms_nobody)
{
	ck_assert_uint_eq(leaves_and_finds(leave_finished, find_own_row).opened, 2);
}
END_TEST

static void
leave_terminated(PGconn *conn)
{
	PQclear(PQexec(conn, "select pg_terminate_backend(pg_backend_pid())"));
	ck_assert_int_ne(PQstatus(conn), CONNECTION_OK);
}

START_TEST(a_lost_connection_is_replaced)
{
	ck_assert_uint_eq(leaves_and_finds(leave_terminated, find_own_row).opened, 2);
}
END_TEST

/* The same process finds its own session, for free; after another's lease of it, at the baseline on both sides. */
START_TEST(own_session_until_another_had_it)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	struct it_worker worker;
	pglease_stats stats;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	it_query(conn, "set timezone = 'Asia/Tokyo'; prepare p as select 11");
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "execute p"), "11");
	ck_assert_str_eq(PQparameterStatus(conn, "TimeZone"), "Asia/Tokyo");
	it_release(&lease);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.resets, 0);

	find = find_own_row;
	worker = it_worker(second, NULL);
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'f');
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_prepared_statements"), "0");
	ck_assert_str_ne(PQparameterStatus(conn, "TimeZone"), "Asia/Tokyo");
	ck_assert_str_eq(it_query(conn, "show timezone"), PQparameterStatus(conn, "TimeZone"));
	it_release(&lease);
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

/* A holds the session when the server itself changes what escaping depends on; only A is told. B must not be fooled. */
static void
told(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn;

	it_hear(socket, 'g');
	conn = it_acquire(pool, &lease);
	it_say(socket, 'h');
	it_hear(socket, 'r');
	while (strcmp(PQparameterStatus(conn, "standard_conforming_strings"), "off") != 0)
		it_query(conn, "select 1");
	it_release(&lease);
	it_say(socket, 'd');
	it_hear(socket, 'q');
}

START_TEST(a_parameter_that_the_server_changed_is_known_to_the_next)
{
	struct it_worker a;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	char escaped[16];

	it_start(1, 1, NULL);
	a = it_worker(told, NULL);
	pool = it_attach();
	it_acquire(pool, &lease); /* has a shell from before */
	it_release(&lease);
	it_say(a.socket, 'g');
	it_hear(a.socket, 'h');
	ck_assert_int_eq(fixture_sql(it_fixture, "alter system set standard_conforming_strings = off", NULL, 0), 0);
	ck_assert_int_eq(fixture_sql(it_fixture, "select pg_reload_conf()", NULL, 0), 0);
	it_say(a.socket, 'r');
	it_hear(a.socket, 'd');
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "show standard_conforming_strings"),
	    PQparameterStatus(conn, "standard_conforming_strings"));
	/* Under `off` a backslash must be doubled, or it would swallow the quote. */
	PQescapeStringConn(conn, escaped, "a\\'b", 4, NULL);
	ck_assert_str_eq(escaped, "a\\\\''b");
	it_release(&lease);
	it_say(a.socket, 'q');
	it_join(&a);
}
END_TEST

static void
never(void *arg, const char *message)
{
	ck_abort_msg("the notice processor of a lease that is over: %s", message);
}

START_TEST(settings_of_the_pgconn_end_with_the_lease)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	PQsetNoticeProcessor(conn, never, NULL);
	PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
	it_query(conn, "listen ch");
	it_query(conn, "notify ch, 'x'");
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	it_query(conn, "do $$ begin raise warning 'heard by nobody but stderr'; end $$");
	ck_assert_int_eq(PQsetErrorVerbosity(conn, PQERRORS_DEFAULT), PQERRORS_DEFAULT);
	ck_assert_ptr_null(PQnotifies(conn));
	it_release(&lease);
}
END_TEST

IT_MAIN("session", settings, temporary_objects_locks_and_listens, role, open_transaction_is_rolled_back,
    failed_transaction_is_rolled_back, copy_in_progress_costs_the_connection, unread_result_costs_the_connection,
    single_row_mode_left_halfway_costs_the_connection, pipeline_costs_the_connection, nonblocking_mode_is_put_back,
    pqfinish_on_a_lease_harms_nobody, a_lost_connection_is_replaced,
    own_session_until_another_had_it, a_parameter_that_the_server_changed_is_known_to_the_next,
    settings_of_the_pgconn_end_with_the_lease)
