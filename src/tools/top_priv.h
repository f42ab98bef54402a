/* SPDX-License-Identifier: PostgreSQL */
/* Between the files of pgleasestat --top: what it knows (top.c), its tables (top_tables.c), and how they are drawn (top_screen.c). */
#ifndef PGLEASE_TOOLS_TOP_PRIV_H
#define PGLEASE_TOOLS_TOP_PRIV_H

#include <stdbool.h>

#include "stat_options.h"
#include "stats.h"

#define TOP_SAMPLES 60 /* of a sparkline */
#define TOP_FILTER 40
#define TOP_ROWS 4096

enum top_view { TOP_POOLS, TOP_SLOTS, TOP_CLIENTS, TOP_WAITERS, TOP_NVIEWS };

/* A column of a view: what the broker publishes under this name, or, without a name, the sparkline. */
struct top_column {
	const char *name, *title;
	int width;   /* at least; texts are cut at it, numbers never are so long */
	bool number; /* to the right; sorted from the greatest on */
};

struct top_table {
	const char *title;     /* as in "Pools" */
	const char *stats;     /* the table of the segment */
	const char *searched;  /* columns that the filter looks at, separated by commas */
	unsigned sorted_by;    /* at first */
	unsigned count;
	const struct top_column *column; /* those to the right are left out where a screen is narrow */
};
extern const struct top_table top_tables[TOP_NVIEWS];

/* The leases per second of a pool, as seen; the newest last. */
struct top_spark {
	char pool[LAYOUT_NAME];
	uint64_t value[TOP_SAMPLES];
	unsigned n;
};

struct top {
	const struct stat_options *options;
	struct stats_snapshot snapshot;
	int error; /* other than 0: there is no snapshot, and why */
	bool paused, help, typing; /* typing: the filter */
	enum top_view view;
	unsigned sorted_by[TOP_NVIEWS];
	bool reversed[TOP_NVIEWS];
	char filter[TOP_FILTER];
	unsigned selected, first; /* of the rows shown */
	uint64_t interval_ns;
	struct top_spark spark[LAYOUT_MAX_POOLS];
	unsigned nsparks;
	/* The view's rows, filtered and sorted. */
	uint32_t row[TOP_ROWS];
	unsigned nrows;
	bool utf8;
};

/* top_tables.c */
/* Fills row[] from the snapshot. */
void top_arrange(struct top *top);
void top_remember(struct top *top); /* the pools' rates of this snapshot */
const struct top_spark *top_spark_of(const struct top *top, const char *pool);
/* A cell as text. */
void top_cell(const struct top *top, uint32_t row, const struct top_column *column, char *buf, size_t size);
/* The last `width` samples as blocks, scaled to their greatest; in ASCII where the terminal has no UTF-8. */
void top_sparkline(const struct top_spark *spark, int width, bool utf8, char *buf, size_t size);

/* top.c */
struct top_key {
	int key;
	const char *name, *help; /* help NULL: another name of the key before it */
	void (*act)(struct top *top);
};
extern const struct top_key top_keys[];
extern const unsigned top_nkeys;

/* top_screen.c */
void top_draw(struct top *top);
int top_screen_rows(const struct top *top); /* rows of the view that fit */

#endif
