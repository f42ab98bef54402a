/* SPDX-License-Identifier: PostgreSQL */
/* The rules of alert_watch.h. */
#include "alert_watch.h"

#include <string.h>

#define SECOND UINT64_C(1000000000)
#define JITTER (SECOND / 20) /* of a look that comes with a tick */
#define BREAK (3 * SECOND)

#define LEAST_EVENTS 20u   /* of a share; health.h has the same */
#define LEAST_CONNECTS 3u  /* they are rare */
#define LEAST_BAD 3u       /* one is no rule, and two may be one's brother */
/* Standard deviations, squared: a window is looked at every second, for years; but connects are few. */
#define SURE 9.0
#define SURE_OF_CONNECTS 2.706

/* What the window says of one alert. */
struct reading {
	uint64_t value; /* ALERT_NONE: too little has happened */
	bool above, below;
};

/* Of so many events so many are bad; whether that is a share of at least `limit`, beyond chance. */
static bool
is_above_chance(uint64_t bad, uint64_t n, double limit, double sure)
{
	double share = (double)bad / (double)n, over = share - limit;

	return over >= 0 && over * over * (double)n >= sure * limit * (1 - limit);
}

static bool
is_below(uint64_t value, uint64_t limit)
{
	return value < limit - limit / 5;
}

static struct reading
read_gauge(uint64_t value, uint64_t limit)
{
	if (value == ALERT_NONE)
		return (struct reading){.value = value, .below = true};
	return (struct reading){.value = value, .above = value >= limit, .below = is_below(value, limit)};
}

static uint64_t
increase(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0; /* clients can write the counters */
}

static struct reading
read_failures(const struct alert_sample *from, const struct alert_facts *to, uint64_t limit)
{
	uint64_t bad = increase(from->failed, to->failed), good = increase(from->acquired, to->acquired), n, value;

	if (__builtin_add_overflow(bad, good, &n) || n == 0)
		return (struct reading){.value = ALERT_NONE, .below = true};
	value = (uint64_t)((double)bad / (double)n * 1e6 + 0.5);
	return (struct reading){
	    .value = n >= LEAST_EVENTS ? value : ALERT_NONE,
	    .above = n >= LEAST_EVENTS && bad >= LEAST_BAD && is_above_chance(bad, n, (double)limit / 1e6, SURE),
	    .below = is_below(value, limit),
	};
}

static struct reading
read_usage(const struct alert_sample *from, const struct alert_facts *to, uint64_t limit)
{
	uint64_t looks = increase(from->usage_looks, to->usage_looks);

	return read_gauge(looks != 0 ? increase(from->usage_sum, to->usage_sum) / looks : ALERT_NONE, limit);
}

/*
 * The time that all but a share of the window's take at most; above the limit when at least that share took as long as it. Both
 * within 3.1 %: what lies in the limit's own bucket counts as the limit.
 */
static struct reading
read_time(const alert_buckets from, const alert_buckets to, double share, uint64_t least, double sure, uint64_t limit)
{
	static struct histogram_sum sum; /* big; the broker has one thread */
	unsigned at = histogram_bucket_of(limit);
	uint64_t bad = 0, value;

	sum.count = 0;
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		sum.bucket[b] = to[b] - from[b];
		sum.count += sum.bucket[b];
		if (b >= at)
			bad += sum.bucket[b];
	}
	if (sum.count == 0)
		return (struct reading){.value = ALERT_NONE, .below = true};
	value = histogram_quantile(&sum, 1 - share);
	if (histogram_bucket_of(value) == at)
		value = limit;
	return (struct reading){
	    .value = sum.count >= least ? value : ALERT_NONE,
	    .above = sum.count >= least && bad >= LEAST_BAD && is_above_chance(bad, sum.count, share, sure),
	    .below = is_below(value, limit),
	};
}

