/* SPDX-License-Identifier: PostgreSQL */
/*
 * Thresholds. One thread at a time looks: who has swapped `looking` from 0 to its process's serial. A child of fork finds its
 * parent's there, when a thread of the parent was looking, and takes it over: that thread is not in the child. If the looking
 * thread ends within the callback (pthread_exit), nobody in this process looks any more, which is what it has asked for.
 */
#include "threshold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "health.h"
#include "totals.h"

#define SECOND UINT64_C(1000000000)
#define LEAST_ACQUIRES 20

static const struct {
	const char *name;
	double limit;
} defaults[THRESHOLD_N] = {
    [PGLEASE_THRESHOLD_CONNECT_TIME] = {"connect_time", 5},
    [PGLEASE_THRESHOLD_FAILURE_RATE] = {"failure_rate", 0.05},
    [PGLEASE_THRESHOLD_MEMORY] = {"memory", 100.0 * 1024 * 1024},
    [PGLEASE_THRESHOLD_WAIT_TIME] = {"wait_time", PGLEASE_THRESHOLD_OFF},
    [PGLEASE_THRESHOLD_MAX_WAIT] = {"max_wait", 1},
    [PGLEASE_THRESHOLD_POOL_USAGE] = {"pool_usage", PGLEASE_THRESHOLD_OFF},
    [PGLEASE_THRESHOLD_QUERY_P99] = {"query_p99", PGLEASE_THRESHOLD_OFF},
    [PGLEASE_THRESHOLD_HEALTH] = {"health", 0},
};

/* Who is told. Those that were replaced stay until the pool's end: a thread may be calling them. */
struct threshold_watcher {
	pglease_threshold_callback callback; /* NULL: nobody */
	void *context;
	struct threshold_watcher *older;
};

static double
limit_of(const struct threshold_watch *watch, enum pglease_threshold threshold)
{
	return atomic_load_explicit((_Atomic double *)&watch->limit[threshold], memory_order_relaxed);
}

void
threshold_init(struct threshold_watch *watch)
{
	for (unsigned i = 0; i < THRESHOLD_N; i++)
		atomic_init(&watch->limit[i], defaults[i].limit);
}

void
threshold_fini(struct threshold_watch *watch)
{
	struct threshold_watcher *w = atomic_load(&watch->watcher);

	while (w != NULL) {
		struct threshold_watcher *older = w->older;

		free(w);
		w = older;
	}
	atomic_store(&watch->watcher, NULL);
}

static double
seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

/* The mean of a time since the last look; false when there was none. */
static bool
mean_since(const struct threshold_seen *before, const struct threshold_seen *now, enum stats_time time, double *ret)
{
	uint64_t count = now->count[time] - before->count[time];

	if (count == 0 || now->count[time] < before->count[time] || now->sum[time] < before->sum[time])
		return false;
	*ret = seconds(now->sum[time] - before->sum[time]) / (double)count;
	return true;
}

/* As long as there are too few to judge, the count goes on from where it began. */
static bool
failure_rate(struct threshold_seen *before, const struct pool_totals *t, double *ret)
{
	uint64_t acquired = totals_acquired(t), failed = t->client[COUNTER_TIMEOUTS] + t->client[COUNTER_FAILURES];
	uint64_t good = acquired - before->acquired, bad = failed - before->failed;
	/* Another broker counts from 0 on. */
	bool is_anew = acquired < before->acquired || failed < before->failed;

	if (!is_anew && good + bad < LEAST_ACQUIRES)
		return false;
	before->acquired = acquired;
	before->failed = failed;
	if (is_anew)
		return false;
	*ret = (double)bad / (double)(good + bad);
	return true;
}

static bool
query_p99(const struct segment *seg, double *ret)
{
	struct histogram_sum sum;

	totals_times(seg, TIME_QUERY, &sum);
	*ret = seconds(histogram_quantile(&sum, 0.99));
	return sum.count != 0;
}

/* The value now; false: nothing has happened that could have changed it. */
static bool
value_of(enum pglease_threshold threshold, const struct segment *seg, const struct pool_totals *t, uint64_t now,
    struct threshold_seen *before, const struct threshold_seen *seen, double *ret)
{
	switch (threshold) {
	case PGLEASE_THRESHOLD_CONNECT_TIME:
		return mean_since(before, seen, TIME_CONNECT, ret);
	case PGLEASE_THRESHOLD_FAILURE_RATE:
		return failure_rate(before, t, ret);
	case PGLEASE_THRESHOLD_MEMORY:
		*ret = (double)atomic_load_explicit(&seg->header->broker_memory, memory_order_relaxed);
		return true;
	case PGLEASE_THRESHOLD_WAIT_TIME:
		return mean_since(before, seen, TIME_WAIT, ret);
	case PGLEASE_THRESHOLD_MAX_WAIT:
		*ret = seconds(t->maxwait);
		return true;
	case PGLEASE_THRESHOLD_POOL_USAGE:
		*ret = t->max != 0 ? (double)(t->leased + t->granted) / t->max : 0;
		return true;
	case PGLEASE_THRESHOLD_QUERY_P99:
		return query_p99(seg, ret);
	case PGLEASE_THRESHOLD_HEALTH:
		*ret = health_level(totals_health(seg, now));
		return true;
	}
	return false;
}

