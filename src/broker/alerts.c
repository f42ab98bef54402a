/* SPDX-License-Identifier: PostgreSQL */
/* The facts that alerts are judged by, and what follows from the judgement; see alerts.h. */
#include "alerts.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "alert_command.h"
#include "alert_watch.h"
#include "handover.h"
#include "health.h"
#include "log.h"
#include "totals.h"

#define SECOND UINT64_C(1000000000)
#define LOOK_EVERY (SECOND - SECOND / 20) /* a tick is a tenth of a second, more or less */
#define QUIET (10 * SECOND)               /* between two lines of the log about one alert */

struct pool_alerts {
	struct alert_watch watch;
	/* Of the ticks; see struct alert_facts. */
	uint64_t usage_sum, usage_looks, maxwait;
	/* What was counted when a histogram was last added up; settling: perhaps before all was there: it is added up once more. */
	struct alert_histogram {
		uint64_t count;
		bool settling;
	} seen[ALERT_NTIMES];
	alert_buckets time[ALERT_NTIMES];
	/* Of the log: when it last told that an alert is raised, 0: never; and whether it also tells when that is over. */
	uint64_t told_at[ALERT_N];
	bool tells_end[ALERT_N];
};

struct alerts {
	struct alerts_params params;
	struct alert_command *command;
	uint64_t looked_at;
	struct pool_alerts *pool; /* npools */
};

/* --- Facts. --- */

static void
note_tick(const struct pool *pool, struct pool_alerts *p, uint64_t now)
{
	struct pool_totals t;

	totals_read(&pool->seg, now, &t);
	p->usage_looks++;
	if (t.max != 0)
		p->usage_sum += UINT64_C(1000000) * (t.leased + t.granted) / t.max;
	if (p->maxwait < t.maxwait)
		p->maxwait = t.maxwait;
}

/* Histograms are big: one that has not been counted in is not added up. */
static void
take_time(const struct segment *seg, const struct pool_totals *totals, enum stats_time time, struct alert_histogram *seen,
    alert_buckets buckets)
{
	static struct histogram_sum sum; /* big; the broker has one thread */
	uint64_t count = totals_time_count(totals, time);

	if (count == seen->count && !seen->settling)
		return;
	seen->settling = count != seen->count;
	seen->count = count;
	totals_times(seg, time, &sum);
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		buckets[b] = (uint32_t)sum.bucket[b];
}

static void
take_times(const struct pool *pool, const struct pool_totals *totals, struct pool_alerts *p)
{
	static const enum stats_time times[ALERT_NTIMES] = {
	    [ALERT_TIME_CONNECT] = TIME_CONNECT,
	    [ALERT_TIME_WAIT] = TIME_WAIT,
	    [ALERT_TIME_QUERY] = TIME_QUERY,
	};

	for (unsigned i = 0; i < ALERT_NTIMES; i++)
		take_time(&pool->seg, totals, times[i], &p->seen[i], p->time[i]);
}

/* Leases that have been reported, and are still out. */
static uint64_t
count_leaks(const struct pool *pool)
{
	uint64_t n = 0;

	for (uint32_t slot = 0; slot < pool->seg.nslots; slot++) {
		const struct server *s = &pool->server[slot];
		uint64_t w = atomic_load_explicit(&pool->seg.slot[slot].word, memory_order_relaxed);

		n += s->lease_reported && word_state(w) == SLOT_LEASED && s->lease_seen == word_seq(w);
	}
	return n;
}

/* For so long connects have failed, the last of them not so long ago that nobody may have tried since. */
static uint64_t
failing_for(const struct pool *pool, uint64_t now)
{
	const struct pool_settings *s = pool->settings;
	uint64_t until_next = s->retry_max + s->retry_max / 4 + s->connect_timeout + SECOND;

	/* One that has failed in this tick did so after its `now`. */
	if (pool->failures == 0 || clock_since(now, pool->failed_at) > until_next)
		return 0;
	return pool->failed_at - pool->failing_since;
}

/* Those that ended at the deadline are in no histogram of the segment's. */
static void
add_timeouts(const struct pool *pool, const alert_buckets connects, alert_buckets ret)
{
	memcpy(ret, connects, sizeof(alert_buckets));
	ret[histogram_bucket_of(pool->settings->connect_timeout)] += pool->connect_timeouts;
}

