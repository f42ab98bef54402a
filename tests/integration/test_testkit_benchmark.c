/* SPDX-License-Identifier: PostgreSQL */
/* The kit's benchmark: what it counts is exact, what it times is told apart, and results are compared with saved ones. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "interval.h"
#include "it.h"

#define kit_ok(call) ck_assert_msg((call) == 0, "%s: %s", #call, pglease_test_error_message())

static pglease_pool *pool;

static void
start(void)
{
	static const pglease_test_pool app = {.name = "app", .min = 1, .max = 2};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .relay = true);

	kit_ok(pglease_test_env_new(&options, &it_env));
	kit_ok(pglease_test_pool_open(it_env, "app", &pool));
	it_await_all_idle(pool);
}

static int
lease_only(void *context)
{
	pglease_lease lease;
	PGconn *conn;

	(void)context;
	/* Clean: a reset of the broker's would be a round trip, too. */
	return pglease_acquire(pool, 20000, &lease, &conn) || pglease_release_as(&lease, PGLEASE_SESSION_CLEAN);
}

/* *context queries in a lease. */
static int
query(void *context)
{
	pglease_lease lease;
	PGconn *conn;
	bool good = true;

	if (pglease_acquire(pool, 20000, &lease, &conn))
		return -1;
	for (unsigned i = 0; i < *(const unsigned *)context; i++) {
		PGresult *result = PQexec(conn, "select 1");

		good = good && PQresultStatus(result) == PGRES_TUPLES_OK;
		PQclear(result);
	}
	return pglease_release_as(&lease, good ? PGLEASE_SESSION_CLEAN : PGLEASE_SESSION_BROKEN) || !good;
}

static volatile unsigned sink;

static int
count_to(void *context)
{
	for (unsigned i = 0; i < *(const unsigned *)context; i++)
		sink += i;
	return 0;
}

/* Kept, and freed in the end: a leak to the kit, and none to a sanitizer. */
static struct lost {
	struct lost *next;
} *lost;

static int
lose(void *context)
{
	struct lost *block = malloc(*(const size_t *)context);

	if (block == NULL)
		return -1;
	block->next = lost;
	lost = block;
	return 0;
}

static int
break_down(void *context)
{
	(void)context;
	return 1;
}

static unsigned one = 1, three = 3, little = 2000, much = 8000;

START_TEST(what_is_counted_is_exact)
{
	const pglease_test_variant variants[] = {{"lease", lease_only, NULL}, {"one", query, &one}, {"three", query, &three}};
	pglease_test_benchmark_options options = PGLEASE_TEST_BENCHMARK_OPTIONS_INIT;
	pglease_test_results *results;
	const pglease_test_measurement *m;

	start();
	options.rounds = 5;
	kit_ok(pglease_test_benchmark(it_env, variants, 3, &options, &results));
	for (unsigned i = 0; i < 3; i++) {
		m = pglease_test_results_get(results, i);
		ck_assert_str_eq(m->name, variants[i].name);
		ck_assert_uint_gt(m->operations, 0);
		ck_assert(m->per_second.low <= m->per_second.value && m->per_second.value <= m->per_second.high);
		ck_assert(m->p50_ns <= m->p95_ns && m->p95_ns <= m->p99_ns && m->p99_ns <= m->max_ns);
		ck_assert_double_eq(m->round_trips, i == 0 ? 0.0 : i == 1 ? 1.0 : 3.0);
		ck_assert(m->leaks == 0.0);
		ck_assert(m->cpu_ns > 0);
	}
	ck_assert(pglease_test_results_get(results, 1)->server_cpu_ns > 0);
	ck_assert(pglease_test_results_get(results, 0)->ratio.value == 1.0);
	/* Three round trips take longer than none. */
	ck_assert(pglease_test_results_get(results, 2)->ratio.value < 1.0);
	ck_assert_ptr_null(pglease_test_results_get(results, 3));
	pglease_test_results_free(results);
	/* The pools go through the relay again, and it counts. */
	kit_ok(pglease_test_relay_cut(it_env));
}
END_TEST

START_TEST(what_takes_longer_is_told)
{
	const pglease_test_variant variants[] = {{"little", count_to, &little}, {"same", count_to, &little}, {"much", count_to, &much}};
	pglease_test_results *results;
	const pglease_test_measurement *m;

	kit_ok(pglease_test_benchmark(NULL, variants, 3, NULL, &results));
	m = pglease_test_results_get(results, 2);
	/* Four times as much; what else runs cannot turn it round. */
	ck_assert_msg(m->ratio.high < 0.6, "%f [%f, %f]", m->ratio.value, m->ratio.low, m->ratio.high);
	m = pglease_test_results_get(results, 1);
	ck_assert_msg(m->ratio.low < 1.5 && m->ratio.high > 0.6, "%f [%f, %f]", m->ratio.value, m->ratio.low, m->ratio.high);
	ck_assert(m->round_trips < 0 && m->leaks < 0 && m->server_cpu_ns < 0); /* unknown */
	pglease_test_results_free(results);
}
END_TEST

START_TEST(leaks_are_counted)
{
	static size_t size = 10000;
	const pglease_test_variant variants[] = {{"lose", lose, &size}};
	const pglease_test_leak *leak;
	unsigned n = 0;
	pglease_test_benchmark_options options = PGLEASE_TEST_BENCHMARK_OPTIONS_INIT;
	pglease_test_results *results;

	start();
	options.rounds = 2;
	options.round_ms = options.warm_up_ms = 2;
	kit_ok(pglease_test_benchmark(it_env, variants, 1, &options, &results));
	ck_assert(pglease_test_results_get(results, 0)->leaks == 1.0);
	ck_assert(pglease_test_results_get(results, 0)->memory_bytes >= 10000);
	pglease_test_results_free(results);
	/* And are the environment's no more. */
	kit_ok(pglease_test_report(it_env, &leak, &n));
	ck_assert_msg(n == 0, "%s", n > 0 ? leak->what : "");
	while (lost != NULL) {
		struct lost *first = lost;

		lost = first->next;
		free(first);
	}
}
END_TEST

