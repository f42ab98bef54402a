/* SPDX-License-Identifier: PostgreSQL */
/*
 * Processes that outlive their broker: their leases over the change, children, threads, grants that were under way; and that nothing
 * is left of twenty brokers. (Who leases and finds the next one: test_survive.)
 */
#include "survive.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 60000
/* A connection that the broker has in its hands when it is killed is nobody's: it is not to reset any in that moment. */
#define LEFT_ALONE "reset_after = 1h\n"

static pglease_pool *pool;
static pglease_lease lease, other;
static PGconn *conn;

START_TEST(a_lease_over_the_change_ends_its_session)
{
	char rows[16];

	it_start(1, 1, NULL);
	ck_assert_int_eq(pglease_test_sql(it_env, "create table t (i int)", NULL, 0), 0);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	survive_note_sessions();
	it_query(conn, "begin");
	it_query(conn, "insert into t values (1)");
	survive_kill();
	survive_start();
	/* Another thread's, or another function's, of the next broker: two leases of two brokers at a time. */
	while (it_acquire(pool, &other), other.incarnation == lease.incarnation)
		it_release(&other);
	ck_assert_str_eq(it_query(conn, "select count(*) from t"), "1");
	it_release(&lease);
	survive_await_sessions(0);
	ck_assert_int_eq(pglease_test_sql(it_env, "select count(*) from t", rows, sizeof(rows)), 0);
	ck_assert_str_eq(rows, "0");
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	it_release(&other);
}
END_TEST

/* Ways in which such a lease ends otherwise. */
START_TEST(a_lease_over_the_change_and_libpq)
{
	char error[256];
	PGcancel *cancel;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	conn = it_acquire(pool, &lease);
	survive_note_sessions();
	survive_kill();
	survive_start();
	while (it_acquire(pool, &other), other.incarnation == lease.incarnation)
		it_release(&other);
	/* Refused: nothing happens to the query. */
	cancel = PQgetCancel(conn);
	ck_assert_int_eq(PQsendQuery(conn, "select 'not cancelled' from pg_sleep(0.5)"), 1);
	(void)!PQcancel(cancel, error, sizeof(error));
	PQfreeCancel(cancel);
	for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result))
		ck_assert_int_eq(PQresultStatus(result), PGRES_TUPLES_OK);
	PQreset(conn);
	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
	ck_assert_msg(strstr(PQerrorMessage(conn), "not attached") != NULL, "%s", PQerrorMessage(conn));
	it_release(&lease);
	it_release(&other);
	survive_await_new(pool);
	survive_await_sessions(0);
}
END_TEST

static void *
hold(void *ret)
{
	it_acquire(pool, ret);
	survive_note_sessions();
	survive_kill();
	survive_start();
	/* So that the state is a former one when the thread ends, with its lease. */
	while (it_acquire(pool, &other), other.incarnation == ((pglease_lease *)ret)->incarnation)
		it_release(&other);
	it_release(&other);
	return NULL;
}

START_TEST(a_lease_over_the_change_ends_with_its_thread)
{
	pthread_t thread;

	it_start(1, 1, NULL);
	pool = it_attach();
	ck_assert_int_eq(pthread_create(&thread, NULL, hold, &lease), 0);
	pthread_join(thread, NULL);
	survive_await_sessions(0);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
}
END_TEST

static void
child_of_a_survivor(int socket, const void *arg)
{
	/* The parent's pool; and its lease, which is not ours. */
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_EFORKED);
	conn = it_acquire(pool, &other);
	ck_assert_str_eq(it_query(conn, "select 'child'"), "child");
	it_say(socket, 'd');
	it_hear(socket, 'q');
	it_release(&other);
	pglease_detach(it_client());
}

START_TEST(a_child_of_a_process_that_attached_again)
{
	struct it_worker child;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	conn = it_acquire(pool, &lease);
	survive_note_sessions();
	survive_kill();
	survive_start();
	survive_await_new(pool);
	child = it_worker(child_of_a_survivor, NULL);
	it_hear(child.socket, 'd');
	/* The child has disposed of what it has inherited: the lease is still the parent's, and so is its session's end. */
	ck_assert_str_eq(it_query(conn, "select 'parent'"), "parent");
	it_release(&lease);
	survive_await_sessions(0);
	it_say(child.socket, 'q');
	it_join(&child);
}
END_TEST

static void
child_without_a_broker(int socket, const void *arg)
{
	pglease_request *request;

	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ENOBROKER);
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	it_say(socket, 'w');
	it_ok(survive_finish(request, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 'child'"), "child");
	it_release(&lease);
	pglease_detach(it_client());
}

START_TEST(a_child_waits_for_the_next_broker)
{
	struct it_worker child;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &lease);
	it_release(&lease);
	survive_note_sessions();
	survive_kill();
	child = it_worker(child_without_a_broker, NULL);
	it_hear(child.socket, 'w');
	survive_start();
	it_join(&child);
	survive_await_new(pool);
	survive_await_sessions(0);
}
END_TEST

