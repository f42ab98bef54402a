/* SPDX-License-Identifier: PostgreSQL */
/*
 * The stats segment's contents: the description of its columns, made from the lists in stats.h and
 * counters.h, and the copying of text that comes out of segments. Writing is in stats_writer.c, reading in
 * stats_reader.c.
 */
#include "stats.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
#define COLUMN_TEXT(field, bytes, text) \
	{ .name = #field, .help = text, .type = STATS_TEXT, \
	  .offset = offsetof(struct ROW, field), .size = (bytes) },
#define COLUMN_U32(field, what, bits, text) \
	{ .name = #field, .help = text, .type = STATS_U32, .unit = (what), .flags = (bits), \
	  .offset = offsetof(struct ROW, field), .size = 4 },
#define COLUMN_U64(field, what, bits, text) \
	{ .name = #field, .help = text, .type = STATS_U64, .unit = (what), .flags = (bits), \
	  .offset = offsetof(struct ROW, field), .size = 8 },
/* clang-format on */

#define ROW stats_pool_row
static const struct stats_column pool_columns[] = {STATS_POOL_COLUMNS(COLUMN_TEXT, COLUMN_U32, COLUMN_U64)};
#undef ROW
#define ROW stats_slot_row
static const struct stats_column slot_columns[] = {STATS_SLOT_COLUMNS(COLUMN_TEXT, COLUMN_U32, COLUMN_U64)};
#undef ROW
#define ROW stats_client_row
static const struct stats_column client_columns[] = {
    STATS_CLIENT_COLUMNS(COLUMN_TEXT, COLUMN_U32, COLUMN_U64)};
#undef ROW
#define ROW stats_waiter_row
static const struct stats_column waiter_columns[] = {
    STATS_WAITER_COLUMNS(COLUMN_TEXT, COLUMN_U32, COLUMN_U64)};
#undef ROW

#define ROW stats_instance_row
static const struct stats_column instance_columns[] = {
    STATS_INSTANCE_COLUMNS(COLUMN_TEXT, COLUMN_U32, COLUMN_U64)};
#undef ROW
#define ROW stats_alert_row
static const struct stats_column alert_columns[] = {STATS_ALERT_COLUMNS(COLUMN_TEXT, COLUMN_U32, COLUMN_U64)};
#undef ROW
#define ROW stats_histogram_row
static const struct stats_column histogram_columns[] = {
    STATS_HISTOGRAM_COLUMNS(COLUMN_TEXT, COLUMN_U32, COLUMN_U64)};
#undef ROW
/* Offsets within their structures; the names of times' columns get the time's name before them. */
#define ROW stats_quantiles
static const struct stats_column time_columns[] = {STATS_TIME_COLUMNS(COLUMN_U64)};
#undef ROW

#define RATE_INFO(name, help) {#name, help},
static const struct counter_info rate_info[] = {STATS_RATES(RATE_INFO)};
#define BOUND_NS(ns, seconds) UINT64_C(ns),
static const uint64_t bound_ns[] = {STATS_BOUNDS(BOUND_NS)};
#define BOUND_INFO(ns, seconds) {STATS_BOUND_PREFIX seconds, "observations up to " seconds " s"},
static const struct counter_info bound_info[] = {STATS_BOUNDS(BOUND_INFO)};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
static_assert(COUNT_OF(rate_info) == STATS_NRATES, "rates");
static_assert(
    COUNT_OF(pool_columns) + STATS_NTIMES * COUNT_OF(time_columns) + STATS_NRATES + SLOT_NCOUNTERS + CLIENT_NCOUNTERS + BROKER_NCOUNTERS <= STATS_MAX_COLUMNS,
    "columns of a pool");

static const struct {
	const char *name;
	const struct stats_column *columns;
	unsigned ncolumns;
} tables[STATS_NTABLES] = {
    [STATS_POOLS] = {"pools", pool_columns, COUNT_OF(pool_columns)},
    [STATS_SLOTS] = {"slots", slot_columns, COUNT_OF(slot_columns)},
    [STATS_CLIENTS] = {"clients", client_columns, COUNT_OF(client_columns)},
    [STATS_WAITERS] = {"waiters", waiter_columns, COUNT_OF(waiter_columns)},
    [STATS_INSTANCE] = {"instance", instance_columns, COUNT_OF(instance_columns)},
    [STATS_HISTOGRAMS] = {"histograms", histogram_columns, COUNT_OF(histogram_columns)},
    [STATS_ALERTS] = {"alerts", alert_columns, COUNT_OF(alert_columns)},
};

const char *
stats_table_name(enum stats_table_id id)
{
	assert(id < STATS_NTABLES);
	return tables[id].name;
}

/* `n` 64-bit numbers in a row. */
static unsigned
describe_numbers(struct stats_column *column, size_t offset, const struct counter_info *info, unsigned n,
    enum stats_unit unit, unsigned flags)
{
	for (unsigned i = 0; i < n; i++) {
		memset(&column[i], 0, sizeof(column[i]));
		snprintf(column[i].name, sizeof(column[i].name), "%s", info[i].name);
		snprintf(column[i].help, sizeof(column[i].help), "%s", info[i].help);
		column[i].type = STATS_U64;
		column[i].unit = (uint8_t)unit;
		column[i].flags = (uint8_t)flags;
		column[i].offset = (uint16_t)(offset + i * sizeof(uint64_t));
		column[i].size = sizeof(uint64_t);
	}
	return n;
}

