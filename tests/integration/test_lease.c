/* SPDX-License-Identifier: PostgreSQL */
/* Leases as a user of the library sees them: acquire, use, release, time-outs, tokens, threads, fork. */
#include "it.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"

START_TEST(a_lease_is_an_ordinary_connection)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	const char *values[] = {"41"};
	PGresult *result;
	char pid[32];

	it_start(1, 2, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 6 * 7"), "42");
	result = PQexecParams(conn, "select $1::int + 1", 1, NULL, values, NULL, NULL, 0);
	ck_assert_str_eq(PQgetvalue(result, 0, 0), "42");
	PQclear(result);
	/* The real server's identity, not the broker's. */
	snprintf(pid, sizeof(pid), "%d", PQbackendPID(conn));
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	ck_assert_str_eq(it_query(conn, "select current_user"), PQuser(conn));
	ck_assert_str_eq(it_query(conn, "select current_database()"), PQdb(conn));
	ck_assert_str_eq(it_query(conn, "show client_encoding"), PQparameterStatus(conn, "client_encoding"));
	it_release(&lease);
}
END_TEST

START_TEST(a_token_is_good_for_one_release)
{
	pglease_pool *pool;
	pglease_lease first, second, forged;
	PGconn *conn;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &first);
	it_release(&first);
	ck_assert_int_eq(pglease_release(&first), PGLEASE_ESTALE);
	/* The same thread has the same slot again: the old token must not end the new lease. */
	conn = it_acquire(pool, &second);
	ck_assert_uint_eq(first.slot, second.slot);
	ck_assert_int_eq(pglease_release(&first), PGLEASE_ESTALE);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	forged = second;
	forged.slot = 9999;
	ck_assert_int_eq(pglease_release(&forged), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_release(NULL), PGLEASE_EINVAL);
	it_release(&second);
}
END_TEST

START_TEST(time_outs_say_what_the_pool_looks_like)
{
	struct timespec deadline;
	pglease_pool *pool;
	pglease_lease lease, other;
	PGconn *conn, *untouched = (PGconn *)&lease;
	pglease_stats stats;
	int line;

	it_start(1, 1, "acquire_timeout = 50ms\n");
	pool = it_attach();
	line = __LINE__ + 1;
	it_ok(pglease_acquire(pool, 5000, &lease, &conn));
	conn = untouched;
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &other, &conn), PGLEASE_ETIMEOUT);
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &other, &conn), PGLEASE_ETIMEOUT);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "pool app"));
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "1 of 1 leased"));
	{
		char holder[64];

		snprintf(holder, sizeof(holder), "by pid %d (", getpid());
		ck_assert_msg(strstr(pglease_error_message(), holder) != NULL, "%s", pglease_error_message());
		snprintf(holder, sizeof(holder), "test_lease.c:%d)", line);
		ck_assert_msg(strstr(pglease_error_message(), holder) != NULL, "%s", pglease_error_message());
	}
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec -= 1; /* passed: a try */
	ck_assert_int_eq(pglease_acquire_until(pool, &deadline, &other, &conn), PGLEASE_ETIMEOUT);
	ck_assert_ptr_eq(conn, untouched);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.timeouts, 3);
	ck_assert_uint_eq(stats.pending, 0);
	it_release(&lease);
	it_ok(pglease_acquire_until(pool, &deadline, &other, &conn));
	it_release(&other);
}
END_TEST

START_TEST(wrong_arguments_name_themselves)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	pglease *client = NULL;

	it_start(1, 1, NULL);
	pool = it_attach();
	ck_assert_int_eq(pglease_acquire(NULL, 0, &lease, &conn), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_acquire(pool, 0, NULL, &conn), PGLEASE_EINVAL);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "ret_lease"));
	ck_assert_int_eq(pglease_acquire(pool, 0, &lease, NULL), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_acquire(pool, -2, &lease, &conn), PGLEASE_EINVAL);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "timeout_ms"));
	ck_assert_int_eq(pglease_acquire_until(pool, NULL, &lease, &conn), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_pool_open(it_client(), "nope", &pool), PGLEASE_ENOPOOL);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "nope"));
	ck_assert_int_eq(pglease_attach("no such name", NULL, &client), PGLEASE_EINVAL);
	options.socket_dir = "/nonexistent";
	ck_assert_int_eq(pglease_attach("nobody", &options, &client), PGLEASE_ENOBROKER);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "/nonexistent"));
	ck_assert_ptr_null(client);
	ck_assert_str_eq(pglease_strerror(-9999), "unknown error code");
}
END_TEST

