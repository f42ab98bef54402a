/* SPDX-License-Identifier: PostgreSQL */
/* Adding up a lease segment's statistics; see totals.h. */
#include "totals.h"

#include <string.h>

#include "health.h"
#include "queue.h"
#include "slots.h"

#define STATS_TIME_INFO(id, name, help) {#name, help},
const struct counter_info stats_time_info[STATS_NTIMES] = {STATS_TIMES(STATS_TIME_INFO)};
#undef STATS_TIME_INFO

static uint32_t
at_most(const _Atomic uint32_t *written, uint32_t limit)
{
	uint32_t n = atomic_load_explicit((_Atomic uint32_t *)written, memory_order_relaxed);

	return n < limit ? n : limit;
}

/* Blocks that may hold a count: those of the slots used, and of the others those that were ever given out. */
struct blocks {
	uint32_t used, first_spare, end;
};

static struct blocks
blocks_of(const struct segment *seg)
{
	const struct segment_header *h = seg->header;

	return (struct blocks){
	    .used = at_most(&h->slots_used, seg->nslots),
	    .first_spare = seg->nslots,
	    .end = seg->nslots + at_most(&h->spares_used, seg->nblocks - seg->nslots),
	};
}

static uint32_t
next_block(const struct blocks *blocks, uint32_t block)
{
	return ++block == blocks->used ? blocks->first_spare : block;
}

static uint32_t
first_block(const struct blocks *blocks)
{
	return blocks->used != 0 ? 0 : blocks->first_spare;
}

static void
add_block(const struct stats_block *block, struct pool_totals *t)
{
	/* The ends first, with acquire: pairs with lease_count_end(). Whoever sees an end sees the beginning too. */
	uint64_t releases = atomic_load_explicit(
		     (_Atomic uint64_t *)&block->counter[COUNTER_RELEASES], memory_order_acquire),
		 returns = atomic_load_explicit(
		     (_Atomic uint64_t *)&block->counter[COUNTER_RETURNS], memory_order_acquire);

	static_assert(COUNTER_RETURNS == COUNTER_RELEASES + 1, "the ends are neighbours");
	for (unsigned c = 0; c < COUNTER_RELEASES; c++)
		t->slot[c] += counter_get(&block->counter[c]);
	for (unsigned c = COUNTER_RETURNS + 1; c < SLOT_NCOUNTERS; c++)
		t->slot[c] += counter_get(&block->counter[c]);
	t->slot[COUNTER_RELEASES] += releases;
	t->slot[COUNTER_RETURNS] += returns;
}

static void
count_slots(const struct segment *seg, struct pool_totals *t)
{
	uint32_t used = at_most(&seg->header->slots_used, seg->nslots);

	for (uint32_t slot = 0; slot < used; slot++) {
		switch (word_state(atomic_load_explicit(&seg->slot[slot].word, memory_order_relaxed))) {
		case SLOT_EMPTY:
			break;
		case SLOT_IDLE:
			t->idle++;
			break;
		case SLOT_GRANTED:
			t->granted++;
			break;
		case SLOT_LEASED:
			t->leased++;
			break;
		default: /* BROKER, RETURNED */
			t->busy++;
			break;
		}
	}
	t->total = t->idle + t->granted + t->leased + t->busy;
}

void
totals_read(const struct segment *seg, uint64_t now, struct pool_totals *ret)
{
	const struct segment_header *h = seg->header;
	struct blocks blocks = blocks_of(seg);
	uint64_t since;

	memset(ret, 0, sizeof(*ret));
	for (uint32_t b = first_block(&blocks); b < blocks.end; b = next_block(&blocks, b))
		add_block(&seg->block[b], ret);
	for (unsigned c = 0; c < CLIENT_NCOUNTERS; c++)
		ret->client[c] = counter_get(&h->client_counter[c]);
	for (unsigned c = 0; c < BROKER_NCOUNTERS; c++)
		ret->broker[c] = counter_get(&h->broker_counter[c]);
	for (unsigned r = 0; r < STATS_NRATES; r++)
		ret->rate[r] = counter_get(&h->rate[r]);
	count_slots(seg, ret);
	ret->state = atomic_load_explicit(&h->state, memory_order_relaxed);
	ret->down = atomic_load_explicit(&h->upstream_down, memory_order_relaxed) != 0;
	ret->max = atomic_load_explicit(&h->max_connections, memory_order_relaxed);
	ret->clients = at_most(&h->attached, seg->nclients);
	ret->peak = at_most(&h->peak, seg->nslots);
	if (ret->peak < ret->leased + ret->granted)
		ret->peak = ret->leased + ret->granted;
	ret->waiting = queue_length(seg, &since);
	ret->maxwait = ret->waiting != 0 && since < now ? now - since : 0;
}

