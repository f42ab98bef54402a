/* SPDX-License-Identifier: PostgreSQL */
/*
 * Pools that come and go by a reload, as workers see it: those that lease, those that wait, and those that die meanwhile; and a
 * broker that is killed or restarted while one goes.
 */
#include "reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "history.h"

START_TEST(a_pool_comes)
{
	char pid[16];

	pglease_stats stats;

	reload_start(NULL, "", NULL);
	conn = it_acquire(pool, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	ck_assert_int_eq(pglease_pool_open(it_client(), "two", &two), PGLEASE_ENOPOOL);
	/* Before the others, so that they are at other places in the list. */
	reload_configure(NULL, reload_section("two", "min_connections = 2"), reload_section("app", ""));
	reload_now();
	restart_said("pool two: new");
	restart_await_log("pool two is new");
	it_ok(pglease_pool_open(it_client(), "two", &two));
	reload_assert_serves(two);
	it_await_published("two", "total", 2);
	it_ok(pglease_stats_get(two, &stats));
	ck_assert_uint_eq(stats.clients, 1);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	reload_now();
	restart_now();
	reload_assert_serves(two);
	ck_assert_uint_eq(reload_acquired(two), 2);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
	reload_assert_serves(pool);
}
END_TEST

/* Waits for a connection of two; that ends by the pool's. */
static void
waits_in_two(int socket, const void *arg)
{
	(void)it_attach();
	it_ok(pglease_pool_open(it_client(), "two", &two));
	it_say(socket, 'r');
	reload_assert_no_pool(two);
	it_say(socket, 'd');
	pglease_detach(it_client());
}

/* Its lease goes on, and is the last; a name that comes back is another pool, with the history of the first. */
START_TEST(a_pool_goes)
{
	struct it_worker worker;

	reload_start(NULL, "", "max_connections = 1");
	conn = it_acquire(two, &lease);
	worker = it_worker(waits_in_two, NULL);
	it_hear(worker.socket, 'r');
	it_await_waiting(two, 1);
	reload_configure(NULL, reload_section("app", ""), NULL);
	reload_now();
	it_hear(worker.socket, 'd');
	it_join(&worker);
	restart_said("pool two: going, 1 leases of the old one are out");
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	restart_said("pool two: going, 1 of 1 connections open");
	reload_assert_no_pool(two);
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	reload_assert_serves(pool);
	ck_assert_int_eq(it_ctl("drain", "two", NULL), 3);
	it_release(&lease);
	reload_await_sessions("two", 0);
	restart_await_log("pool two has gone: it has no connection");
	reload_assert_no_pool(two);
	reload_configure(NULL, reload_section("app", ""), reload_section("two", "max_connections = 3"));
	reload_now();
	reload_assert_serves(two);
	ck_assert_uint_eq(reload_acquired(two), 1);
	ck_assert_uint_eq(it_published("two", "max"), 3);
}
END_TEST

START_TEST(its_leases_are_revoked_after_drain_timeout)
{
	PGresult *result;

	reload_start("drain_timeout = 300ms", "", "");
	conn = it_acquire(two, &lease);
	reload_configure("drain_timeout = 300ms", reload_section("app", ""), NULL);
	reload_now();
	reload_await_sessions("two", 0);
	restart_await_log("pool two has gone: it has no connection");
	result = PQexec(conn, "select 1");
	ck_assert_int_eq(PQresultStatus(result), PGRES_FATAL_ERROR);
	PQclear(result);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	reload_assert_serves(pool);
}
END_TEST

static void
holds_two(int socket, const void *arg)
{
	(void)it_attach();
	it_ok(pglease_pool_open(it_client(), "two", &two));
	conn = it_acquire(two, &lease);
	it_say(socket, 'r');
	it_hear(socket, 'g');
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_say(socket, 'd');
	it_hear(socket, 'q');
	it_ok(pglease_release(&lease));
	it_say(socket, 'd');
	it_hear(socket, 'q');
	pglease_detach(it_client());
}

START_TEST(its_lessee_dies)
{
	struct it_worker worker;

	reload_start("drain_timeout = 1h", "", "");
	worker = it_worker(holds_two, NULL);
	it_hear(worker.socket, 'r');
	reload_configure("drain_timeout = 1h", reload_section("app", ""), NULL);
	reload_now();
	reload_await_sessions("two", 1);
	it_kill(&worker);
	reload_await_sessions("two", 0);
	restart_await_log("pool two has gone: it has no connection");
	reload_assert_serves(pool);
}
END_TEST

/* What the kernel, the words and the sockets say of it goes over to the next program, with its settings. */
START_TEST(a_restart_and_a_reload_while_it_goes)
{
	char pid[16];

	reload_start("drain_timeout = 1h", "", "");
	conn = it_acquire(two, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	reload_configure("drain_timeout = 1h", reload_section("app", ""), NULL);
	reload_now();
	restart_now();
	reload_now();
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	reload_assert_no_pool(two);
	/* The name comes back while the old one is there. */
	reload_configure("drain_timeout = 1h", reload_section("app", ""), reload_section("two", ""));
	reload_now();
	reload_assert_serves(two);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
	restart_await_log("pool two has gone: it has no connection");
	reload_assert_serves(two);
}
END_TEST

/* Its backend is another one, or stops what it does, as of any lease. */
START_TEST(reset_and_cancel_while_it_goes)
{
	char before[16];

	reload_start("drain_timeout = 1h", "", "");
	conn = it_acquire(two, &lease);
	reload_configure("drain_timeout = 1h", reload_section("app", ""), NULL);
	reload_now();
	snprintf(before, sizeof(before), "%s", it_query(conn, "select pg_backend_pid()"));
	PQreset(conn);
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
	ck_assert_str_ne(it_query(conn, "select pg_backend_pid()"), before);
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(600)"), 1);
	it_cancel(conn);
	it_release(&lease);
	reload_await_sessions("two", 0);
	restart_await_log("pool two has gone: it has no connection");
}
END_TEST

START_TEST(the_broker_is_killed_while_it_goes)
{
	struct it_worker worker;

	reload_start("drain_timeout = 1h", "", "");
	worker = it_worker(holds_two, NULL);
	it_hear(worker.socket, 'r');
	reload_configure("drain_timeout = 1h", reload_section("app", ""), NULL);
	reload_now();
	survive_kill();
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'd');
	survive_start();
	reload_assert_serves(pool);
	reload_assert_no_pool(two);
	reload_await_sessions("two", 1);
	it_say(worker.socket, 'q');
	it_hear(worker.socket, 'd');
	/* There is no broker that would. */
	reload_await_sessions("two", 0);
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

/* A pool that is raised an alert of: its end is told. */
START_TEST(its_alerts_are_over)
{
	reload_start("drain_timeout = 1h", "", "alert_leaks = 1\nleak_threshold = 50ms\nalert_raise_after = 0");
	conn = it_acquire(two, &lease);
	restart_await_log("pool two: alert leaks is raised");
	reload_configure("drain_timeout = 1h", reload_section("app", ""), NULL);
	reload_now();
	restart_await_log("pool two: alert leaks is over: the pool has gone, or is made anew");
	it_release(&lease);
}
END_TEST

static int
take_row(void *context, const pglease_history_row *row)
{
	*(pglease_history_row *)context = *row;
	return 0;
}

/* Leases that the pool's history tells of, whoever counted them. */
static uint64_t
remembered(pglease_pool *p)
{
	pglease_history_row row = {0};

	it_ok(pglease_history(p, 0, UINT64_MAX, 0, take_row, &row));
	return row.acquired;
}

static int
remembers_two(void *context)
{
	return remembered(context) >= 2;
}

static void
await_remembered(pglease_pool *p)
{
	ck_assert_msg(
	    pglease_test_await(remembers_two, p, IT_PATIENCE_MS) == 0, "the history tells of %u leases", (unsigned)remembered(p));
}

static bool
is_there(const char *before, const char *of, const char *after)
{
	char path[512];

	snprintf(path, sizeof(path), "%s%s%s", before, of, after);
	return access(path, F_OK) == 0;
}

/* It is the name's, not the segment's: over a pool that is made anew, and one that goes and comes back. */
START_TEST(its_history_goes_on)
{
	reload_start(NULL, "", "");
	reload_assert_serves(pool);
	reload_assert_serves(pool);
	reload_assert_serves(two);
	reload_assert_serves(two);
	await_remembered(pool);
	await_remembered(two);
	ck_assert(is_there("/dev/shm/pglease.", pglease_test_instance(it_env), ".history.two"));
	reload_configure(NULL, reload_section("app", "reset = always"), NULL);
	reload_now();
	ck_assert(!is_there("/dev/shm/pglease.", pglease_test_instance(it_env), ".history.two"));
	ck_assert(is_there("", pglease_test_folder(it_env), "/embedded/history.two"));
	ck_assert_uint_eq(reload_acquired(pool), 0);
	ck_assert_uint_ge(remembered(pool), 2);
	reload_configure(NULL, reload_section("app", "reset = always"), reload_section("two", ""));
	reload_now();
	ck_assert_uint_eq(reload_acquired(two), 0);
	ck_assert_uint_ge(remembered(two), 2);
	reload_assert_serves(two);
	reload_assert_serves(pool);
}
END_TEST

/* Leases that the rows of minutes tell of, whose greatest number of a pool's life is the last. */
static uint64_t
remembered_by_minutes(void)
{
	struct history_bytes bytes;
	struct history_view *view = malloc(sizeof(*view));
	struct history_row row;
	uint64_t k, end, sum = 0, last = 0;

	ck_assert_ptr_nonnull(view);
	ck_assert_int_eq(history_open(pglease_test_instance(it_env), "app", &bytes, view), 0);
	history_view_range(view, HISTORY_MINUTES, &k, &end);
	for (; k < end; k++) {
		uint64_t now;

		ck_assert(history_view_row(view, HISTORY_MINUTES, k, sizeof(row), &row));
		now = row.slot[COUNTER_LEASES_IMMEDIATE] + row.slot[COUNTER_LEASES_WAITED];
		sum += row.first != 0 ? now : now - last;
		last = now;
	}
	history_bytes_fini(&bytes);
	free(view);
	return sum;
}

static int
has_rows(void *context)
{
	pglease_history_row row = {0};

	it_ok(pglease_history(pool, 0, UINT64_MAX, 0, take_row, &row));
	return row.starts >= *(unsigned *)context;
}

static uint64_t
cpu_of_broker(void)
{
	struct timespec used;
	clockid_t clock;

	ck_assert_int_eq(clock_getcpuclockid(pglease_test_broker_pid(it_env), &clock), 0);
	ck_assert_int_eq(clock_gettime(clock, &used), 0);
	return (uint64_t)used.tv_sec * UINT64_C(1000000000) + (uint64_t)used.tv_nsec;
}

/* A pool that is made anew counts from 0, but the broker and its clients go on: their use counts once; and no second is lost to the minutes. */
START_TEST(its_history_counts_all_once)
{
	pglease_history_row row = {0};
	pid_t broker;

	reload_start(NULL, "", NULL);
	broker = pglease_test_broker_pid(it_env);
	reload_assert_serves(pool);
	reload_assert_serves(pool);
	await_remembered(pool);
	for (unsigned starts = 2; starts <= 5; starts++) {
		reload_configure(NULL, reload_section("app", starts % 2 == 0 ? "reset = always" : ""), NULL);
		reload_now();
		ck_assert_msg(pglease_test_await(has_rows, &starts, IT_PATIENCE_MS) == 0, "no row of it");
	}
	ck_assert_int_eq(pglease_test_broker_pid(it_env), broker);
	it_ok(pglease_history(pool, 0, UINT64_MAX, 0, take_row, &row));
	ck_assert_uint_gt(row.broker_cpu_ns, 0);
	ck_assert_uint_le(row.broker_cpu_ns, cpu_of_broker());
	ck_assert_uint_eq(remembered_by_minutes(), 2);
}
END_TEST

/* One bad thing, and no pool comes, goes or is made anew. */
START_TEST(all_or_nothing)
{
	reload_start(NULL, "", "");
	reload_assert_serves(pool);
	reload_configure("max_clients = 7", reload_section("app", "reset = always"), reload_section("three", "max_connections = none"));
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 3);
	reload_configure("max_clients = 7", reload_section("app", "reset = always"), reload_section("three", ""));
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 3);
	restart_await_log("is not reloaded: max_clients of the instance is 256, and would be 7");
	reload_assert_serves(pool);
	reload_assert_serves(two);
	ck_assert_uint_eq(reload_acquired(pool), 2);
	ck_assert_int_eq(pglease_pool_open(it_client(), "three", &two), PGLEASE_ENOPOOL);
}
END_TEST

