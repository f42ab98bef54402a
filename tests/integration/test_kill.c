/* SPDX-License-Identifier: PostgreSQL */
/*
 * A worker is killed with SIGKILL in every state a worker can be in. Each time: its session is ended on the server, its
 * slot is filled again, nobody waits for ever, and the next lessee's rows are its own.
 */
#include "it.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pglease_pool *pool;
static pglease_lease lease;

/* A worker that has done `sql` under a lease, says so, and stays. */
static void
holder(int socket, const void *sql)
{
	PGconn *conn = it_acquire(it_attach(), &lease);

	if (sql != NULL)
		it_query(conn, sql);
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

static void
idler(int socket, const void *arg)
{
	it_acquire(it_attach(), &lease);
	it_release(&lease);
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

static void
reader(int socket, const void *arg)
{
	PGconn *conn = it_acquire(it_attach(), &lease);

	ck_assert_int_eq(PQsendQuery(conn, "select 'not yours', repeat('x', 1000) from generate_series(1, 1000000)"), 1);
	PQsetSingleRowMode(conn);
	PQclear(PQgetResult(conn));
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

static void
sleeper(int socket, const void *arg)
{
	PGconn *conn = it_acquire(it_attach(), &lease);

	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(1000)"), 1);
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

static void
copier(int socket, const void *arg)
{
	PGconn *conn = it_acquire(it_attach(), &lease);

	PQclear(PQexec(conn, arg));
	if (strstr(arg, "stdin") != NULL)
		ck_assert_int_eq(PQputCopyData(conn, "1\n", 2), 1);
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

static void
waiter(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_say(socket, 'h');
	it_acquire(p, &lease);
	it_say(socket, 'g');
	it_hear(socket, 'q');
}

/* The pool serves a row of one's own, and the server has no session but the pool's. */
static void
check_pool(unsigned opened)
{
	char sessions[16], expect[16];
	PGconn *conn = it_acquire(pool, &lease);
	pglease_stats stats;

	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, opened);
	ck_assert_uint_eq(stats.total, 1);
	/* The killed worker's backend ends when it has noticed; awaited on the server. */
	snprintf(expect, sizeof(expect), "%u", stats.total);
	for (unsigned i = 0; i < 200; i++) {
		ck_assert_msg(pglease_test_sql(it_env,
				  "select count(*) from pg_stat_activity where backend_type = 'client backend' and "
				  "pid <> pg_backend_pid() and (select true from pg_sleep(0.02))",
				  sessions, sizeof(sessions)) == 0,
		    "%s", pglease_test_error_message());
		if (strcmp(sessions, expect) == 0)
			return;
	}
	ck_abort_msg("%s sessions are left on the server, the pool has %s", sessions, expect);
}

/* Kills a worker that has reached its state; its slot is replaced or not. */
static void
kill_and_check(it_body body, const void *arg, unsigned opened)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	ck_assert_int_eq(pglease_test_sql(it_env, "create table t (i int)", NULL, 0), 0);
	worker = it_worker(body, arg);
	it_hear(worker.socket, 'h');
	pool = it_attach();
	it_kill(&worker);
	check_pool(opened);
}

START_TEST(idle)
{
	kill_and_check(idler, NULL, 1);
}
END_TEST

START_TEST(holding)
{
	kill_and_check(holder, NULL, 2);
}
END_TEST

START_TEST(in_a_transaction)
{
	char rows[16];

	kill_and_check(holder, "begin; insert into t values (1); lock table t", 2);
	ck_assert_int_eq(pglease_test_sql(it_env, "select count(*) from t", rows, sizeof(rows)), 0);
	ck_assert_str_eq(rows, "0");
}
END_TEST

START_TEST(in_a_long_query)
{
	kill_and_check(sleeper, NULL, 2);
}
END_TEST

static bool
revoked_one(const pglease_stats *stats, const void *arg)
{
	return stats->revoked == 1;
}

static void
sender(int socket, const void *arg)
{
	PGconn *conn = it_acquire(it_attach(), &lease);
	int pid = PQbackendPID(conn);

	ck_assert_int_eq(send(socket, &pid, sizeof(pid), MSG_NOSIGNAL), sizeof(pid));
	it_hear(socket, 's');
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(1000)"), 1);
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

/*
 * The query has been sent and the server has not read it when the worker dies: a cancel that comes now finds an idle
 * session, which ignores it, and then runs the query. The session must end all the same. (Stops a backend of the
 * environment's own server, so that it does not read.)
 */
START_TEST(with_a_query_that_the_server_has_not_read)
{
	struct it_worker worker;
	int backend;

	it_start(1, 1, NULL);
	worker = it_worker(sender, NULL);
	ck_assert_int_eq(recv(worker.socket, &backend, sizeof(backend), MSG_WAITALL), sizeof(backend));
	ck_assert_int_eq(kill(backend, SIGSTOP), 0);
	it_say(worker.socket, 's');
	it_hear(worker.socket, 'h');
	pool = it_attach();
	it_kill(&worker);
	it_await(pool, revoked_one, NULL, "the revocation");
	/* The replacement comes when the first cancel has returned. */
	it_acquire(pool, &lease);
	it_release(&lease);
	ck_assert_int_eq(kill(backend, SIGCONT), 0);
	check_pool(2);
}
END_TEST

START_TEST(in_the_middle_of_a_large_result)
{
	kill_and_check(reader, NULL, 2);
}
END_TEST

START_TEST(in_copy_in)
{
	kill_and_check(copier, "copy t from stdin", 2);
}
END_TEST

START_TEST(in_copy_out)
{
	kill_and_check(copier, "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout", 2);
}
END_TEST

START_TEST(waiting)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &lease);
	worker = it_worker(waiter, NULL);
	it_hear(worker.socket, 'h');
	it_await_waiting(pool, 1);
	it_kill(&worker);
	it_await_waiting(pool, 0); /* its row is free again */
	it_release(&lease);
	check_pool(1);
}
END_TEST

/* Long enough to be granted the slot at its release. */
static bool
due_one(const pglease_stats *stats, const void *arg)
{
	return stats->pending == 1 && stats->max_wait_ns > 3000000;
}

static bool
granted_one(const pglease_stats *stats, const void *arg)
{
	return stats->granted == 1;
}

/* Stopped while it waits, so that it is granted the slot and cannot take it; then killed. */
START_TEST(granted)
{
	struct it_worker worker;
	int status;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &lease);
	worker = it_worker(waiter, NULL);
	it_hear(worker.socket, 'h');
	it_await_waiting(pool, 1);
	ck_assert_int_eq(kill(worker.pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(worker.pid, &status, WUNTRACED), worker.pid);
	it_await(pool, due_one, NULL, "a grant due");
	it_release(&lease);
	it_await(pool, granted_one, NULL, "a grant to the stopped waiter");
	it_kill(&worker);
	check_pool(1); /* nobody had touched the session: it is passed on, not replaced */
}
END_TEST

/* A waiter gets the slot of a holder that is killed, without a time-out in between. */
START_TEST(holding_while_another_waits)
{
	struct it_worker victim, next;

	it_start(1, 1, NULL);
	victim = it_worker(holder, NULL);
	it_hear(victim.socket, 'h');
	next = it_worker(waiter, NULL);
	it_hear(next.socket, 'h');
	pool = it_attach();
	it_await_waiting(pool, 1);
	it_kill(&victim);
	it_hear(next.socket, 'g');
	it_say(next.socket, 'q');
	it_join(&next); /* ends with its lease held: an exit is like a kill */
	check_pool(3);
}
END_TEST

/* The lease of a process whose control connection ends is fenced, though it lives. */
static void
closer(int socket, const void *arg)
{
	PGconn *conn = it_acquire(it_attach(), &lease);

	it_say(socket, 'h');
	it_hear(socket, 'c');
	for (int fd = 3; fd < 256; fd++)
		if (fd != socket && fd != PQsocket(conn))
			close(fd);
	it_hear(socket, 'u');
	PQclear(PQexec(conn, "select 1"));
	ck_assert_int_ne(PQstatus(conn), CONNECTION_OK);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	it_say(socket, 'd');
	it_hear(socket, 'q');
}

START_TEST(detached_by_closing_its_descriptors)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	worker = it_worker(closer, NULL);
	it_hear(worker.socket, 'h');
	pool = it_attach();
	it_say(worker.socket, 'c');
	it_await(pool, revoked_one, NULL, "the revocation");
	check_pool(2);
	it_say(worker.socket, 'u');
	it_hear(worker.socket, 'd');
	check_pool(2);
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

static void
locker(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_query(it_acquire(p, &lease), "select pg_advisory_lock(42)");
	it_release(&lease);
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

/* What it left in an idle session is no use to anybody, and a lock is in everybody's way: awaited without a lease. */
START_TEST(idle_with_locks_left_in_its_session)
{
	struct it_worker worker;
	char locks[16] = "";

	it_start(1, 1, NULL);
	worker = it_worker(locker, NULL);
	it_hear(worker.socket, 'h');
	it_kill(&worker);
	for (unsigned i = 0; i < 200 && strcmp(locks, "0") != 0; i++)
		ck_assert_int_eq(pglease_test_sql(it_env,
				     "select count(*) from pg_locks where locktype = 'advisory' and "
				     "(select true from pg_sleep(0.02))",
				     locks, sizeof(locks)),
		    0);
	ck_assert_str_eq(locks, "0");
	pool = it_attach();
	check_pool(1);
}
END_TEST

static void *
one_lease(void *p)
{
	pglease_lease l;
	PGconn *conn;

	return pglease_acquire(p, 20000, &l, &conn) == 0 && pglease_release(&l) == 0 ? p : NULL;
}

/* Its threads have ended, so it has no rows; its control connection is lost; then it goes on. */
static void
secret_reader(int socket, const void *arg)
{
	pglease_pool *p = it_attach();
	pthread_t thread;
	void *result;
	pglease_lease l;
	PGconn *conn;

	ck_assert_int_eq(pthread_create(&thread, NULL, one_lease, p), 0);
	pthread_join(thread, &result);
	ck_assert_ptr_eq(result, p);
	it_cut_off();
	it_say(socket, 'h');
	it_hear(socket, 'g');
	if (pglease_acquire(p, 2000, &l, &conn) == 0)
		ck_assert_str_eq(it_query(conn, "select coalesce(current_setting('my.secret', true), '')"), "");
	it_say(socket, 'd');
	it_hear(socket, 'q');
}

static void
secret_writer(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_query(it_acquire(p, &lease), "set my.secret = 'password'");
	it_release(&lease);
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

START_TEST(the_index_of_a_lost_client_is_nobody_elses)
{
	static const pglease_test_pool one = {.name = "app", .max = 1};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &one, .npools = 1, .extra = "max_clients = 2\n");
	struct it_worker lost, writer;
	pglease *client;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	lost = it_worker(secret_reader, NULL);
	it_hear(lost.socket, 'h');
	/* Two places: the lost one's is not free while its process lives. */
	writer = it_worker(secret_writer, NULL);
	it_hear(writer.socket, 'h');
	ck_assert_int_eq(pglease_attach(NULL, NULL, &client), PGLEASE_ENOCLIENTS);
	it_say(lost.socket, 'g');
	it_hear(lost.socket, 'd');
	it_say(lost.socket, 'q');
	it_join(&lost);
	it_say(writer.socket, 'q');
	it_join(&writer);
}
END_TEST

START_TEST(without_a_broker_a_worker_is_told_so)
{
	PGconn *conn;

	it_start(1, 1, "broker_down = fail\n");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	ck_assert_str_eq(it_query(conn, "select 1"), "1"); /* it goes on */
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	PQclear(PQexec(conn, "select pg_terminate_backend(pg_backend_pid())"));
	it_release(&lease);
	/* Nobody replaces it. */
	ck_assert_int_eq(pglease_acquire(pool, 20000, &lease, &conn), PGLEASE_ENOBROKER);
	ck_assert_int_eq(pglease_acquire(pool, 0, &lease, &conn), PGLEASE_ENOBROKER);
}
END_TEST

IT_MAIN("kill", idle, holding, in_a_transaction, in_a_long_query, with_a_query_that_the_server_has_not_read, in_the_middle_of_a_large_result, in_copy_in, in_copy_out,
    waiting, granted, holding_while_another_waits, idle_with_locks_left_in_its_session,
    the_index_of_a_lost_client_is_nobody_elses, without_a_broker_a_worker_is_told_so, detached_by_closing_its_descriptors)
