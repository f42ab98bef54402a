/* SPDX-License-Identifier: PostgreSQL */
/*
 * The upstream restarts, crashes, loses single backends, falls silent, has no room, shuts down, or takes another password. A lease
 * that is out gets PostgreSQL's own error; a new one never a connection that is known to be dead; the pool recovers by itself.
 *
 * validation_bypass is 0 here: every lease looks at its socket. With the default, a connection that was used within the last
 * half second is leased without that look, and may have been lost in that time.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "outage.h"

#define PATIENCE_MS IT_PATIENCE_MS
#define TERMINATED "terminating connection due to administrator command"

static pglease_pool *pool;

static void
start(unsigned min, unsigned max, const char *extra)
{
	char all[512];

	snprintf(all, sizeof(all), OUTAGE_QUICK "%s", extra);
	it_start(min, max, all);
	pool = it_attach();
	it_await_all_idle(pool);
}

static int
try_acquire(pglease_lease *lease, PGconn **conn)
{
	return pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, lease, conn);
}

static int
is_refused(void *context)
{
	pglease_lease lease;
	PGconn *conn;
	int r = try_acquire(&lease, &conn);

	(void)context;
	ck_assert_int_ne(r, 0);
	return r == PGLEASE_EUPSTREAM;
}

/* SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL a crash. */
static void
restart_by(int sig, const char *words)
{
	pglease_lease in_transaction, between, none;
	PGconn *conn[2], *dead;

	start(3, 3, "");
	conn[0] = it_acquire(pool, &in_transaction);
	conn[1] = it_acquire(pool, &between);
	it_query(conn[0], "begin");
	it_query(conn[0], "create table t (i int)");
	ck_assert_str_eq(it_query(conn[1], "select 1"), "1");
	if (sig == SIGKILL) {
		outage_ok(pglease_test_kill(it_env, PGLEASE_TEST_SERVER, 0));
	} else {
		if (sig == SIGQUIT)
			ck_assert_int_eq(kill(pglease_test_server_pid(it_env), sig), 0);
		(void)!pglease_test_server_stop(it_env);
	}
	/* The third one was idle. */
	ck_assert_int_ne(try_acquire(&none, &dead), 0);
	outage_assert_lost(conn[0], words);
	outage_assert_lost(conn[1], words);
	it_release(&in_transaction);
	it_release(&between);
	outage_ok(pglease_test_await(is_refused, NULL, PATIENCE_MS));
	outage_ok(pglease_test_server_start(it_env));
	outage_assert_serves(pool);
	conn[0] = it_acquire(pool, &between);
	ck_assert_str_eq(it_query(conn[0], "select count(*) from pg_class where relname = 't'"), "0");
	it_release(&between);
}

START_TEST(a_fast_restart)
{
	restart_by(SIGINT, TERMINATED);
}
END_TEST

START_TEST(an_immediate_restart)
{
	restart_by(SIGQUIT, "server closed the connection");
}
END_TEST

START_TEST(a_crash)
{
	restart_by(SIGKILL, "server closed the connection");
}
END_TEST

/* Returns when the backend has gone. */
static void
terminate(int pid)
{
	char sql[128], value[8] = "";

	snprintf(sql, sizeof(sql), "select pg_terminate_backend(%d, 60000)", pid);
	outage_ok(pglease_test_sql(it_env, sql, value, sizeof(value)));
	ck_assert_str_eq(value, "t");
}

START_TEST(a_backend_is_terminated)
{
	pglease_lease lease;
	PGconn *conn;
	int pid;

	start(1, 1, "");
	/* Idle. */
	conn = it_acquire(pool, &lease);
	pid = PQbackendPID(conn);
	it_release(&lease);
	terminate(pid);
	conn = it_acquire(pool, &lease);
	ck_assert_int_ne(PQbackendPID(conn), pid);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	/* Leased. */
	pid = PQbackendPID(conn);
	terminate(pid);
	outage_assert_lost(conn, TERMINATED);
	it_release(&lease);
	/* In a transaction. */
	conn = it_acquire(pool, &lease);
	ck_assert_int_ne(PQbackendPID(conn), pid);
	it_query(conn, "begin");
	terminate(PQbackendPID(conn));
	outage_assert_lost(conn, TERMINATED);
	it_release(&lease);
	outage_assert_serves(pool);
}
END_TEST