/* They come and go on the server that there is, as far as it has room. */
START_TEST(embedded_pools)
{
	const pglease_test_pool pools[] = {{.name = "app", .max = 3, .embedded = 1}, {.name = "two", .max = 1, .embedded = 1}};
	const pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .no_server = 1);
	char server[16];

	restart_prepare();
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	snprintf(server, sizeof(server), "%s", it_query(conn, "select pg_postmaster_start_time()::time(0)"));
	restart_configure(NULL, "[pool app]\nembedded = yes\nmax_connections = 4\n");
	reload_now();
	restart_configure(NULL, "[pool app]\nembedded = yes\n[pool two]\nembedded = yes\nmax_connections = 1\nreserve_connections = 1");
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 3);
	restart_said("room for connections of the embedded PostgreSQL is 4, and would be 7; stop and start it instead");
	restart_configure(NULL, "[pool app]\nembedded = yes\nmax_connections = 2\nreset = always\n[pool two]\nembedded = yes\nmax_connections = 2");
	reload_now();
	it_ok(pglease_pool_open(it_client(), "two", &two));
	reload_assert_serves(two);
	ck_assert_str_eq(it_query(conn, "select pg_postmaster_start_time()::time(0)"), server);
	reload_assert_serves(pool);
	it_release(&lease);
}
END_TEST

IT_MAIN("reload_pools", a_pool_comes, a_pool_goes, its_leases_are_revoked_after_drain_timeout, its_lessee_dies,
    a_restart_and_a_reload_while_it_goes, reset_and_cancel_while_it_goes, the_broker_is_killed_while_it_goes, its_alerts_are_over,
    its_history_goes_on, its_history_counts_all_once, all_or_nothing, embedded_pools)
