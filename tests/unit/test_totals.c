/* SPDX-License-Identifier: PostgreSQL */
/* A pool's totals from its lease segment, its health, and what the broker's beat makes of both. */
#include "unit.h"

#include <string.h>

#include "health.h"
#include "pulse.h"
#include "queue.h"
#include "rows.h"
#include "slots.h"
#include "totals.h"

#define SECOND UINT64_C(1000000000)
#define START (100 * SECOND)

static struct segment seg;
static struct pool_totals totals;

static void
count_in(uint32_t block, enum slot_counter counter, uint64_t n)
{
	counter_add(&seg.block[block].counter[counter], n);
}

START_TEST(all_used_blocks_count_and_no_others)
{
	struct histogram_sum *sum = calloc(1, sizeof(*sum));

	seg = unit_segment(8, 4); /* blocks 0 to 7 are the slots', 8 to 15 spare */
	for (uint32_t b = 0; b < seg.nblocks; b++) {
		count_in(b, COUNTER_LEASES_IMMEDIATE, UINT64_C(1) << b);
		histogram_record(&seg.block[b].hold, 1000);
	}
	totals_read(&seg, START, &totals);
	ck_assert_uint_eq(totals_acquired(&totals), 0);
	atomic_store(&seg.header->slots_used, 3);
	atomic_store(&seg.header->spares_used, 2);
	totals_read(&seg, START, &totals);
	ck_assert_uint_eq(totals_acquired(&totals), 0x307);
	totals_times(&seg, TIME_HOLD, sum);
	ck_assert_uint_eq(sum->count, 5);
	totals_times(&seg, TIME_WAIT, sum);
	ck_assert_uint_eq(sum->count, 0x307);
	ck_assert_uint_eq(histogram_quantile(sum, 0.99), 0);
	atomic_store(&seg.header->slots_used, 0);
	totals_read(&seg, START, &totals);
	ck_assert_uint_eq(totals_acquired(&totals), 0x300);
	/* All, and more than there are: scribbled on. */
	atomic_store(&seg.header->slots_used, UINT32_MAX);
	atomic_store(&seg.header->spares_used, UINT32_MAX);
	totals_read(&seg, START, &totals);
	ck_assert_uint_eq(totals_acquired(&totals), 0xffff);
	free(sum);
}
END_TEST

START_TEST(states_and_waiters_are_counted)
{
	uint64_t w, row_word[2];
	int row;

	seg = unit_segment(8, 4);
	atomic_store(&seg.header->slots_used, 5);
	for (uint32_t slot = 0; slot < 4; slot++) {
		w = slot_load(&seg, slot);
		ck_assert(slot_take(&seg, slot, &w));
		if (slot == 3)
			break; /* the broker's */
		ck_assert(slot_idle(&seg, slot, &w, WORD_NONE, 0));
		if (slot != 0)
			continue;
		row = row_claim(&seg, 1, 0, &row_word[0]);
		ck_assert(slot_lease(&seg, slot, &w, (unsigned)row, 1));
	}
	for (unsigned i = 0; i < 2; i++) {
		row = row_claim(&seg, 2, (uint32_t)row + 1, &row_word[i]);
		ck_assert(row_wait(&seg, (uint32_t)row, &row_word[i], START - (i + 1) * SECOND));
		ck_assert(queue_enter(&seg, (uint32_t)row, word_seq(row_word[i]), START));
	}
	totals_read(&seg, START, &totals);
	ck_assert_uint_eq(totals.leased, 1);
	ck_assert_uint_eq(totals.idle, 2);
	ck_assert_uint_eq(totals.busy, 1);
	ck_assert_uint_eq(totals.total, 4);
	ck_assert_uint_eq(totals.peak, 1); /* at least what is active now */
	ck_assert_uint_eq(totals.waiting, 2);
	ck_assert_uint_eq(totals.maxwait, 2 * SECOND);
	/* One gives up, and keeps its place. */
	ck_assert(row_own(&seg, (uint32_t)row, &row_word[1]));
	queue_leave(&seg, (uint32_t)row, word_seq(row_word[1]) - 1);
	totals_read(&seg, START, &totals);
	ck_assert_uint_eq(totals.waiting, 1);
	ck_assert_uint_eq(totals.maxwait, SECOND);
}
END_TEST

