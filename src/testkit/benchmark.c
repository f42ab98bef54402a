/* SPDX-License-Identifier: PostgreSQL */
/* Benchmarks: variants in turn, round by round. Owns the results while they are made. */
#include "benchmark_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "env_priv.h"
#include "interval.h"
#include "look.h"
#include "report.h"
#include "segment.h"

#define ROUNDS 30
#define ROUND_MS 20
#define WARM_UP_MS 200
#define COUNTED 20        /* operations of which leaks and round trips are counted */
#define COUNTS 5          /* of round trips: the broker's own (a new connection, a reset) are not in all of them */
#define MS UINT64_C(1000000)
#define CLOCK_NS 2000     /* an operation that is shorter is timed with others: reading the clock takes some 20 ns */
#define PATIENCE_MS 30000

static uint64_t
cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static int
failed(const struct measured *m)
{
	return child_fail(EIO, "variant %s: an operation failed", m->name);
}

/* Before anything is counted: an operation may fail here, on a connection that was cut. Finds how many are timed together. */
static void
warm_up(struct measured *m, unsigned ms)
{
	uint64_t start = clock_ns(), end = start + ms * MS, n = 0, now;

	do {
		m->variant->run(m->variant->context);
		n++;
		now = clock_ns();
	} while (now < end);
	m->batch = (now - start) / n < CLOCK_NS ? (unsigned)(CLOCK_NS / ((now - start) / n + 1)) + 1 : 1;
}

static int
count_leaks(pglease_test_env *env, struct measured *m)
{
	struct look *marked = env->marked, own = {0};
	pid_t marked_by = env->marked_by;
	unsigned n = 0;
	int r;

	m->leaks = -1;
	if (marked == NULL)
		return 0;
	env->marked = &own;
	r = pglease_test_mark(env);
	for (unsigned i = 0; r == 0 && i < COUNTED; i++)
		if (m->variant->run(m->variant->context))
			r = failed(m);
	if (r == 0)
		r = pglease_test_report(env, NULL, &n);
	m->leaks = n;
	look_fini(&own);
	env->marked = marked;
	env->marked_by = marked_by;
	return r;
}

static int
count_round_trips(pglease_test_env *env, struct measured *m)
{
	m->round_trips = -1;
	if (env->relay.pid == 0)
		return 0;
	for (unsigned n = 0; n < COUNTS; n++) {
		uint64_t before = pglease_test_relay_round_trips(env);
		double counted;

		for (unsigned i = 0; i < COUNTED; i++)
			if (m->variant->run(m->variant->context))
				return failed(m);
		counted = (double)(pglease_test_relay_round_trips(env) - before) / COUNTED;
		if (n == 0 || counted < m->round_trips)
			m->round_trips = counted;
	}
	return 0;
}

/* Whether all connections of the pools that were there have been replaced. */
struct replaced {
	pglease_pool *pool[ENV_MAX_POOLS];
	uint64_t closed[ENV_MAX_POOLS];
	unsigned n;
};

static int
are_replaced(void *context)
{
	const struct replaced *r = context;

	for (unsigned i = 0; i < r->n; i++) {
		pglease_stats stats;

		if (pglease_stats_get(r->pool[i], &stats) || stats.closed < r->closed[i] || stats.busy > 0)
			return 0;
	}
	return 1;
}

/* From here on, or not any more, the pools' connections go past the relay. */
static int
bypass(pglease_test_env *env, bool on)
{
	struct replaced replaced = {.n = 0};
	pglease_options options = PGLEASE_OPTIONS_INIT;
	pglease *client = NULL;
	int r;

	if (env->relay.pid == 0)
		return 0;
	options.socket_dir = env->socket_dir;
	if (pglease_attach(env->instance, &options, &client))
		return child_fail(ECONNREFUSED, "%s", pglease_error_message());
	for (unsigned i = 0; i < env->npools; i++) {
		pglease_stats stats;

		if (pglease_pool_open(client, env->pool_name[i], &replaced.pool[i]) ||
		    pglease_stats_get(replaced.pool[i], &stats)) {
			r = child_fail(ECONNREFUSED, "%s", pglease_error_message());
			goto out;
		}
		replaced.closed[i] = stats.closed + stats.total;
		replaced.n = i + 1;
	}
	r = relay_tell(&env->relay, RELAY_BYPASS, on, 0, "");
	/* Those that go past it live on at the end: they do no harm. */
	if (r == 0 && on)
		r = relay_tell(&env->relay, RELAY_CUT, 0, 0, "");
	if (r == 0 && on) {
		r = pglease_test_await(are_replaced, &replaced, PATIENCE_MS);
		if (r)
			child_fail(-r, "the pools' connections were not replaced: are leases held while the benchmark runs?");
	}
out:
	pglease_detach(client);
	return r;
}

static int
one_round(pglease_test_env *env, struct measured *m, unsigned round, unsigned ms)
{
	uint64_t server = env != NULL ? faults_server_cpu(env) : 0, memory = look_memory(), cpu = cpu_ns(), n = 0;
	uint64_t start = clock_ns(), now = start, last = start, end = start + ms * MS, after;

	while (now < end) {
		for (unsigned i = 0; i < m->batch; i++)
			if (m->variant->run(m->variant->context))
				return failed(m);
		now = clock_ns();
		histogram_add_value(&m->times, (now - last) / m->batch, m->batch);
		last = now;
		n += m->batch;
	}
	m->cpu += cpu_ns() - cpu;
	after = look_memory();
	if (after != UINT64_MAX && memory != UINT64_MAX)
		m->memory += (double)after - (double)memory;
	if (env != NULL) {
		after = faults_server_cpu(env);
		m->server_cpu += after > server ? after - server : 0; /* a backend that has ended took its own along */
	}
	m->operations += n;
	m->ns += now - start;
	m->rate[round] = (double)n * 1e9 / (double)(now - start);
	return 0;
}

