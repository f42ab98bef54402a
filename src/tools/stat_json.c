/* SPDX-License-Identifier: PostgreSQL */
/* A snapshot as one JSON document, or as Prometheus text: the writers' (src/export), for what the options choose. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "history_table.h"
#include "stat_output_priv.h"

int
stat_json_print(struct text *text, FILE *out)
{
	size_t length;
	char *made = text_take(text, &length);

	if (made == NULL)
		return -ENOMEM;
	/* A write error stays in the stream, where the caller looks for it. */
	(void)fwrite(made, 1, length, out);
	free(made);
	return 0;
}

static bool
has_id(const struct stats_view *view, uint32_t row, void *context)
{
	return stat_output_row_has_id(view, row, context);
}

static bool
is_chosen(const char *table, void *context)
{
	const struct stat_options *options = context;

	for (unsigned id = 0; id < STAT_NRESOURCES; id++)
		if (options->resource[id] && strcmp(stat_resource_name(id), table) == 0)
			return true;
	return false;
}

/* Which columns, and that the ID is there, before anything is written. */
static int
choose(const struct stats_view *view, unsigned id, const struct stat_options *options, FILE *err,
    struct column_selection *ret)
{
	const char *list = options->columns;
	uint32_t first, n;
	int r;

	if (options->id != NULL && strcmp(view->name, HISTORY_TABLE_NAME) != 0) {
		r = stat_output_check_id(view, options->id, err, &first, &n);
		if (r)
			return r;
	}
	if (list == NULL && options->aspect != STAT_USUAL)
		list = stat_columns(options->aspect, id);
	return stat_output_select(view, list, options->columns != NULL, err, ret);
}

int
stat_json_show(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out, FILE *err)
{
	struct text text = {0};
	/* Watched: a line each. */
	struct json_writer json = {.to = &text, .indent = options->interval_ns == 0};
	struct column_selection selection = {.n = 0};
	struct export_choice choice = {.column = selection.column, .context = (char *)options->id};
	const struct stats_view *view = stats_view_find(snapshot, stats_table_name(STATS_INSTANCE));
	int r = 0;

	if (view != NULL && options->resource[STATS_INSTANCE])
		r = choose(view, STATS_INSTANCE, options, err, &selection);
	if (r)
		return r;
	choice.ncolumns = selection.n;
	export_json_begin(&json, snapshot, view != NULL && options->resource[STATS_INSTANCE] ? &choice : NULL);
	choice.wants = options->id != NULL ? has_id : NULL;
	for (unsigned id = 0; id < STAT_NRESOURCES; id++) {
		view = stats_view_find(snapshot, stat_resource_name(id));
		if (!options->resource[id] || view == NULL || id == STATS_INSTANCE)
			continue;
		r = choose(view, id, options, err, &selection);
		if (r) {
			text_fini(&text);
			return r;
		}
		choice.ncolumns = selection.n;
		export_json_table(&json, view, &choice);
	}
	export_json_end(&json, snapshot, is_chosen, (struct stat_options *)options);
	return stat_json_print(&text, out);
}

int
stat_prometheus_show(const struct stats_snapshot *snapshot, FILE *out)
{
	struct stats_snapshot bare = *snapshot;
	struct text text = {0};

	/* The last numbers of a dead broker are not those of now; that it is gone is. */
	if (snapshot->gone)
		bare.ntables = 0;
	export_metrics(&bare, EXPORT_PROMETHEUS, &text);
	return stat_json_print(&text, out);
}
