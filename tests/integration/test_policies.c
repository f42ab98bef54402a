/* SPDX-License-Identifier: PostgreSQL */
/*
 * Who resets a session, when, and how much: the policies and kinds, what a lessee says at release, resets that are sent
 * ahead and those of the broker. That nothing leaks is test_session's matter.
 */
#include "it.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* The broker does not reset by itself, and every waiter is due a grant at once. */
#define BY_LESSEES "reset_after = 0\ngrant_after = 1us\n"

static const char mark[] = "set my.mark = 'here'";
static const char marked[] = "select coalesce(current_setting('my.mark', true), '')";

/* Another process: leases when told ('g'), says whether it saw the mark ('m' or '-'), then gives the lease back when told. */
static void
looks(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn;

	for (;;) {
		it_hear(socket, 'g');
		conn = it_acquire(pool, &lease);
		it_say(socket, *it_query(conn, marked) != '\0' ? 'm' : '-');
		it_hear(socket, 'r');
		it_release(&lease);
		it_say(socket, 'r');
	}
}

static void
turn(const struct it_worker *other, char expected)
{
	it_say(other->socket, 'g');
	it_hear(other->socket, expected);
	it_say(other->socket, 'r');
	it_hear(other->socket, 'r');
}

static pglease_stats
stats_of(pglease_pool *pool)
{
	pglease_stats stats;

	it_ok(pglease_stats_get(pool, &stats));
	return stats;
}

static pglease_pool *
begin(const char *extra, struct it_worker *ret_other)
{
	it_start(1, 1, extra);
	*ret_other = it_worker(looks, NULL);
	return it_attach();
}

static void
lease_and_leave(pglease_pool *pool, enum pglease_session session)
{
	pglease_lease lease;

	it_query(it_acquire(pool, &lease), mark);
	it_ok(pglease_release_as(&lease, session));
}

static bool
is_marked(pglease_pool *pool)
{
	pglease_lease lease;
	bool is = *it_query(it_acquire(pool, &lease), marked) != '\0';

	it_release(&lease);
	return is;
}

START_TEST(handover_resets_for_another_process_only)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES, &other);
	pglease_stats stats;

	lease_and_leave(pool, PGLEASE_SESSION_USED);
	ck_assert(is_marked(pool));
	stats = stats_of(pool);
	ck_assert_uint_eq(stats.resets, 0);
	ck_assert_uint_eq(stats.resets_spared, 1);
	turn(&other, '-');
	stats = stats_of(pool);
	ck_assert_uint_eq(stats.resets, 1);
	ck_assert_uint_eq(stats.opened, 1);
	it_kill(&other);
}
END_TEST

START_TEST(a_reset_is_sent_ahead_to_a_waiter)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES, &other);
	pglease_lease lease;
	pglease_stats stats;

	it_query(it_acquire(pool, &lease), mark);
	it_say(other.socket, 'g');
	it_await_waiting(pool, 1);
	it_release(&lease);
	it_hear(other.socket, '-');
	stats = stats_of(pool);
	ck_assert_uint_eq(stats.handovers, 1);
	ck_assert_uint_eq(stats.resets_pipelined, 1);
	ck_assert_uint_eq(stats.resets, 0);
	ck_assert_uint_eq(stats.opened, 1);
	it_kill(&other);
}
END_TEST

START_TEST(always_resets_at_each_release)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES "reset = always\n", &other);
	pglease_stats stats;

	lease_and_leave(pool, PGLEASE_SESSION_USED);
	ck_assert(!is_marked(pool));
	turn(&other, '-');
	lease_and_leave(pool, PGLEASE_SESSION_CLEAN); /* as it says */
	ck_assert(is_marked(pool));
	stats = stats_of(pool);
	ck_assert_uint_eq(stats.resets_pipelined, 4);
	ck_assert_uint_eq(stats.resets, 0);
	ck_assert_uint_eq(stats.opened, 1);
	it_kill(&other);
}
END_TEST

/* Nothing is reset but what the next lessee's PGconn would be wrong about, and what would be sent to it unasked. */
static void
finds_the_rest(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);

	ck_assert_str_eq(it_query(conn, marked), "here");
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_listening_channels()"), "0");
	ck_assert_str_eq(it_query(conn, "show client_encoding"), PQparameterStatus(conn, "client_encoding"));
	ck_assert_str_eq(it_query(conn, "show standard_conforming_strings"), "on");
	it_release(&lease);
}

START_TEST(never_resets_listens_only)
{
	struct it_worker other;
	pglease_lease lease;
	pglease_pool *pool;
	PGconn *conn;

	it_start(1, 1, BY_LESSEES "reset = never\n");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	it_query(conn, "listen ch");
	it_query(conn, mark);
	it_release(&lease);
	other = it_worker(finds_the_rest, NULL);
	it_join(&other);
	ck_assert_uint_eq(stats_of(pool).opened, 1);
}
END_TEST