START_TEST(the_environment_does_not_bend_an_adoption)
{
	static const char *const hostile[][2] = {
	    {"PGHOST", "192.0.2.1"}, {"PGHOSTADDR", "192.0.2.1"}, {"PGPORT", "1"}, {"PGUSER", "nobody"},
	    {"PGDATABASE", "nothing"}, {"PGOPTIONS", "-c search_path=evil"}, {"PGREQUIREPEER", "nobody"},
	    {"PGREQUIRESSL", "1"}, {"PGSSLMODE", "require"}, {"PGCHANNELBINDING", "require"},
	    {"PGTARGETSESSIONATTRS", "standby"}, {"PGCLIENTENCODING", "LATIN1"}, {"PGAPPNAME", "other"},
	    {"PGGSSENCMODE", "require"}, {"PGREQUIREAUTH", "scram-sha-256"}, {"PGPASSFILE", "/etc/shadow"},
	    {"PGCONNECT_TIMEOUT", "1"}, {"PGDATESTYLE", "German"}, {"PGTZ", "Asia/Tokyo"},
	};
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	char encoding[32];

	it_start(1, 1, NULL);
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
		setenv(hostile[i][0], hostile[i][1], 1);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	snprintf(encoding, sizeof(encoding), "%s", it_query(conn, "show client_encoding"));
	ck_assert_str_eq(PQparameterStatus(conn, "client_encoding"), encoding);
	ck_assert_str_ne(encoding, "LATIN1");
	ck_assert_str_ne(it_query(conn, "show search_path"), "evil");
	it_release(&lease);
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
		unsetenv(hostile[i][0]);
}
END_TEST

struct contender {
	pglease_pool *pool;
	unsigned leases;
};

static void *
contend(void *arg)
{
	struct contender *c = arg;

	for (unsigned i = 0; i < 200; i++) {
		pglease_lease lease;
		PGconn *conn;
		char sql[64], expect[32];
		PGresult *result;

		if (pglease_acquire(c->pool, 20000, &lease, &conn) != 0)
			return NULL;
		snprintf(expect, sizeof(expect), "%lx-%u", (unsigned long)pthread_self(), i);
		snprintf(sql, sizeof(sql), "select '%s'", expect);
		result = PQexec(conn, sql);
		c->leases += PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), expect) == 0;
		PQclear(result);
		if (pglease_release(&lease) != 0)
			return NULL;
	}
	return NULL;
}

START_TEST(threads_share_a_pool)
{
	struct contender contender[8];
	pthread_t thread[8];
	pglease_pool *pool;
	pglease_stats stats;

	it_start(1, 3, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < 8; i++) {
		contender[i] = (struct contender){.pool = pool};
		ck_assert_int_eq(pthread_create(&thread[i], NULL, contend, &contender[i]), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(thread[i], NULL);
		ck_assert_uint_eq(contender[i].leases, 200);
	}
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.acquired, 1600);
	ck_assert_uint_eq(stats.released, 1600);
	ck_assert_uint_le(stats.total, 3);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_HOLD), 1600);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_WAIT), 1600);
	/* One process: sessions are its own, and shells are kept. */
	ck_assert_uint_eq(stats.adoptions, stats.opened);
}
END_TEST

START_TEST(one_thread_holds_several_leases)
{
	pglease_pool *pool;
	pglease_lease lease[4];
	PGconn *conn[4];

	it_start(1, 4, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < 4; i++)
		conn[i] = it_acquire(pool, &lease[i]); /* grows on demand */
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_str_eq(it_query(conn[i], "select 1"), "1");
		for (unsigned j = 0; j < i; j++)
			ck_assert_int_ne(PQbackendPID(conn[i]), PQbackendPID(conn[j]));
	}
	for (unsigned i = 0; i < 4; i++)
		it_release(&lease[(i + 2) % 4]);
	it_await_all_idle(pool);
}
END_TEST

static void *
leave_with_a_lease(void *arg)
{
	pglease_lease lease;
	PGconn *conn;

	return pglease_acquire(arg, 20000, &lease, &conn) == 0 ? arg : NULL;
}

START_TEST(a_thread_that_ends_gives_its_lease_up)
{
	pglease_pool *pool;
	pglease_lease lease;
	pthread_t thread;
	pglease_stats stats;
	void *leased;

	it_start(1, 1, NULL);
	pool = it_attach();
	ck_assert_int_eq(pthread_create(&thread, NULL, leave_with_a_lease, pool), 0);
	pthread_join(thread, &leased);
	ck_assert_ptr_eq(leased, pool);
	/* Not clean, so the connection was replaced. */
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 2);
}
END_TEST

