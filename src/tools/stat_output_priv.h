/* SPDX-License-Identifier: PostgreSQL */
/* Between the files that show a snapshot: which rows and columns are shown, and the parts of tables. */
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

/* stat_columns.c: the columns that a resource shows without -o, as a list for stat_output_select(). */
const char *stat_columns(enum stat_aspect aspect, unsigned resource);

/* stat_cell.c: one cell; and a number of that unit (enum stats_unit). `exact`: as it is. */
void stat_output_cell(const struct stats_view *view, uint32_t row, const struct stats_column *column, bool exact,
    char *buf, size_t size);
void stat_output_value(uint64_t value, uint8_t unit, bool exact, char *buf, size_t size);

/* A table on `out`, without columns; NULL without memory. And one column more of it: 0 or -ENOMEM. */
struct libscols_table;
struct libscols_table *stat_output_table(const struct stat_options *options, FILE *out);
int stat_output_heading(struct libscols_table *table, const char *name, bool number);

/* A text that was made goes to the stream; 0, or -ENOMEM when there was no memory for it. */
struct text;
int stat_json_print(struct text *text, FILE *out);

/* stat_output_show() for --prometheus, -u and -J. */
int stat_prometheus_show(const struct stats_snapshot *snapshot, FILE *out);
int stat_summary_show(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out, FILE *err);
int stat_json_show(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out, FILE *err);

#endif
