/* SPDX-License-Identifier: PostgreSQL */
/*
 * PQreset of a leased connection, as an application does it: a fresh server connection in the same slot, or a clear
 * error; never one to the broker. What a client can do that libpq does not is in test_renewal.
 */
#include "it.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static pglease_pool *pool;
static pglease_lease lease;

static PGconn *
begin(const char *extra)
{
	it_start(1, 1, extra);
	pool = it_attach();
	return it_acquire(pool, &lease);
}

static pglease_stats
stats_now(void)
{
	pglease_stats stats;

	it_ok(pglease_stats_get(pool, &stats));
	return stats;
}

/* The server's view, awaited: a backend ends a moment after its connection. */
static void
await_gone(int pid)
{
	char sql[160], n[16] = "";

	snprintf(sql, sizeof(sql),
	    "select count(*) from pg_stat_activity where pid = %d and (select true from pg_sleep(0.01))", pid);
	for (unsigned i = 0; i < 1000 && strcmp(n, "0") != 0; i++)
		ck_assert_msg(pglease_test_sql(it_env, sql, n, sizeof(n)) == 0, "%s", pglease_test_error_message());
	ck_assert_str_eq(n, "0");
}

/* A good connection, to PostgreSQL, to another backend than before, at its baseline. Returns the backend's pid. */
static int
assert_fresh(PGconn *conn, int old_pid)
{
	int pid = PQbackendPID(conn);
	char text[16];

	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
	ck_assert_int_ne(pid, old_pid);
	snprintf(text, sizeof(text), "%d", pid);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), text);
	ck_assert_str_eq(it_query(conn, "select coalesce(current_setting('my.own', true), '')"), "");
	ck_assert_str_eq(it_query(conn, "show client_encoding"), PQparameterStatus(conn, "client_encoding"));
	await_gone(old_pid);
	return pid;
}

static int
reset_and_check(PGconn *conn)
{
	int pid = PQbackendPID(conn);

	PQreset(conn);
	return assert_fresh(conn, pid);
}

/* It goes back, and comes again with the same session. */
static void
assert_kept(int pid)
{
	uint64_t opened = stats_now().opened;

	it_release(&lease);
	ck_assert_int_eq(PQbackendPID(it_acquire(pool, &lease)), pid);
	it_release(&lease);
	it_await_all_idle(pool);
	ck_assert_uint_eq(stats_now().opened, opened);
	ck_assert_uint_eq(stats_now().total, 1);
}

static void
assert_bad(PGconn *conn, const char *a, const char *b)
{
	PGresult *result;

	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
	ck_assert_msg(strstr(PQerrorMessage(conn), a) != NULL && strstr(PQerrorMessage(conn), b) != NULL,
	    "no \"%s\" and \"%s\" in: %s", a, b, PQerrorMessage(conn));
	result = PQexec(conn, "select 1");
	ck_assert_int_eq(PQresultStatus(result), PGRES_FATAL_ERROR);
	PQclear(result);
	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
}

START_TEST(in_the_lease_that_adopted)
{
	PGconn *conn = begin(NULL);
	pglease_stats stats;
	int pid;

	it_query(conn, "set my.own = 'x'; set client_encoding = 'LATIN1'; create temp table t (i int)");
	pid = reset_and_check(conn);
	stats = stats_now();
	ck_assert_uint_eq(stats.opened, 2);
	ck_assert_uint_eq(stats.closed, 1);
	ck_assert_uint_eq(stats.leased, 1);
	ck_assert_uint_eq(stats.adoptions, 1);
	it_await_published("app", "closed_renewed", 1);
	assert_kept(pid);
	ck_assert_uint_eq(stats_now().released, 2);
}
END_TEST

START_TEST(in_a_later_lease_of_a_cached_shell)
{
	PGconn *conn = begin(NULL);

	for (unsigned i = 0; i < 3; i++) {
		it_release(&lease);
		conn = it_acquire(pool, &lease);
	}
	ck_assert_uint_eq(stats_now().adoptions, 1);
	assert_kept(reset_and_check(conn));
}
END_TEST

START_TEST(several_in_a_row)
{
	PGconn *conn = begin(NULL);

	for (unsigned i = 0; i < 3; i++)
		reset_and_check(conn);
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	for (unsigned i = 0; i < 2; i++)
		reset_and_check(conn);
	PQreset(conn);
	PQreset(conn); /* with no query in between */
	ck_assert_uint_eq(stats_now().opened, 8);
	assert_kept(assert_fresh(conn, 0));
}
END_TEST