static pthread_key_t late_key;
static int late_result;

/* A destructor of the application's that runs after the library's has given the thread's rows back. */
static void
acquire_late(void *pool)
{
	pglease_lease lease;
	PGconn *conn;

	late_result = pglease_acquire(pool, 20000, &lease, &conn);
	if (late_result == 0)
		late_result = pglease_release(&lease);
}

static void *
leave_late(void *arg)
{
	pglease_lease lease;
	PGconn *conn;

	if (pglease_acquire(arg, 20000, &lease, &conn) != 0 || pglease_release(&lease) != 0)
		return NULL;
	/* Made after the library's key, so run after it. */
	if (pthread_key_create(&late_key, acquire_late) != 0 || pthread_setspecific(late_key, arg) != 0)
		return NULL;
	return arg;
}

START_TEST(a_destructor_of_the_application_may_still_lease)
{
	pglease_pool *pool;
	pthread_t thread;
	void *result;

	it_start(1, 1, NULL);
	pool = it_attach();
	late_result = 1;
	ck_assert_int_eq(pthread_create(&thread, NULL, leave_late, pool), 0);
	pthread_join(thread, &result);
	ck_assert_ptr_eq(result, pool);
	ck_assert_int_eq(late_result, 0);
	it_await_all_idle(pool);
}
END_TEST

START_TEST(a_forked_child_has_its_own_attachment)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	int status, backend;
	pid_t pid;

	it_start(2, 3, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	backend = PQbackendPID(conn);
	pid = check_fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		pglease_lease own;
		PGconn *c;

		if (pglease_release(&lease) != PGLEASE_EFORKED)
			_exit(1);
		if (pglease_acquire(pool, 20000, &own, &c) != 0)
			_exit(2);
		if (PQbackendPID(c) == backend || atoi(it_query(c, "select 7")) != 7)
			_exit(3);
		if (pglease_release(&lease) != PGLEASE_EFORKED || pglease_release(&own) != 0)
			_exit(4);
		pglease_detach(it_client());
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child status %x", status);
	/* The parent's session has not been touched. */
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	ck_assert_int_eq(PQbackendPID(conn), backend);
	it_release(&lease);
	it_await_all_idle(pool);
}
END_TEST

START_TEST(shells_are_bounded_and_none_leaks_a_descriptor)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	pglease *few;
	pglease_pool *pool, *small;
	pglease_lease lease[3];
	pglease_stats stats;

	it_start(3, 3, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	options.max_shells = 1;
	it_ok(pglease_attach(NULL, &options, &few));
	it_ok(pglease_pool_open(few, "app", &small));
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 3; i++)
			ck_assert_str_eq(it_query(it_acquire(small, &lease[i]), "select 1"), "1");
		for (unsigned i = 0; i < 3; i++)
			it_release(&lease[i]);
	}
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_gt(stats.adoptions, 3); /* evicted ones were made anew */
	ck_assert_uint_eq(stats.opened, 3);    /* and no session was lost by it */
	pglease_detach(few);
}
END_TEST

START_TEST(two_pools_and_two_instances_in_one_process)
{
	static const pglease_test_pool pools[] = {{.name = "app", .max = 1}, {.name = "other", .max = 1}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2);
	pglease_test_env *second;
	pglease *client;
	pglease_pool *pool, *other, *far, *again;
	pglease_lease lease[3];
	PGconn *conn[3];

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	it_ok(pglease_pool_open(it_client(), "other", &other));
	it_ok(pglease_pool_open(it_client(), "app", &again));
	ck_assert_ptr_eq(pool, again);
	options.no_leak_check = true; /* the other one's connections are none of its business */
	ck_assert_msg(pglease_test_env_new(&options, &second) == 0, "%s", pglease_test_error_message());
	{
		pglease_options where = PGLEASE_OPTIONS_INIT;

		where.socket_dir = pglease_test_socket_dir(second);
		it_ok(pglease_attach(pglease_test_instance(second), &where, &client));
	}
	it_ok(pglease_pool_open(client, "app", &far));
	conn[0] = it_acquire(pool, &lease[0]);
	conn[1] = it_acquire(other, &lease[1]);
	conn[2] = it_acquire(far, &lease[2]);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_str_eq(it_query(conn[i], "select 1"), "1");
	for (unsigned i = 0; i < 3; i++)
		it_release(&lease[i]);
	pglease_detach(client);
	ck_assert_msg(pglease_test_env_free(second) == 0, "%s", pglease_test_error_message());
}
END_TEST

