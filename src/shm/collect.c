/* SPDX-License-Identifier: PostgreSQL */
/* A pool's rows of the stats segment; see collect.h. */
#include "collect.h"

#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)

void
collect_names(const struct segment *seg, struct collect_names *ret)
{
	const struct segment_header *h = seg->header;

	stats_copy_text(ret->pool, LAYOUT_NAME, h->pool_name, LAYOUT_NAME);
	stats_copy_text(ret->database, LAYOUT_NAME, h->dbname, LAYOUT_NAME);
	stats_copy_text(ret->user, LAYOUT_NAME, h->user, LAYOUT_NAME);
}

static void
sum_up(const struct segment *seg, enum stats_time time, struct collect_times *times)
{
	struct stats_quantiles *q = &times->time[time].quantiles;
	struct histogram_sum *sum = &times->sum;

	totals_times(seg, time, sum);
	q->p50 = histogram_quantile(sum, 0.50);
	q->p95 = histogram_quantile(sum, 0.95);
	q->p99 = histogram_quantile(sum, 0.99);
	q->max = histogram_max(sum);
	times->time[time].row.count = sum->count;
	stats_bounds_count(sum, times->time[time].row.below);
}

static void
collect_time(const struct segment *seg, const struct collect_names *names, uint64_t now,
    const struct pool_totals *totals, enum stats_time time, struct collect_times *times)
{
	uint64_t count = totals_time_count(totals, time);
	struct stats_quantiles *q = &times->time[time].quantiles;
	struct stats_histogram_row *row = &times->time[time].row;

	if (times->time[time].summed_at == 0 ||
	    ((times->time[time].seen != count || times->time[time].settling) &&
	        now - times->time[time].summed_at >= SECOND)) {
		sum_up(seg, time, times);
		memcpy(row->pool, names->pool, sizeof(row->pool));
		memcpy(row->database, names->database, sizeof(row->database));
		snprintf(row->time, sizeof(row->time), "%s", stats_time_info[time].name);
		row->sum = totals_time_sum(totals, time);
		/* Clients count, and then record: the count that was read may be ahead of the histogram. */
		times->time[time].settling = times->time[time].seen != count;
		times->time[time].seen = count;
		times->time[time].summed_at = now;
	}
	q->count = count;
	q->mean = totals_time_mean(totals, time);
}

static const char *
state_name(const struct pool_totals *totals)
{
	switch (totals->state) {
	case SEGMENT_NEW:
		return "new";
	case SEGMENT_OPEN:
		return totals->down ? "down" : "open";
	case SEGMENT_DRAINING:
		return "draining";
	case SEGMENT_CLOSED:
		return "closed";
	case SEGMENT_PAUSED:
		return "paused";
	case SEGMENT_DISABLED:
		return "disabled";
	case SEGMENT_GOING:
		return "going";
	default:
		return "?";
	}
}

void
collect_health(uint32_t reasons, char ret_health[static 16], char ret_names[static HEALTH_TEXT])
{
	reasons &= (1u << HEALTH_NREASONS) - 1;
	snprintf(ret_health, 16, "%s", health_level_name(health_level(reasons)));
	health_names(reasons, ret_names);
}

static void
collect_alert(const struct segment *seg, const struct collect_names *names, enum alert_id id, uint64_t now, uint64_t real,
    struct stats_alert_row *ret)
{
	struct alert alert = {.value = ALERT_NONE, .limit = ALERT_NONE};
	bool is_known;

	(void)alert_read(seg, id, &alert);
	is_known = alert.since != 0 && alert.since <= now && now - alert.since < real;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->pool, names->pool, sizeof(ret->pool));
	snprintf(ret->alert, sizeof(ret->alert), "%s", alert_name(id));
	snprintf(ret->state, sizeof(ret->state), "%s", alert_state_name(alert.state));
	snprintf(ret->unit, sizeof(ret->unit), "%s", alert_unit_name(id));
	ret->value = alert_millionths(id, alert.value);
	ret->threshold = alert.state != ALERT_OFF ? alert_millionths(id, alert.limit) : STATS_NO_U64;
	ret->state_for = is_known ? now - alert.since : STATS_NO_U64;
	ret->since = is_known ? real - ret->state_for : STATS_NO_U64;
	ret->count = alert.count;
	ret->raised = alert.state == ALERT_RAISED;
}

void
collect_alerts(const struct segment *seg, const struct collect_names *names, uint64_t now, uint64_t real,
    struct stats_alert_row ret[ALERT_N])
{
	static_assert(ALERT_NONE == STATS_NO_U64, "none is none");
	for (enum alert_id id = 0; id < ALERT_N; id++)
		collect_alert(seg, names, id, now, real, &ret[id]);
}

void
collect_pool(const struct segment *seg, const struct collect_names *names, uint64_t now,
    struct collect_times *times, struct stats_pool_row *ret_pool, struct stats_histogram_row ret_histogram[STATS_NTIMES])
{
	struct pool_totals totals;

	totals_read(seg, now, &totals);
	memset(ret_pool, 0, sizeof(*ret_pool));
	memcpy(ret_pool->name, names->pool, sizeof(ret_pool->name));
	memcpy(ret_pool->database, names->database, sizeof(ret_pool->database));
	memcpy(ret_pool->user, names->user, sizeof(ret_pool->user));
	snprintf(ret_pool->state, sizeof(ret_pool->state), "%s", state_name(&totals));
	ret_pool->max = totals.max;
	ret_pool->total = totals.total;
	ret_pool->idle = totals.idle;
	ret_pool->leased = totals.leased;
	ret_pool->granted = totals.granted;
	ret_pool->busy = totals.busy;
	ret_pool->waiting = totals.waiting;
	ret_pool->maxwait = totals.maxwait;
	ret_pool->peak = totals.peak;
	ret_pool->efficiency = (uint32_t)(totals_efficiency(&totals) * 1e6);
	ret_pool->segment_bytes = seg->size;
	stats_take_limits(ret_pool, NULL);
	ret_pool->server_cpu = ret_pool->server_memory = STATS_NO_U64;
	ret_pool->server_disk_read = ret_pool->server_disk_written = STATS_NO_U64;
	collect_health(totals_health(seg, now), ret_pool->health, ret_pool->reasons);
	memcpy(ret_pool->slot_counter, totals.slot, sizeof(ret_pool->slot_counter));
	memcpy(ret_pool->client_counter, totals.client, sizeof(ret_pool->client_counter));
	memcpy(ret_pool->broker_counter, totals.broker, sizeof(ret_pool->broker_counter));
	memcpy(ret_pool->rate, totals.rate, sizeof(ret_pool->rate));
	for (enum stats_time time = 0; time < STATS_NTIMES; time++) {
		collect_time(seg, names, now, &totals, time, times);
		ret_pool->time[time] = times->time[time].quantiles;
		ret_histogram[time] = times->time[time].row;
	}
}