START_TEST(health_follows_its_rules)
{
	static const struct {
		struct health_facts facts;
		uint32_t reasons;
		enum health_level level;
		const char *names;
	} cases[] = {
	    {{.state = SEGMENT_OPEN}, 0, HEALTH_OK, ""},
	    {{.state = SEGMENT_OPEN, .connections = 3}, 0, HEALTH_OK, ""},
	    {{.state = SEGMENT_CLOSED, .connects_fail = 1}, HEALTH_CLOSED, HEALTH_DOWN, "closed"},
	    {{.state = SEGMENT_OPEN, .connects_fail = 1}, HEALTH_UPSTREAM, HEALTH_DOWN, "upstream"},
	    {{.state = SEGMENT_OPEN, .connects_fail = 1, .connections = 1}, HEALTH_CONNECTS, HEALTH_DEGRADED,
		"connects"},
	    {{.state = SEGMENT_DRAINING, .connects_fail = 1, .maxwait = 2 * SECOND},
		HEALTH_UPSTREAM | HEALTH_DRAINING | HEALTH_WAITING, HEALTH_DOWN, "upstream,draining,waiting"},
	    {{.state = SEGMENT_PAUSED}, HEALTH_PAUSED, HEALTH_DEGRADED, "paused"},
	    {{.state = SEGMENT_DISABLED, .connects_fail = 1}, HEALTH_DISABLED | HEALTH_UPSTREAM, HEALTH_DOWN, "upstream,disabled"},
	    {{.state = SEGMENT_OPEN, .maxwait = SECOND}, 0, HEALTH_OK, ""},
	    {{.state = SEGMENT_OPEN, .maxwait = SECOND + 1}, HEALTH_WAITING, HEALTH_DEGRADED, "waiting"},
	    {{.state = SEGMENT_OPEN, .acquires = 19, .failures = 19}, 0, HEALTH_OK, ""},
	    {{.state = SEGMENT_OPEN, .acquires = 20, .failures = 1}, 0, HEALTH_OK, ""},
	    {{.state = SEGMENT_OPEN, .acquires = 20, .failures = 2}, HEALTH_FAILING, HEALTH_DEGRADED, "failing"},
	};
	char names[HEALTH_TEXT];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t reasons = health_judge(&cases[i].facts);

		ck_assert_msg(reasons == cases[i].reasons, "case %zu: %x", i, reasons);
		ck_assert_int_eq(health_level(reasons), cases[i].level);
		health_names(reasons, names);
		ck_assert_str_eq(names, cases[i].names);
	}
	/* All together fit. */
	health_names(UINT32_MAX, names);
	ck_assert_str_eq(names, "closed,no_broker,upstream,connects,draining,waiting,failing,paused,disabled");
}
END_TEST

START_TEST(a_broker_that_does_not_beat_is_missed)
{
	seg = unit_segment(2, 2);
	atomic_store(&seg.header->state, SEGMENT_OPEN);
	ck_assert_uint_eq(totals_health(&seg, START), 0); /* not begun yet */
	atomic_store(&seg.header->health, HEALTH_WAITING);
	atomic_store(&seg.header->ticked_at, START);
	ck_assert_uint_eq(totals_health(&seg, START + 2 * SECOND), HEALTH_WAITING);
	ck_assert_uint_eq(totals_health(&seg, START + 2 * SECOND + 1), HEALTH_NO_BROKER);
	ck_assert_uint_eq(totals_health(&seg, START - SECOND), HEALTH_WAITING);
	atomic_store(&seg.header->state, SEGMENT_CLOSED);
	ck_assert_uint_eq(totals_health(&seg, START), HEALTH_CLOSED);
}
END_TEST

static void
beat(struct pulse *pulse, uint64_t now, uint32_t connects_fail)
{
	struct pulse_params params = {.now = now, .connects_fail = connects_fail};

	pulse_beat(pulse, &seg, &params);
	ck_assert_uint_eq(atomic_load(&seg.header->ticked_at), now);
}

static uint64_t
rate(enum stats_rate which)
{
	return atomic_load(&seg.header->rate[which]);
}

