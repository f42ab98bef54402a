/* SPDX-License-Identifier: PostgreSQL */
/*
 * A snapshot of the statistics as others read them: Prometheus text, OpenMetrics, JSON. One writer each, for the broker's
 * HTTP, pgleasestat and the library. Pure: from a snapshot to a text; nothing here looks at an instance or a clock.
 */
#ifndef PGLEASE_EXPORT_EXPORT_H
#define PGLEASE_EXPORT_EXPORT_H

#include "json.h"
#include "stats.h"
#include "text.h"

enum export_format {
	EXPORT_PROMETHEUS,  /* text format 0.0.4 */
	EXPORT_OPENMETRICS, /* 1.0.0 */
};

/* All families (families.h). What is not there, or not known, has no sample. */
void export_metrics(const struct stats_snapshot *snapshot, enum export_format format, struct text *to);
const char *export_content_type(enum export_format format); /* static */

/*
 * JSON. One object: "instance" (who publishes, whether it is one moment of a living broker, and the instance's own
 * numbers), an array of objects for each table, and "omitted", the rows that did not fit the segment, by table. Numbers are
 * numbers in base units (seconds, bytes, shares from 0 to 1, events per second); what is not there is null. Seconds
 * have all their digits, more than a double may hold. The whole one (export_json) has in each pool's object an array "alerts" of
 * those that are not off: name, raised, since_seconds (for how long it has been so, or not), value, threshold.
 */
void export_json(const struct stats_snapshot *snapshot, bool indent, struct text *to);

/* The same in pieces, for who shows a choice: begin, any number of tables, end. */
struct export_choice {
	const struct stats_column *const *column;
	uint32_t ncolumns;
	bool (*wants)(const struct stats_view *view, uint32_t row, void *context); /* NULL: all rows */
	void *context;
};
/* `choice`: of the instance's columns; NULL: all. */
void export_json_begin(
    struct json_writer *json, const struct stats_snapshot *snapshot, const struct export_choice *choice);
void export_json_table(
    struct json_writer *json, const struct stats_view *view, const struct export_choice *choice);
/* Of the tables for which chosen() is true; NULL: all. */
void export_json_end(struct json_writer *json, const struct stats_snapshot *snapshot,
    bool (*chosen)(const char *table, void *context), void *context);

/* How many digits a unit's numbers have after the point, in base units. */
unsigned export_digits(uint8_t unit);
/* "open", "draining" ...: of enum segment_state. */
const char *export_state_name(uint32_t state);

#endif
