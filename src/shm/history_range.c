/* SPDX-License-Identifier: PostgreSQL */
/* Walking a history; see history_range.h for the rules. */
#include "history_range.h"

#include <string.h>

struct walk {
	const struct history_view *view;
	const struct history_range *range;
	history_step_handler handler;
	void *context;

	/* The clock: of the broker whose rows are walked, and of the newest one. */
	uint64_t instance, newest_instance;
	uint64_t offset, newest_offset; /* wall clock less CLOCK_BOOTTIME, modulo 2^64 */
	uint64_t moment;                /* of the last row */
	bool clock_known;               /* of this ring and broker */

	struct history_row place; /* the row at hand: its place only */
	struct history_row row, before;
	enum history_ring before_ring; /* whose row before_k is in `before`; HISTORY_NRINGS: none */
	uint64_t before_k;

	bool any; /* the step has rows */
	uint64_t index;
	struct history_step step;
	uint64_t bucket[STATS_NTIMES][HISTORY_BUCKETS];
};

/* --- Moments. --- */

static bool
place_at(const struct history_view *view, enum history_ring ring, uint64_t k, struct history_row *ret)
{
	return history_view_row(view, ring, k, HISTORY_PLACE_SIZE, ret);
}

/* The newest row of all says how the clocks stand now. */
static void
ask_newest(struct walk *w)
{
	uint64_t first, end, serial = 0;
	struct history_row row;

	for (unsigned ring = 0; ring < HISTORY_NRINGS; ring++) {
		history_view_range(w->view, ring, &first, &end);
		if (first == end || !place_at(w->view, ring, end - 1, &row) || row.serial <= serial)
			continue;
		serial = row.serial;
		w->newest_instance = row.instance;
		w->newest_offset = row.time - row.mono;
	}
}

/* --- Rows are found by their order, so that those outside of the range are not looked at. --- */

enum key { KEY_SERIAL, KEY_INSTANCE, KEY_OTHER_INSTANCE, KEY_MOMENT };

static bool
is_reached(enum key key, const struct history_row *row, uint64_t value, uint64_t offset)
{
	switch (key) {
	case KEY_SERIAL:
		return row->serial >= value;
	case KEY_INSTANCE:
		return row->instance == value;
	case KEY_OTHER_INSTANCE:
		return row->instance != value;
	case KEY_MOMENT:
		break;
	}
	return row->mono + offset >= value;
}

/*
 * Of the rows from `low` to before `high`, of which none before one that has reached the value has: the first; `high` when none has.
 * Those that are not there are passed over: what is returned may be one of them, just before the first that is.
 */
static uint64_t
find(const struct walk *w, enum history_ring ring, uint64_t low, uint64_t high, enum key key, uint64_t value,
    uint64_t offset)
{
	struct history_row row;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2, k = middle;

		while (k < high && !place_at(w->view, ring, k, &row))
			k++;
		if (k == high || is_reached(key, &row, value, offset))
			high = middle;
		else
			low = k + 1;
	}
	return high;
}

/* A broker's first row of those walked: its last one in the ring has its clock. */
static void
ask_clock(struct walk *w, enum history_ring ring, uint64_t k, uint64_t end)
{
	struct history_row row;
	uint64_t other;

	w->instance = w->place.instance;
	w->clock_known = true;
	if (w->instance == w->newest_instance) {
		w->offset = w->newest_offset;
		return;
	}
	w->offset = w->place.time - w->place.mono;
	other = find(w, ring, k + 1, end, KEY_OTHER_INSTANCE, w->instance, 0);
	while (other > k + 1 && !place_at(w->view, ring, other - 1, &row))
		other--;
	if (other > k + 1)
		w->offset = row.time - row.mono;
}

static void
set_moment(struct walk *w, enum history_ring ring, uint64_t k, uint64_t end)
{
	uint64_t moment;

	if (!w->clock_known || w->instance != w->place.instance)
		ask_clock(w, ring, k, end);
	moment = w->place.mono + w->offset;
	if (w->moment < moment)
		w->moment = moment;
}

/* --- A step. --- */

static int
finish_step(struct walk *w)
{
	struct history_step *s = &w->step;
	const struct history_range *range = w->range;

	if (!w->any)
		return 0;
	w->any = false;
	s->from = range->from + w->index * range->step;
	s->to = range->step != 0 && range->step < range->to - s->from ? s->from + range->step : range->to;
	if (s->covered != 0) {
		s->total_mean /= (double)s->covered;
		s->active_mean /= (double)s->covered;
		s->waiting_mean /= (double)s->covered;
	}
	for (unsigned t = 0; t < STATS_NTIMES; t++) {
		struct stats_quantiles *q = &s->time[t];

		q->count = totals_time_count(&s->totals, t);
		q->mean = totals_time_mean(&s->totals, t);
		q->p50 = history_bucket_quantile(w->bucket[t], 0.50);
		q->p95 = history_bucket_quantile(w->bucket[t], 0.95);
		q->p99 = history_bucket_quantile(w->bucket[t], 0.99);
		q->max = history_bucket_max(w->bucket[t]);
	}
	return w->handler(w->context, s);
}