START_TEST(rates_are_of_the_last_ten_seconds)
{
	struct pulse pulse = {0};
	uint64_t now = START;

	seg = unit_segment(2, 2);
	atomic_store(&seg.header->slots_used, 2);
	beat(&pulse, now, 0);
	ck_assert_uint_eq(rate(RATE_QUERIES), 0);
	/* A hundred queries a second for five seconds, in ten beats a second. */
	for (unsigned i = 0; i < 50; i++) {
		count_in(1, COUNTER_QUERIES, 10);
		beat(&pulse, now += SECOND / 10, 0);
	}
	ck_assert_uint_eq(rate(RATE_QUERIES), 100000);
	/* Then none: half of it is left when ten seconds have gone by, and nothing later. */
	for (unsigned i = 0; i < 5; i++)
		beat(&pulse, now += SECOND, 0);
	ck_assert_uint_eq(rate(RATE_QUERIES), 50000);
	for (unsigned i = 0; i < 5; i++)
		beat(&pulse, now += SECOND, 0);
	ck_assert_uint_eq(rate(RATE_QUERIES), 0);
	ck_assert_uint_eq(rate(RATE_LEASES), 0);
	/* The ring comes round, more than once. */
	for (unsigned i = 0; i < 3 * PULSE_SAMPLES; i++) {
		count_in(0, COUNTER_LEASES_IMMEDIATE, 7);
		counter_add(&seg.header->broker_counter[COUNTER_OPENED], 1);
		beat(&pulse, now += SECOND, 0);
	}
	ck_assert_uint_eq(rate(RATE_LEASES), 7000);
	ck_assert_uint_eq(rate(RATE_CONNECTIONS), 1000);
	/* Scribbled on: it goes back. */
	atomic_store(&seg.block[0].counter[COUNTER_LEASES_IMMEDIATE], 0);
	beat(&pulse, now += SECOND, 0);
	ck_assert_uint_eq(rate(RATE_LEASES), 0);
	/* It is as large as it can be. */
	atomic_store(&seg.block[0].counter[COUNTER_LEASES_IMMEDIATE], UINT64_MAX - 10);
	beat(&pulse, now += SECOND / 10, 0);
	beat(&pulse, now += SECOND, 0);
	ck_assert_uint_eq(rate(RATE_LEASES), UINT64_MAX);
}
END_TEST

/* Counters that a client has written over, in sums and shares. */
START_TEST(numbers_that_are_none)
{
	struct histogram_sum *sum = calloc(1, sizeof(*sum));
	struct pool_totals t = {0};

	ck_assert_double_eq(totals_efficiency(&t), 1);
	t.slot[COUNTER_LEASES_IMMEDIATE] = UINT64_MAX;
	t.slot[COUNTER_LEASES_WAITED] = 2; /* together 1 */
	ck_assert_double_le(totals_efficiency(&t), 1);
	ck_assert_uint_eq(counter_whole(-1), 0);
	ck_assert_uint_eq(counter_whole(0.0 / 0.0), 0);
	ck_assert_uint_eq(counter_whole(2.9), 2);
	ck_assert_uint_eq(counter_whole(0x1p63), UINT64_C(1) << 63);
	ck_assert_uint_eq(counter_whole(1e30), UINT64_MAX);
	sum->bucket[3] = sum->count = UINT64_MAX;
	ck_assert_uint_eq(histogram_quantile(sum, 1), histogram_bucket_middle(3));
	free(sum);
}
END_TEST

START_TEST(the_beat_tells_health_and_peak)
{
	struct pulse pulse = {0};
	uint64_t now = START, w;

	seg = unit_segment(2, 2);
	atomic_store(&seg.header->slots_used, 2);
	atomic_store(&seg.header->state, SEGMENT_OPEN);
	beat(&pulse, now, 1);
	ck_assert_uint_eq(atomic_load(&seg.header->health), HEALTH_UPSTREAM);
	w = slot_load(&seg, 0);
	ck_assert(slot_take(&seg, 0, &w));
	ck_assert(slot_idle(&seg, 0, &w, WORD_NONE, 0));
	ck_assert(slot_lease(&seg, 0, &w, 0, 0));
	beat(&pulse, now += SECOND, 1);
	ck_assert_uint_eq(atomic_load(&seg.header->health), HEALTH_CONNECTS);
	ck_assert_uint_eq(atomic_load(&seg.header->peak), 1);
	ck_assert(slot_take(&seg, 0, &w));
	beat(&pulse, now += SECOND, 0);
	ck_assert_uint_eq(atomic_load(&seg.header->health), 0);
	ck_assert_uint_eq(atomic_load(&seg.header->peak), 1);
	/* Two of twenty fail; a minute later it is forgotten. */
	atomic_fetch_add(&seg.header->client_counter[COUNTER_TIMEOUTS], 2);
	count_in(0, COUNTER_LEASES_IMMEDIATE, 18);
	beat(&pulse, now += SECOND, 0);
	ck_assert_uint_eq(atomic_load(&seg.header->health), HEALTH_FAILING);
	for (unsigned i = 0; i < 59; i++)
		beat(&pulse, now += SECOND, 0);
	ck_assert_uint_eq(atomic_load(&seg.header->health), HEALTH_FAILING);
	beat(&pulse, now += SECOND, 0);
	ck_assert_uint_eq(atomic_load(&seg.header->health), 0);
}
END_TEST

UNIT_MAIN("totals", all_used_blocks_count_and_no_others, states_and_waiters_are_counted, health_follows_its_rules,
    a_broker_that_does_not_beat_is_missed, rates_are_of_the_last_ten_seconds, numbers_that_are_none, the_beat_tells_health_and_peak)