static void
lease_once(int socket, const void *arg)
{
	pglease_pool *p = it_attach();
	pglease_lease l;
	PGconn *conn = it_acquire(p, &l);
	int pid = PQbackendPID(conn);

	ck_assert_str_eq(it_query(conn, "select coalesce(current_setting('my.own', true), '')"), "");
	it_query(conn, "set my.own = 'another process'; set client_encoding = 'LATIN1'");
	it_release(&l);
	ck_assert_int_eq(send(socket, &pid, sizeof(pid), 0), sizeof(pid));
	it_hear(socket, 'q');
}

/* Between the adoption and the PQreset; then it finds the new session, without this process's traces. */
START_TEST(another_process_leases_before_and_after)
{
	PGconn *conn = begin(NULL);
	struct it_worker before, after;
	int pid = PQbackendPID(conn), seen;

	it_release(&lease);
	before = it_worker(lease_once, NULL);
	ck_assert_int_eq(recv(before.socket, &seen, sizeof(seen), MSG_WAITALL), sizeof(seen));
	ck_assert_int_eq(seen, pid);
	conn = it_acquire(pool, &lease);
	pid = reset_and_check(conn);
	it_query(conn, "set my.own = 'x'");
	it_release(&lease);
	after = it_worker(lease_once, NULL);
	ck_assert_int_eq(recv(after.socket, &seen, sizeof(seen), MSG_WAITALL), sizeof(seen));
	ck_assert_int_eq(seen, pid);
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQbackendPID(conn), pid);
	ck_assert_str_eq(it_query(conn, "show my.own"), "");
	/* The other one's shell is of the old generation. */
	reset_and_check(conn);
	it_release(&lease);
	it_say(before.socket, 'q');
	it_say(after.socket, 'q');
	it_join(&before);
	it_join(&after);
	ck_assert_uint_eq(stats_now().opened, 3);
}
END_TEST

START_TEST(with_an_open_transaction)
{
	PGconn *conn = begin(NULL);

	it_query(conn, "create table kept (i int)");
	it_query(conn, "begin; insert into kept values (1)");
	reset_and_check(conn);
	ck_assert_str_eq(it_query(conn, "select count(*) from kept"), "0");
	/* A failed one. */
	it_query(conn, "begin");
	PQclear(PQexec(conn, "select 1/0"));
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_INERROR);
	assert_kept(reset_and_check(conn));
}
END_TEST

/* The old backend does not hear of its end before its statement is over; so that is cancelled. */
START_TEST(while_a_query_runs)
{
	PGconn *conn = begin(NULL);

	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(600)"), 1);
	reset_and_check(conn);
	ck_assert_int_eq(PQsendQuery(conn, "copy (select generate_series(1, 1000000)) to stdout"), 1);
	PQclear(PQgetResult(conn));
	assert_kept(reset_and_check(conn));
}
END_TEST

START_TEST(after_its_backend_was_terminated)
{
	PGconn *conn = begin(NULL);
	int pid = PQbackendPID(conn);

	for (unsigned i = 0; i < 2; i++) {
		PQclear(PQexec(conn, "select pg_terminate_backend(pg_backend_pid())"));
		ck_assert_int_ne(PQstatus(conn), CONNECTION_OK);
		PQreset(conn);
		pid = assert_fresh(conn, pid);
	}
	assert_kept(pid);
}
END_TEST

/* Until it has ended. The descriptor can be another one after each step. */
static PostgresPollingStatusType
poll_on(PGconn *conn)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	while (status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING) {
		struct pollfd p = {
		    .fd = PQsocket(conn), .events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT};

		ck_assert_int_eq(poll(&p, 1, 30000), 1);
		status = PQresetPoll(conn);
	}
	return status;
}

START_TEST(without_blocking)
{
	PGconn *conn = begin(NULL);
	int pid = PQbackendPID(conn);

	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(PQresetStart(conn), 1);
		ck_assert_int_eq(poll_on(conn), PGRES_POLLING_OK);
		pid = assert_fresh(conn, pid);
	}
	assert_kept(pid);
}
END_TEST

static unsigned
open_files(void)
{
	DIR *fds = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(fds);
	while (readdir(fds) != NULL)
		n++;
	closedir(fds);
	return n;
}

/* Started and not polled to its end, and then: released; started again; done at once. */
START_TEST(given_up_halfway)
{
	PGconn *conn = begin(NULL);
	unsigned files = open_files();

	for (unsigned polls = 0; polls < 2; polls++) {
		ck_assert_int_eq(PQresetStart(conn), 1);
		for (unsigned i = 0; i < polls; i++)
			PQresetPoll(conn);
		it_release(&lease);
		conn = it_acquire(pool, &lease);
		ck_assert_str_eq(it_query(conn, "select 1"), "1");
		ck_assert_uint_eq(open_files(), files);
	}
	for (unsigned polls = 0; polls < 2; polls++) {
		int pid = PQbackendPID(conn);

		for (unsigned i = 0; i < 3; i++) {
			ck_assert_int_eq(PQresetStart(conn), 1);
			for (unsigned n = 0; n < polls; n++)
				PQresetPoll(conn);
		}
		if (polls == 0)
			ck_assert_int_eq(poll_on(conn), PGRES_POLLING_OK);
		else
			PQreset(conn);
		assert_fresh(conn, pid);
		ck_assert_uint_eq(open_files(), files);
	}
	assert_kept(PQbackendPID(conn));
	ck_assert_uint_eq(open_files(), files);
}
END_TEST

