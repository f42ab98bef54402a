/* SPDX-License-Identifier: PostgreSQL */
/* Features that can be switched off, each on and off: pooling, monitoring, leak detection. */
#include "it.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(without_pooling_a_connection_serves_one_lease)
{
	pglease_pool *pool;
	pglease_lease lease;
	pglease_stats stats;
	PGconn *conn;
	int pid = 0;

	it_start_as(NULL, "pooling = no", 1);
	pool = it_attach();
	for (unsigned i = 0; i < 5; i++) {
		conn = it_acquire(pool, &lease);
		ck_assert_int_ne(PQbackendPID(conn), pid);
		pid = PQbackendPID(conn);
		ck_assert_str_ne(it_query(conn, "show work_mem"), "1MB");
		it_query(conn, "set work_mem = '1MB'");
		if (i == 3)
			it_query(conn, "begin"); /* rolled back, and so clean */
		it_release(&lease);
		ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	}
	/* One that is in doubt is ended otherwise. */
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(3600)"), 1);
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	it_await_published("app", "closed_unpooled", 6);
	it_await_published("app", "closed_broken", 1);
	ck_assert_uint_eq(it_published("app", "closed_unpooled"), 6);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.acquired, 7);
	ck_assert_uint_eq(stats.released, 6);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_HOLD), 6);
}
END_TEST

START_TEST(with_pooling_it_serves_many)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	int pid = 0;

	it_start_as(NULL, "pooling = yes", 1);
	pool = it_attach();
	for (unsigned i = 0; i < 5; i++) {
		conn = it_acquire(pool, &lease);
		ck_assert(i == 0 || PQbackendPID(conn) == pid);
		pid = PQbackendPID(conn);
		it_release(&lease);
	}
	ck_assert_uint_eq(it_published("app", "closed_unpooled"), 0);
}
END_TEST

static atomic_uint done;

static void *
take_turns(void *arg)
{
	for (unsigned i = 0; i < 10; i++) {
		pglease_lease lease;
		PGresult *result;
		PGconn *conn;

		if (pglease_acquire(arg, 60000, &lease, &conn) != 0)
			return NULL;
		result = PQexec(conn, "select 1");
		if (PQresultStatus(result) == PGRES_TUPLES_OK)
			atomic_fetch_add(&done, 1);
		PQclear(result);
		if (pglease_release(&lease) != 0)
			return NULL;
	}
	return NULL;
}

START_TEST(without_pooling_those_who_wait_are_served)
{
	pthread_t thread[6];
	pglease_pool *pool;

	it_start_as(NULL, "pooling = no", 2);
	pool = it_attach();
	for (unsigned i = 0; i < 6; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, take_turns, pool), 0);
	for (unsigned i = 0; i < 6; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(atomic_load(&done), 60);
}
END_TEST

/* Runs pgleasestat; what it says goes to `text`. Returns its exit status. */
static int
show(char *text, size_t size)
{
	const char *builddir = getenv("PGLEASE_BUILDDIR");
	char command[512];
	size_t n;
	FILE *f;
	int status;

	snprintf(command, sizeof(command), "'%s/pgleasestat' -n %s 2>&1", builddir != NULL ? builddir : ".",
	    pglease_test_instance(it_env));
	f = popen(command, "r");
	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, size - 1, f);
	text[n] = '\0';
	status = pclose(f);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
use(pglease_pool *pool)
{
	pglease_lease lease, other;
	PGconn *conn;

	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	ck_assert_int_eq(pglease_acquire(pool, 0, &other, &conn), PGLEASE_ETIMEOUT);
	it_release(&lease);
}