START_TEST(never_puts_reported_settings_back)
{
	struct it_worker other;
	pglease_lease lease;
	pglease_pool *pool;
	PGconn *conn;

	it_start(1, 1, BY_LESSEES "reset = never\n");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	it_query(conn, "set client_encoding = 'SJIS'; set standard_conforming_strings = off");
	it_release(&lease);
	lease_and_leave(pool, PGLEASE_SESSION_USED);
	other = it_worker(finds_the_rest, NULL);
	it_join(&other);
	ck_assert_uint_eq(stats_of(pool).opened, 1);
}
END_TEST

static void
finds_light(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);

	ck_assert_str_eq(it_query(conn, "execute kept"), "1");
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_listening_channels()"), "0");
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_locks where locktype = 'advisory'"), "0");
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_cursors"), "0");
	ck_assert_str_eq(it_query(conn, "select coalesce(to_regclass('pg_temp.t')::text, '')"), "");
	ck_assert_str_eq(it_query(conn, "select current_user || session_user"), "postgrespostgres");
	ck_assert_str_eq(it_query(conn, marked), "");
	it_release(&lease);
}

START_TEST(light_keeps_prepared_statements)
{
	struct it_worker other;
	pglease_lease lease;
	pglease_pool *pool;
	PGconn *conn;

	it_start(1, 1, BY_LESSEES "reset_kind = light\n");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	it_query(conn, "prepare kept as select 1; create temp table t as select 1; select pg_advisory_lock(42)");
	it_query(conn, "begin; declare c cursor with hold for select 1; commit; listen ch");
	it_query(conn, "create role other_role; set session authorization other_role; set role none");
	it_query(conn, mark);
	it_release(&lease);
	other = it_worker(finds_light, NULL);
	it_join(&other);
	ck_assert_uint_eq(stats_of(pool).opened, 1);
}
END_TEST

START_TEST(the_operators_own_sql)
{
	struct it_worker other;
	pglease_pool *pool =
	    begin(BY_LESSEES "reset_kind = sql\nreset_sql = reset all; select 1; set my.mark = ''\n", &other);

	lease_and_leave(pool, PGLEASE_SESSION_USED);
	turn(&other, '-');
	ck_assert_uint_eq(stats_of(pool).opened, 1);
	it_kill(&other);
}
END_TEST

START_TEST(own_sql_that_fails_costs_the_connection)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES "reset_kind = sql\nreset_sql = select 1/0\n", &other);

	lease_and_leave(pool, PGLEASE_SESSION_USED);
	turn(&other, '-');
	ck_assert_uint_eq(stats_of(pool).opened, 2);
	it_kill(&other);
}
END_TEST

/* So does one that leaves a reported setting off: the next lessee's PGconn would be wrong about it. */
START_TEST(own_sql_that_forgets_a_reported_setting_costs_the_connection)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES "reset_kind = sql\nreset_sql = select 1\n", &other);
	pglease_lease lease;

	it_query(it_acquire(pool, &lease), "set client_encoding = 'SJIS'");
	it_release(&lease);
	turn(&other, '-');
	ck_assert_uint_eq(stats_of(pool).opened, 2);
	it_kill(&other);
}
END_TEST

START_TEST(a_clean_lease_needs_no_reset)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES, &other);
	pglease_lease lease;

	it_query(it_acquire(pool, &lease), "select 1");
	it_ok(pglease_release_as(&lease, PGLEASE_SESSION_CLEAN));
	turn(&other, '-');
	ck_assert_uint_eq(stats_of(pool).resets, 0);
	/* Earlier traces of the same process are not forgotten for it ... */
	lease_and_leave(pool, PGLEASE_SESSION_USED);
	it_acquire(pool, &lease);
	it_ok(pglease_release_as(&lease, PGLEASE_SESSION_CLEAN));
	turn(&other, '-');
	/* ... nor is a reported setting believed to be clean. */
	it_query(it_acquire(pool, &lease), "set client_encoding = 'SJIS'");
	it_ok(pglease_release_as(&lease, PGLEASE_SESSION_CLEAN));
	turn(&other, '-');
	ck_assert_uint_eq(stats_of(pool).opened, 1);
	it_kill(&other);
}
END_TEST

START_TEST(a_dirty_lease_is_reset_for_its_own_process_too)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES, &other);

	lease_and_leave(pool, PGLEASE_SESSION_DIRTY);
	ck_assert(!is_marked(pool));
	ck_assert_uint_eq(stats_of(pool).resets_pipelined, 1);
	ck_assert_uint_eq(stats_of(pool).opened, 1);
	it_kill(&other);
}
END_TEST

START_TEST(a_broken_lease_costs_the_connection)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES, &other);

	lease_and_leave(pool, PGLEASE_SESSION_BROKEN);
	ck_assert(!is_marked(pool));
	ck_assert_uint_eq(stats_of(pool).opened, 2);
	ck_assert_uint_eq(stats_of(pool).returned, 1);
	it_kill(&other);
}
END_TEST

