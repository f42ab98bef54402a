/* SPDX-License-Identifier: PostgreSQL */
/* What a forked child finds of its parent's doings: its leases, its threads, what they had lowered for a moment. */
#include "it.h"

#include <libpq-events.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client_priv.h"

/* Every call of ours on the PGconn fails, as libpq's do on a connection that is lost. */
static bool
is_lost(PGconn *conn)
{
	PGresult *exec = pglease_exec(conn, "select 1");
	PGresult *cached = pglease_exec_cached(conn, "select 1", 0, NULL, NULL, NULL, NULL, 0);
	PGresult *got = pglease_send_query(conn, "select 1") ? pglease_get_result(conn) : NULL;
	bool is = PQresultStatus(exec) == PGRES_FATAL_ERROR && PQresultStatus(cached) == PGRES_FATAL_ERROR &&
		  PQresultStatus(got) == PGRES_FATAL_ERROR;

	PQclear(exec);
	PQclear(cached);
	PQclear(got);
	return is;
}

START_TEST(a_childs_attachment_takes_its_parents_connections_away)
{
	pglease_pool *pool;
	pglease_lease lease, own;
	PGconn *conn, *other;
	int status, backend;
	pid_t child;

	it_start(2, 3, "prepared_statements = 4\n");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	backend = PQbackendPID(conn);
	for (unsigned i = 0; i < 2; i++) {
		child = fork();
		ck_assert_int_ge(child, 0);
		if (child == 0) {
			if (i == 0 && (pglease_acquire(pool, 20000, &own, &other) != 0 || pglease_release(&own) != 0))
				_exit(1);
			if (i == 0 && !is_lost(conn))
				_exit(2);
			pglease_detach(it_client());
			_exit(is_lost(conn) ? 0 : 3);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_msg(status == 0, "child status %x", status);
	}
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	ck_assert_int_eq(PQbackendPID(conn), backend);
	it_release(&lease);
	it_await_all_idle(pool);
}
END_TEST

/* The end of a thread, held up in an event procedure of the application's. */
struct held_up {
	pglease_pool *pool;
	pthread_barrier_t there, on;
};

static int
hold_up(PGEventId id, void *info, void *arg)
{
	struct held_up *h = arg;

	if (id == PGEVT_CONNDESTROY) {
		pthread_barrier_wait(&h->there);
		pthread_barrier_wait(&h->on);
	}
	return 1;
}

static void *
leave_held_up(void *arg)
{
	struct held_up *h = arg;
	pglease_lease lease;

	ck_assert(PQregisterEventProc(it_acquire(h->pool, &lease), hold_up, "holds up", h));
	return NULL;
}

START_TEST(a_child_waits_for_no_thread_of_its_parent)
{
	struct held_up h;
	pthread_t thread;
	pglease_lease lease;
	PGconn *conn;
	int status;
	pid_t child;

	it_start(2, 3, NULL);
	h.pool = it_attach();
	ck_assert_int_eq(pthread_barrier_init(&h.there, NULL, 2), 0);
	ck_assert_int_eq(pthread_barrier_init(&h.on, NULL, 2), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, leave_held_up, &h), 0);
	pthread_barrier_wait(&h.there);
	for (unsigned i = 0; i < 2; i++) {
		child = fork();
		ck_assert_int_ge(child, 0);
		if (child == 0) {
			signal(SIGALRM, SIG_DFL); /* Check has one of its own */
			alarm(IT_PATIENCE_MS / 1000);
			if (i == 0 && (pglease_acquire(h.pool, 20000, &lease, &conn) != 0 || pglease_release(&lease) != 0))
				_exit(1);
			pglease_detach(it_client());
			_exit(0);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_msg(status == 0, "child status %x", status);
	}
	pthread_barrier_wait(&h.on);
	pthread_join(thread, NULL);
	it_await_all_idle(h.pool);
}
END_TEST

START_TEST(a_child_has_a_patience_of_its_own)
{
	pglease_pool *pool;
	pglease_stats stats;
	int status;
	pid_t child;

	it_start(1, 1, NULL);
	pool = it_attach();
	/* A thread that looks for another broker lowers it for that long (reattach.c); here so far that nobody waits for an answer. */
	it_client()->patience_ms = 0;
	ck_assert_int_eq(pglease_test_pause(it_env, PGLEASE_TEST_BROKER, 0), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (pglease_stats_get(pool, &stats) != PGLEASE_ENOBROKER)
			_exit(1);
		_exit(strstr(pglease_error_message(), "did not answer within 0 ms") == NULL ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(pglease_test_continue(it_env, PGLEASE_TEST_BROKER, 0), 0);
	ck_assert_msg(status == 0, "child status %x", status);
	it_client()->patience_ms = it_client()->timeout_ms;
}
END_TEST

IT_MAIN("fork", a_childs_attachment_takes_its_parents_connections_away, a_child_waits_for_no_thread_of_its_parent,
    a_child_has_a_patience_of_its_own)