static uint32_t
judge(const struct pool *pool, struct pool_alerts *p, uint64_t now, uint64_t memory)
{
	static alert_buckets time[ALERT_NTIMES];
	struct alert_rules rules = {
	    .window = pool->settings->alert_window,
	    .raise_after = pool->settings->alert_raise_after,
	    .clear_after = pool->settings->alert_clear_after,
	};
	struct pool_totals t;
	struct alert_facts facts = {
	    .now = now,
	    .usage_sum = p->usage_sum,
	    .usage_looks = p->usage_looks,
	    .time = time,
	    .maxwait = p->maxwait,
	    .memory = memory,
	    .leaks = count_leaks(pool),
	    .failing = failing_for(pool, now),
	    .health = health_level(
		atomic_load_explicit(&pool->seg.header->health, memory_order_relaxed) & ((1u << HEALTH_NREASONS) - 1)),
	};

	memcpy(rules.limit, pool->settings->alert, sizeof(rules.limit));
	totals_read(&pool->seg, now, &t);
	facts.acquired = totals_acquired(&t);
	facts.failed = t.client[COUNTER_TIMEOUTS] + t.client[COUNTER_FAILURES];
	take_times(pool, &t, p);
	add_timeouts(pool, p->time[ALERT_TIME_CONNECT], time[ALERT_TIME_CONNECT]);
	memcpy(time[ALERT_TIME_WAIT], p->time[ALERT_TIME_WAIT], sizeof(alert_buckets));
	memcpy(time[ALERT_TIME_QUERY], p->time[ALERT_TIME_QUERY], sizeof(alert_buckets));
	p->maxwait = 0;
	return alert_watch_look(&p->watch, &rules, &facts);
}

/* --- News. --- */

/* An alert that turns all the time fills no log: at most one line in ten seconds that it is raised, and one that it is over. */
static void
log_turn(const struct pool *pool, struct pool_alerts *p, enum alert_id id, uint64_t lasted, uint64_t now)
{
	const struct alert *alert = &p->watch.alert[id];
	char value[ALERT_VALUE], limit[ALERT_VALUE];

	alert_show(id, alert->value, value);
	alert_show(id, alert->limit, limit);
	if (alert->state == ALERT_RAISED) {
		p->tells_end[id] = p->told_at[id] == 0 || now - p->told_at[id] >= QUIET;
		if (!p->tells_end[id])
			return;
		p->told_at[id] = now;
		log_event(LOG_LEVEL_WARNING, LOG_ABOUT(ABOUT_POOL(pool), .cause = alert_name(id)),
		    "alert %s is raised: %s, and the threshold is %s (%s)", alert_name(id), value, limit, alert_text(id));
	} else if (p->tells_end[id]) {
		p->tells_end[id] = false;
		log_event(LOG_LEVEL_INFO, LOG_ABOUT(ABOUT_POOL(pool), .cause = alert_name(id)),
		    "alert %s is over after %.3g s: %s", alert_name(id), (double)lasted / 1e9,
		    alert->state == ALERT_OFF ? "it is switched off" : value);
	}
}

static void
tell(struct alerts *alerts, const char *pool, enum alert_id id, const struct alert *alert)
{
	struct alert_news news = {.id = id, .alert = *alert};
	struct timespec real;

	clock_gettime(CLOCK_REALTIME, &real);
	news.at = (uint64_t)real.tv_sec * SECOND + (uint64_t)real.tv_nsec;
	snprintf(news.pool_name, sizeof(news.pool_name), "%s", pool);
	alert_command_tell(alerts->command, &news);
}

static void
tell_command(struct alerts *alerts, unsigned index, enum alert_id id)
{
	tell(alerts, alerts->params.pools[index]->settings->name, id, &alerts->pool[index].watch.alert[id]);
}

static void
look(struct alerts *alerts, unsigned index, uint64_t now, uint64_t memory)
{
	struct pool *pool = alerts->params.pools[index];
	struct pool_alerts *p = &alerts->pool[index];
	uint64_t since[ALERT_N];
	uint32_t turned;

	for (enum alert_id id = 0; id < ALERT_N; id++)
		since[id] = p->watch.alert[id].since;
	turned = judge(pool, p, now, memory);
	for (enum alert_id id = 0; id < ALERT_N; id++) {
		alert_publish(&pool->seg, id, &p->watch.alert[id]);
		if ((turned & 1u << id) == 0)
			continue;
		log_turn(pool, p, id, now - since[id], now);
		tell_command(alerts, index, id);
	}
}