void
totals_times(const struct segment *seg, enum stats_time time, struct histogram_sum *ret)
{
	struct blocks blocks = blocks_of(seg);
	uint64_t immediate = 0;

	memset(ret, 0, sizeof(*ret));
	if (time == TIME_CONNECT) {
		histogram_add(ret, seg->connects);
		return;
	}
	for (uint32_t b = first_block(&blocks); b < blocks.end; b = next_block(&blocks, b)) {
		const struct stats_block *block = &seg->block[b];

		switch (time) {
		case TIME_WAIT:
			histogram_add(ret, &block->wait);
			immediate += counter_get(&block->counter[COUNTER_LEASES_IMMEDIATE]);
			break;
		case TIME_HOLD:
			histogram_add(ret, &block->hold);
			break;
		case TIME_QUERY:
			histogram_add(ret, &block->query);
			break;
		case TIME_TRANSACTION:
			histogram_add(ret, &block->transaction);
			break;
		case TIME_CONNECT:
		case STATS_NTIMES:
			break;
		}
	}
	histogram_add_value(ret, 0, immediate);
}

void
totals_note_peak(struct segment *seg)
{
	struct segment_header *h = seg->header;
	uint32_t used = at_most(&h->slots_used, seg->nslots), active = 0;
	uint32_t peak = atomic_load_explicit(&h->peak, memory_order_relaxed);

	if (peak >= atomic_load_explicit(&h->max_connections, memory_order_relaxed))
		return;
	for (uint32_t slot = 0; slot < used; slot++) {
		unsigned state = word_state(atomic_load_explicit(&seg->slot[slot].word, memory_order_relaxed));

		active += state == SLOT_LEASED || state == SLOT_GRANTED;
	}
	/* Relaxed: it orders nothing; a swap, as others raise it too. */
	while (peak < active && !atomic_compare_exchange_weak_explicit(
				    &h->peak, &peak, active, memory_order_relaxed, memory_order_relaxed))
		;
}

uint32_t
totals_health(const struct segment *seg, uint64_t now)
{
	const struct segment_header *h = seg->header;
	uint64_t ticked = atomic_load_explicit(&h->ticked_at, memory_order_relaxed);
	uint32_t reasons = atomic_load_explicit(&h->health, memory_order_relaxed);

	if (atomic_load_explicit(&h->state, memory_order_relaxed) == SEGMENT_CLOSED)
		return HEALTH_CLOSED;
	if (ticked != 0 && ticked < now && now - ticked > HEALTH_TICK_LIMIT)
		return HEALTH_NO_BROKER;
	return reasons;
}

uint64_t
totals_closed(const struct pool_totals *t)
{
	uint64_t n = 0;

	for (unsigned c = COUNTER_CLOSED_IDLE; c <= COUNTER_CLOSED_ADMIN; c++)
		n += t->broker[c];
	return n;
}

uint64_t
totals_revoked(const struct pool_totals *t)
{
	uint64_t n = 0;

	for (unsigned c = COUNTER_REVOKED_DEATH; c <= COUNTER_REVOKED_ADMIN; c++)
		n += t->broker[c];
	return n;
}

uint64_t
totals_time_count(const struct pool_totals *t, enum stats_time time)
{
	switch (time) {
	case TIME_WAIT:
		return totals_acquired(t);
	case TIME_HOLD:
		return t->slot[COUNTER_RELEASES];
	case TIME_CONNECT:
		return t->broker[COUNTER_OPENED];
	case TIME_QUERY:
		return t->slot[COUNTER_QUERIES];
	case TIME_TRANSACTION:
		return t->slot[COUNTER_TRANSACTIONS];
	case STATS_NTIMES:
		break;
	}
	return 0;
}

uint64_t
totals_time_sum(const struct pool_totals *t, enum stats_time time)
{
	switch (time) {
	case TIME_WAIT:
		return t->slot[COUNTER_WAIT_NS];
	case TIME_HOLD:
		return t->slot[COUNTER_HOLD_NS];
	case TIME_CONNECT:
		return t->broker[COUNTER_CONNECT_NS];
	case TIME_QUERY:
		return t->slot[COUNTER_QUERY_NS];
	case TIME_TRANSACTION:
		return t->slot[COUNTER_TRANSACTION_NS];
	case STATS_NTIMES:
		break;
	}
	return 0;
}

uint64_t
totals_time_mean(const struct pool_totals *t, enum stats_time time)
{
	uint64_t count = totals_time_count(t, time);

	return count != 0 ? totals_time_sum(t, time) / count : 0;
}

double
totals_efficiency(const struct pool_totals *t)
{
	/* Not totals_acquired(): the sum of what a client may have written can be less than its parts. */
	double immediate = (double)t->slot[COUNTER_LEASES_IMMEDIATE],
	       acquired = immediate + (double)t->slot[COUNTER_LEASES_WAITED];

	return acquired > 0 ? immediate / acquired : 1;
}