/* What made one end may have ended others that nobody has told of it. */
START_TEST(when_one_is_lost_the_others_are_tried)
{
	pglease_lease lease[3];
	int pid = 0;

	start(3, 3, "keepalive = 1h");
	for (unsigned i = 0; i < 3; i++)
		pid = PQbackendPID(it_acquire(pool, &lease[i]));
	for (unsigned i = 0; i < 3; i++)
		it_ok(pglease_release_as(&lease[i], PGLEASE_SESSION_CLEAN));
	ck_assert_uint_eq(it_published("app", "keepalives"), 0);
	terminate(pid);
	it_await_published("app", "keepalives", 2);
	it_await_all_idle(pool);
	outage_assert_serves(pool);
}
END_TEST

/* Its host has gone, as far as anybody can tell: nothing is refused, and nothing answered. */
START_TEST(silence)
{
	pglease_lease lease, none;
	PGconn *conn, *dead;
	struct pollfd answer;

	start(3, 3, "keepalive = 100ms\nreset_timeout = 200ms\nconnect_timeout = 200ms");
	conn = it_acquire(pool, &lease);
	outage_ok(pglease_test_pause(it_env, PGLEASE_TEST_SERVER, 0));
	ck_assert_int_eq(PQsendQuery(conn, "select 'late'"), 1);
	/* The idle ones are given up, and no other can be had. */
	it_await_published("app", "closed_broken", 2);
	it_await_published("app", "open_failed_08", 1);
	ck_assert_int_ne(try_acquire(&none, &dead), 0);
	outage_ok(pglease_test_continue(it_env, PGLEASE_TEST_SERVER, 0));
	/* Who waited for the answer gets it. */
	answer = (struct pollfd){.fd = PQsocket(conn), .events = POLLIN};
	while (PQisBusy(conn)) {
		ck_assert_int_eq(poll(&answer, 1, PATIENCE_MS), 1);
		ck_assert_int_eq(PQconsumeInput(conn), 1);
	}
	PQclear(PQgetResult(conn));
	ck_assert_ptr_null(PQgetResult(conn));
	it_release(&lease);
	outage_assert_serves(pool);
	it_await_all_idle(pool);
}
END_TEST

START_TEST(with_fail_fast_nobody_waits_for_a_server_that_is_down)
{
	pglease_lease lease;
	struct it_worker worker;
	PGconn *conn;

	start(1, 1, "fail_fast = yes");
	conn = it_acquire(pool, &lease);
	worker = it_worker(outage_wait_and_be_told, NULL);
	it_hear(worker.socket, 'a');
	it_await_waiting(pool, 1);
	outage_ok(pglease_test_server_stop(it_env));
	outage_assert_lost(conn, TERMINATED);
	it_release(&lease);
	it_hear(worker.socket, 'u');
	it_join(&worker);
	/* And so does who comes later, with the pool's time-out of an hour. */
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn), PGLEASE_EUPSTREAM);
	ck_assert_msg(strstr(pglease_error_message(), "the server refuses: ") != NULL, "%s", pglease_error_message());
	outage_ok(pglease_test_server_start(it_env));
	it_await_all_idle(pool);
	outage_assert_serves(pool);
}
END_TEST

/* A smart shutdown: who is connected stays, nobody is let in. */
START_TEST(shutting_down)
{
	pglease_lease lease;
	PGconn *conn, *other;

	start(1, 2, "fail_fast = yes");
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(kill(pglease_test_server_pid(it_env), SIGTERM), 0);
	/* The postmaster has seen it when it refuses. */
	do {
		other = PQconnectdb(pglease_test_conninfo(it_env));
		if (PQstatus(other) == CONNECTION_OK) {
			PQfinish(other);
			other = NULL;
		}
	} while (other == NULL);
	PQfinish(other);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	/* As long as the pool has a connection it lends it. */
	outage_assert_serves(pool);
	outage_ok(pglease_test_server_stop(it_env));
	it_await(pool, outage_has_tried, NULL, "an upstream that is down");
	outage_ok(pglease_test_server_start(it_env));
	it_await_all_idle(pool);
	outage_assert_serves(pool);
}
END_TEST