static void
conclude(pglease_test_results *results, const pglease_test_env *env)
{
	for (unsigned i = 0; i < results->n; i++) {
		struct measured *m = &results->measured[i];
		double n = (double)m->operations;

		m->result = (pglease_test_measurement){
		    .name = m->name,
		    .operations = m->operations,
		    .batch = m->batch,
		    .per_second = interval_of(m->rate, results->rounds),
		    .ratio = interval_of_pairs(m->rate, results->measured[0].rate, results->rounds),
		    .mean_ns = m->ns / m->operations,
		    .p50_ns = histogram_quantile(&m->times, 0.5),
		    .p95_ns = histogram_quantile(&m->times, 0.95),
		    .p99_ns = histogram_quantile(&m->times, 0.99),
		    .max_ns = histogram_max(&m->times),
		    .cpu_ns = (double)m->cpu / n,
		    .server_cpu_ns = env != NULL && env->has_upstream ? (double)m->server_cpu / n : -1,
		    .memory_bytes = m->memory > 0 ? m->memory / n : 0,
		    .round_trips = m->round_trips,
		    .leaks = m->leaks,
		};
	}
}

static int
measure(pglease_test_env *env, pglease_test_results *results, const pglease_test_benchmark_options *options)
{
	int r = 0, also;

	for (unsigned i = 0; i < results->n; i++) {
		struct measured *m = &results->measured[i];

		m->leaks = m->round_trips = -1;
		warm_up(m, options->warm_up_ms / 2);
		if (env != NULL)
			r = count_leaks(env, m);
		if (env != NULL && r == 0)
			r = count_round_trips(env, m);
		if (r)
			goto out;
	}
	if (env != NULL)
		r = bypass(env, true);
	if (r == 0)
		for (unsigned i = 0; i < results->n; i++)
			warm_up(&results->measured[i], options->warm_up_ms);
	/* Another one begins each time. */
	for (unsigned round = 0; r == 0 && round < results->rounds; round++)
		for (unsigned i = 0; r == 0 && i < results->n; i++)
			r = one_round(env, &results->measured[(i + round) % results->n], round, options->round_ms);
	also = env != NULL ? bypass(env, false) : 0;
	if (r == 0)
		r = also;
	if (r == 0)
		conclude(results, env);
out:
	/* What the variants have leaked has been counted. */
	if (env != NULL && env->marked != NULL && env->marked_by == getpid()) {
		also = pglease_test_mark(env);
		r = r ? r : also;
	}
	return r;
}

static int
take_options(const pglease_test_benchmark_options *given, pglease_test_benchmark_options *ret)
{
	static const pglease_test_benchmark_options defaults = PGLEASE_TEST_BENCHMARK_OPTIONS_INIT;

	*ret = defaults;
	if (given != NULL && given->size != sizeof(*given))
		return child_fail(EINVAL, "options.size is %zu: begin with PGLEASE_TEST_BENCHMARK_OPTIONS_INIT", given->size);
	if (given != NULL)
		*ret = *given;
	ret->rounds = ret->rounds != 0 ? ret->rounds : ROUNDS;
	ret->round_ms = ret->round_ms != 0 ? ret->round_ms : ROUND_MS;
	ret->warm_up_ms = ret->warm_up_ms != 0 ? ret->warm_up_ms : WARM_UP_MS;
	if (ret->rounds < 2 || ret->rounds > BENCHMARK_MAX_ROUNDS)
		return child_fail(EINVAL, "%u rounds: from 2 to %d", ret->rounds, BENCHMARK_MAX_ROUNDS);
	return 0;
}

static pglease_test_results *
new_results(const pglease_test_variant *variants, unsigned n, unsigned rounds)
{
	pglease_test_results *results = calloc(1, sizeof(*results));

	if (results == NULL)
		return NULL;
	results->rounds = rounds;
	results->n = n;
	for (unsigned i = 0; i < n; i++) {
		struct measured *m = &results->measured[i];

		m->variant = &variants[i];
		m->name = strdup(variants[i].name);
		m->rate = calloc(rounds, sizeof(*m->rate));
		if (m->name == NULL || m->rate == NULL) {
			pglease_test_results_free(results);
			return NULL;
		}
	}
	return results;
}

int
pglease_test_benchmark(pglease_test_env *env, const pglease_test_variant *variants, unsigned n,
    const pglease_test_benchmark_options *given, pglease_test_results **ret)
{
	pglease_test_benchmark_options options;
	pglease_test_results *results;
	int r = take_options(given, &options);

	if (r == 0 && (n < 1 || n > BENCHMARK_MAX_VARIANTS))
		r = child_fail(EINVAL, "%u variants: from 1 to %d", n, BENCHMARK_MAX_VARIANTS);
	for (unsigned i = 0; r == 0 && i < n; i++)
		if (variants[i].name == NULL || variants[i].run == NULL)
			r = child_fail(EINVAL, "variant %u has no name or nothing to run", i);
	if (r)
		return r;
	results = new_results(variants, n, options.rounds);
	if (results == NULL)
		return child_fail(ENOMEM, "out of memory");
	r = measure(env, results, &options);
	if (r)
		pglease_test_results_free(results);
	else
		*ret = results;
	return r;
}

void
pglease_test_results_free(pglease_test_results *results)
{
	if (results == NULL)
		return;
	for (unsigned i = 0; i < results->n; i++) {
		free(results->measured[i].name);
		free(results->measured[i].rate);
	}
	free(results);
}

const pglease_test_measurement *
pglease_test_results_get(const pglease_test_results *results, unsigned index)
{
	return index < results->n ? &results->measured[index].result : NULL;
}
