/* SPDX-License-Identifier: PostgreSQL */
/* A snapshot as JSON; see export.h. */
#include <string.h>

#include "export.h"

static void
add_cell(struct json_writer *json, const struct stats_view *view, uint32_t row, const struct stats_column *column)
{
	unsigned digits = export_digits(column->unit);
	uint64_t value;

	if (column->type == STATS_TEXT)
		json_write_text(json, column->name, stats_value_text(view, row, column));
	else if (!stats_value_u64(view, row, column, &value))
		json_write_null(json, column->name);
	else if (digits != 0)
		json_write_decimal(json, column->name, value, digits);
	else
		json_write_u64(json, column->name, value);
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

void
export_json(const struct stats_snapshot *snapshot, bool indent, struct text *to)
{
	struct json_writer json = {.to = to, .indent = indent};

	export_json_begin(&json, snapshot, NULL);
	for (unsigned i = 0; i < snapshot->ntables; i++)
		if (!is_instance(snapshot->table[i].name))
			export_json_table(&json, &snapshot->table[i], NULL);
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