START_TEST(detaching_with_a_lease_replaces_its_connection)
{
	pglease_pool *pool, *own;
	pglease_lease lease;
	pglease_stats stats;
	pglease *client;
	PGconn *conn;

	it_start(1, 1, "acquire_timeout = 20s\n");
	pool = it_attach();
	for (unsigned i = 0; i < 5; i++) {
		it_ok(pglease_attach(NULL, NULL, &client));
		it_ok(pglease_pool_open(client, "app", &own));
		it_ok(pglease_acquire(own, PGLEASE_TIMEOUT_POOL, &lease, &conn));
		pglease_detach(client);
	}
	it_acquire(pool, &lease);
	it_release(&lease);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 6);
	ck_assert_uint_eq(stats.clients, 1); /* the others' places are free again, though this process lives */
}
END_TEST

START_TEST(after_detach_handles_are_errors)
{
	pglease_pool *pool;
	pglease_lease lease, again;
	pglease_stats stats;
	pglease *client;
	PGconn *conn;

	it_start(1, 1, NULL);
	it_ok(pglease_attach(NULL, NULL, &client));
	it_ok(pglease_pool_open(client, "app", &pool));
	it_ok(pglease_acquire(pool, 20000, &lease, &conn));
	pglease_detach(client);
	ck_assert_int_eq(pglease_acquire(pool, 0, &again, &conn), PGLEASE_EINVAL);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "app"));
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_stats_get(pool, &stats), PGLEASE_EINVAL);
	pglease_detach(NULL);
}
END_TEST

/* This process's mapping of the only pool's segment. */
static const struct segment_header *
lease_segment(void)
{
	const struct segment_header *found = NULL;
	char line[512], access[5];
	FILE *f = fopen("/proc/self/maps", "re");

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		uintptr_t start;

		if (strstr(line, "/memfd:") == NULL || sscanf(line, "%" SCNxPTR "-%*x %4s", &start, access) != 2 ||
		    strcmp(access, "rw-s") != 0 || ((const struct segment_header *)start)->magic != LAYOUT_MAGIC)
			continue;
		ck_assert_ptr_null(found);
		found = (const struct segment_header *)start;
	}
	fclose(f);
	ck_assert_ptr_nonnull(found);
	return found;
}

struct waiter {
	pglease_pool *pool;
	pthread_barrier_t looked;
};

static void *
wait_for_lease(void *arg)
{
	struct waiter *waiter = arg;
	pglease_lease lease;

	it_acquire(waiter->pool, &lease);
	pthread_barrier_wait(&waiter->looked);
	it_release(&lease);
	return NULL;
}

START_TEST(a_release_that_wakes_somebody_is_done_after_that)
{
	const struct segment_header *h;
	const struct row *row;
	const struct slot *slot;
	struct waiter waiter;
	pthread_t thread;
	pglease_lease lease;
	unsigned own = 0;

	it_start(1, 1, "grant_after = 0\n");
	waiter.pool = it_attach();
	ck_assert_int_eq(pthread_barrier_init(&waiter.looked, NULL, 2), 0);
	it_acquire(waiter.pool, &lease);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_lease, &waiter), 0);
	it_await_waiting(waiter.pool, 1);
	it_release(&lease);
	h = lease_segment();
	row = (const struct row *)((const char *)h + h->rows);
	slot = (const struct slot *)((const char *)h + h->slots);
	while (own < h->nrows && atomic_load(&row[own].tid) != (uint32_t)gettid())
		own++;
	ck_assert_uint_lt(own, h->nrows);
	/* The slot says when it was given up, the row when whom that woke let the releaser go on. */
	ck_assert_uint_ne(atomic_load(&slot[0].idle_since), 0);
	ck_assert_uint_ne(atomic_load(&row[own].released_at), 0);
	ck_assert_uint_ne(atomic_load(&row[own].released_at), atomic_load(&slot[0].idle_since));
	pthread_barrier_wait(&waiter.looked);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&waiter.looked);
}
END_TEST

IT_MAIN("lease", a_lease_is_an_ordinary_connection, a_token_is_good_for_one_release, time_outs_say_what_the_pool_looks_like,
    wrong_arguments_name_themselves, the_environment_does_not_bend_an_adoption, threads_share_a_pool,
    one_thread_holds_several_leases, a_thread_that_ends_gives_its_lease_up, a_destructor_of_the_application_may_still_lease, a_forked_child_has_its_own_attachment,
    after_detach_handles_are_errors, shells_are_bounded_and_none_leaks_a_descriptor, detaching_with_a_lease_replaces_its_connection, two_pools_and_two_instances_in_one_process,
    a_release_that_wakes_somebody_is_done_after_that)