START_TEST(a_failure_names_its_variant)
{
	const pglease_test_variant variants[] = {{"good", count_to, &little}, {"bad one", break_down, NULL}};
	pglease_test_benchmark_options options = {.size = 1};
	pglease_test_results *results = NULL;

	ck_assert_int_lt(pglease_test_benchmark(NULL, variants, 2, NULL, &results), 0);
	ck_assert_ptr_nonnull(strstr(pglease_test_error_message(), "bad one"));
	ck_assert_int_eq(pglease_test_benchmark(NULL, variants, 1, &options, &results), -EINVAL);
	ck_assert_int_eq(pglease_test_benchmark(NULL, variants, 0, NULL, &results), -EINVAL);
	ck_assert_ptr_null(results);
}
END_TEST

/* Saved, and compared with itself and with what is made slower on paper. */
START_TEST(results_are_compared_with_saved_ones)
{
	const pglease_test_variant variants[] = {{"little", count_to, &little}, {"much", count_to, &much}};
	const pglease_test_variant other[] = {{"little", count_to, &much}, {"new", count_to, &much}};
	const pglease_test_change *change;
	char path[] = "/tmp/pglease-results-XXXXXX";
	pglease_test_results *results, *slower;
	char text[8192] = "";
	unsigned n;
	FILE *file;
	int fd;

	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	file = fdopen(fd, "w+");
	kit_ok(pglease_test_benchmark(NULL, variants, 2, NULL, &results));
	kit_ok(pglease_test_results_write(results, file, 1));
	ck_assert_int_eq(fclose(file), 0);
	kit_ok(pglease_test_compare(results, path, &change, &n));
	ck_assert_uint_eq(n, 2);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_str_eq(change[i].name, variants[i].name);
		ck_assert(fabs(change[i].rate.value - 1) < 1e-6 && change[i].rate.low <= 1 && change[i].rate.high >= 1);
		ck_assert(fabs(change[i].ratio.value - 1) < 1e-6);
	}
	kit_ok(pglease_test_benchmark(NULL, other, 2, NULL, &slower));
	kit_ok(pglease_test_compare(slower, path, &change, &n));
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(change[0].name, "little");
	ck_assert_msg(change[0].rate.high < 1, "%f [%f, %f]", change[0].rate.value, change[0].rate.low, change[0].rate.high);
	unlink(path);
	ck_assert_int_eq(pglease_test_compare(slower, path, &change, &n), -ENOENT);

	file = fmemopen(text, sizeof(text), "w");
	kit_ok(pglease_test_results_write(results, file, 0));
	fclose(file);
	ck_assert_ptr_nonnull(strstr(text, "per second"));
	ck_assert_ptr_nonnull(strstr(text, "\nmuch "));
	pglease_test_results_free(results);
	pglease_test_results_free(slower);
}
END_TEST

/* Against numbers worked out by hand: logarithms 0, 1, 2: mean 1, deviation 1, t(2) = 4.303. */
START_TEST(intervals_are_students)
{
	const double x[] = {1, M_E, M_E * M_E}, y[] = {1, 1, 1}, z[] = {2, 2 * M_E, 2 * M_E * M_E};
	double half = 4.303 / sqrt(3);
	pglease_test_interval i = interval_of(x, 3);

	ck_assert_double_eq_tol(i.value, M_E, 1e-9);
	ck_assert_double_eq_tol(log(i.low), 1 - half, 1e-9);
	ck_assert_double_eq_tol(log(i.high), 1 + half, 1e-9);
	i = interval_of_pairs(z, x, 3); /* always twice */
	ck_assert_double_eq_tol(i.low, 2, 1e-9);
	ck_assert_double_eq_tol(i.high, 2, 1e-9);
	/* Welch: variances 1/3 and 0, so 2 degrees of freedom. */
	i = interval_of_two(x, 3, y, 3);
	ck_assert_double_eq_tol(log(i.high), 1 + half, 1e-9);
	i = interval_of_two(x, 3, z, 3); /* equal variances: 4 degrees of freedom */
	ck_assert_double_eq_tol(log(i.value), -log(2), 1e-9);
	ck_assert_double_eq_tol(log(i.high) + log(2), 2.776 * sqrt(2.0 / 3), 1e-9);
}
END_TEST

/* The interval does what it says: of many samples of a known mean, some 95 % contain it. */
START_TEST(intervals_hold_the_mean)
{
	unsigned hits = 0, n = 2000;

	srand48(1);
	for (unsigned i = 0; i < n; i++) {
		double x[10];
		pglease_test_interval of;

		for (unsigned j = 0; j < 10; j++) /* Box and Muller */
			x[j] = exp(0.1 * sqrt(-2 * log(1 - drand48())) * cos(2 * M_PI * drand48()));
		of = interval_of(x, 10);
		hits += of.low <= 1 && 1 <= of.high;
	}
	ck_assert_uint_ge(hits, 1870); /* 1,900, and the deviation is 10 */
	ck_assert_uint_le(hits, 1930);
}
END_TEST

IT_MAIN("testkit_benchmark", what_is_counted_is_exact, what_takes_longer_is_told, leaks_are_counted, a_failure_names_its_variant,
    results_are_compared_with_saved_ones, intervals_are_students, intervals_hold_the_mean)
