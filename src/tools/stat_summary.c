/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat -u: of each chosen resource, sums over its rows instead of the rows. One table says which. */
#include <errno.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "stat_output_priv.h"

enum how {
	ROWS,  /* how many there are, those that did not fit the segment included */
	SUM,   /* of the column */
	MOST,  /* the greatest value of the column */
	EQUAL, /* rows whose column is the word */
};

static const struct {
	enum stats_table_id table;
	const char *name;
	enum how how;
	const char *column, *word;
} sums[] = {
    {STATS_POOLS, "pools", ROWS, NULL, NULL},
    {STATS_POOLS, "ok", EQUAL, "health", "ok"},
    {STATS_POOLS, "degraded", EQUAL, "health", "degraded"},
    {STATS_POOLS, "down", EQUAL, "health", "down"},
    {STATS_POOLS, "connections_max", SUM, "max", NULL},
    {STATS_POOLS, "connections", SUM, "total", NULL},
    {STATS_POOLS, "idle", SUM, "idle", NULL},
    {STATS_POOLS, "leased", SUM, "leased", NULL},
    {STATS_POOLS, "waiting", SUM, "waiting", NULL},
    {STATS_POOLS, "maxwait", MOST, "maxwait", NULL},
    {STATS_POOLS, "leases_immediate", SUM, "leases_immediate", NULL},
    {STATS_POOLS, "leases_waited", SUM, "leases_waited", NULL},
    {STATS_POOLS, "timeouts", SUM, "timeouts", NULL},
    {STATS_POOLS, "leases_rate", SUM, "leases_rate", NULL},
    {STATS_POOLS, "segment_bytes", SUM, "segment_bytes", NULL},
    {STATS_SLOTS, "slots", ROWS, NULL, NULL},
    {STATS_SLOTS, "empty", EQUAL, "state", "empty"},
    {STATS_SLOTS, "idle", EQUAL, "state", "idle"},
    {STATS_SLOTS, "leased", EQUAL, "state", "leased"},
    {STATS_SLOTS, "granted", EQUAL, "state", "granted"},
    {STATS_SLOTS, "broker", EQUAL, "state", "broker"},
    {STATS_SLOTS, "returned", EQUAL, "state", "returned"},
    {STATS_SLOTS, "leases", SUM, "leases", NULL},
    {STATS_SLOTS, "held_longest", MOST, "held_for", NULL},
    {STATS_SLOTS, "memory", SUM, "memory", NULL},
    {STATS_CLIENTS, "clients", ROWS, NULL, NULL},
    {STATS_CLIENTS, "leases_held", SUM, "leases_held", NULL},
    {STATS_CLIENTS, "waiting", SUM, "waiting", NULL},
    {STATS_CLIENTS, "cpu", SUM, "cpu", NULL},
    {STATS_CLIENTS, "memory", SUM, "memory", NULL},
    {STATS_WAITERS, "waiters", ROWS, NULL, NULL},
    {STATS_WAITERS, "waiting_longest", MOST, "waiting_for", NULL},
    {STATS_ALERTS, "raised", SUM, "raised", NULL},
    {STATS_ALERTS, "off", EQUAL, "state", "off"},
    {STATS_ALERTS, "times_raised", SUM, "count", NULL},
    {STATS_INSTANCE, "uptime", SUM, "uptime", NULL},
    {STATS_INSTANCE, "clients", SUM, "clients", NULL},
    {STATS_INSTANCE, "clients_max", SUM, "clients_max", NULL},
    {STATS_INSTANCE, "cpu", SUM, "cpu", NULL},
    {STATS_INSTANCE, "memory", SUM, "memory", NULL},
    {STATS_INSTANCE, "descriptors", SUM, "descriptors", NULL},
    {STATS_INSTANCE, "segments", SUM, "segments", NULL},
    {STATS_INSTANCE, "stats_segment", SUM, "stats_segment", NULL},
    {STATS_INSTANCE, "history_segments", SUM, "history_segments", NULL},
};
#define NSUMS (sizeof(sums) / sizeof(sums[0]))

/* False when the broker does not publish it. Rows without the number do not count. */
static bool
add_up(const struct stats_view *view, size_t i, uint64_t *ret, uint8_t *ret_unit)
{
	const struct stats_column *column;
	uint64_t sum = 0, value;

	*ret_unit = STATS_COUNT;
	if (sums[i].how == ROWS) {
		*ret = view->total;
		return true;
	}
	column = stats_column_find(view, sums[i].column);
	if (column == NULL || (column->type == STATS_TEXT) != (sums[i].how == EQUAL))
		return false;
	for (uint32_t row = 0; row < view->nrows; row++) {
		if (sums[i].how == EQUAL)
			sum += strcmp(stats_value_text(view, row, column), sums[i].word) == 0;
		else if (stats_value_u64(view, row, column, &value))
			sum = sums[i].how == SUM ? sum + value : value > sum ? value : sum;
	}
	if (sums[i].how != EQUAL)
		*ret_unit = column->unit;
	*ret = sum;
	return true;
}

static int
show_json(const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out)
{
	struct text text = {0};
	struct json_writer json = {.to = &text, .indent = options->interval_ns == 0};

	json_write_open(&json, NULL, '{');
	for (enum stats_table_id id = 0; id < STATS_NTABLES; id++) {
		const struct stats_view *view = stats_view_find(snapshot, stats_table_name(id));

		if (!options->resource[id] || view == NULL)
			continue;
		json_write_open(&json, view->name, '{');
		for (size_t i = 0; i < NSUMS; i++) {
			uint64_t value;
			uint8_t unit;

			if (sums[i].table != id || !add_up(view, i, &value, &unit))
				continue;
			if (export_digits(unit) != 0)
				json_write_decimal(&json, sums[i].name, value, export_digits(unit));
			else
				json_write_u64(&json, sums[i].name, value);
		}
		json_write_close(&json, '}');
	}
	json_write_close(&json, '}');
	text_add_char(&text, '\n');
	return stat_json_print(&text, out);
}

static int
add_line(struct libscols_table *table, const char *kind, size_t i, const char *value)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);

	return line == NULL || scols_line_set_data(line, 0, kind) || scols_line_set_data(line, 1, sums[i].name) ||
	               scols_line_set_data(line, 2, value)
	           ? -ENOMEM
	           : 0;
}

int
stat_summary_show(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out, FILE *err)
{
	struct libscols_table *table;
	bool exact = options->exact || options->format == STAT_RAW;
	char cell[64];
	int r = -ENOMEM;

	if (options->resource[STAT_HISTORY])
		fputs("pgleasestat: --history has no summary; a --step as long as the range is one\n", err);
	if (options->format == STAT_JSON)
		return show_json(snapshot, options, out);
	table = stat_output_table(options, out);
	if (table == NULL)
		return -ENOMEM;
	if (stat_output_heading(table, "of", false) || stat_output_heading(table, "what", false) ||
	    stat_output_heading(table, "value", true))
		goto out;
	for (size_t i = 0; i < NSUMS; i++) {
		const struct stats_view *view = stats_view_find(snapshot, stats_table_name(sums[i].table));
		uint64_t value;
		uint8_t unit;

		if (!options->resource[sums[i].table] || view == NULL || !add_up(view, i, &value, &unit))
			continue;
		stat_output_value(value, unit, exact, cell, sizeof(cell));
		if (add_line(table, view->name, i, cell))
			goto out;
	}
	r = scols_print_table(table);
out:
	scols_unref_table(table);
	return r;
}
