/* SPDX-License-Identifier: PostgreSQL */
/* Between stat_output.c (tables) and stat_json.c: which rows and columns are shown. */
#ifndef PGLEASE_TOOLS_STAT_OUTPUT_PRIV_H
#define PGLEASE_TOOLS_STAT_OUTPUT_PRIV_H

#include "stat_output.h"

struct column_selection {
	const struct stats_column *column[STATS_MAX_COLUMNS];
	uint32_t n;
};

/* The columns of a comma-separated list (NULL: all). Unknown ones are an error if `strict`, else left out. */
int stat_output_select(
    const struct stats_view *view, const char *list, bool strict, FILE *err, struct column_selection *ret);
bool stat_output_row_has_id(const struct stats_view *view, uint32_t row, const char *id);
/* -ENOENT, after a line on `err`, when no row has the ID. */
int stat_output_check_id(
    const struct stats_view *view, const char *id, FILE *err, uint32_t *ret_first, uint32_t *ret_n);

/* stat_output_show() for -J. */
int stat_json_show(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out, FILE *err);

#endif