#define THREADS 6
static _Atomic bool is_over;
static _Atomic unsigned found, broken;

static void *
hammer(void *arg)
{
	bool is_found = false;

	while (!atomic_load(&is_over)) {
		pglease_lease l;
		PGconn *c;
		PGresult *result;

		if (pglease_acquire(pool, WAIT_MS, &l, &c) != 0) {
			atomic_fetch_add(&broken, 1);
			fprintf(stderr, "%s\n", pglease_error_message());
			return NULL;
		}
		result = PQexec(c, "select 1");
		if (PQresultStatus(result) != PGRES_TUPLES_OK) {
			atomic_fetch_add(&broken, 1);
			fprintf(stderr, "%s\n", PQerrorMessage(c));
		}
		PQclear(result);
		if (!is_found && !survive_is_old(c)) {
			is_found = true;
			atomic_fetch_add(&found, 1);
		}
		if (pglease_release(&l) != 0)
			atomic_fetch_add(&broken, 1);
	}
	return NULL;
}

static int
all_have_found(void *context)
{
	return atomic_load(&found) == THREADS || atomic_load(&broken) != 0;
}

START_TEST(threads)
{
	pthread_t thread[THREADS];

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	survive_note_sessions();
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, hammer, NULL), 0);
	survive_kill();
	survive_start();
	ck_assert_int_eq(pglease_test_await(all_have_found, NULL, IT_PATIENCE_MS), 0);
	ck_assert_uint_eq(broken, 0);
	survive_await_sessions(0);
	atomic_store(&is_over, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(broken, 0);
}
END_TEST

static pglease_lease passed;

static void *
acquire_for_another(void *arg)
{
	int socket = *(int *)arg;
	char byte;

	while (it_acquire(pool, &passed) != NULL) {
		it_say(socket, 'a');
		if (recv(socket, &byte, 1, 0) != 1 || byte != 'r')
			return NULL;
	}
	return NULL;
}

/* The one thread only acquires, of the slot that it had last; the other one, which only releases, is the one that notices. */
START_TEST(a_thread_that_only_acquires)
{
	pthread_t thread;
	int pair[2];
	uint64_t first;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	survive_note_sessions();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, acquire_for_another, &pair[1]), 0);
	it_hear(pair[0], 'a');
	first = passed.incarnation;
	survive_kill();
	survive_start();
	do {
		it_release(&passed);
		it_say(pair[0], 'r');
		it_hear(pair[0], 'a');
	} while (passed.incarnation == first);
	survive_await_sessions(0);
	it_release(&passed);
	close(pair[0]);
	pthread_join(thread, NULL);
	close(pair[1]);
}
END_TEST

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

static void
grantee(int socket, const void *has_one)
{
	pglease_pool *p = it_attach();

	if (has_one != NULL) {
		it_acquire(p, &lease);
		it_release(&lease);
	}
	it_say(socket, 'r');
	it_hear(socket, 'w');
	/* One that has no PGconn for what it was granted gives it on, and waits for a broker. */
	ck_assert_int_eq(pglease_acquire(p, 2000, &lease, &conn), has_one != NULL ? 0 : PGLEASE_ENOBROKER);
	if (has_one != NULL) {
		ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
		it_release(&lease);
	}
	it_say(socket, 'd');
	pglease_detach(it_client());
}

/* Stopped while it waits, granted the slot, and then the broker dies before the grant is taken. */
static void
killed_between_grant_and_take(bool has_one)
{
	struct it_worker worker;
	int status;

	it_start(1, 1, LEFT_ALONE);
	pool = it_attach();
	worker = it_worker(grantee, has_one ? &worker : NULL);
	it_hear(worker.socket, 'r');
	it_acquire(pool, &lease);
	it_say(worker.socket, 'w');
	it_await_waiting(pool, 1);
	ck_assert_int_eq(kill(worker.pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(worker.pid, &status, WUNTRACED), worker.pid);
	it_await(pool, due_one, NULL, "a grant due");
	it_release(&lease);
	it_await(pool, granted_one, NULL, "a grant to the stopped waiter");
	survive_kill();
	ck_assert_int_eq(kill(worker.pid, SIGCONT), 0);
	/* It comes back, or on, to who has a PGconn for it. */
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
	it_hear(worker.socket, 'd');
	it_join(&worker);
}

START_TEST(killed_between_grant_and_take_of_one_that_has_it)
{
	killed_between_grant_and_take(true);
}
END_TEST

START_TEST(killed_between_grant_and_take_of_one_that_has_it_not)
{
	killed_between_grant_and_take(false);
}
END_TEST

static void
cut_off(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_acquire(p, &lease);
	it_release(&lease);
	conn = it_acquire(p, &lease);
	it_cut_off();
	it_say(socket, 'c');
	it_hear(socket, 'g');
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	/* The broker lives, and takes it back. */
	for (unsigned i = 0; i < 10; i++) {
		conn = it_acquire(p, &other);
		ck_assert_str_eq(it_query(conn, "select 'again'"), "again");
		it_release(&other);
	}
	ck_assert_uint_ne(other.incarnation, lease.incarnation);
	it_say(socket, 'd');
	it_hear(socket, 'q');
	pglease_detach(it_client());
}

static bool
revoked_one(const pglease_stats *stats, const void *arg)
{
	return stats->revoked == 1;
}

static bool
opened_three(const pglease_stats *stats, const void *arg)
{
	return stats->opened == 3 && stats->total == 2;
}

START_TEST(a_process_that_closed_its_descriptors_attaches_again)
{
	struct it_worker worker;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	worker = it_worker(cut_off, NULL);
	it_hear(worker.socket, 'c');
	it_await(pool, revoked_one, NULL, "the revocation");
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'd');
	/* Nobody else's session was ended by it: one was opened in place of the one that it held. */
	it_await(pool, opened_three, NULL, "the one that was opened in its place");
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

/* Has a PGconn for an idle connection, and leases it no more: the broker, which lives, would revoke that lease. */
static void
left_out(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_acquire(p, &lease);
	it_acquire(p, &other);
	it_release(&other);
	it_cut_off();
	it_say(socket, 'c');
	it_hear(socket, 'g');
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pglease_acquire(p, PGLEASE_TIMEOUT_TRY, &other, &conn), PGLEASE_ENOCLIENTS);
	ck_assert_msg(strstr(pglease_error_message(), "raise max_clients") != NULL, "%s", pglease_error_message());
	it_say(socket, 'd');
	pglease_detach(it_client());
}

