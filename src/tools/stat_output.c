/* SPDX-License-Identifier: PostgreSQL */
/* How pgleasestat shows a snapshot: which rows, as tables, raw or CSV. JSON: stat_json.c; sums: stat_summary.c. */
#include "stat_output.h"

#include <errno.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>

#include "history_table.h"
#include "stat_output_priv.h"

int
stat_output_select(
    const struct stats_view *view, const char *list, bool strict, FILE *err, struct column_selection *ret)
{
	const char *at = list;

	ret->n = 0;
	if (list == NULL) {
		for (uint32_t i = 0; i < view->ncolumns; i++)
			ret->column[ret->n++] = &view->column[i];
		return 0;
	}
	for (;;) {
		size_t length = strcspn(at, ",");
		char name[sizeof(view->column->name)];
		const struct stats_column *column = NULL;

		if (length < sizeof(name)) {
			memcpy(name, at, length);
			name[length] = '\0';
			column = stats_column_find(view, name);
		}
		if (column == NULL && strict) {
			fprintf(err,
			    "pgleasestat: %s have no column '%.*s'; --list-columns lists those there are\n",
			    view->name, (int)length, at);
			return -EINVAL;
		}
		if (column != NULL && ret->n == STATS_MAX_COLUMNS) {
			fprintf(err, "pgleasestat: more than %d columns\n", STATS_MAX_COLUMNS);
			return -EINVAL;
		}
		if (column != NULL)
			ret->column[ret->n++] = column;
		if (at[length] == '\0')
			return 0;
		at += length + 1;
	}
}

static bool
number_is(const struct stats_view *view, uint32_t row, const char *column_name, const char *text)
{
	const struct stats_column *column = stats_column_find(view, column_name);
	char number[24];
	uint64_t value;

	if (column == NULL || column->type == STATS_TEXT || !stats_value_u64(view, row, column, &value))
		return false;
	snprintf(number, sizeof(number), "%" PRIu64, value);
	return strcmp(number, text) == 0;
}

static bool
text_is(const struct stats_view *view, uint32_t row, const char *column_name, const char *text, size_t length)
{
	const struct stats_column *column = stats_column_find(view, column_name);
	const char *value;

	if (column == NULL || column->type != STATS_TEXT)
		return false;
	value = stats_value_text(view, row, column);
	return strlen(value) == length && memcmp(value, text, length) == 0;
}

/* IDs: a pool's name; POOL/SLOT or SLOT; a client's pid; POOL/ROW or ROW; POOL/ALERT, or the pool of some. */
bool
stat_output_row_has_id(const struct stats_view *view, uint32_t row, const char *id)
{
	const char *slash = strrchr(id, '/');
	const char *number = slash != NULL ? slash + 1 : id;
	const char *column = strcmp(view->name, stats_table_name(STATS_SLOTS)) == 0 ? "slot" : "row";

	if (strcmp(view->name, stats_table_name(STATS_POOLS)) == 0)
		return text_is(view, row, "name", id, strlen(id));
	if (strcmp(view->name, HISTORY_TABLE_NAME) == 0)
		return text_is(view, row, "pool", id, strlen(id));
	if (strcmp(view->name, stats_table_name(STATS_CLIENTS)) == 0)
		return number_is(view, row, "pid", id);
	if (strcmp(view->name, stats_table_name(STATS_ALERTS)) == 0)
		return text_is(view, row, "pool", id, slash != NULL ? (size_t)(slash - id) : strlen(id)) &&
		       (slash == NULL || text_is(view, row, "alert", number, strlen(number)));
	return number_is(view, row, column, number) &&
	       (slash == NULL || text_is(view, row, "pool", id, (size_t)(slash - id)));
}

struct libscols_table *
stat_output_table(const struct stat_options *options, FILE *out)
{
	struct libscols_table *table = scols_new_table();

	if (table == NULL)
		return NULL;
	scols_table_set_stream(table, out);
	/* Never what the terminal is: no truncation, no wrapping, no colours. */
	scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
	scols_table_enable_raw(table, options->format == STAT_RAW);
	scols_table_enable_noheadings(table, options->noheadings);
	return table;
}

int
stat_output_heading(struct libscols_table *table, const char *name, bool number)
{
	char heading[sizeof(((struct stats_column *)0)->name)];
	size_t i;

	for (i = 0; name[i] != '\0' && i < sizeof(heading) - 1; i++)
		heading[i] = name[i] >= 'a' && name[i] <= 'z' ? (char)(name[i] - 'a' + 'A') : name[i];
	heading[i] = '\0';
	return scols_table_new_column(table, heading, 0, number ? SCOLS_FL_RIGHT : 0) != NULL ? 0 : -ENOMEM;
}