static void
begin_step(struct walk *w, uint64_t index)
{
	w->any = true;
	w->index = index;
	memset(&w->step, 0, sizeof(w->step));
	memset(w->bucket, 0, sizeof(w->bucket));
}

static void
add_increases(uint64_t *to, const uint64_t *now, const uint64_t *before, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		to[i] += now[i] > before[i] ? now[i] - before[i] : 0;
}

static void
add_gauges(struct history_step *s, const struct history_row *row)
{
	struct pool_totals *t = &s->totals;
	double interval = (double)row->interval;

	t->max = row->max;
	t->total = row->total;
	t->idle = row->idle;
	t->leased = row->leased;
	t->granted = row->granted;
	t->busy = row->busy;
	t->waiting = row->waiting;
	t->clients = row->clients;
	t->peak = row->peak;
	if (t->maxwait < row->maxwait)
		t->maxwait = row->maxwait;
	if (s->active_max < row->active_max)
		s->active_max = row->active_max;
	if (s->waiting_max < row->waiting_max)
		s->waiting_max = row->waiting_max;
	s->total_mean += interval * row->total;
	s->active_mean += interval * ((double)row->leased + row->granted);
	s->waiting_mean += interval * row->waiting;
	s->health |= row->health;
#define TAKE(name, unit, help) s->name = row->name;
	HISTORY_MEMORY_COLUMNS(TAKE)
#undef TAKE
}

/* Of one that was not known at both ends, nothing is known. */
static void
add_use(uint64_t *to, uint64_t now, uint64_t before)
{
	if (now == STATS_NO_U64 || before == STATS_NO_U64 || *to == STATS_NO_U64)
		*to = STATS_NO_U64;
	else
		add_increases(to, &now, &before, 1);
}

static void
add_row(struct walk *w, const struct history_row *before)
{
	const struct history_row *row = &w->row;
	struct history_step *s = &w->step;

	add_increases(s->totals.slot, row->slot, before->slot, SLOT_NCOUNTERS);
	add_increases(s->totals.client, row->client, before->client, CLIENT_NCOUNTERS);
	add_increases(s->totals.broker, row->broker, before->broker, BROKER_NCOUNTERS);
#define ADD(name, unit, help) add_use(&s->name, row->name, before->name);
	HISTORY_USE_COLUMNS(ADD)
#undef ADD
	add_gauges(s, row);
	s->covered += row->interval;
	s->rows++;
	s->starts += row->first != 0;
	for (unsigned t = 0; t < STATS_NTIMES; t++)
		for (unsigned b = 0; b < HISTORY_BUCKETS; b++)
			w->bucket[t][b] += row->bucket[t][b];
}

/* --- The walk. --- */

/* The row that row k is compared with; NULL when that is gone. */
static const struct history_row *
row_before(struct walk *w, enum history_ring ring, uint64_t k)
{
	static const struct history_row none;

	if (w->row.first != 0)
		return &none;
	if (k == 0)
		return NULL;
	if ((w->before_ring != ring || w->before_k != k - 1) &&
	    !history_view_row(w->view, ring, k - 1, sizeof(w->before), &w->before)) {
		w->before_ring = HISTORY_NRINGS;
		return NULL;
	}
	return w->before.instance == w->row.instance ? &w->before : NULL;
}

static int
take_row(struct walk *w, enum history_ring ring, uint64_t k)
{
	const struct history_range *range = w->range;
	uint64_t interval = w->place.interval < w->moment ? w->place.interval : w->moment;
	uint64_t middle = w->moment - interval / 2, index;
	const struct history_row *before;
	int r = 0;

	if (middle < range->from || middle >= range->to)
		return 0;
	if (!history_view_row(w->view, ring, k, sizeof(w->row), &w->row))
		return 0;
	before = row_before(w, ring, k);
	if (before != NULL) {
		index = range->step != 0 ? (middle - range->from) / range->step : 0;
		if (!w->any || index > w->index) {
			r = finish_step(w);
			begin_step(w, index);
		}
		add_row(w, before);
	}
	/* It is what the next row is compared with. */
	w->before = w->row;
	w->before_ring = ring;
	w->before_k = k;
	return r;
}