START_TEST(what_is_no_session_is_refused)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES, &other);
	pglease_lease lease;

	it_acquire(pool, &lease);
	ck_assert_int_eq(pglease_release_as(&lease, (enum pglease_session)4), PGLEASE_EINVAL);
	it_release(&lease);
	it_kill(&other);
}
END_TEST

/* The process lives on and keeps its shell; nobody else comes: the lock goes all the same. */
START_TEST(the_broker_resets_what_is_idle)
{
	struct it_worker other;
	pglease_pool *pool = begin("", &other);
	char locks[16];

	for (uint64_t n = 1; n <= 3; n++) {
		pglease_lease lease;
		PGconn *conn = it_acquire(pool, &lease);

		ck_assert_str_eq(it_query(conn, marked), "");
		it_query(conn, "select pg_advisory_lock(42)");
		it_query(conn, mark);
		it_release(&lease);
		it_await_published("app", "broker_resets", n);
		ck_assert_int_eq(pglease_test_sql(it_env, "select count(*) from pg_locks where locktype = 'advisory'",
				     locks, sizeof(locks)),
		    0);
		ck_assert_str_eq(locks, "0");
	}
	turn(&other, '-');
	ck_assert_uint_eq(stats_of(pool).resets, 0);
	ck_assert_uint_eq(stats_of(pool).opened, 1);
	it_kill(&other);
}
END_TEST

/*
 * The backend of an answer that is owed is stopped: whoever meets it takes another slot and leaves the answer to the broker,
 * which reads it when it comes. The connection stays.
 */
START_TEST(a_late_answer_is_the_brokers)
{
	pglease_pool *pool;
	pglease_lease first, second;
	int stopped, pid;

	it_start(2, 2, BY_LESSEES "reset = always\nreset_timeout = 10min\n");
	pool = it_attach();
	it_await_published("app", "idle", 2);
	stopped = PQbackendPID(it_acquire(pool, &first));
	ck_assert_int_eq(kill(stopped, SIGSTOP), 0);
	it_release(&first);
	pid = PQbackendPID(it_acquire(pool, &second)); /* tries the one it knows first */
	ck_assert_int_ne(pid, stopped);
	ck_assert_uint_eq(stats_of(pool).resets_late, 1);
	ck_assert_uint_eq(stats_of(pool).idle, 0);
	ck_assert_int_eq(kill(stopped, SIGCONT), 0);
	it_await_published("app", "broker_resets", 1);
	ck_assert_int_eq(PQbackendPID(it_acquire(pool, &first)), stopped);
	it_release(&first);
	it_release(&second);
	ck_assert_uint_eq(stats_of(pool).opened, 2);
}
END_TEST

/* The broker's own patience has an end, too. */
START_TEST(an_answer_that_never_comes_costs_the_connection)
{
	pglease_pool *pool;
	pglease_lease lease;
	int stopped;

	it_start(1, 1, BY_LESSEES "reset = always\nreset_timeout = 100ms\n");
	pool = it_attach();
	stopped = PQbackendPID(it_acquire(pool, &lease));
	ck_assert_int_eq(kill(stopped, SIGSTOP), 0);
	it_release(&lease);
	ck_assert_int_ne(PQbackendPID(it_acquire(pool, &lease)), stopped);
	it_release(&lease);
	ck_assert_int_eq(kill(stopped, SIGCONT), 0);
}
END_TEST

/* An owed answer is kept through a keepalive. */
START_TEST(a_keepalive_reads_what_is_owed)
{
	struct it_worker other;
	pglease_pool *pool = begin(BY_LESSEES "reset = always\nkeepalive = 20ms\n", &other);

	lease_and_leave(pool, PGLEASE_SESSION_USED);
	it_await_published("app", "broker_resets", 1);
	it_await_published("app", "keepalives", it_published("app", "keepalives") + 2);
	ck_assert_uint_eq(it_published("app", "broker_resets"), 1);
	turn(&other, '-');
	ck_assert_uint_eq(stats_of(pool).opened, 1);
	it_kill(&other);
}
END_TEST

IT_MAIN("resets", handover_resets_for_another_process_only, a_reset_is_sent_ahead_to_a_waiter,
    always_resets_at_each_release, never_resets_listens_only, never_puts_reported_settings_back,
    light_keeps_prepared_statements, the_operators_own_sql, own_sql_that_fails_costs_the_connection,
    own_sql_that_forgets_a_reported_setting_costs_the_connection, a_clean_lease_needs_no_reset,
    a_dirty_lease_is_reset_for_its_own_process_too, a_broken_lease_costs_the_connection, what_is_no_session_is_refused,
    the_broker_resets_what_is_idle, a_late_answer_is_the_brokers, an_answer_that_never_comes_costs_the_connection,
    a_keepalive_reads_what_is_owed)