/* smartcols prints nothing at all of a table without lines; its heading says that it was looked at. */
static void
print_heading(struct libscols_table *table, FILE *out)
{
	size_t n = scols_table_get_ncols(table);

	for (size_t i = 0; i < n; i++) {
		struct libscols_column *column = scols_table_get_column(table, i);

		fprintf(out, "%s%s", i > 0 ? " " : "", scols_cell_get_data(scols_column_get_header(column)));
	}
	fputc('\n', out);
}

/* All rows (or those with the ID), a line each. */
static int
print_rows(const struct stats_view *view, const struct column_selection *selection,
    const struct stat_options *options, FILE *out)
{
	struct libscols_table *table = stat_output_table(options, out);
	bool exact = options->exact || options->format == STAT_RAW;
	char cell[512];
	int r = -ENOMEM;

	if (table == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < selection->n; i++)
		if (stat_output_heading(table, selection->column[i]->name, selection->column[i]->type != STATS_TEXT))
			goto out;
	for (uint32_t row = 0; row < view->nrows; row++) {
		struct libscols_line *line;

		if (options->id != NULL && !stat_output_row_has_id(view, row, options->id))
			continue;
		line = scols_table_new_line(table, NULL);
		if (line == NULL)
			goto out;
		for (uint32_t i = 0; i < selection->n; i++) {
			stat_output_cell(view, row, selection->column[i], exact, cell, sizeof(cell));
			if (scols_line_set_data(line, i, cell))
				goto out;
		}
	}
	if (scols_table_is_empty(table) && !options->noheadings)
		print_heading(table, out);
	r = scols_print_table(table);
out:
	scols_unref_table(table);
	return r;
}

