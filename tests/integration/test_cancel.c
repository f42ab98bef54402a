/* SPDX-License-Identifier: PostgreSQL */
/* PQcancel on a leased connection: cancels that lease's query, and never another's. */
#include "it.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Cancels when told that the query runs, as the server sees it. */
static void
await_running(const char *what)
{
	char n[16];

	for (unsigned i = 0; i < 500; i++) {
		char sql[200];

		snprintf(sql, sizeof(sql),
		    "select count(*) from pg_stat_activity where state = 'active' and query like '%%%s%%' and "
		    "pid <> pg_backend_pid() and (select true from pg_sleep(0.01))",
		    what);
		ck_assert_int_eq(pglease_test_sql(it_env, sql, n, sizeof(n)), 0);
		if (strcmp(n, "1") == 0)
			return;
	}
	ck_abort_msg("%s is not running", what);
}

static const char *
sqlstate_of(PGconn *conn)
{
	static char state[8];
	PGresult *result;

	state[0] = '\0';
	while ((result = PQgetResult(conn)) != NULL) {
		const char *s = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		if (s != NULL)
			snprintf(state, sizeof(state), "%s", s);
		PQclear(result);
	}
	return state;
}

START_TEST(cancels_the_leases_own_query)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	PGcancel *cancel;
	char error[256];

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	cancel = PQgetCancel(conn);
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(600) -- mine"), 1);
	await_running("-- mine");
	ck_assert_msg(PQcancel(cancel, error, sizeof(error)) == 1, "%s", error);
	ck_assert_str_eq(sqlstate_of(conn), "57014");
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	PQfreeCancel(cancel);
	it_release(&lease);
	it_await_all_idle(pool);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

static void
sleeper(int socket, const void *arg)
{
	pglease_lease lease;
	PGconn *conn;

	it_hear(socket, 'g');
	conn = it_acquire(it_attach(), &lease);
	ck_assert_int_eq(PQsendQuery(conn, "select 'theirs', pg_sleep(2) -- theirs"), 1);
	ck_assert_str_eq(sqlstate_of(conn), "");
	it_release(&lease);
}

START_TEST(an_earlier_leases_key_does_nothing)
{
	struct it_worker worker;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	PGcancel *cancel;
	char error[256];
	pglease_stats stats;

	it_start(1, 1, NULL);
	worker = it_worker(sleeper, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	cancel = PQgetCancel(conn);
	it_release(&lease);
	it_say(worker.socket, 'g');
	await_running("-- theirs");
	for (unsigned i = 0; i < 20; i++)
		PQcancel(cancel, error, sizeof(error)); /* what it says is not the point: it must not hit */
	it_join(&worker);
	PQfreeCancel(cancel);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 1);
}
END_TEST

START_TEST(a_late_cancel_never_hits_the_next_lease)
{
	pglease_pool *pool;
	pglease_stats stats;
	unsigned hit = 0;

	it_start(1, 1, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < 300; i++) {
		pglease_lease lease;
		PGconn *conn = it_acquire(pool, &lease);
		PGcancel *cancel = PQgetCancel(conn);
		char error[256];
		PGresult *result;

		/* The query is over or nearly so when the cancel comes. */
		ck_assert_int_eq(PQsendQuery(conn, i % 2 == 0 ? "select 1" : "select pg_sleep(0.001)"), 1);
		PQcancel(cancel, error, sizeof(error));
		hit += strcmp(sqlstate_of(conn), "57014") == 0;
		it_release(&lease);
		PQfreeCancel(cancel);
		/* Whoever has it next is not cancelled. */
		conn = it_acquire(pool, &lease);
		result = PQexec(conn, "select 'next' from pg_sleep(0.001)");
		ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(conn));
		PQclear(result);
		it_release(&lease);
	}
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.acquired, 600);
	ck_assert_uint_le(hit, 300);
}
END_TEST

static void *
send_cancel(void *arg)
{
	char error[256];

	PQcancel(arg, error, sizeof(error)); /* the broker lets it go when its own has returned */
	return NULL;
}

static bool
has_none(const pglease_stats *stats, const void *arg)
{
	return stats->total == 0;
}

static void
cancel_without_return(bool session_ends)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	PGcancel *cancel;
	pthread_t thread;
	pid_t server, backend;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	backend = (pid_t)strtol(it_query(conn, "select pg_backend_pid()"), NULL, 10);
	cancel = PQgetCancel(conn);
	server = pglease_test_server_pid(it_env);
	/* It is the postmaster that takes cancels: this one lies in its socket. */
	ck_assert_int_eq(kill(server, SIGSTOP), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, send_cancel, cancel), 0);
	it_await_published("app", "cancels", 1);
	it_release(&lease);
	if (session_ends)
		ck_assert_int_eq(kill(backend, SIGTERM), 0);
	it_await(pool, has_none, NULL, "a session that a cancel may still hit is kept");
	ck_assert_int_eq(kill(server, SIGCONT), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	PQfreeCancel(cancel);
	conn = it_acquire(pool, &lease);
	ck_assert_int_ne(strtol(it_query(conn, "select pg_backend_pid()"), NULL, 10), backend);
	it_release(&lease);
}

START_TEST(a_cancel_that_does_not_return_keeps_no_slot)
{
	cancel_without_return(false);
}
END_TEST

START_TEST(a_cancel_that_does_not_return_keeps_no_session_that_has_ended)
{
	cancel_without_return(true);
}
END_TEST

IT_MAIN("cancel", cancels_the_leases_own_query, an_earlier_leases_key_does_nothing, a_late_cancel_never_hits_the_next_lease,
    a_cancel_that_does_not_return_keeps_no_slot, a_cancel_that_does_not_return_keeps_no_session_that_has_ended)