START_TEST(without_monitoring_nothing_is_counted_or_published)
{
	pglease_pool *pool;
	pglease_stats stats;
	char text[2000];

	it_start_as("monitoring = no", NULL, 1);
	pool = it_attach();
	use(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.acquired, 0);
	ck_assert_uint_eq(stats.released, 0);
	ck_assert_uint_eq(stats.timeouts, 0);
	ck_assert_uint_eq(stats.adoptions, 0);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_WAIT), 0);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_HOLD), 0);
	/* What is, can be seen all the same. */
	ck_assert_uint_eq(stats.idle, 1);
	ck_assert_int_eq(show(text, sizeof(text)), 2);
	ck_assert_msg(strstr(text, "monitoring is off") != NULL, "%s", text);
	ck_assert_msg(strstr(text, pglease_test_instance(it_env)) != NULL, "%s", text);
}
END_TEST

START_TEST(with_monitoring_all_is_counted)
{
	pglease_pool *pool;
	pglease_stats stats;
	char text[2000];

	it_start_as("monitoring = yes", NULL, 1);
	pool = it_attach();
	use(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.acquired, 1);
	ck_assert_uint_eq(stats.released, 1);
	ck_assert_uint_eq(stats.timeouts, 1);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_HOLD), 1);
	ck_assert_int_eq(show(text, sizeof(text)), 0);
	ck_assert_msg(strstr(text, "app") != NULL, "%s", text);
}
END_TEST

START_TEST(a_lease_that_is_held_for_long_is_reported_once)
{
	/* The pool that does not look comes first, and its lease is older. */
	static const pglease_test_pool pools[] = {
	    {.name = "off", .min = 1, .max = 1, .extra = "leak_detection = no\nleak_threshold = 30ms"},
	    {.name = "late", .min = 1, .max = 1, .extra = "leak_threshold = 24h"},
	    {.name = "app", .min = 2, .max = 2, .extra = "leak_detection = yes\nleak_threshold = 30ms"},
	};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 3);
	pglease_pool *app, *off, *late;
	pglease_lease lease[4];
	char expected[120];
	PGconn *conn;
	int line;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	app = it_attach();
	it_ok(pglease_pool_open(it_client(), "off", &off));
	it_ok(pglease_pool_open(it_client(), "late", &late));
	it_ok(pglease_acquire(off, 20000, &lease[0], &conn));
	it_ok(pglease_acquire(late, 20000, &lease[1], &conn));
	line = __LINE__ + 1;
	it_ok(pglease_acquire(app, 20000, &lease[2], &conn));
	it_await_published("app", "leaks", 1);
	snprintf(expected, sizeof(expected), "by pid %d (test_switches", getpid());
	ck_assert_msg(pglease_test_await_log(it_env, "a leak? its lease has been held", 20000) == 0, "%s",
	    pglease_test_error_message());
	it_ok(pglease_acquire(app, 20000, &lease[3], &conn));
	it_await_published("app", "leaks", 2);
	/* Both in one log: the second is of the other lease, for the first is reported once. */
	{
		char text[20000], site[64];
		FILE *f = fopen(pglease_test_log(it_env), "r");
		size_t n = fread(text, 1, sizeof(text) - 1, f);

		fclose(f);
		text[n] = '\0';
		snprintf(site, sizeof(site), "acquired at test_switches.c:%d", line);
		ck_assert_msg(strstr(text, expected) != NULL, "no \"%s\" in %s", expected, text);
		ck_assert_msg(strstr(text, site) != NULL, "no \"%s\" in %s", site, text);
		ck_assert_ptr_null(strstr(strstr(text, site) + 1, site));
	}
	ck_assert_uint_eq(it_published("off", "leaks"), 0);
	ck_assert_uint_eq(it_published("late", "leaks"), 0);
	/* It is still a good lease. */
	for (unsigned i = 0; i < 4; i++)
		it_release(&lease[i]);
	ck_assert_uint_eq(it_published("app", "leaks"), 2);
}
END_TEST

IT_MAIN("switches", without_pooling_a_connection_serves_one_lease, with_pooling_it_serves_many,
    without_pooling_those_who_wait_are_served, without_monitoring_nothing_is_counted_or_published,
    with_monitoring_all_is_counted, a_lease_that_is_held_for_long_is_reported_once)