/* --- Where it begins and ends. --- */

/*
 * The first row that may be of the range. Each broker's are in the order of their moments; when the clock was set back between two
 * brokers, the later one's are moved to the moment of the earlier one's (set_moment), so all brokers are asked; and no row is passed
 * over when those of the other ring have reached the range.
 */
static uint64_t
find_start(const struct walk *w, enum history_ring ring, uint64_t first, uint64_t end)
{
	uint64_t start = end, from, k, offset = 0, instance = 0;
	struct history_row last;
	bool known = false;

	if (w->moment >= w->range->from)
		return first;
	for (; end > first; end = from) {
		from = end - 1;
		if (!place_at(w->view, ring, from, &last))
			continue;
		if (!known || instance != last.instance)
			offset =
			    last.instance == w->newest_instance ? w->newest_offset : last.time - last.mono;
		known = true;
		instance = last.instance;
		from = find(w, ring, first, end, KEY_INSTANCE, instance, 0);
		if (from == end) /* written over meanwhile */
			from = end - 1;
		k = find(w, ring, from, end, KEY_MOMENT, w->range->from, offset);
		if (k < end)
			start = k;
	}
	return start;
}

/*
 * Up to which serial the minutes' rows are wanted: that of the first one with a second's row of the same moment in the ring; or, when
 * the seconds begin with a broker's first row, the last one before it, for then they lack nothing.
 */
static uint64_t
find_seam(const struct walk *w)
{
	struct history_row row;
	uint64_t first, end, k, oldest;

	history_view_range(w->view, HISTORY_SECONDS, &first, &end);
	while (first < end && !place_at(w->view, HISTORY_SECONDS, first, &row))
		first++;
	if (first >= end)
		return UINT64_MAX;
	oldest = row.serial;
	if (row.first != 0)
		return oldest - 1;
	history_view_range(w->view, HISTORY_MINUTES, &k, &end);
	for (k = find(w, HISTORY_MINUTES, k, end, KEY_SERIAL, oldest, 0); k < end; k++)
		if (place_at(w->view, HISTORY_MINUTES, k, &row))
			return row.serial;
	return UINT64_MAX;
}

/*
 * The next row to look at: after one that lies behind the range, and was not moved, the rest of its broker's do too, and only the last
 * one matters: it is what a later broker's may be moved to.
 */
static uint64_t
next_row(const struct walk *w, enum history_ring ring, uint64_t k, uint64_t end)
{
	uint64_t other;

	if (w->moment < w->range->to || w->moment != w->place.mono + w->offset)
		return k + 1;
	other = find(w, ring, k + 1, end, KEY_OTHER_INSTANCE, w->instance, 0);
	return other > k + 2 ? other - 1 : k + 1;
}

/* Those with a greater serial than `after`, up to before row `stop`. */
static int
walk_ring(struct walk *w, enum history_ring ring, uint64_t after, uint64_t stop)
{
	uint64_t first, end, k;
	int r = 0;

	history_view_range(w->view, ring, &first, &end);
	w->clock_known = false; /* the other ring's last row of a broker may have a later one */
	for (k = find_start(w, ring, first, end); r == 0 && k < stop && k < end;) {
		if (!place_at(w->view, ring, k, &w->place)) {
			k++;
			continue;
		}
		set_moment(w, ring, k, end);
		if (w->place.serial > after)
			r = take_row(w, ring, k);
		k = next_row(w, ring, k, stop < end ? stop : end);
	}
	return r;
}

int
history_range_walk(
    const struct history_view *view, const struct history_range *range, history_step_handler handler, void *context)
{
	struct walk w = {
	    .view = view,
	    .range = range,
	    .handler = handler,
	    .context = context,
	    .before_ring = HISTORY_NRINGS,
	};
	uint64_t seam, first, stop, minutes_end = 0;
	struct history_row row;
	int r;

	ask_newest(&w);
	seam = find_seam(&w);
	history_view_range(view, HISTORY_MINUTES, &first, &stop);
	if (seam != UINT64_MAX)
		stop = find(&w, HISTORY_MINUTES, first, stop, KEY_SERIAL, seam + 1, 0);
	r = walk_ring(&w, HISTORY_MINUTES, 0, stop);
	for (uint64_t k = stop; k > first && minutes_end == 0; k--)
		if (place_at(view, HISTORY_MINUTES, k - 1, &row))
			minutes_end = row.serial;
	if (r == 0)
		r = walk_ring(&w, HISTORY_SECONDS, minutes_end, UINT64_MAX);
	return r != 0 ? r : finish_step(&w);
}
