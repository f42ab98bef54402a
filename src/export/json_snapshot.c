/* SPDX-License-Identifier: PostgreSQL */
/* A snapshot as JSON; see export.h. */
#include <string.h>

#include "export.h"

static void
add_number(struct json_writer *json, const char *key, const struct stats_view *view, uint32_t row,
    const struct stats_column *column)
{
	unsigned digits = export_digits(column->unit);
	uint64_t value;

	if (!stats_value_u64(view, row, column, &value))
		json_write_null(json, key);
	else if (digits != 0)
		json_write_decimal(json, key, value, digits);
	else
		json_write_u64(json, key, value);
}

static void
add_cell(struct json_writer *json, const struct stats_view *view, uint32_t row, const struct stats_column *column)
{
	if (column->type == STATS_TEXT)
		json_write_text(json, column->name, stats_value_text(view, row, column));
	else
		add_number(json, column->name, view, row, column);
}

static void
add_cells(struct json_writer *json, const struct stats_view *view, uint32_t row, const struct export_choice *choice)
{
	uint32_t n = choice != NULL ? choice->ncolumns : view->ncolumns;

	for (uint32_t i = 0; i < n; i++)
		add_cell(json, view, row, choice != NULL ? choice->column[i] : &view->column[i]);
}

static bool
is_instance(const char *table)
{
	return strcmp(table, stats_table_name(STATS_INSTANCE)) == 0;
}

void
export_json_begin(struct json_writer *json, const struct stats_snapshot *snapshot, const struct export_choice *choice)
{
	const struct stats_header *header = &snapshot->header;
	const struct stats_view *view = stats_view_find(snapshot, stats_table_name(STATS_INSTANCE));

	json_write_open(json, NULL, '{');
	json_write_open(json, stats_table_name(STATS_INSTANCE), '{');
	json_write_text(json, "name", header->instance);
	json_write_text(json, "program", header->program);
	json_write_u64(json, "broker_pid", header->broker_pid);
	json_write_text(json, "socket_dir", header->socket_dir);
	json_write_text(json, "state", export_state_name(header->state));
	json_write_decimal(json, "started_at", header->started_at, 9);
	json_write_decimal(json, "published_at", header->published_at, 9);
	json_write_decimal(json, "age", snapshot->age_ns, 9);
	json_write_bool(json, "gone", snapshot->gone);
	json_write_bool(json, "torn", snapshot->torn);
	json_write_bool(json, "monitoring", !header->off);
	if (view != NULL && view->nrows > 0)
		add_cells(json, view, 0, choice);
	json_write_close(json, '}');
}

void
export_json_table(struct json_writer *json, const struct stats_view *view, const struct export_choice *choice)
{
	json_write_open(json, view->name, '[');
	for (uint32_t row = 0; row < view->nrows; row++) {
		if (choice != NULL && choice->wants != NULL && !choice->wants(view, row, choice->context))
			continue;
		json_write_open(json, NULL, '{');
		add_cells(json, view, row, choice);
		json_write_close(json, '}');
	}
	json_write_close(json, ']');
}

void
export_json_end(struct json_writer *json, const struct stats_snapshot *snapshot,
    bool (*chosen)(const char *table, void *context), void *context)
{
	json_write_open(json, "omitted", '{');
	for (unsigned i = 0; i < snapshot->ntables; i++) {
		const struct stats_view *view = &snapshot->table[i];

		if (view->total > view->nrows && (chosen == NULL || chosen(view->name, context)))
			json_write_u64(json, view->name, view->total - view->nrows);
	}
	json_write_close(json, '}');
	json_write_close(json, '}');
	text_add_char(json->to, '\n');
}

/* What a pool's object tells of its alerts: the columns that it takes, and the table that has them. */
struct alerts {
	const struct stats_view *view;
	const struct stats_column *pool_name; /* of the pools */
	const struct stats_column *pool, *name, *raised, *age, *value, *threshold;
};

