/* SPDX-License-Identifier: PostgreSQL */
/* A pool's history for its users, from the mapping that was made when the pool was opened. */
#include "client_priv.h"
#include "health.h"
#include "history_range.h"

struct request {
	pglease_history_handler handler;
	void *context;
};

static double
per_second(uint64_t n, uint64_t ns)
{
	return ns != 0 ? (double)n * 1e9 / (double)ns : 0;
}

static pglease_times
times_of(const struct stats_quantiles *q)
{
	return (pglease_times){
	    .count = q->count,
	    .mean_ns = q->mean,
	    .p50_ns = q->p50,
	    .p95_ns = q->p95,
	    .p99_ns = q->p99,
	    .max_ns = q->max,
	};
}

static int
give(void *context, const struct history_step *step)
{
	const struct request *request = context;
	const struct pool_totals *t = &step->totals;
	uint64_t acquired = totals_acquired(t);
	pglease_history_row row = {
	    .from_ns = step->from,
	    .to_ns = step->to,
	    .covered_ns = step->covered,
	    .starts = step->starts,
	    .health = health_level(step->health),
	    .max_connections = t->max,
	    .total = t->total,
	    .idle = t->idle,
	    .active = t->leased + t->granted,
	    .pending = t->waiting,
	    .clients = t->clients,
	    .active_max = step->active_max,
	    .pending_max = step->waiting_max,
	    .total_mean = step->total_mean,
	    .active_mean = step->active_mean,
	    .pending_mean = step->waiting_mean,
	    .max_wait_ns = t->maxwait,
	    .acquired = acquired,
	    .acquired_immediate = t->slot[COUNTER_LEASES_IMMEDIATE],
	    .acquired_waited = t->slot[COUNTER_LEASES_WAITED],
	    .released = t->slot[COUNTER_RELEASES],
	    .returned = t->slot[COUNTER_RETURNS],
	    .timeouts = t->client[COUNTER_TIMEOUTS],
	    .failures = t->client[COUNTER_FAILURES],
	    .opened = t->broker[COUNTER_OPENED],
	    .open_failed = t->broker[COUNTER_OPEN_FAILED],
	    .closed = totals_closed(t),
	    .revoked = totals_revoked(t),
	    .leaks = t->broker[COUNTER_LEAKS],
	    .adoptions = t->slot[COUNTER_ADOPTIONS],
	    .rollbacks = t->slot[COUNTER_ROLLBACKS],
	    .handovers = t->client[COUNTER_HANDOVERS],
	    .resets = t->slot[COUNTER_RESETS],
	    .resets_pipelined = t->slot[COUNTER_RESETS_PIPELINED],
	    .resets_late = t->slot[COUNTER_RESETS_LATE],
	    .resets_spared = t->slot[COUNTER_RESETS_SPARED],
	    .broker_resets = t->broker[COUNTER_BROKER_RESETS],
	    .queries = t->slot[COUNTER_QUERIES],
	    .query_errors = t->slot[COUNTER_QUERY_ERRORS],
	    .query_rows = t->slot[COUNTER_QUERY_ROWS],
	    .transactions = t->slot[COUNTER_TRANSACTIONS],
	    .efficiency = totals_efficiency(t),
	    .connections_per_second = per_second(t->broker[COUNTER_OPENED], step->covered),
	    .leases_per_second = per_second(acquired, step->covered),
	    .queries_per_second = per_second(t->slot[COUNTER_QUERIES], step->covered),
	    .transactions_per_second = per_second(t->slot[COUNTER_TRANSACTIONS], step->covered),
	    .broker_cpu_ns = step->cpu,
	    .broker_memory = step->memory,
	    .time =
	        {
	            [PGLEASE_TIME_WAIT] = times_of(&step->time[TIME_WAIT]),
	            [PGLEASE_TIME_HOLD] = times_of(&step->time[TIME_HOLD]),
	            [PGLEASE_TIME_CONNECT] = times_of(&step->time[TIME_CONNECT]),
	            [PGLEASE_TIME_QUERY] = times_of(&step->time[TIME_QUERY]),
	            [PGLEASE_TIME_TRANSACTION] = times_of(&step->time[TIME_TRANSACTION]),
	        },
	};

	return request->handler(request->context, &row);
}

int
pglease_history(pglease_pool *pool, uint64_t from_ns, uint64_t to_ns, uint64_t step_ns,
    pglease_history_handler handler, void *context)
{
	struct request request = {.handler = handler, .context = context};
	struct history_range range = {.from = from_ns, .to = to_ns, .step = step_ns};
	struct pool_state *state;
	int r;

	if (pool == NULL || handler == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", pool == NULL ? "pool" : "handler");
	if (from_ns >= to_ns)
		return error_set(PGLEASE_EINVAL, "the history to ask for ends before it begins: give from_ns < to_ns");
	r = client_pool_state(pool, &state);
	if (r != 0)
		return r;
	if (state->history == NULL)
		return error_set(PGLEASE_ENOHISTORY,
		    "no history of pool %s: the broker of %s keeps none (history, monitoring), or it could not be mapped",
		    pool->name, pool->client->instance);
	return history_range_walk(state->history, &range, give, &request);
}
