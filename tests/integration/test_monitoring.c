/* SPDX-License-Identifier: PostgreSQL */
/* What the library tells of a pool: timed calls, times, health; and that no reader waits for anyone. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "it.h"

static pglease_stats
stats_of(pglease_pool *pool)
{
	pglease_stats stats;

	it_ok(pglease_stats_get(pool, &stats));
	return stats;
}

static void
assert_counted(pglease_pool *pool, uint64_t queries, uint64_t errors, uint64_t rows, uint64_t transactions)
{
	pglease_stats s = stats_of(pool);

	ck_assert_uint_eq(s.queries, queries);
	ck_assert_uint_eq(s.query_errors, errors);
	ck_assert_uint_eq(s.query_rows, rows);
	ck_assert_uint_eq(s.transactions, transactions);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_QUERY), queries);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_TRANSACTION), transactions);
}

static void
expect(PGresult *result, ExecStatusType status)
{
	ck_assert_msg(PQresultStatus(result) == status, "%s", PQresultErrorMessage(result));
	PQclear(result);
}

START_TEST(calls_are_timed)
{
	static const char *const values[] = {"3"};
	pglease_pool *pool;
	pglease_lease lease;
	pglease_times times;
	PGconn *conn;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	expect(pglease_exec(conn, "create temp table t (n int)"), PGRES_COMMAND_OK);
	assert_counted(pool, 1, 0, 0, 1);
	expect(pglease_exec_params(
		   conn, "insert into t select generate_series(1, $1)", 1, NULL, values, NULL, NULL, 0),
	    PGRES_COMMAND_OK);
	assert_counted(pool, 2, 0, 3, 2);
	expect(pglease_prepare(conn, "p", "select n from t where n < $1", 0, NULL), PGRES_COMMAND_OK);
	expect(pglease_exec_prepared(conn, "p", 1, values, NULL, NULL, 0), PGRES_TUPLES_OK);
	assert_counted(pool, 4, 0, 5, 4);
	expect(pglease_exec(conn, "select nothing from nowhere"), PGRES_FATAL_ERROR);
	assert_counted(pool, 5, 1, 5, 5);
	expect(pglease_exec_cached(conn, "select $1::int", 1, NULL, values, NULL, NULL, 0), PGRES_TUPLES_OK);
	assert_counted(pool, 6, 1, 6, 6);
	/* libpq's own are not seen, and a PGconn of another's making is not counted. */
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	expect(pglease_exec(NULL, "select 1"), PGRES_FATAL_ERROR);
	assert_counted(pool, 6, 1, 6, 6);

	expect(pglease_exec(conn, "select pg_sleep(0.2)"), PGRES_TUPLES_OK);
	it_ok(pglease_times_get(pool, PGLEASE_TIME_QUERY, &times));
	ck_assert_uint_eq(times.count, 7);
	ck_assert_uint_ge(times.max_ns, 190000000);
	ck_assert_uint_ge(times.mean_ns, 200000000 / 7);
	ck_assert_uint_lt(times.p50_ns, 200000000);
	ck_assert_uint_le(times.p50_ns, times.p95_ns);
	ck_assert_uint_le(times.p95_ns, times.p99_ns);
	it_release(&lease);
}
END_TEST

START_TEST(a_transaction_is_one)
{
	pglease_pool *pool;
	pglease_lease lease;
	pglease_times times;
	PGconn *conn;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	expect(pglease_exec(conn, "begin"), PGRES_COMMAND_OK);
	expect(pglease_exec(conn, "select 1"), PGRES_TUPLES_OK);
	assert_counted(pool, 2, 0, 1, 0);
	ck_assert_str_eq(it_query(conn, "select 1 from pg_sleep(0.1)"), "1"); /* its time, and no query */
	expect(pglease_exec(conn, "commit"), PGRES_COMMAND_OK);
	assert_counted(pool, 3, 0, 1, 1);
	it_ok(pglease_times_get(pool, PGLEASE_TIME_TRANSACTION, &times));
	ck_assert_uint_ge(times.max_ns, 95000000);
	/* One that fails is one too; and so is one that the release rolls back. */
	expect(pglease_exec(conn, "begin"), PGRES_COMMAND_OK);
	expect(pglease_exec(conn, "select 1 / 0"), PGRES_FATAL_ERROR);
	assert_counted(pool, 5, 1, 1, 1);
	expect(pglease_exec(conn, "rollback"), PGRES_COMMAND_OK);
	assert_counted(pool, 6, 1, 1, 2);
	expect(pglease_exec(conn, "begin"), PGRES_COMMAND_OK);
	it_release(&lease);
	assert_counted(pool, 7, 1, 1, 3);
	ck_assert_uint_eq(stats_of(pool).rollbacks, 1);
	/* Nothing is left of it for the next lease. */
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	assert_counted(pool, 7, 1, 1, 3);
	/* One that libpq's own call has begun counts from the first timed call. */
	conn = it_acquire(pool, &lease);
	it_query(conn, "begin");
	expect(pglease_exec(conn, "select 1"), PGRES_TUPLES_OK);
	expect(pglease_exec(conn, "end"), PGRES_COMMAND_OK);
	it_release(&lease);
	assert_counted(pool, 9, 1, 2, 4);
}
END_TEST

