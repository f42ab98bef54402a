/* SPDX-License-Identifier: PostgreSQL */
/* The page /history.json; see http_history.h. */
#include "http_history.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "export.h"
#include "time_text.h"

#define SECOND UINT64_C(1000000000)

/* The asker's own text. */
static void
add_printable(struct text *to, const char *text)
{
	for (; *text != '\0'; text++)
		text_add_char(to, *text >= ' ' && *text <= '~' ? *text : '?');
}

static bool
refuse(struct text *why, const char *key, const char *value, const char *allowed)
{
	add_printable(why, key);
	text_add(why, "=");
	add_printable(why, value);
	text_add(why, ": give ");
	text_add(why, allowed);
	text_add_char(why, '\n');
	return false;
}

static bool
take_parameter(const char *key, const char *value, uint64_t now, struct http_history *h, struct text *why)
{
	if (strcmp(key, "pool") == 0)
		return (size_t)snprintf(h->pool, sizeof(h->pool), "%s", value) < sizeof(h->pool) ||
		       refuse(why, key, value, "a pool's name");
	if (strcmp(key, "since") == 0)
		return time_text_parse(value, now, &h->range.from) == 0 || refuse(why, key, value, TIME_TEXT_ALLOWED);
	if (strcmp(key, "until") == 0)
		return time_text_parse(value, now, &h->range.to) == 0 || refuse(why, key, value, TIME_TEXT_ALLOWED);
	if (strcmp(key, "step") == 0)
		return (time_text_length(value, &h->range.step) == 0 && h->range.step >= SECOND) ||
		       refuse(why, key, value, TIME_TEXT_LENGTH_ALLOWED ", at least 1s");
	return refuse(why, key, value, "pool, since, until and step only");
}

/* Rows that a range of one pool has: one for each second as far as these go, and one for each minute. */
static uint64_t
rows_in(uint64_t length, uint64_t retention)
{
	return (length < retention ? length : retention) / SECOND + length / (60 * SECOND);
}

static bool
check(const struct http_history *h, const struct http_history_limits *limits, struct text *why)
{
	uint64_t pools = h->pool[0] != '\0' ? 1 : limits->npools, length = h->range.to - h->range.from;

	if (h->range.from >= h->range.to) {
		text_add(why, "since is not before until\n");
		return false;
	}
	if (length / h->range.step * pools <= HTTP_HISTORY_STEPS &&
	    rows_in(length, limits->retention) * pools <= HTTP_HISTORY_ROWS)
		return true;
	text_add(why, "too much at a time: at most ");
	text_add_u64(why, HTTP_HISTORY_STEPS);
	text_add(why, " steps, made of ");
	text_add_u64(why, HTTP_HISTORY_ROWS);
	text_add(why, " rows (one a second within metrics_retention, one a minute); name a pool, give a longer step or a shorter "
		      "range, or ask pgleasestat --history\n");
	return false;
}

bool
http_history_parse(
    const char *query, uint64_t now, const struct http_history_limits *limits, struct http_history *ret, struct text *why)
{
	struct evkeyvalq parameters;
	struct evkeyval *p;
	bool good = true;

	*ret = (struct http_history){.range = {.from = now - 600 * SECOND, .to = now}};
	if (evhttp_parse_query_str(query != NULL ? query : "", &parameters) != 0) {
		text_add(why, "the query is not one: give key=value, separated by '&'\n");
		return false;
	}
	TAILQ_FOREACH(p, &parameters, next)
		good = good && take_parameter(p->key, p->value, now, ret, why);
	evhttp_clear_headers(&parameters);
	if (!good)
		return false;
	history_table_settle(&ret->range);
	return check(ret, limits, why);
}

static bool
is_history(const char *table, void *context)
{
	return strcmp(table, HISTORY_TABLE_NAME) == 0;
}

/* The recorder's own descriptor is mapped: a copy of all of it takes too long. */
static int
open_own(
    const void *recorder, const char *pool, struct history_bytes *ret_bytes, struct history_view *ret_view)
{
	int fd = recorder_reader_of(recorder, pool);

	return fd >= 0 ? history_map(fd, ret_bytes, ret_view) : -ENOENT;
}

int
http_history_render(struct stats_snapshot *snapshot, const struct http_history *h,
    const struct recorder *recorder, struct text *body)
{
	struct history_table_source source = {.open = open_own, .context = recorder};
	struct json_writer json = {.to = body};
	struct text notes = {0};
	int r = history_table_add(snapshot, h->pool[0] != '\0' ? h->pool : NULL, &h->range, &source, &notes);

	if (r == 0) {
		export_json_begin(&json, snapshot, NULL);
		export_json_table(&json, stats_view_find(snapshot, HISTORY_TABLE_NAME), NULL);
		export_json_end(&json, snapshot, is_history, NULL);
	} else {
		text_add_n(body, notes.at != NULL ? notes.at : "", notes.length);
		if (notes.length == 0)
			text_add(body, r == -ENOMEM ? "out of memory\n" : "no history is kept\n");
	}
	text_fini(&notes);
	return r == 0 ? 200 : r == -ENOMEM ? 500 : 404;
}
