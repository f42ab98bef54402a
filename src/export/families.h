/* SPDX-License-Identifier: PostgreSQL */
/*
 * The one list of exported metrics: which columns of the stats segment (stats.h) become which family of samples, under
 * which name, type and labels. Names follow the OpenTelemetry conventions for database clients where there is one. Every
 * column is in it, or among those left out with a reason; a test sees to that.
 */
#ifndef PGLEASE_EXPORT_FAMILIES_H
#define PGLEASE_EXPORT_FAMILIES_H

#include <stddef.h>

#include "stats.h"

enum family_type {
	FAMILY_SAME = 0, /* more of the family of the line before */
	FAMILY_COUNTER,  /* named without _total */
	FAMILY_GAUGE,
	FAMILY_UNKNOWN, /* a gauge with a name that linters keep for histograms */
	FAMILY_HISTOGRAM, /* columns: what is timed; of the table histograms */
	FAMILY_STATES,    /* a gauge for each word that a text column may be (or, with commas, hold): 1 or 0 */
	FAMILY_INFO,      /* always 1; its labels are text columns */
};

/* Which labels a row's samples have besides the instance's. */
enum family_labels {
	LABELS_NONE,
	LABELS_POOL,      /* pool */
	LABELS_OTEL,      /* db_client_connection_pool_name */
	LABELS_OPERATION, /* pool, db_system_name, db_namespace */
	LABELS_ALERT, /* pool, alert */
};

struct family {
	enum family_type type;
	const char *name;
	const char *help;
	enum stats_table_id table;
	enum family_labels labels;
	const char *columns; /* "a", or "a+b": their sum; FAMILY_INFO: "a,b,c" */
	const char *extra;   /* one more label, as written: how="waited"; FAMILY_STATES: its name */
	const char *const *words; /* FAMILY_STATES: NULL-terminated */
};

extern const struct family families[];
extern const size_t families_count;

/* What is deliberately not exported. column: "*" is all, "*x" all that end so, "x*" all that begin so. */
struct family_left_out {
	enum stats_table_id table;
	const char *column;
	const char *why;
};
extern const struct family_left_out families_left_out[];
extern const size_t families_left_out_count;

#endif