static struct reading
read_alert(enum alert_id id, const struct alert_sample *from, const struct alert_facts *to, uint64_t limit)
{
	switch (id) {
	case ALERT_CONNECTION_TIME:
		return read_time(from->time[ALERT_TIME_CONNECT], to->time[ALERT_TIME_CONNECT], 0.5, LEAST_CONNECTS, SURE_OF_CONNECTS,
		    limit);
	case ALERT_FAILURE_RATE:
		return read_failures(from, to, limit);
	case ALERT_MEMORY_USAGE:
		return read_gauge(to->memory != 0 ? to->memory : ALERT_NONE, limit);
	case ALERT_WAIT_TIME:
		return read_time(from->time[ALERT_TIME_WAIT], to->time[ALERT_TIME_WAIT], 0.05, LEAST_EVENTS, SURE, limit);
	case ALERT_MAXWAIT:
		return read_gauge(to->maxwait, limit);
	case ALERT_POOL_USAGE:
		return read_usage(from, to, limit);
	case ALERT_QUERY_TIME_P99:
		return read_time(from->time[ALERT_TIME_QUERY], to->time[ALERT_TIME_QUERY], 0.01, LEAST_EVENTS, SURE, limit);
	case ALERT_LEAKS:
		return read_gauge(to->leaks, limit);
	case ALERT_UPSTREAM_DOWN:
		return read_gauge(to->failing, limit);
	case ALERT_HEALTH:
		return read_gauge(to->health, limit);
	case ALERT_N:
		break;
	}
	return (struct reading){.value = ALERT_NONE};
}

static void
enter(struct alert *alert, enum alert_state state, uint64_t now)
{
	alert->state = state;
	alert->since = now;
	if (state == ALERT_RAISED)
		alert->count++;
}

/* The one place where the state of an alert changes. True when it does. */
static bool
step(struct alert_watch *watch, enum alert_id id, const struct reading *reading, const struct alert_rules *rules, uint64_t now)
{
	struct alert *alert = &watch->alert[id];
	uint64_t *turning = &watch->turning[id], limit = rules->limit[id];
	bool is_raised = alert->state == ALERT_RAISED;

	alert->value = reading->value;
	if (limit == 0) { /* also one that was raised when the broker before this one watched it */
		alert->limit = ALERT_NONE;
		*turning = 0;
		if (alert->state == ALERT_OFF)
			return false;
		enter(alert, ALERT_OFF, now);
		return is_raised;
	}
	if (alert->limit != limit) {
		alert->limit = limit;
		*turning = 0;
	}
	if (alert->state == ALERT_OFF)
		enter(alert, ALERT_OK, now);
	if (!(is_raised ? reading->below : reading->above)) {
		*turning = 0;
		return false;
	}
	if (*turning == 0)
		*turning = now;
	if (now - *turning + JITTER < (is_raised ? rules->clear_after : rules->raise_after))
		return false;
	*turning = 0;
	enter(alert, is_raised ? ALERT_OK : ALERT_RAISED, now);
	return true;
}

static void
take_sample(struct alert_sample *sample, const struct alert_facts *facts)
{
	sample->at = facts->now;
	sample->acquired = facts->acquired;
	sample->failed = facts->failed;
	sample->usage_sum = facts->usage_sum;
	sample->usage_looks = facts->usage_looks;
	memcpy(sample->time, facts->time, sizeof(sample->time));
}

/* The newest that is a whole window old, or else the oldest. */
static const struct alert_sample *
window_begin(const struct alert_watch *watch, uint64_t window, uint64_t now)
{
	for (unsigned back = 0;; back++) {
		const struct alert_sample *sample =
		    &watch->sample[(watch->last + ALERT_SAMPLES - back) % ALERT_SAMPLES];

		if (back == ALERT_SAMPLES - 1 || now - sample->at + JITTER >= window)
			return sample;
	}
}

uint32_t
alert_watch_look(struct alert_watch *watch, const struct alert_rules *rules, const struct alert_facts *facts)
{
	const struct alert_sample *from;
	uint32_t turned = 0;

	if (watch->looked_at == 0) /* what was before the first look counts for nothing */
		for (unsigned i = 0; i < ALERT_SAMPLES; i++)
			take_sample(&watch->sample[i], facts);
	else if (facts->now - watch->looked_at > BREAK)
		memset(watch->turning, 0, sizeof(watch->turning));
	watch->looked_at = facts->now;
	from = window_begin(watch, rules->window, facts->now);
	for (enum alert_id id = 0; id < ALERT_N; id++) {
		struct reading reading = read_alert(id, from, facts, rules->limit[id]);

		if (step(watch, id, &reading, rules, facts->now))
			turned |= 1u << id;
	}
	if (facts->now - watch->sample[watch->last].at + JITTER >= rules->window / ALERT_STEPS) {
		watch->last = (watch->last + 1) % ALERT_SAMPLES;
		take_sample(&watch->sample[watch->last], facts);
	}
	return turned;
}
