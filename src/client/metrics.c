/* SPDX-License-Identifier: PostgreSQL */
/* A pool's numbers for its users, from its lease segment. No system call, no lock, nothing written. */
#include <string.h>

#include "client_priv.h"
#include "health.h"
#include "totals.h"

static_assert(sizeof(((pglease_health *)0)->reasons) == HEALTH_TEXT, "reasons fit");
static_assert((int)PGLEASE_HEALTH_DOWN == (int)HEALTH_DOWN, "the same levels");

static int
pool_segment(pglease_pool *pool, const char *missing, const struct segment **ret)
{
	struct pool_state *state;
	int r;

	if (pool == NULL || missing != NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", pool == NULL ? "pool" : missing);
	r = client_pool_state(pool, &state);
	if (r == 0)
		*ret = &state->seg;
	return r;
}

static double
per_second(uint64_t rate)
{
	return (double)rate / 1e3;
}

int
pglease_stats_get(pglease_pool *pool, pglease_stats *ret_stats)
{
	const struct segment *seg;
	struct pool_totals t;
	uint64_t acquired;
	int r = pool_segment(pool, ret_stats == NULL ? "ret_stats" : NULL, &seg);

	if (r != 0)
		return r;
	totals_read(seg, clock_ns(), &t);
	acquired = totals_acquired(&t);
	*ret_stats = (pglease_stats){
	    .max_connections = t.max,
	    .total = t.total,
	    .idle = t.idle,
	    .leased = t.leased,
	    .granted = t.granted,
	    .busy = t.busy,
	    .active = t.leased + t.granted,
	    .peak = t.peak,
	    .pending = t.waiting,
	    .clients = t.clients,
	    .max_wait_ns = t.maxwait,
	    .acquired = acquired,
	    .acquired_immediate = t.slot[COUNTER_LEASES_IMMEDIATE],
	    .acquired_waited = t.slot[COUNTER_LEASES_WAITED],
	    .released = t.slot[COUNTER_RELEASES],
	    .returned = t.slot[COUNTER_RETURNS],
	    .failed = t.client[COUNTER_TIMEOUTS] + t.client[COUNTER_FAILURES],
	    .timeouts = t.client[COUNTER_TIMEOUTS],
	    .failures = t.client[COUNTER_FAILURES],
	    .efficiency = totals_efficiency(&t),
	    .opened = t.broker[COUNTER_OPENED],
	    .open_failed = t.broker[COUNTER_OPEN_FAILED],
	    .closed = totals_closed(&t),
	    .revoked = totals_revoked(&t),
	    .leaks = t.broker[COUNTER_LEAKS],
	    .connect_mean_ns = totals_time_mean(&t, TIME_CONNECT),
	    .adoptions = t.slot[COUNTER_ADOPTIONS],
	    .rollbacks = t.slot[COUNTER_ROLLBACKS],
	    .handovers = t.client[COUNTER_HANDOVERS],
	    .resets = t.slot[COUNTER_RESETS],
	    .resets_pipelined = t.slot[COUNTER_RESETS_PIPELINED],
	    .resets_late = t.slot[COUNTER_RESETS_LATE],
	    .resets_spared = t.slot[COUNTER_RESETS_SPARED],
	    .broker_resets = t.broker[COUNTER_BROKER_RESETS],
	    .queries = t.slot[COUNTER_QUERIES],
	    .query_errors = t.slot[COUNTER_QUERY_ERRORS],
	    .query_rows = t.slot[COUNTER_QUERY_ROWS],
	    .transactions = t.slot[COUNTER_TRANSACTIONS],
	    .connections_per_second = per_second(t.rate[RATE_CONNECTIONS]),
	    .leases_per_second = per_second(t.rate[RATE_LEASES]),
	    .queries_per_second = per_second(t.rate[RATE_QUERIES]),
	    .transactions_per_second = per_second(t.rate[RATE_TRANSACTIONS]),
	};
	return 0;
}

int
pglease_times_get(pglease_pool *pool, enum pglease_time time, pglease_times *ret_times)
{
	static const enum stats_time times[] = {
	    [PGLEASE_TIME_WAIT] = TIME_WAIT,
	    [PGLEASE_TIME_HOLD] = TIME_HOLD,
	    [PGLEASE_TIME_CONNECT] = TIME_CONNECT,
	    [PGLEASE_TIME_QUERY] = TIME_QUERY,
	    [PGLEASE_TIME_TRANSACTION] = TIME_TRANSACTION,
	};
	const struct segment *seg;
	struct pool_totals t;
	struct histogram_sum sum;
	int r = pool_segment(pool, ret_times == NULL ? "ret_times" : NULL, &seg);

	if (r != 0)
		return r;
	if ((unsigned)time >= sizeof(times) / sizeof(times[0]))
		return error_set(PGLEASE_EINVAL, "time is %d: give a value of enum pglease_time", (int)time);
	totals_times(seg, times[time], &sum);
	totals_read(seg, clock_ns(), &t);
	*ret_times = (pglease_times){
	    .count = sum.count,
	    .mean_ns = totals_time_mean(&t, times[time]),
	    .p50_ns = histogram_quantile(&sum, 0.50),
	    .p95_ns = histogram_quantile(&sum, 0.95),
	    .p99_ns = histogram_quantile(&sum, 0.99),
	    .max_ns = histogram_max(&sum),
	};
	return 0;
}

int
pglease_health_get(pglease_pool *pool, pglease_health *ret_health)
{
	const struct segment *seg;
	uint32_t reasons;
	int r = pool_segment(pool, ret_health == NULL ? "ret_health" : NULL, &seg);

	if (r != 0)
		return r;
	/* Clients can write the word: unknown bits are none. */
	reasons = totals_health(seg, clock_ns()) & ((1u << HEALTH_NREASONS) - 1);
	ret_health->level = (enum pglease_health_level)health_level(reasons);
	health_names(reasons, ret_health->reasons);
	return 0;
}
