/* SPDX-License-Identifier: PostgreSQL */
/* pglease_stats_get: a pool's state, added up from its lease segment. No system call, no lock, nothing written. */
#include <string.h>

#include "client_priv.h"
#include "queue.h"
#include "slots.h"

static void
times(struct pglease_times *t, const struct histogram_sum *sum, uint64_t total_ns)
{
	*t = (struct pglease_times){
	    .count = sum->count,
	    .mean_ns = sum->count == 0 ? 0 : total_ns / sum->count,
	    .p50_ns = histogram_quantile(sum, 0.50),
	    .p95_ns = histogram_quantile(sum, 0.95),
	    .p99_ns = histogram_quantile(sum, 0.99),
	    .max_ns = histogram_max(sum),
	};
}

static void
count_slots(const struct segment *seg, pglease_stats *stats)
{
	for (uint32_t slot = 0; slot < seg->nslots; slot++) {
		switch (word_state(slot_load(seg, slot))) {
		case SLOT_IDLE:
			stats->idle++;
			break;
		case SLOT_GRANTED:
			stats->granted++;
			break;
		case SLOT_LEASED:
			stats->leased++;
			break;
		case SLOT_BROKER:
		case SLOT_RETURNED:
			stats->busy++;
			break;
		default:
			break;
		}
	}
	stats->total = stats->idle + stats->granted + stats->leased + stats->busy;
}

int
pglease_stats_get(pglease_pool *pool, pglease_stats *ret_stats)
{
	struct pool_state *state;
	const struct segment *seg;
	pglease_stats stats = {0};
	uint64_t sum[SLOT_NCOUNTERS] = {0}, since, now;
	struct histogram_sum wait = {0}, hold = {0};
	const _Atomic uint64_t *broker, *client;
	int r;

	if (pool == NULL || ret_stats == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", pool == NULL ? "pool" : "ret_stats");
	r = client_pool_state(pool, &state);
	if (r != 0)
		return r;
	seg = &state->seg;
	broker = seg->header->broker_counter;
	client = seg->header->client_counter;
	for (uint32_t b = 0; b < seg->nblocks; b++) {
		for (unsigned c = 0; c < SLOT_NCOUNTERS; c++)
			sum[c] += counter_get(&seg->block[b].counter[c]);
		histogram_add(&wait, &seg->block[b].wait);
		histogram_add(&hold, &seg->block[b].hold);
	}
	histogram_add_value(&wait, 0, sum[COUNTER_LEASES_IMMEDIATE]);
	times(&stats.wait, &wait, sum[COUNTER_WAIT_NS]);
	times(&stats.hold, &hold, sum[COUNTER_HOLD_NS]);

	count_slots(seg, &stats);
	stats.max_connections = atomic_load_explicit(&seg->header->max_connections, memory_order_relaxed);
	stats.waiting = queue_count(seg, &since);
	now = clock_ns();
	stats.max_wait_ns = since != 0 && now > since ? now - since : 0;
	for (uint32_t i = 0; i < seg->nclients; i++)
		stats.clients += atomic_load_explicit(&seg->client[i].incarnation, memory_order_relaxed) != 0;
	stats.acquired_immediate = sum[COUNTER_LEASES_IMMEDIATE];
	stats.acquired_waited = sum[COUNTER_LEASES_WAITED];
	stats.acquired = stats.acquired_immediate + stats.acquired_waited;
	stats.released = sum[COUNTER_RELEASES];
	stats.returned = sum[COUNTER_RETURNS];
	stats.adoptions = sum[COUNTER_ADOPTIONS];
	stats.resets = sum[COUNTER_RESETS];
	stats.resets_pipelined = sum[COUNTER_RESETS_PIPELINED];
	stats.resets_late = sum[COUNTER_RESETS_LATE];
	stats.resets_spared = sum[COUNTER_RESETS_SPARED];
	stats.broker_resets = counter_get(&broker[COUNTER_BROKER_RESETS]);
	stats.rollbacks = sum[COUNTER_ROLLBACKS];
	stats.handovers = counter_get(&client[COUNTER_HANDOVERS]);
	stats.timeouts = counter_get(&client[COUNTER_TIMEOUTS]);
	stats.failures = counter_get(&client[COUNTER_FAILURES]);
	stats.opened = counter_get(&broker[COUNTER_OPENED]);
	stats.open_failed = counter_get(&broker[COUNTER_OPEN_FAILED]);
	stats.closed = counter_get(&broker[COUNTER_CLOSED_IDLE]) + counter_get(&broker[COUNTER_CLOSED_LIFETIME]) +
		       counter_get(&broker[COUNTER_CLOSED_BROKEN]) + counter_get(&broker[COUNTER_CLOSED_UPSTREAM]) +
		       counter_get(&broker[COUNTER_CLOSED_ADMIN]) + counter_get(&broker[COUNTER_CLOSED_UNPOOLED]) +
		       counter_get(&broker[COUNTER_CLOSED_RENEWED]);
	stats.revoked = 0;
	for (unsigned c = COUNTER_REVOKED_DEATH; c <= COUNTER_REVOKED_ADMIN; c++)
		stats.revoked += counter_get(&broker[c]);
	*ret_stats = stats;
	return 0;
}