/* A column of this kind, or NULL: a broker of another version may have others. */
static const struct stats_column *
find(const struct stats_view *view, const char *name, bool text)
{
	const struct stats_column *column = stats_column_find(view, name);

	return column != NULL && (column->type == STATS_TEXT) == text ? column : NULL;
}

/* False when there is nothing to tell. */
static bool
find_alerts(const struct stats_snapshot *snapshot, const struct stats_view *pools, struct alerts *ret)
{
	const struct stats_view *view = stats_view_find(snapshot, stats_table_name(STATS_ALERTS));

	if (view == NULL || strcmp(pools->name, stats_table_name(STATS_POOLS)) != 0)
		return false;
	*ret = (struct alerts){
	    .view = view,
	    .pool_name = find(pools, "name", true),
	    .pool = find(view, "pool", true),
	    .name = find(view, "alert", true),
	    .raised = find(view, "raised", false),
	    .age = find(view, "state_for", false),
	    .value = find(view, "value", false),
	    .threshold = find(view, "threshold", false),
	};
	return ret->pool_name != NULL && ret->pool != NULL && ret->name != NULL && ret->raised != NULL && ret->age != NULL &&
	       ret->value != NULL && ret->threshold != NULL;
}

/* Those that are not off. */
static void
add_alerts(struct json_writer *json, const struct alerts *alerts, const char *pool)
{
	uint64_t n;

	json_write_open(json, "alerts", '[');
	for (uint32_t row = 0; row < alerts->view->nrows; row++) {
		if (strcmp(stats_value_text(alerts->view, row, alerts->pool), pool) != 0 ||
		    !stats_value_u64(alerts->view, row, alerts->threshold, &n))
			continue;
		json_write_open(json, NULL, '{');
		json_write_text(json, "name", stats_value_text(alerts->view, row, alerts->name));
		json_write_bool(json, "raised", stats_value_u64(alerts->view, row, alerts->raised, &n) && n != 0);
		add_number(json, "since_seconds", alerts->view, row, alerts->age);
		add_number(json, "value", alerts->view, row, alerts->value);
		add_number(json, "threshold", alerts->view, row, alerts->threshold);
		json_write_close(json, '}');
	}
	json_write_close(json, ']');
}

static void
add_pools(struct json_writer *json, const struct stats_view *pools, const struct alerts *alerts)
{
	json_write_open(json, pools->name, '[');
	for (uint32_t row = 0; row < pools->nrows; row++) {
		json_write_open(json, NULL, '{');
		add_cells(json, pools, row, NULL);
		add_alerts(json, alerts, stats_value_text(pools, row, alerts->pool_name));
		json_write_close(json, '}');
	}
	json_write_close(json, ']');
}

void
export_json(const struct stats_snapshot *snapshot, bool indent, struct text *to)
{
	struct json_writer json = {.to = to, .indent = indent};

	export_json_begin(&json, snapshot, NULL);
	for (unsigned i = 0; i < snapshot->ntables; i++) {
		const struct stats_view *view = &snapshot->table[i];
		struct alerts alerts;

		if (find_alerts(snapshot, view, &alerts))
			add_pools(&json, view, &alerts);
		else if (!is_instance(view->name))
			export_json_table(&json, view, NULL);
	}
	export_json_end(&json, snapshot, NULL, NULL);
}

unsigned
export_digits(uint8_t unit)
{
	switch (unit) {
	case STATS_DURATION_NS:
	case STATS_TIMESTAMP_NS:
		return 9;
	case STATS_RATIO:
	case STATS_MILLIONTHS:
		return 6;
	case STATS_RATE:
		return 3;
	default:
		return 0;
	}
}

const char *
export_state_name(uint32_t state)
{
	switch (state) {
	case SEGMENT_NEW:
		return "new";
	case SEGMENT_OPEN:
		return "open";
	case SEGMENT_DRAINING:
		return "draining";
	case SEGMENT_CLOSED:
		return "closed";
	case SEGMENT_PAUSED:
		return "paused";
	case SEGMENT_DISABLED:
		return "disabled";
	default:
		return "?";
	}
}
