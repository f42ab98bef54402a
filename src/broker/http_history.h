/* SPDX-License-Identifier: PostgreSQL */
/*
 * The page /history.json: steps of the pools' histories, for a range of time. It is read and rendered in the broker's loop, so
 * that what may be asked is bounded (HTTP_HISTORY_STEPS and HTTP_HISTORY_ROWS): some milliseconds. The rows of the range
 * are read where they are, few others (history_range.h). Whoever wants more asks
 * pgleasestat, which reads the same history in a process of its own.
 */
#ifndef PGLEASE_BROKER_HTTP_HISTORY_H
#define PGLEASE_BROKER_HTTP_HISTORY_H

#include "history_table.h"
#include "recorder.h"

#define HTTP_HISTORY_STEPS 240u                     /* of all pools asked, together */
#define HTTP_HISTORY_ROWS 5100u  /* to be read, of all pools asked: a day of one, with the default retention */

struct http_history {
	char pool[LAYOUT_NAME]; /* "": all */
	struct history_table_range range;
};

/* Of the broker. */
struct http_history_limits {
	unsigned npools;
	uint64_t retention; /* metrics_retention, ns: how far back there is a row for each second */
};

/*
 * What a query asks for, seen at `now` (CLOCK_REALTIME ns): pool=NAME, since=, until= (time_text.h;
 * 10min ago, now), step= (a length). False when it may not: *ret is undefined, `why` says what is allowed.
 */
bool http_history_parse(
    const char *query, uint64_t now, const struct http_history_limits *limits, struct http_history *ret, struct text *why);
/* Adds the answer to what was parsed, from the pools of the snapshot, which gets the table. recorder NULL: there are no histories. The status: 200, 404 or 500. */
int http_history_render(struct stats_snapshot *snapshot, const struct http_history *history,
    const struct recorder *recorder, struct text *body);

#endif