START_TEST(cancels_are_the_new_sessions)
{
	PGconn *conn = begin(NULL);
	PGcancel *old = PQgetCancel(conn);
	char error[256];

	reset_and_check(conn);
	/* The old key is no key any more. */
	ck_assert_int_eq(PQcancel(old, error, sizeof(error)), 1);
	it_await_published("app", "cancels_refused", 1);
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(600)"), 1);
	it_cancel(conn);
	ck_assert_uint_eq(it_published("app", "cancels_refused"), 1);
	PQfreeCancel(old);
	assert_kept(assert_fresh(conn, 0));
}
END_TEST

START_TEST(while_the_server_is_down)
{
	PGconn *conn = begin(NULL);

	ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
	for (unsigned i = 0; i < 2; i++) {
		PQreset(conn);
		assert_bad(conn, "no other connection to the server: ", "No such file");
	}
	/* The lease goes on. */
	ck_assert_uint_eq(stats_now().leased, 1);
	ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
	PQreset(conn);
	assert_kept(assert_fresh(conn, 0));
}
END_TEST

START_TEST(released_while_the_server_is_down)
{
	PGconn *conn = begin(NULL);
	unsigned files = open_files();

	ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
	PQreset(conn);
	assert_bad(conn, "no other connection to the server: ", "No such file");
	it_release(&lease);
	ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
	conn = it_acquire(pool, &lease);
	ck_assert_uint_eq(open_files(), files);
	assert_kept(assert_fresh(conn, 0));
}
END_TEST

static bool
one_is_idle(const pglease_stats *stats, const void *arg)
{
	return stats->idle == 1;
}

/* A lessee that sits on a slot without a connection keeps nobody from finding out that the server is back. */
START_TEST(kept_while_the_server_comes_back)
{
	pglease_lease other;
	PGconn *conn;

	it_start(1, 2, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
	PQreset(conn);
	assert_bad(conn, "no other connection to the server: ", "No such file");
	ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
	it_await(pool, one_is_idle, NULL, "another connection");
	ck_assert_str_eq(it_query(it_acquire(pool, &other), "select 1"), "1");
	PQreset(conn);
	assert_fresh(conn, 0);
	it_release(&lease);
	it_release(&other);
	it_await_all_idle(pool);
}
END_TEST

/* Its control connection has ended, its lease is revoked. */
static void
lose_the_lease(int socket, const void *arg)
{
	PGconn *conn = it_acquire(it_attach(), &lease);

	for (int fd = 3; fd < 256; fd++) {
		struct sockaddr_un peer;
		socklen_t length = sizeof(peer);

		if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sun_family == AF_UNIX &&
		    length > sizeof(sa_family_t) && strstr(peer.sun_path, "/control") != NULL)
			close(fd);
	}
	it_say(socket, 'c');
	it_hear(socket, 'r');
	for (unsigned i = 0; i < 2; i++) {
		PQreset(conn);
		assert_bad(conn, "FATAL", "attach again");
	}
	ck_assert_int_eq(PQresetStart(conn), 1);
	ck_assert_int_eq(poll_on(conn), PGRES_POLLING_FAILED);
	assert_bad(conn, "FATAL", "attach again");
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	it_say(socket, 'd');
	it_hear(socket, 'q');
}

static bool
revoked(const pglease_stats *stats, const void *arg)
{
	return stats->revoked == 1;
}

