/* SPDX-License-Identifier: PostgreSQL */
/* Thresholds of a pool, and of a process: who hears when they are crossed. */
#include <math.h>
#include <signal.h>
#include <string.h>

#include "it.h"

struct heard {
	pglease_pool *pool;
	unsigned calls, wanted;
	enum pglease_threshold last;
	double value, limit;
	int is_above;
};

static void
hear(pglease_pool *pool, enum pglease_threshold threshold, double value, double limit, int is_above, void *context)
{
	struct heard *heard = context;
	pglease_stats stats;

	it_ok(pglease_stats_get(pool, &stats)); /* it may use the library */
	it_ok(pglease_threshold_check(pool));   /* and does not begin again */
	heard->calls++;
	heard->last = threshold;
	heard->value = value;
	heard->limit = limit;
	heard->is_above = is_above;
}

static bool
has_judged(const pglease_stats *stats, const void *arg)
{
	pglease_alert alert;

	it_ok(pglease_alert_get((pglease_pool *)arg, PGLEASE_THRESHOLD_LEAKS, &alert));
	return alert.lasting_ns != 0;
}

static bool
is_used(const pglease_stats *stats, const void *arg)
{
	pglease_alert alert;

	it_ok(pglease_alert_get((pglease_pool *)arg, PGLEASE_THRESHOLD_POOL_USAGE, &alert));
	return alert.value >= 0.5;
}

static bool
check_has_called(const pglease_stats *stats, const void *arg)
{
	const struct heard *heard = arg;

	it_ok(pglease_threshold_check(heard->pool));
	return heard->calls >= heard->wanted;
}

/* The broker looks once a second: until this process has heard of so many changes. */
static void
await_calls(struct heard *heard, unsigned wanted)
{
	heard->wanted = wanted;
	it_await(heard->pool, check_has_called, heard, "a call");
	it_ok(pglease_threshold_check(heard->pool));
	ck_assert_uint_eq(heard->calls, wanted); /* once */
}

/* This process's own thresholds, whatever the pool's alerts are: these take their time. */
START_TEST(thresholds_are_told_when_crossed)
{
	struct heard heard = {0};
	pglease_pool *pool;
	pglease_lease lease[2], none;
	PGconn *conn;
	double value;

	it_start(2, 2, "alert_window = 1s\n");
	heard.pool = pool = it_attach();
	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_WAIT_TIME, 7));
	it_ok(pglease_threshold_get(pool, PGLEASE_THRESHOLD_WAIT_TIME, &value));
	ck_assert_double_eq(value, 7);
	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_WAIT_TIME, PGLEASE_THRESHOLD_OFF));
	it_ok(pglease_on_threshold(pool, hear, &heard));
	it_await_all_idle(pool);
	it_ok(pglease_threshold_check(pool));
	ck_assert_uint_eq(heard.calls, 0);

	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_POOL_USAGE, 0.9));
	it_acquire(pool, &lease[0]);
	it_acquire(pool, &lease[1]);
	await_calls(&heard, 1);
	ck_assert_int_eq(heard.last, PGLEASE_THRESHOLD_POOL_USAGE);
	ck_assert_double_ge(heard.value, 0.9);
	ck_assert_double_eq(heard.limit, 0.9);
	ck_assert_int_eq(heard.is_above, 1);

	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_FAILURE_RATE, 0.5));
	for (unsigned i = 0; i < 40; i++)
		ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &none, &conn), PGLEASE_ETIMEOUT);
	await_calls(&heard, 2);
	ck_assert_int_eq(heard.last, PGLEASE_THRESHOLD_FAILURE_RATE);
	ck_assert_double_ge(heard.value, 0.9);

	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_FAILURE_RATE, PGLEASE_THRESHOLD_OFF));
	await_calls(&heard, 3);
	ck_assert_int_eq(heard.last, PGLEASE_THRESHOLD_FAILURE_RATE);
	ck_assert_int_eq(heard.is_above, 0);
	it_release(&lease[0]);
	await_calls(&heard, 4);
	ck_assert_int_eq(heard.last, PGLEASE_THRESHOLD_POOL_USAGE);
	ck_assert_int_eq(heard.is_above, 0);
	it_release(&lease[1]);
	/* Nobody is told any more. */
	it_ok(pglease_on_threshold(pool, NULL, NULL));
	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_POOL_USAGE, 0));
	it_acquire(pool, &lease[0]);
	it_ok(pglease_threshold_check(pool));
	it_release(&lease[0]);
	ck_assert_uint_eq(heard.calls, 4);
}
END_TEST