static void
look(pglease_pool *pool, const struct pool_state *state, const struct threshold_watcher *watcher, uint64_t now)
{
	struct threshold_watch *watch = &pool->watch;
	struct threshold_seen seen = watch->seen;
	struct pool_totals t;

	totals_read(&state->seg, now, &t);
	for (enum stats_time time = 0; time < STATS_NTIMES; time++) {
		seen.count[time] = totals_time_count(&t, time);
		seen.sum[time] = totals_time_sum(&t, time);
	}
	for (enum pglease_threshold i = 0; i < THRESHOLD_N; i++) {
		double limit = limit_of(watch, i), value;
		bool was_above = (watch->above & 1u << i) != 0;

		if (!was_above && isinf(limit))
			continue;
		if (!value_of(i, &state->seg, &t, now, &watch->seen, &seen, &value) || (value > limit) == was_above)
			continue;
		watch->above ^= 1u << i;
		watcher->callback(pool, i, value, limit, !was_above, watcher->context);
	}
	memcpy(watch->seen.count, seen.count, sizeof(seen.count));
	memcpy(watch->seen.sum, seen.sum, sizeof(seen.sum));
}

void
threshold_look(pglease_pool *pool, const struct pool_state *state, uint64_t now)
{
	struct threshold_watch *watch = &pool->watch;
	/* Acquire: pairs with the swap in pglease_on_threshold; what it points to is complete, and lives as long as the pool. */
	const struct threshold_watcher *watcher = atomic_load_explicit(&watch->watcher, memory_order_acquire);
	uint64_t looking = atomic_load_explicit(&watch->looking, memory_order_relaxed);

	if (watcher == NULL || watcher->callback == NULL || looking == state->serial)
		return;
	/* Acquire, and release at the end: what a look has noted is for the next one, whoever makes it. */
	if (!atomic_compare_exchange_strong_explicit(
		&watch->looking, &looking, state->serial, memory_order_acquire, memory_order_relaxed))
		return;
	look(pool, state, watcher, now);
	atomic_store_explicit(&watch->next_look, now + SECOND, memory_order_relaxed);
	atomic_store_explicit(&watch->looking, 0, memory_order_release);
}

static int
check_pool(const pglease_pool *pool)
{
	if (pool == NULL)
		return error_set(PGLEASE_EINVAL, "pool is NULL");
	if (atomic_load(&pool->state) == NULL)
		return error_set(PGLEASE_EINVAL, "pool %s: its attachment has ended (pglease_detach)", pool->name);
	return 0;
}

static int
check(const pglease_pool *pool, enum pglease_threshold threshold)
{
	int r = check_pool(pool);

	if (r != 0)
		return r;
	if ((unsigned)threshold >= THRESHOLD_N)
		return error_set(
		    PGLEASE_EINVAL, "threshold is %d: give a value of enum pglease_threshold", (int)threshold);
	return 0;
}

int
pglease_threshold_set(pglease_pool *pool, enum pglease_threshold threshold, double value)
{
	int r = check(pool, threshold);

	if (r != 0)
		return r;
	if (isnan(value) || value < 0)
		return error_set(PGLEASE_EINVAL, "value of %s is %g: give a number from 0 on, or PGLEASE_THRESHOLD_OFF",
		    defaults[threshold].name, value);
	/* Relaxed: a look under way may miss it. */
	atomic_store_explicit(&pool->watch.limit[threshold], value, memory_order_relaxed);
	return 0;
}

int
pglease_threshold_get(pglease_pool *pool, enum pglease_threshold threshold, double *ret_value)
{
	int r = check(pool, threshold);

	if (r != 0)
		return r;
	if (ret_value == NULL)
		return error_set(PGLEASE_EINVAL, "ret_value is NULL");
	*ret_value = limit_of(&pool->watch, threshold);
	return 0;
}

const char *
pglease_threshold_name(enum pglease_threshold threshold)
{
	return (unsigned)threshold < THRESHOLD_N ? defaults[threshold].name : "?";
}

int
pglease_on_threshold(pglease_pool *pool, pglease_threshold_callback callback, void *context)
{
	struct threshold_watcher *w, *older;
	int r = check_pool(pool);

	if (r != 0)
		return r;
	w = malloc(sizeof(*w));
	if (w == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	older = atomic_load(&pool->watch.watcher);
	do
		*w = (struct threshold_watcher){.callback = callback, .context = context, .older = older};
	while (!atomic_compare_exchange_weak(&pool->watch.watcher, &older, w));
	return 0;
}

int
pglease_threshold_check(pglease_pool *pool)
{
	struct pool_state *state;
	int r;

	if (pool == NULL)
		return error_set(PGLEASE_EINVAL, "pool is NULL");
	r = client_pool_state(pool, &state);
	if (r == 0)
		threshold_look(pool, state, clock_ns());
	return r;
}