void
alerts_tick(struct alerts *alerts, uint64_t now, uint64_t memory)
{
	bool is_due = alerts->looked_at == 0 || now - alerts->looked_at >= LOOK_EVERY;

	for (unsigned i = 0; i < alerts->params.npools; i++) {
		note_tick(alerts->params.pools[i], &alerts->pool[i], now);
		if (is_due)
			look(alerts, i, now, memory);
	}
	if (is_due)
		alerts->looked_at = now;
}

/* --- From broker to broker. --- */

static void
pool_fields(struct handover *h, struct pool_alerts *p)
{
	HANDOVER(h, p->watch);
	HANDOVER(h, p->usage_sum);
	HANDOVER(h, p->usage_looks);
	HANDOVER(h, p->maxwait);
	HANDOVER(h, p->told_at);
	HANDOVER(h, p->tells_end);
}

void
alerts_hand_over(struct alerts *alerts, struct handover *to)
{
	uint32_t n = alerts->params.npools;

	alert_command_hand_over(alerts->command, to);
	handover_section(to, "alerts");
	HANDOVER(to, alerts->looked_at);
	HANDOVER(to, n);
	for (unsigned i = 0; i < n; i++) {
		const struct pool *pool = alerts->params.pools[i];

		handover_bytes(to, (void *)&pool->index, sizeof(pool->index));
		handover_bytes(to, (void *)pool->settings->name, LAYOUT_NAME);
		pool_fields(to, &alerts->pool[i]);
	}
}

/* What was raised of a pool that is no more is over. */
static void
end_all(struct alerts *alerts, const char *pool, struct pool_alerts *p)
{
	for (enum alert_id id = 0; id < ALERT_N; id++) {
		struct alert *alert = &p->watch.alert[id];

		if (alert->state != ALERT_RAISED)
			continue;
		alert->state = ALERT_OFF;
		log_info("pool %s: alert %s is over: the pool has gone, or is made anew", pool, alert_name(id));
		tell(alerts, pool, id, alert);
	}
}

static int
take_over(struct alerts *alerts, struct handover *from)
{
	uint32_t n = 0;

	handover_section(from, "alerts");
	HANDOVER(from, alerts->looked_at);
	handover_count(from, &n, LAYOUT_MAX_POOLS);
	for (uint32_t i = 0; i < n; i++) {
		static struct pool_alerts gone; /* big; the broker has one thread */
		struct pool_alerts *p = &gone;
		char name[LAYOUT_NAME];
		uint32_t index = 0;

		HANDOVER(from, index);
		HANDOVER(from, name);
		for (unsigned k = 0; k < alerts->params.npools; k++)
			if (alerts->params.pools[k]->index == index)
				p = &alerts->pool[k];
		pool_fields(from, p);
		if (handover_check(from, false) != 0)
			return -1;
		name[LAYOUT_NAME - 1] = '\0';
		if (p == &gone)
			end_all(alerts, name, p);
	}
	return 0;
}

int
alerts_new(const struct alerts_params *params, struct alerts **ret)
{
	struct alert_command_params command = {
	    .base = params->base,
	    .instance = params->settings->instance,
	    .program = params->settings->alert_command,
	    .limit = params->settings->alert_command_limit,
	    .from = params->from,
	};
	struct alerts *alerts = calloc(1, sizeof(*alerts));

	if (alerts == NULL)
		return log_refuse("out of memory");
	alerts->params = *params;
	alerts->pool = calloc(params->npools + 1, sizeof(alerts->pool[0]));
	if (alerts->pool == NULL) {
		log_refuse("out of memory");
		goto fail;
	}
	for (unsigned i = 0; i < params->npools; i++)
		for (unsigned t = 0; t < ALERT_NTIMES; t++)
			alerts->pool[i].seen[t].settling = true; /* the histograms may have something in them already */
	if (alert_command_new(&command, &alerts->command) != 0 ||
	    (params->from != NULL && take_over(alerts, params->from) != 0))
		goto fail;
	*ret = alerts;
	return 0;
fail:
	alerts_free(alerts);
	return -1;
}

void
alerts_free(struct alerts *alerts)
{
	if (alerts == NULL)
		return;
	alert_command_free(alerts->command);
	free(alerts->pool);
	free(alerts);
}
