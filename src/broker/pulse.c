/* SPDX-License-Identifier: PostgreSQL */
/* The broker's beat in a lease segment; see pulse.h. All stores are relaxed: each number is of use without the others. */
#include "pulse.h"

#include "health.h"

#define SECOND UINT64_C(1000000000)

static void
take(struct pulse *pulse, const struct pool_totals *totals, uint64_t now)
{
	struct pulse_sample *sample;

	if (pulse->count != 0 && now - pulse->sample[pulse->last].at < SECOND)
		return;
	pulse->last = pulse->count == 0 ? 0 : (pulse->last + 1) % PULSE_SAMPLES;
	if (pulse->count < PULSE_SAMPLES)
		pulse->count++;
	sample = &pulse->sample[pulse->last];
	sample->at = now;
	sample->value[RATE_CONNECTIONS] = totals->broker[COUNTER_OPENED];
	sample->value[RATE_LEASES] = totals_acquired(totals);
	sample->value[RATE_QUERIES] = totals->slot[COUNTER_QUERIES];
	sample->value[RATE_TRANSACTIONS] = totals->slot[COUNTER_TRANSACTIONS];
	sample->value[PULSE_FAILED] = totals->client[COUNTER_TIMEOUTS] + totals->client[COUNTER_FAILURES];
}

/* The sample of `back` samples before the newest, or the oldest that there is. */
static const struct pulse_sample *
sample_before(const struct pulse *pulse, unsigned back)
{
	if (back >= pulse->count)
		back = pulse->count - 1;
	return &pulse->sample[(pulse->last + PULSE_SAMPLES - back) % PULSE_SAMPLES];
}

/* Clients can write the counters: one that went back counts as unchanged. */
static uint64_t
increase(const struct pulse_sample *from, const struct pulse_sample *to, unsigned value)
{
	return to->value[value] > from->value[value] ? to->value[value] - from->value[value] : 0;
}

static void
publish_rates(const struct pulse *pulse, struct segment_header *h)
{
	const struct pulse_sample *to = &pulse->sample[pulse->last], *from = sample_before(pulse, PULSE_RATE_SECONDS);
	double seconds = (double)(to->at - from->at) / (double)SECOND;

	for (unsigned i = 0; i < STATS_NRATES; i++)
		atomic_store_explicit(&h->rate[i],
		    seconds > 0 ? counter_whole((double)increase(from, to, i) * 1e3 / seconds + 0.5) : 0,
		    memory_order_relaxed);
}

static void
publish_health(const struct pulse *pulse, struct segment_header *h, const struct pool_totals *totals,
    const struct pulse_params *params)
{
	const struct pulse_sample *to = &pulse->sample[pulse->last], *from = sample_before(pulse, PULSE_SAMPLES);
	struct health_facts facts = {
	    .state = totals->state,
	    .connects_fail = params->connects_fail,
	    .connections = totals->idle + totals->leased + totals->granted,
	    .maxwait = totals->maxwait,
	    .failures = increase(from, to, PULSE_FAILED),
	};

	facts.acquires = facts.failures + increase(from, to, RATE_LEASES);
	atomic_store_explicit(&h->health, health_judge(&facts), memory_order_relaxed);
}

void
pulse_beat(struct pulse *pulse, struct segment *seg, const struct pulse_params *params)
{
	struct pool_totals totals;

	totals_read(seg, params->now, &totals);
	take(pulse, &totals, params->now);
	publish_rates(pulse, seg->header);
	publish_health(pulse, seg->header, &totals, params);
	totals_note_peak(seg);
	atomic_store_explicit(&seg->header->broker_memory, params->broker_memory, memory_order_relaxed);
	atomic_store_explicit(&seg->header->ticked_at, params->now, memory_order_relaxed);
}