static unsigned
describe_times(struct stats_column *column)
{
	unsigned n = 0;

	for (unsigned t = 0; t < STATS_NTIMES; t++) {
		for (unsigned i = 0; i < COUNT_OF(time_columns); i++, n++) {
			column[n] = time_columns[i];
			snprintf(column[n].name, sizeof(column[n].name), "%.15s_%.15s", stats_time_info[t].name,
			    time_columns[i].name);
			snprintf(column[n].help, sizeof(column[n].help), "%.55s: %.30s", stats_time_info[t].help,
			    time_columns[i].help);
			column[n].offset = (uint16_t)(column[n].offset + offsetof(struct stats_pool_row, time) +
						      t * sizeof(struct stats_quantiles));
		}
	}
	return n;
}

static unsigned
describe_pool(struct stats_column *column)
{
	unsigned n = describe_times(column);

	n += describe_numbers(
	    column + n, offsetof(struct stats_pool_row, rate), rate_info, STATS_NRATES, STATS_RATE, 0);
	n += describe_numbers(column + n, offsetof(struct stats_pool_row, slot_counter), slot_counter_info,
	    SLOT_NCOUNTERS, STATS_COUNT, STATS_MONOTONIC);
	n += describe_numbers(column + n, offsetof(struct stats_pool_row, client_counter), client_counter_info,
	    CLIENT_NCOUNTERS, STATS_COUNT, STATS_MONOTONIC);
	return n + describe_numbers(column + n, offsetof(struct stats_pool_row, broker_counter),
		       broker_counter_info, BROKER_NCOUNTERS, STATS_COUNT, STATS_MONOTONIC);
}

uint32_t
stats_row_size(enum stats_table_id id)
{
	static const uint32_t size[STATS_NTABLES] = {
	    [STATS_POOLS] = sizeof(struct stats_pool_row),
	    [STATS_SLOTS] = sizeof(struct stats_slot_row),
	    [STATS_CLIENTS] = sizeof(struct stats_client_row),
	    [STATS_WAITERS] = sizeof(struct stats_waiter_row),
	    [STATS_INSTANCE] = sizeof(struct stats_instance_row),
	    [STATS_HISTOGRAMS] = sizeof(struct stats_histogram_row),
	    [STATS_ALERTS] = sizeof(struct stats_alert_row),
	};
	return size[id];
}

unsigned
stats_describe(enum stats_table_id id, struct stats_column *ret_columns)
{
	unsigned n;

	assert(id < STATS_NTABLES);
	n = tables[id].ncolumns;
	memcpy(ret_columns, tables[id].columns, n * sizeof(*ret_columns));
	if (id == STATS_POOLS)
		return n + describe_pool(ret_columns + n);
	if (id == STATS_HISTOGRAMS)
		return n + describe_numbers(ret_columns + n, offsetof(struct stats_histogram_row, below),
			       bound_info, STATS_NBOUNDS, STATS_COUNT, STATS_MONOTONIC);
	return n;
}

void
stats_take_limits(struct stats_pool_row *row, const struct stats_limits *limits)
{
#define NONE_U32(name, unit, flags, help) .name = STATS_NO_U32,
#define NONE_U64(name, unit, flags, help) .name = STATS_NO_U64,
	static const struct stats_limits none = {STATS_LIMIT_COLUMNS(NONE_U32, NONE_U64)};
#undef NONE_U32
#undef NONE_U64
	const struct stats_limits *from = limits != NULL ? limits : &none;

#define TAKE(name, unit, flags, help) row->name = from->name;
	STATS_LIMIT_COLUMNS(TAKE, TAKE)
#undef TAKE
}

void
stats_bounds_count(const struct histogram_sum *sum, uint64_t ret_below[STATS_NBOUNDS])
{
	uint64_t below = 0;
	unsigned bucket = 0;

	for (unsigned i = 0; i < STATS_NBOUNDS; i++) {
		while (bucket < HISTOGRAM_BUCKETS && histogram_bucket_middle(bucket) <= bound_ns[i])
			below += sum->bucket[bucket++];
		ret_below[i] = below;
	}
}

/*
 * Length of the printable UTF-8 character that starts at `s`, of which `size` bytes may be looked at: 0 if it
 * is none (a control character included), -1 if it goes beyond the end.
 */
static int
utf8_length(const unsigned char *s, size_t size)
{
	uint32_t code;
	int length;

	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		length = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		length = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		length = 4;
	else
		return 0;
	code = s[0] & (0xffu >> (length + 1));
	for (int i = 1; i < length; i++) {
		if ((size_t)i == size)
			return -1;
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3fu);
	}
	if ((length == 2 && code < 0xa0) || /* C1 control characters */
	    (length == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) ||
	    (length == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	return length;
}

void
stats_copy_text(char *dst, size_t dst_size, const char *src, size_t src_size)
{
	unsigned char text[PATHS_MAX];
	size_t n = 0, out = 0;

	/* Relaxed: a mixture of two texts costs a wrong word on a screen; it is bounded and made printable
	 * below. */
	while (n < src_size && n < sizeof(text) && n < dst_size - 1) {
		text[n] = __atomic_load_n((const unsigned char *)src + n, __ATOMIC_RELAXED);
		if (text[n] == 0)
			break;
		n++;
	}
	for (size_t i = 0; i < n;) {
		int length = utf8_length(text + i, n - i);

		if (length < 0)
			break;
		if (length == 0) {
			dst[out++] = '?';
			i++;
			continue;
		}
		memcpy(dst + out, text + i, (size_t)length);
		out += (size_t)length;
		i += (size_t)length;
	}
	dst[out] = '\0';
}
