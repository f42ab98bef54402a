/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a benchmark says: tables of measurements, each a number of samples (one a round), as text on stdout and as a JSON
 * file that bench/render turns into plots and pages. A table is begun, its rows are named, samples are added in any order,
 * ratios are made of samples of the same round, and report_finish() prints what is there. Programs give up on errors
 * (measure_die): there is nothing to hand back.
 */
#ifndef PGLEASE_BENCH_REPORT_H
#define PGLEASE_BENCH_REPORT_H

#include <stdbool.h>

#include "options.h"

#define REPORT_COLUMNS 12

struct report_column {
	const char *name;
	const char *unit; /* "" for a ratio */
	int digits;
	bool spread; /* smallest and largest are shown beside the median */
};

/* What is plotted: one column's medians, by row, those of a group side by side. */
struct report_plot {
	unsigned column;
	bool log; /* a logarithmic axis */
};

struct report_table_about {
	const char *id; /* part of file names */
	const char *title;
	const char *note; /* a sentence below; NULL: none */
	struct report_column columns[REPORT_COLUMNS]; /* ends with one without a name */
	struct report_plot plot;
};

struct report_table;

/* The program's tables go to stdout, and to options->json. */
void report_begin(const struct options *options);
/* `about` is kept, not copied, as are all texts but those of rows. */
struct report_table *report_table(const struct report_table_about *about);
/* Rows of one group come one after the other. The row's number. `group` may be "". */
unsigned report_row(struct report_table *table, const char *group, const char *label);
/* Why a row is empty, or what is special about it. */
void report_row_note(struct report_table *table, unsigned row, const char *note);
/* The next round's value. */
void report_sample(struct report_table *table, unsigned row, unsigned column, double value);
/* One more sample of `column` in `row`: the last one of column `of` there, by the last one of that column in `base`. */
void report_ratio(struct report_table *table, unsigned row, unsigned column, unsigned of, unsigned base);
/* The last sample. */
double report_last(const struct report_table *table, unsigned row, unsigned column);
/* Median of what is there; a cell without samples is a mistake. */
double report_median(const struct report_table *table, unsigned row, unsigned column);

enum report_aim { REPORT_AT_LEAST, REPORT_AT_MOST };
/* One of the few numbers that the suite is about, in words (copied), with what was aimed at. Left out when the cell is empty. */
void report_headline(struct report_table *table, unsigned row, unsigned column, const char *what, enum report_aim aim,
    double number);
/* The same, for the few of them that the README quotes. */
void report_brief(struct report_table *table, unsigned row, unsigned column, const char *what, enum report_aim aim, double number);

/* Prints, writes the JSON and frees all. */
void report_finish(void);

#endif