START_TEST(a_process_that_the_broker_does_not_take_back)
{
	struct it_worker worker;
	pglease_stats stats;

	it_start_as("max_clients = 2\n", NULL, 2);
	pool = it_attach();
	worker = it_worker(left_out, NULL);
	it_hear(worker.socket, 'c');
	it_await(pool, revoked_one, NULL, "the revocation");
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'd');
	it_join(&worker);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.revoked, 1);
}
END_TEST

START_TEST(a_broker_without_the_pool)
{
	char config[2048];
	FILE *f;
	size_t n;
	char *at;

	/* A killed broker's history is the next one's of the same pool. */
	it_start_as("history = no\n", NULL, 1);
	pool = it_attach();
	survive_kill();
	f = fopen(pglease_test_config(it_env), "r+");
	ck_assert_ptr_nonnull(f);
	n = fread(config, 1, sizeof(config) - 1, f);
	config[n] = '\0';
	at = strstr(config, "[pool app]");
	ck_assert_ptr_nonnull(at);
	memcpy(at, "[pool abb]", 10);
	rewind(f);
	ck_assert_uint_eq(fwrite(config, 1, n, f), n);
	fclose(f);
	survive_start();
	ck_assert_int_eq(pglease_acquire(pool, WAIT_MS, &lease, &conn), PGLEASE_ENOPOOL);
	memcpy(at, "[pool app]", 10);
	survive_stop();
	f = fopen(pglease_test_config(it_env), "w");
	ck_assert_uint_eq(fwrite(config, 1, n, f), n);
	fclose(f);
	survive_start();
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

/* What is in /proc/self that a broker's death could leave behind. */
static unsigned
mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		n += strstr(line, "pglease") != NULL && strstr(line, "(deleted)") != NULL;
	fclose(f);
	return n;
}

static void
one_more_life(void)
{
	survive_note_sessions();
	it_acquire(pool, &lease);
	it_release(&lease);
	survive_kill();
	survive_start();
	survive_await_new(pool);
	survive_await_sessions(0);
}

START_TEST(twenty_kills_leave_nothing)
{
	/* A former state's own structures stay until the detach: some kilobytes. */
	static const pglease_test_pool app = {.name = "app", .min = 1, .max = 2};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .memory_slack = 1 << 20);
	const pglease_test_leak *leaks;
	unsigned n, before;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_int_eq(pglease_test_pool_open(it_env, "app", &pool), 0);
	one_more_life();
	ck_assert_int_eq(pglease_test_mark(it_env), 0);
	before = mappings();
	for (unsigned i = 0; i < 20; i++)
		one_more_life();
	ck_assert_uint_eq(mappings(), before);
	if (pglease_test_report(it_env, &leaks, &n) != 0 || n != 0) {
		pglease_test_report_write(it_env, stdout, 0);
		ck_abort_msg("%u leaks", n);
	}
}
END_TEST

IT_MAIN("survivors", a_lease_over_the_change_ends_its_session, a_lease_over_the_change_and_libpq,
    a_lease_over_the_change_ends_with_its_thread, a_child_of_a_process_that_attached_again,
    a_child_waits_for_the_next_broker, threads, a_thread_that_only_acquires,
    killed_between_grant_and_take_of_one_that_has_it, killed_between_grant_and_take_of_one_that_has_it_not,
    a_process_that_closed_its_descriptors_attaches_again, a_process_that_the_broker_does_not_take_back,
    a_broker_without_the_pool, twenty_kills_leave_nothing)