START_TEST(after_a_revocation)
{
	struct it_worker worker;
	PGconn *conn;

	it_start(1, 1, NULL);
	worker = it_worker(lose_the_lease, NULL);
	it_hear(worker.socket, 'c');
	pool = it_attach();
	it_await(pool, revoked, NULL, "the revocation");
	/* Its successor in the slot is not touched by what it does. */
	conn = it_acquire(pool, &lease);
	it_query(conn, "set my.own = 'mine'");
	it_say(worker.socket, 'r');
	it_hear(worker.socket, 'd');
	ck_assert_str_eq(it_query(conn, "show my.own"), "mine");
	it_release(&lease);
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

/* Leases the slot while the main thread does not know that it is not its own any more. */
static void *
succeed(void *arg)
{
	pthread_barrier_t *step = arg;
	pglease_lease l;
	PGconn *conn = it_acquire(pool, &l);

	it_query(conn, "set my.own = 'the successor''s'");
	pthread_barrier_wait(step);
	pthread_barrier_wait(step);
	ck_assert_str_eq(it_query(conn, "show my.own"), "the successor's");
	it_release(&l);
	return NULL;
}

/* The process is still attached: only its lease is over, and the slot's next one, another thread's, is not touched. */
START_TEST(after_a_revocation_by_command)
{
	PGconn *conn = begin(NULL);
	pthread_barrier_t step;
	pthread_t thread;

	ck_assert_int_eq(it_ctl("revoke", "app/0", NULL), 0);
	ck_assert_int_eq(pthread_barrier_init(&step, NULL, 2), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, succeed, &step), 0);
	pthread_barrier_wait(&step);
	for (unsigned i = 0; i < 2; i++) {
		PQreset(conn);
		assert_bad(conn, "FATAL", "the lease is not held any more: release it and acquire again");
	}
	pthread_barrier_wait(&step);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	pthread_barrier_destroy(&step);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
	ck_assert_uint_eq(stats_now().opened, 2);
}
END_TEST

/* A child has its parent's PGconn, which ends the session as any PQreset does; but it gets none. */
START_TEST(in_a_forked_child)
{
	PGconn *conn = begin(NULL);
	pid_t child = fork();
	int status;

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		PQreset(conn);
		_exit(PQstatus(conn) != CONNECTION_BAD || strstr(PQerrorMessage(conn), "another process's") == NULL);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(stats_now().opened, 1);
	assert_kept(reset_and_check(conn));
}
END_TEST

/* A drain waits for leases: theirs is what they do with it. */
START_TEST(while_the_pool_drains)
{
	PGconn *conn = begin(NULL);
	int pid = PQbackendPID(conn);

	ck_assert_int_eq(pglease_drain(it_client(), "app", 0), PGLEASE_ETIMEOUT);
	PQreset(conn);
	pid = assert_fresh(conn, pid);
	it_release(&lease);
	it_ok(pglease_drain(it_client(), "app", 20000));
	ck_assert_uint_eq(stats_now().total, 0);
	await_gone(pid);
	it_ok(pglease_resume(it_client(), "app"));
	conn = it_acquire(pool, &lease);
	/* RETIRE of a drain that is over when the connection is replaced means nothing to the new one. */
	ck_assert_int_eq(pglease_drain(it_client(), "app", 0), PGLEASE_ETIMEOUT);
	it_ok(pglease_resume(it_client(), "app"));
	assert_kept(reset_and_check(conn));
}
END_TEST

/* What the reset began has been answered; before libpq looks, the broker is gone. */
START_TEST(the_broker_goes_before_it_has_handed_out_the_descriptor)
{
	PGconn *conn = begin(NULL);
	struct pollfd p = {.events = POLLIN};
	unsigned files = open_files();

	ck_assert_int_eq(PQresetStart(conn), 1);
	ck_assert_int_eq(PQresetPoll(conn), PGRES_POLLING_READING);
	p.fd = PQsocket(conn);
	ck_assert_int_eq(poll(&p, 1, 30000), 1);
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	poll_on(conn);
	assert_bad(conn, "FATAL:  PQreset of a leased connection: the broker of ", " has gone");
	/* Now there is nobody to ask. */
	PQreset(conn);
	assert_bad(conn, ".s.PGSQL.5432", "failed: ");
	it_release(&lease);
	ck_assert_uint_lt(open_files(), files);
}
END_TEST

START_TEST(the_broker_does_not_answer)
{
	PGconn *conn = begin("connect_timeout = 1s");
	pid_t broker = pglease_test_broker_pid(it_env);

	ck_assert_int_eq(kill(broker, SIGSTOP), 0);
	PQreset(conn);
	ck_assert_int_eq(kill(broker, SIGCONT), 0);
	assert_bad(conn, "failed: ", "timeout");
	PQreset(conn);
	assert_fresh(conn, 0);
	it_release(&lease);
}
END_TEST

IT_MAIN("pqreset", in_the_lease_that_adopted, in_a_later_lease_of_a_cached_shell, several_in_a_row,
    another_process_leases_before_and_after, with_an_open_transaction, while_a_query_runs,
    after_its_backend_was_terminated, without_blocking, given_up_halfway, cancels_are_the_new_sessions,
    while_the_server_is_down, released_while_the_server_is_down, kept_while_the_server_comes_back,
    after_a_revocation, after_a_revocation_by_command, in_a_forked_child, while_the_pool_drains,
    the_broker_goes_before_it_has_handed_out_the_descriptor, the_broker_does_not_answer)
