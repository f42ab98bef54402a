/* SPDX-License-Identifier: PostgreSQL */
/*
 * A snapshot as one JSON document: numbers are numbers, durations and moments are seconds, what is not there
 * is null.
 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "stat_output_priv.h"

#define SECONDS_DIGITS 15 /* of a double that are all exact */

static json_t *
seconds(uint64_t ns)
{
	return json_real((double)ns / 1e9);
}

static json_t *
cell(const struct stats_view *view, uint32_t row, const struct stats_column *column)
{
	uint64_t value;

	if (column->type == STATS_TEXT)
		return json_string(stats_value_text(view, row, column));
	if (!stats_value_u64(view, row, column, &value))
		return json_null();
	if (column->unit == STATS_DURATION_NS || column->unit == STATS_TIMESTAMP_NS)
		return seconds(value);
	if (column->unit == STATS_RATE)
		return json_real((double)value / 1e3);
	if (column->unit == STATS_RATIO)
		return json_real((double)value / 1e6);
	return value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value);
}

static json_t *
rows(const struct stats_view *view, const struct column_selection *selection, const char *id)
{
	json_t *array = json_array();

	for (uint32_t row = 0; array != NULL && row < view->nrows; row++) {
		json_t *object;

		if (id != NULL && !stat_output_row_has_id(view, row, id))
			continue;
		object = json_object();
		for (uint32_t i = 0; object != NULL && i < selection->n; i++)
			if (json_object_set_new(
			        object, selection->column[i]->name, cell(view, row, selection->column[i]))) {
				json_decref(object);
				object = NULL;
			}
		if (json_array_append_new(array, object)) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static const char *
state_name(uint32_t state)
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
	default:
		return "?";
	}
}

/* Who publishes, and whether this is one moment of a living broker. */
static json_t *
instance(const struct stats_snapshot *snapshot)
{
	const struct stats_header *header = &snapshot->header;

	return json_pack("{s:s, s:s, s:i, s:s, s:s, s:o, s:o, s:o, s:b, s:b}", "name", header->instance,
	    "program", header->program, "broker_pid", (int)header->broker_pid, "socket_dir",
	    header->socket_dir, "state", state_name(header->state), "started_at", seconds(header->started_at),
	    "published_at", seconds(header->published_at), "age", seconds(snapshot->age_ns), "gone",
	    (int)snapshot->gone, "torn", (int)snapshot->torn);
}

static int
add_view(json_t *document, json_t *omitted, const struct stats_view *view, const struct stat_options *options,
    FILE *err)
{
	struct column_selection selection;
	uint32_t first, n;
	int r;

	if (options->id != NULL) {
		r = stat_output_check_id(view, options->id, err, &first, &n);
		if (r)
			return r;
	}
	r = stat_output_select(view, options->columns, true, err, &selection);
	if (r)
		return r;
	if (json_object_set_new(document, view->name, rows(view, &selection, options->id)))
		return -ENOMEM;
	if (view->total > view->nrows &&
	    json_object_set_new(omitted, view->name, json_integer(view->total - view->nrows)))
		return -ENOMEM;
	return 0;
}

int
stat_json_show(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out, FILE *err)
{
	json_t *document = json_object(), *omitted = json_object();
	size_t flags = JSON_REAL_PRECISION(SECONDS_DIGITS) |
	               (options->interval_ns != 0 ? JSON_COMPACT : JSON_INDENT(2)); /* watched: a line each */
	int r = -ENOMEM;

	if (document == NULL || omitted == NULL ||
	    json_object_set_new(document, "instance", instance(snapshot)))
		goto out;
	for (unsigned id = 0; id < STAT_NRESOURCES; id++) {
		const struct stats_view *view = stats_view_find(snapshot, stat_resource_name(id));

		if (!options->resource[id] || view == NULL)
			continue;
		r = add_view(document, omitted, view, options, err);
		if (r)
			goto out;
	}
	/* Rows that did not fit the stats segment, by table; empty when all are here. */
	r = json_object_set(document, "omitted", omitted) ? -ENOMEM : 0;
	if (r == 0) {
		/* A write error stays in the stream, where the caller looks for it. */
		(void)json_dumpf(document, out, flags);
		fputc('\n', out);
	}
out:
	json_decref(omitted);
	json_decref(document);
	return r;
}