START_TEST(the_pools_thresholds_are_its_settings)
{
	pglease_pool *pool;
	double value;

	it_start(1, 1, "alert_query_time_p99 = 250ms\nalert_maxwait = 0\n");
	pool = it_attach();
#define is(threshold, wanted)                                                            \
	do {                                                                             \
		it_ok(pglease_threshold_get(pool, PGLEASE_THRESHOLD_##threshold, &value)); \
		ck_assert_double_eq(value, wanted);                                      \
	} while (0)
	it_await(pool, has_judged, pool, "a first look");
	is(CONNECTION_TIME, 5);
	is(FAILURE_RATE, 0.05);
	is(MEMORY_USAGE, 104857600);
	is(QUERY_TIME_P99, 0.25);
	is(UPSTREAM_DOWN, 5);
	is(LEAKS, 1);
	it_ok(pglease_threshold_get(pool, PGLEASE_THRESHOLD_MAXWAIT, &value));
	ck_assert(isinf(value));
#undef is
}
END_TEST

START_TEST(a_release_looks_by_itself)
{
	struct heard heard = {0};
	pglease_pool *pool;
	pglease_lease lease;

	it_start(1, 1, "alert_window = 1s\n");
	heard.pool = pool = it_attach();
	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_POOL_USAGE, 0.5));
	it_acquire(pool, &lease);
	it_await(pool, is_used, pool, "a look at a pool that is used");
	it_ok(pglease_on_threshold(pool, hear, &heard));
	ck_assert_uint_eq(heard.calls, 0);
	it_release(&lease);
	ck_assert_uint_eq(heard.calls, 1);
	ck_assert_int_eq(heard.last, PGLEASE_THRESHOLD_POOL_USAGE);
	ck_assert_str_eq(pglease_threshold_name(heard.last), "pool_usage");
	ck_assert_str_eq(pglease_threshold_name((enum pglease_threshold)77), "?");
}
END_TEST

/* The broker is gone, which it cannot say itself. */
START_TEST(a_process_hears_of_a_broker_that_is_gone)
{
	struct heard heard = {0};

	it_start(1, 1, NULL);
	heard.pool = it_attach();
	it_ok(pglease_on_threshold(heard.pool, hear, &heard));
	it_ok(pglease_threshold_set(heard.pool, PGLEASE_THRESHOLD_HEALTH, PGLEASE_HEALTH_DOWN));
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGSTOP), 0);
	await_calls(&heard, 1);
	ck_assert_int_eq(heard.last, PGLEASE_THRESHOLD_HEALTH);
	ck_assert_double_eq(heard.value, PGLEASE_HEALTH_DOWN);
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGCONT), 0);
	await_calls(&heard, 2);
	ck_assert_int_eq(heard.is_above, 0);
}
END_TEST

START_TEST(wrong_arguments_name_themselves)
{
	pglease_pool *pool;
	double value;

	it_start(1, 1, NULL);
	pool = it_attach();
#define refused(call, text)                                                                                           \
	do {                                                                                                          \
		ck_assert_int_eq(call, PGLEASE_EINVAL);                                                               \
		ck_assert_msg(strstr(pglease_error_message(), text) != NULL, "%s", pglease_error_message());          \
	} while (0)
	refused(pglease_threshold_set(pool, PGLEASE_THRESHOLD_MAXWAIT, -2), "maxwait");
	refused(pglease_threshold_set(pool, PGLEASE_THRESHOLD_MAXWAIT, -0.5), "maxwait");
	refused(pglease_threshold_set(pool, PGLEASE_THRESHOLD_MAXWAIT, NAN), "maxwait");
	refused(pglease_alert_get(pool, (enum pglease_threshold)77, &(pglease_alert){0}), "77");
	refused(pglease_alert_get(pool, PGLEASE_THRESHOLD_MAXWAIT, NULL), "ret_alert");
	refused(pglease_alert_get(NULL, PGLEASE_THRESHOLD_MAXWAIT, &(pglease_alert){0}), "pool");
	refused(pglease_threshold_set(pool, (enum pglease_threshold)77, 1), "77");
	refused(pglease_threshold_get(pool, PGLEASE_THRESHOLD_MAXWAIT, NULL), "ret_value");
	refused(pglease_threshold_get(NULL, PGLEASE_THRESHOLD_MAXWAIT, &value), "pool");
	refused(pglease_on_threshold(NULL, hear, NULL), "pool");
	refused(pglease_threshold_check(NULL), "pool");
	it_detach();
	refused(pglease_on_threshold(pool, hear, NULL), "attachment has ended");
	refused(pglease_threshold_set(pool, PGLEASE_THRESHOLD_MAXWAIT, 1), "attachment has ended");
}
END_TEST

IT_MAIN("thresholds", thresholds_are_told_when_crossed, the_pools_thresholds_are_its_settings, a_release_looks_by_itself,
    a_process_hears_of_a_broker_that_is_gone, wrong_arguments_name_themselves)