/* A server that recovers, or is about to stop, says so by 57P03; one that is full by 53300. */
static void
refuse(const char *sqlstate, const char *counter)
{
	static const pglease_test_pool app = {.name = "app", .min = 1, .max = 1, .extra = OUTAGE_QUICK "fail_fast = yes"};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .relay = true);
	pglease_lease lease;
	PGconn *conn;

	outage_ok(pglease_test_env_new(&options, &it_env));
	pool = it_attach();
	it_await_all_idle(pool);
	outage_ok(pglease_test_relay_refuse(it_env, 1000000, sqlstate));
	outage_ok(pglease_test_relay_cut(it_env));
	it_await_published("app", counter, 3);
	ck_assert_int_eq(pglease_acquire(pool, OUTAGE_HOUR_MS, &lease, &conn), PGLEASE_EUPSTREAM);
	outage_ok(pglease_test_relay_refuse(it_env, 0, NULL));
	it_await_all_idle(pool);
	outage_assert_serves(pool);
}

START_TEST(in_recovery)
{
	refuse("57P03", "open_failed_57");
}
END_TEST

START_TEST(too_many_clients)
{
	refuse("53300", "open_failed_53");
}
END_TEST

static void
write_file(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", pglease_test_folder(it_env), name);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(path, 0600), 0);
}

static void
sql(const char *text)
{
	outage_ok(pglease_test_sql(it_env, text, NULL, 0));
}

/* The connections that are there go on; the next one is made with what the password file says then. */
START_TEST(the_password_is_changed)
{
	char conninfo[300], host[256];
	pglease_test_pool app = {.name = "app", .min = 1, .max = 1, .conninfo = conninfo, .extra = OUTAGE_QUICK "fail_fast = yes"};
	pglease_test_options options =
	    PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .no_broker = true, .memory_slack = 1 << 20);
	pglease_lease lease;
	PGconn *conn;
	int pid;

	/* The folder is not known yet: server and password file are found by the environment. */
	snprintf(conninfo, sizeof(conninfo), "user=guest dbname=postgres");
	outage_ok(pglease_test_env_new(&options, &it_env));
	snprintf(host, sizeof(host), "%s/pg", pglease_test_folder(it_env));
	ck_assert_int_eq(setenv("PGHOST", host, 1), 0);
	snprintf(host, sizeof(host), "%s/pgpass", pglease_test_folder(it_env));
	ck_assert_int_eq(setenv("PGPASSFILE", host, 1), 0);
	sql("create role guest login password 'first'");
	write_file("pgpass", "*:*:*:guest:first\n");
	write_file("data/pg_hba.conf", "local all guest scram-sha-256\nlocal all all trust\n");
	sql("select pg_reload_conf()");
	for (bool lets_in = true; lets_in;) {
		conn = PQconnectdb("user=guest dbname=postgres password=wrong");
		lets_in = PQstatus(conn) == CONNECTION_OK;
		PQfinish(conn);
	}
	outage_ok(pglease_test_broker_start(it_env));
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	pid = PQbackendPID(conn);
	sql("alter role guest password 'second'");
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	outage_assert_serves(pool);
	terminate(pid);
	it_await_published("app", "open_failed_28", 1);
	ck_assert_int_eq(pglease_acquire(pool, OUTAGE_HOUR_MS, &lease, &conn), PGLEASE_EUPSTREAM);
	ck_assert_msg(strstr(pglease_error_message(), "password authentication failed") != NULL, "%s", pglease_error_message());
	write_file("pgpass", "*:*:*:guest:second\n");
	it_await_all_idle(pool);
	outage_assert_serves(pool);
}
END_TEST

IT_MAIN("upstream_dies", a_fast_restart, an_immediate_restart, a_crash, a_backend_is_terminated,
    when_one_is_lost_the_others_are_tried, silence, with_fail_fast_nobody_waits_for_a_server_that_is_down, shutting_down, in_recovery,
    too_many_clients, the_password_is_changed)