static unsigned
drain(PGconn *conn)
{
	PGresult *result;
	unsigned n = 0;

	while ((result = pglease_get_result(conn)) != NULL) {
		n++;
		PQclear(result);
	}
	return n;
}

START_TEST(what_is_sent_is_timed)
{
	pglease_pool *pool;
	pglease_lease lease;
	pglease_times times;
	PGconn *conn;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(pglease_send_query(conn, "select 1; select 2 union select 3"), 1);
	assert_counted(pool, 0, 0, 0, 0);
	ck_assert_uint_eq(drain(conn), 2);
	assert_counted(pool, 1, 0, 3, 1);
	ck_assert_uint_eq(drain(conn), 0);
	assert_counted(pool, 1, 0, 3, 1);
	ck_assert_int_eq(pglease_send_query_params(conn, "select pg_sleep(0.1)", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_uint_eq(drain(conn), 1);
	it_ok(pglease_times_get(pool, PGLEASE_TIME_QUERY, &times));
	ck_assert_uint_ge(times.max_ns, 95000000);
	ck_assert_int_eq(pglease_send_prepare(conn, "p", "select 7", 0, NULL), 1);
	ck_assert_uint_eq(drain(conn), 1);
	ck_assert_int_eq(pglease_send_query_prepared(conn, "p", 0, NULL, NULL, NULL, 0), 1);
	ck_assert_uint_eq(drain(conn), 1);
	assert_counted(pool, 4, 0, 5, 4);
	/* Results that libpq itself took are not counted, nor do they spoil the next. */
	ck_assert_int_eq(pglease_send_query(conn, "select 1"), 1);
	while (PQconsumeInput(conn) && PQisBusy(conn))
		;
	PQclear(PQgetResult(conn));
	ck_assert_ptr_null(PQgetResult(conn));
	ck_assert_int_eq(pglease_send_query(conn, "select 1"), 1);
	ck_assert_uint_eq(drain(conn), 1);
	assert_counted(pool, 5, 0, 6, 5);

	/* A pipeline: three queries, of which the second fails and the third is not executed. */
	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	ck_assert_int_eq(pglease_send_query_params(conn, "select 1", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(pglease_send_query_params(conn, "select 1 / 0", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(pglease_send_query_params(conn, "select 1", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQpipelineSync(conn), 1);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(drain(conn), 1);
	expect(pglease_get_result(conn), PGRES_PIPELINE_SYNC);
	ck_assert_ptr_null(pglease_get_result(conn));
	ck_assert_int_eq(PQexitPipelineMode(conn), 1);
	ck_assert_uint_eq(stats_of(pool).queries, 8);
	ck_assert_uint_eq(stats_of(pool).query_errors, 2);
	ck_assert_uint_eq(stats_of(pool).query_rows, 7);
	it_release(&lease);
	ck_assert_uint_eq(it_timed(pool, PGLEASE_TIME_QUERY), 8);
}
END_TEST

START_TEST(without_monitoring_nothing_is_timed)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	it_start_as("monitoring = no", NULL, 1);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	expect(pglease_exec(conn, "begin"), PGRES_COMMAND_OK);
	ck_assert_int_eq(pglease_send_query(conn, "select 1"), 1);
	ck_assert_uint_eq(drain(conn), 1);
	it_release(&lease);
	assert_counted(pool, 0, 0, 0, 0);
}
END_TEST

struct reading {
	pglease_pool *pool;
	_Atomic bool stop;
	uint64_t reads;
	const char *problem;
};

static const char *
disagreement(const pglease_stats *before, const pglease_stats *s)
{
	if (s->total != s->idle + s->leased + s->granted + s->busy || s->active != s->leased + s->granted ||
	    s->acquired != s->acquired_immediate + s->acquired_waited || s->failed != s->timeouts + s->failures ||
	    s->peak < s->active)
		return "totals disagree";
	if (s->released + s->returned > s->acquired)
		return "more leases ended than began";
	if (s->acquired < before->acquired || s->released < before->released || s->queries < before->queries)
		return "a counter went back";
	return NULL;
}

static void *
read_on(void *arg)
{
	struct reading *reading = arg;
	pglease_stats before = {0}, s;

	while (!atomic_load(&reading->stop) && reading->problem == NULL) {
		if (pglease_stats_get(reading->pool, &s) != 0)
			reading->problem = "pglease_stats_get failed";
		else
			reading->problem = disagreement(&before, &s);
		before = s;
		reading->reads++;
	}
	return NULL;
}

static void
lease_on(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();

	it_say(socket, 'r');
	for (unsigned i = 0;; i++) {
		pglease_lease lease;
		PGconn *conn = it_acquire(pool, &lease);

		PQclear(pglease_exec(conn, "select 1"));
		it_release(&lease);
	}
}

static bool
many(const pglease_stats *stats, const void *arg)
{
	return stats->acquired >= *(const uint64_t *)arg;
}

START_TEST(totals_agree_while_workers_come_and_die)
{
	struct reading reading = {.reads = 0};
	struct it_worker worker[4];
	pthread_t thread;
	uint64_t goal = 0;

	it_start(2, 2, NULL);
	reading.pool = it_attach();
	ck_assert_int_eq(pthread_create(&thread, NULL, read_on, &reading), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 4; i++) {
			worker[i] = it_worker(lease_on, NULL);
			it_hear(worker[i].socket, 'r');
		}
		goal += 400;
		it_await(reading.pool, many, &goal, "400 more leases");
		for (unsigned i = 0; i < 4; i++)
			it_kill(&worker[i]);
	}
	atomic_store(&reading.stop, true);
	pthread_join(thread, NULL);
	ck_assert_msg(reading.problem == NULL, "%s", reading.problem);
	ck_assert_uint_gt(reading.reads, 100);
	it_await_all_idle(reading.pool);
}
END_TEST

static bool
has_rates(const pglease_stats *s, const void *arg)
{
	return s->leases_per_second > 0 && s->queries_per_second > 0 && s->transactions_per_second > 0;
}

static bool
has_peak(const pglease_stats *s, const void *arg)
{
	return s->peak == 2 && s->active == 0;
}

START_TEST(gauges_follow)
{
	pglease_pool *pool;
	pglease_lease lease[2], none;
	pglease_stats s;
	PGconn *conn;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	s = stats_of(pool);
	ck_assert_double_eq(s.efficiency, 1);
	ck_assert_uint_eq(s.clients, 1);
	ck_assert_uint_ge(s.connect_mean_ns, 100000);
	for (unsigned i = 0; i < 2; i++)
		expect(pglease_exec(it_acquire(pool, &lease[i]), "select 1"), PGRES_TUPLES_OK);
	ck_assert_int_eq(pglease_acquire(pool, 50, &none, &conn), PGLEASE_ETIMEOUT);
	s = stats_of(pool);
	ck_assert_uint_eq(s.active, 2);
	ck_assert_uint_eq(s.failed, 1);
	ck_assert_uint_eq(s.peak, 2);
	it_release(&lease[0]);
	it_release(&lease[1]);
	it_await(pool, has_peak, NULL, "a peak of 2"); /* the broker has seen it, or this process has shown it */
	for (unsigned i = 0; i < 10; i++) {
		expect(pglease_exec(it_acquire(pool, &lease[0]), "select 1"), PGRES_TUPLES_OK);
		it_release(&lease[0]);
	}
	it_await(pool, has_rates, NULL, "rates above 0");
}
END_TEST

static bool
is_level(pglease_pool *pool, enum pglease_health_level level, const char *reasons)
{
	pglease_health health;

	it_ok(pglease_health_get(pool, &health));
	return health.level == level && strcmp(health.reasons, reasons) == 0;
}

struct expected_health {
	pglease_pool *pool;
	enum pglease_health_level level;
	const char *reasons;
};

static bool
health_is(const pglease_stats *stats, const void *arg)
{
	const struct expected_health *e = arg;

	return is_level(e->pool, e->level, e->reasons);
}

static void
await_health(pglease_pool *pool, enum pglease_health_level level, const char *reasons)
{
	struct expected_health e = {pool, level, reasons};

	it_await(pool, health_is, &e, reasons);
}

static void
wait_long(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn;

	it_say(socket, 'w');
	if (pglease_acquire(pool, 60000, &lease, &conn) == 0)
		pglease_release(&lease);
}

START_TEST(health_says_why)
{
	pglease_pool *pool;
	pglease_lease lease;
	struct it_worker waiter;

	it_start(1, 1, NULL);
	pool = it_attach();
	await_health(pool, PGLEASE_HEALTH_OK, "");
	it_acquire(pool, &lease);
	waiter = it_worker(wait_long, NULL);
	it_hear(waiter.socket, 'w');
	await_health(pool, PGLEASE_HEALTH_DEGRADED, "waiting");
	it_release(&lease);
	it_join(&waiter);
	await_health(pool, PGLEASE_HEALTH_OK, "");
	ck_assert_int_eq(it_ctl("drain", "app", NULL), 0);
	await_health(pool, PGLEASE_HEALTH_DEGRADED, "draining");
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	await_health(pool, PGLEASE_HEALTH_OK, "");
	/* The broker dies, and says nothing any more. */
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGSTOP), 0);
	await_health(pool, PGLEASE_HEALTH_DOWN, "no_broker");
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGCONT), 0);
	await_health(pool, PGLEASE_HEALTH_OK, "");
}
END_TEST

START_TEST(wrong_arguments_name_themselves)
{
	pglease *client;
	pglease_pool *pool;
	pglease_times times;

	it_start(1, 1, NULL);
	it_ok(pglease_attach(NULL, NULL, &client));
	it_ok(pglease_pool_open(client, "app", &pool));
#define refused(call, text)                                                                                           \
	do {                                                                                                          \
		ck_assert_int_eq(call, PGLEASE_EINVAL);                                                               \
		ck_assert_msg(strstr(pglease_error_message(), text) != NULL, "%s", pglease_error_message());          \
	} while (0)
	refused(pglease_stats_get(pool, NULL), "ret_stats");
	refused(pglease_times_get(pool, PGLEASE_TIME_WAIT, NULL), "ret_times");
	refused(pglease_times_get(pool, (enum pglease_time)99, &times), "99");
	refused(pglease_health_get(pool, NULL), "ret_health");
	pglease_detach(client);
	refused(pglease_stats_get(pool, &(pglease_stats){0}), "attachment has ended");
}
END_TEST

/* By lessees alone: the broker leaves them to it. */
#define BY_LESSEES "reset = always\nreset_after = 0\n"

static void
lease_twice(pglease_pool *pool)
{
	pglease_lease lease;

	for (unsigned i = 0; i < 2; i++) {
		it_query(it_acquire(pool, &lease), "set work_mem = '1MB'");
		it_release(&lease);
	}
}

START_TEST(resets_are_counted_by_kind)
{
	it_start(1, 1, BY_LESSEES "reset_kind = light\n");
	lease_twice(it_attach());
	it_await_published("app", "resets_light", 1);
	ck_assert_uint_eq(it_published("app", "resets_light"), 1); /* the second one's answer is still owed */
	ck_assert_uint_eq(it_published("app", "resets_full"), 0);
	ck_assert_uint_eq(it_published("app", "resets_failed"), 0);
}
END_TEST

START_TEST(resets_that_fail_are_counted)
{
	it_start(1, 1, BY_LESSEES "reset_kind = sql\nreset_sql = select 1 / 0\n");
	lease_twice(it_attach());
	it_await_published("app", "resets_failed", 1);
	ck_assert_uint_eq(it_published("app", "resets_sql"), 0);
	it_await_published("app", "closed_broken", 1);
}
END_TEST

START_TEST(failed_connects_are_counted_by_sqlstate_class)
{
	pglease_test_pool pools[] = {
	    {.name = "app", .min = 1, .max = 1},
	    {.name = "nowhere", .min = 1, .max = 1, .conninfo = "host=/nonexistent dbname=postgres user=postgres"},
	};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2);
	pglease_pool *pool;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	it_await_published("nowhere", "open_failed_08", 2);
	ck_assert_uint_eq(it_published("nowhere", "open_failed_28"), 0);
	ck_assert_uint_eq(it_published("app", "open_failed"), 0);
	pool = it_attach();
	await_health(pool, PGLEASE_HEALTH_OK, "");
	it_ok(pglease_pool_open(it_client(), "nowhere", &pool));
	await_health(pool, PGLEASE_HEALTH_DOWN, "upstream");
}
END_TEST

IT_MAIN("monitoring", resets_are_counted_by_kind, resets_that_fail_are_counted, failed_connects_are_counted_by_sqlstate_class, calls_are_timed,
    a_transaction_is_one, what_is_sent_is_timed, without_monitoring_nothing_is_timed, totals_agree_while_workers_come_and_die, gauges_follow,
    health_says_why, wrong_arguments_name_themselves)
