/* SPDX-License-Identifier: PostgreSQL */
/*
 * The table of alerts, and their rows in the lease segment. A row is a sequence lock without fences: its fields are stored with
 * release and loaded with acquire, so that who sees a new field sees the odd number that was stored before it (Boehm,
 * "Can seqlocks get along with programming language memory models?", 2012).
 */
#include "alert.h"

#include <inttypes.h>
#include <stdio.h>

#define TRIES 1000

#define ALERT_INFO(id, name, unit, initial, most, text, more) [ALERT_##id] = {#name, text, ALERT_##unit},
static const struct {
	const char *name, *text;
	enum alert_unit unit;
} info[ALERT_N] = {ALERTS(ALERT_INFO)};
#undef ALERT_INFO

const char *
alert_name(enum alert_id id)
{
	assert(id < ALERT_N);
	return info[id].name;
}

const char *
alert_text(enum alert_id id)
{
	assert(id < ALERT_N);
	return info[id].text;
}

enum alert_unit
alert_unit(enum alert_id id)
{
	assert(id < ALERT_N);
	return info[id].unit;
}

const char *
alert_unit_name(enum alert_id id)
{
	static const char *const name[] = {
	    [ALERT_DURATION] = "seconds", [ALERT_SHARE] = "ratio", [ALERT_SIZE] = "bytes", [ALERT_COUNT] = "count"};

	return name[alert_unit(id)];
}

const char *
alert_state_name(enum alert_state state)
{
	static const char *const name[] = {[ALERT_OFF] = "off", [ALERT_OK] = "ok", [ALERT_RAISED] = "raised"};

	return name[state];
}

uint64_t
alert_millionths(enum alert_id id, uint64_t value)
{
	if (value == ALERT_NONE)
		return ALERT_NONE;
	switch (alert_unit(id)) {
	case ALERT_DURATION:
		return value / 1000;
	case ALERT_SHARE:
		return value;
	case ALERT_SIZE:
	case ALERT_COUNT:
		break;
	}
	return value < (ALERT_NONE - 1) / 1000000 ? value * 1000000 : ALERT_NONE - 1;
}

void
alert_show(enum alert_id id, uint64_t value, char buf[static ALERT_VALUE])
{
	if (value == ALERT_NONE) {
		snprintf(buf, ALERT_VALUE, "unknown");
		return;
	}
	switch (alert_unit(id)) {
	case ALERT_DURATION:
		snprintf(buf, ALERT_VALUE, "%.3g s", (double)value / 1e9);
		break;
	case ALERT_SHARE:
		snprintf(buf, ALERT_VALUE, "%.3g", (double)value / 1e6);
		break;
	case ALERT_SIZE:
		snprintf(buf, ALERT_VALUE, "%.4g MB", (double)value / (1024 * 1024));
		break;
	case ALERT_COUNT:
		snprintf(buf, ALERT_VALUE, "%" PRIu64, value);
		break;
	}
}

/* Release: pairs with load(): who sees it sees the odd number before it. */
static void
store(_Atomic uint64_t *field, uint64_t value)
{
	atomic_store_explicit(field, value, memory_order_release);
}

/* Acquire: pairs with store(), and is before the second look at the number. */
static uint64_t
load(const _Atomic uint64_t *field)
{
	return atomic_load_explicit((_Atomic uint64_t *)field, memory_order_acquire);
}

void
alert_publish(struct segment *seg, enum alert_id id, const struct alert *alert)
{
	struct alert_row *row = &seg->header->alert[id];
	/* Odd, whatever a client, or a broker that died here, has left. */
	uint64_t sequence = atomic_load_explicit(&row->sequence, memory_order_relaxed) | 1;

	assert(id < ALERT_N);
	atomic_store_explicit(&row->sequence, sequence, memory_order_relaxed);
	store(&row->state, alert->state);
	store(&row->value, alert->value);
	store(&row->limit, alert->limit);
	store(&row->since, alert->since);
	store(&row->count, alert->count);
	store(&row->sequence, sequence + 1);
}

bool
alert_read(const struct segment *seg, enum alert_id id, struct alert *ret)
{
	const struct alert_row *row = &seg->header->alert[id];

	assert(id < ALERT_N);
	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t sequence = load(&row->sequence), state = load(&row->state);
		struct alert alert = {
		    .value = load(&row->value),
		    .limit = load(&row->limit),
		    .since = load(&row->since),
		    .count = load(&row->count),
		};

		if ((sequence & 1) != 0 || atomic_load_explicit((_Atomic uint64_t *)&row->sequence, memory_order_relaxed) != sequence)
			continue;
		if (state > ALERT_RAISED)
			return false;
		alert.state = (enum alert_state)state;
		*ret = alert;
		return true;
	}
	return false;
}
