/* SPDX-License-Identifier: PostgreSQL */
/* How pgleasestat writes a number: for people, in three digits and a unit; or exactly. No locale. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "stat_output_priv.h"

void
stat_output_seconds(uint64_t ns, char *buf, size_t size)
{
	snprintf(buf, size, "%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
}

/* Three digits, cut, not rounded: 999.9us must not become 1000us. */
static void
format_scaled(uint64_t ns, uint64_t unit, const char *name, char *buf, size_t size)
{
	uint64_t whole = ns / unit;

	if (whole < 10)
		snprintf(buf, size, "%" PRIu64 ".%02" PRIu64 "%s", whole, ns % unit * 100 / unit, name);
	else if (whole < 100)
		snprintf(buf, size, "%" PRIu64 ".%" PRIu64 "%s", whole, ns % unit * 10 / unit, name);
	else
		snprintf(buf, size, "%" PRIu64 "%s", whole, name);
}

void
stat_output_duration(uint64_t ns, char *buf, size_t size)
{
	uint64_t s = ns / 1000000000;

	if (ns == 0)
		snprintf(buf, size, "0");
	else if (ns < 1000)
		snprintf(buf, size, "%" PRIu64 "ns", ns);
	else if (ns < 1000000)
		format_scaled(ns, 1000, "us", buf, size);
	else if (ns < 1000000000)
		format_scaled(ns, 1000000, "ms", buf, size);
	else if (s < 60)
		format_scaled(ns, 1000000000, "s", buf, size);
	else if (s < 3600)
		snprintf(buf, size, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, size, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(buf, size, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
}

static void
format_timestamp(uint64_t ns, char *buf, size_t size)
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL || strftime(buf, size, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		stat_output_seconds(ns, buf, size);
}

/* 1024 to the unit; three digits, cut. */
static void
format_bytes(uint64_t bytes, char *buf, size_t size)
{
	static const char *const unit[] = {"K", "M", "G", "T", "P", "E"};
	uint64_t scale = 1024;
	unsigned i = 0;

	if (bytes < scale) {
		snprintf(buf, size, "%" PRIu64, bytes);
		return;
	}
	while (i < sizeof(unit) / sizeof(unit[0]) - 1 && bytes / scale >= 1000) {
		scale *= 1024;
		i++;
	}
	if (bytes / scale == 0) /* 1000K to 1023K: 0.97M */
		snprintf(buf, size, "0.%02" PRIu64 "%s", bytes / (scale / 1024) * 100 / 1024, unit[i]);
	else
		format_scaled(bytes, scale, unit[i], buf, size);
}

void
stat_output_value(uint64_t value, uint8_t unit, bool exact, char *buf, size_t size)
{
	switch (unit) {
	case STATS_DURATION_NS:
	case STATS_TIMESTAMP_NS:
		if (exact)
			stat_output_seconds(value, buf, size);
		else if (unit == STATS_DURATION_NS)
			stat_output_duration(value, buf, size);
		else
			format_timestamp(value, buf, size);
		break;
	case STATS_BYTES:
		if (exact)
			snprintf(buf, size, "%" PRIu64, value);
		else
			format_bytes(value, buf, size);
		break;
	case STATS_RATIO:
		if (exact)
			snprintf(buf, size, "%" PRIu64 ".%06" PRIu64, value / 1000000, value % 1000000);
		else
			snprintf(buf, size, "%" PRIu64 ".%" PRIu64 "%%", value / 10000, value / 1000 % 10);
		break;
	case STATS_MILLIONTHS: /* for people: see show_by_unit() */
		snprintf(buf, size, "%" PRIu64 ".%06" PRIu64, value / 1000000, value % 1000000);
		break;
	case STATS_RATE:
		if (exact)
			snprintf(buf, size, "%" PRIu64 ".%03" PRIu64, value / 1000, value % 1000);
		else
			snprintf(buf, size, "%" PRIu64 ".%" PRIu64, value / 1000, value / 100 % 10);
		break;
	default:
		snprintf(buf, size, "%" PRIu64, value);
	}
}

/* Millionths of what the row's column `unit` says. */
static void
show_by_unit(const struct stats_view *view, uint32_t row, uint64_t value, char *buf, size_t size)
{
	static const struct {
		const char *name;
		uint8_t unit;
		uint64_t mul, div; /* from millionths */
	} units[] = {
	    {"seconds", STATS_DURATION_NS, 1000, 1},
	    {"ratio", STATS_RATIO, 1, 1},
	    {"bytes", STATS_BYTES, 1, 1000000},
	    {"count", STATS_COUNT, 1, 1000000},
	};
	const struct stats_column *column = stats_column_find(view, "unit");
	const char *name = column != NULL && column->type == STATS_TEXT ? stats_value_text(view, row, column) : "";

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(name, units[i].name) == 0 && value <= UINT64_MAX / units[i].mul) {
			stat_output_value(value * units[i].mul / units[i].div, units[i].unit, false, buf, size);
			return;
		}
	}
	stat_output_value(value, STATS_MILLIONTHS, true, buf, size);
}

/* Nothing there is a dash, so that fields can be counted. */
void
stat_output_cell(const struct stats_view *view, uint32_t row, const struct stats_column *column, bool exact,
    char *buf, size_t size)
{
	uint64_t value;

	if (column->type == STATS_TEXT) {
		const char *text = stats_value_text(view, row, column);

		snprintf(buf, size, "%s", *text != '\0' ? text : "-");
	} else if (!stats_value_u64(view, row, column, &value)) {
		snprintf(buf, size, "-");
	} else if (column->unit == STATS_MILLIONTHS && !exact) {
		show_by_unit(view, row, value, buf, size);
	} else {
		stat_output_value(value, column->unit, exact, buf, size);
	}
}