/* RFC 4180, but for the line's end, which is a newline. What is not there is an empty field. */
static void
print_csv_text(const char *text, FILE *out)
{
	if (strpbrk(text, ",\"\r\n") == NULL) {
		fputs(text, out);
		return;
	}
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '"')
			fputc('"', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

static int
print_csv(const struct stats_view *view, const struct column_selection *selection, const struct stat_options *options,
    FILE *out)
{
	char cell[512];

	for (uint32_t i = 0; !options->noheadings && i < selection->n; i++)
		fprintf(out, "%s%s", i > 0 ? "," : "", selection->column[i]->name);
	if (!options->noheadings)
		fputc('\n', out);
	for (uint32_t row = 0; row < view->nrows; row++) {
		if (options->id != NULL && !stat_output_row_has_id(view, row, options->id))
			continue;
		for (uint32_t i = 0; i < selection->n; i++) {
			const struct stats_column *column = selection->column[i];
			uint64_t value;

			if (i > 0)
				fputc(',', out);
			if (column->type != STATS_TEXT && !stats_value_u64(view, row, column, &value))
				continue;
			if (column->type == STATS_TEXT)
				snprintf(cell, sizeof(cell), "%s", stats_value_text(view, row, column));
			else
				stat_output_cell(view, row, column, true, cell, sizeof(cell));
			print_csv_text(cell, out);
		}
		fputc('\n', out);
	}
	return 0;
}

/* One row in detail: a line per column, with its meaning. */
static int
print_detail(const struct stats_view *view, uint32_t row, const struct column_selection *selection,
    const struct stat_options *options, FILE *out)
{
	struct libscols_table *table = stat_output_table(options, out);
	char cell[512];
	int r = -ENOMEM;

	if (table == NULL)
		return -ENOMEM;
	if (stat_output_heading(table, "column", false) || stat_output_heading(table, "value", true) ||
	    stat_output_heading(table, "meaning", false))
		goto out;
	for (uint32_t i = 0; i < selection->n; i++) {
		struct libscols_line *line = scols_table_new_line(table, NULL);

		stat_output_cell(view, row, selection->column[i], options->exact, cell, sizeof(cell));
		if (line == NULL || scols_line_set_data(line, 0, selection->column[i]->name) ||
		    scols_line_set_data(line, 1, cell) ||
		    scols_line_set_data(line, 2, selection->column[i]->help))
			goto out;
	}
	r = scols_print_table(table);
out:
	scols_unref_table(table);
	return r;
}

/* How many rows have the ID; an unknown one is reported. */
int
stat_output_check_id(
    const struct stats_view *view, const char *id, FILE *err, uint32_t *ret_first, uint32_t *ret_n)
{
	*ret_n = 0;
	for (uint32_t row = 0; row < view->nrows; row++)
		if (stat_output_row_has_id(view, row, id) && (*ret_n)++ == 0)
			*ret_first = row;
	if (*ret_n > 0)
		return 0;
	fprintf(err, "pgleasestat: no '%s' among the %u %s; pgleasestat without -i shows them all\n", id,
	    view->nrows, view->name);
	return -ENOENT;
}

static int
show_view(const struct stats_view *view, unsigned id, const struct stat_options *options,
    FILE *out, FILE *err)
{
	struct column_selection selection;
	uint32_t first = 0, n = 0;
	const char *list = options->columns;
	int r;

	if (options->id != NULL && id != STAT_HISTORY) { /* only the pool's history was asked for */
		r = stat_output_check_id(view, options->id, err, &first, &n);
		if (r)
			return r;
	} else if (list == NULL) {
		list = stat_columns(options->aspect, id);
	}
	r = stat_output_select(view, list, options->columns != NULL, err, &selection);
	if (r)
		return r;
	if (options->format == STAT_CSV)
		return print_csv(view, &selection, options, out);
	if (n == 1 && options->format == STAT_TABLE && options->columns == NULL)
		return print_detail(view, first, &selection, options, out);
	return print_rows(view, &selection, options, out);
}

int
stat_output_show(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out, FILE *err)
{
	bool more = false;
	int r;

	if (options->format == STAT_PROMETHEUS)
		return stat_prometheus_show(snapshot, out);
	if (options->aspect == STAT_SUMMARY)
		return stat_summary_show(snapshot, options, out, err);
	if (options->format == STAT_JSON)
		return stat_json_show(snapshot, options, out, err);
	for (unsigned id = 0; id < STAT_NRESOURCES; id++) {
		const struct stats_view *view;

		if (!options->resource[id])
			continue;
		view = stats_view_find(snapshot, stat_resource_name(id));
		if (view == NULL) {
			fprintf(err, "pgleasestat: this broker (%s) publishes no %s\n",
			    snapshot->header.program, stat_resource_name(id));
			continue;
		}
		if (more)
			fputc('\n', out);
		more = true;
		r = show_view(view, id, options, out, err);
		if (r)
			return r;
		if (view->total > view->nrows)
			fprintf(err, "pgleasestat: %u more %s are not shown\n", view->total - view->nrows,
			    view->name);
	}
	return 0;
}

static const char *
unit_name(const struct stats_column *column)
{
	switch (column->unit) {
	case STATS_DURATION_NS:
	case STATS_TIMESTAMP_NS:
		return "seconds";
	case STATS_BYTES:
		return "bytes";
	case STATS_RATIO:
		return "share";
	case STATS_RATE:
		return "per second";
	case STATS_MILLIONTHS:
		return "by unit";
	case STATS_COUNT:
		return column->flags & STATS_MONOTONIC ? "counter" : "count";
	default:
		return column->type == STATS_TEXT ? "text" : "number";
	}
}

int
stat_output_list_columns(const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out)
{
	struct libscols_table *table = stat_output_table(options, out);
	struct stats_column built_in[STATS_MAX_COLUMNS];
	int r = -ENOMEM;

	if (table == NULL)
		return -ENOMEM;
	if (stat_output_heading(table, "table", false) || stat_output_heading(table, "column", false) ||
	    stat_output_heading(table, "kind", false) || stat_output_heading(table, "meaning", false))
		goto out;
	for (unsigned id = 0; id < STAT_NRESOURCES; id++) {
		const struct stats_view *view =
		    snapshot != NULL ? stats_view_find(snapshot, stat_resource_name(id)) : NULL;
		const struct stats_column *column = view != NULL ? view->column : built_in;
		unsigned n;

		if (!options->resource[id])
			continue;
		n = view != NULL             ? view->ncolumns
		    : id == STAT_HISTORY ? history_table_describe(built_in)
		                         : stats_describe(id, built_in);
		for (unsigned i = 0; i < n; i++) {
			struct libscols_line *line = scols_table_new_line(table, NULL);

			if (line == NULL || scols_line_set_data(line, 0, stat_resource_name(id)) ||
			    scols_line_set_data(line, 1, column[i].name) ||
			    scols_line_set_data(line, 2, unit_name(&column[i])) ||
			    scols_line_set_data(line, 3, column[i].help))
				goto out;
		}
	}
	r = scols_print_table(table);
out:
	scols_unref_table(table);
	return r;
}
