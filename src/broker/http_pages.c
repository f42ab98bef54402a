/* SPDX-License-Identifier: PostgreSQL */
/* The pages of http_pages.h. */
#include "http_pages.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "export.h"
#include "health.h"
#include "http_history.h"

#define PLAIN "text/plain; charset=utf-8"

/* --- Accept (RFC 9110, 12.5.1), as far as it decides between two types. --- */

/* "0.75" as 750; what is none counts as 1. */
static unsigned
parse_quality(const char *s, size_t length)
{
	unsigned value = 0, scale = 1000;

	if (length == 0 || (s[0] != '0' && s[0] != '1'))
		return 1000;
	value = (unsigned)(s[0] - '0') * scale;
	for (size_t i = 2; i < length && i < 5 && s[1] == '.' && s[i] >= '0' && s[i] <= '9'; i++) {
		scale /= 10;
		value += (unsigned)(s[i] - '0') * scale;
	}
	return value;
}

static bool
is(const char *s, size_t length, const char *word)
{
	return length == strlen(word) && strncasecmp(s, word, length) == 0;
}

static const char *
skip_blanks(const char *s)
{
	return s + strspn(s, " \t");
}

/* One "type/subtype;parameter=value;...". Moves *at past it. */
static void
parse_range(const char **at, unsigned *openmetrics, unsigned *plain)
{
	const char *s = skip_blanks(*at), *type = s;
	size_t length = strcspn(s, ";, \t"), n;
	unsigned quality = 1000;
	bool version = true;

	for (s = skip_blanks(s + length); *s == ';'; s = skip_blanks(s + n)) {
		s = skip_blanks(s + 1);
		n = strcspn(s, ";, \t");
		if (n >= 2 && strncasecmp(s, "q=", 2) == 0)
			quality = parse_quality(s + 2, n - 2);
		else if (n >= 8 && strncasecmp(s, "version=", 8) == 0)
			version = is(s + 8, n - 8, "1.0.0");
	}
	if (is(type, length, "application/openmetrics-text") && version && quality > *openmetrics)
		*openmetrics = quality;
	if ((is(type, length, "text/plain") || is(type, length, "text/*") || is(type, length, "*/*")) && quality > *plain)
		*plain = quality;
	s += strcspn(s, ",");
	*at = *s == ',' ? s + 1 : s;
}

bool
http_pages_wants_openmetrics(const char *accept)
{
	unsigned openmetrics = 0, plain = 0;

	while (accept != NULL && *accept != '\0')
		parse_range(&accept, &openmetrics, &plain);
	return openmetrics != 0 && openmetrics >= plain;
}

/* --- The pages. --- */

static int
no_memory(struct text *body)
{
	text_add(body, "out of memory\n");
	return 500;
}

/* The age of what was published a moment ago is told too: a broker whose loop is held up shows there. */
static int
take_snapshot(const struct http_pages *pages, struct stats_snapshot *ret)
{
	uint64_t now = clock_ns();

	if (publisher_snapshot(pages->publisher, ret) != 0)
		return -1;
	if (ret->header.published_mono != 0 && now > ret->header.published_mono)
		ret->age_ns = now - ret->header.published_mono;
	return 0;
}

static int
metrics(const struct http_pages *pages, const struct http_request *request, struct text *body, const char **ret_type)
{
	enum export_format format =
	    http_pages_wants_openmetrics(request->accept) ? EXPORT_OPENMETRICS : EXPORT_PROMETHEUS;
	struct stats_snapshot snapshot;

	if (take_snapshot(pages, &snapshot) != 0)
		return no_memory(body);
	export_metrics(&snapshot, format, body);
	stats_snapshot_fini(&snapshot);
	*ret_type = export_content_type(format);
	return 200;
}

static int
stats(const struct http_pages *pages, const struct http_request *request, struct text *body, const char **ret_type)
{
	struct stats_snapshot snapshot;

	if (take_snapshot(pages, &snapshot) != 0)
		return no_memory(body);
	export_json(&snapshot, false, body);
	stats_snapshot_fini(&snapshot);
	*ret_type = "application/json";
	return 200;
}

static int
history(const struct http_pages *pages, const struct http_request *request, struct text *body, const char **ret_type)
{
	struct http_history_limits limits = {.npools = pages->npools, .retention = pages->retention};
	struct stats_snapshot snapshot;
	struct http_history asked;
	struct timespec now;
	int status;

	clock_gettime(CLOCK_REALTIME, &now);
	if (!http_history_parse(request->query, (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec,
		&limits, &asked, body))
		return 400;
	if (take_snapshot(pages, &snapshot) != 0)
		return no_memory(body);
	status = http_history_render(&snapshot, &asked, pages->recorder, body);
	stats_snapshot_fini(&snapshot);
	if (status == 200)
		*ret_type = "application/json";
	return status;
}

/* "pool app: waiting: a thread has waited ..." for each reason of each pool. */
static uint32_t
add_reasons(const struct http_pages *pages, struct text *body)
{
	uint64_t now = clock_ns();
	uint32_t all = 0;

	for (unsigned n = 0; n < pages->npools; n++) {
		uint32_t reasons = totals_health(pages->pools[n], now) & ((1u << HEALTH_NREASONS) - 1);
		char name[LAYOUT_NAME], word[HEALTH_TEXT];

		/* What the tick has found; a drain and the like are known at once. */
		reasons |= health_of_state(atomic_load_explicit(&pages->pools[n]->header->state, memory_order_relaxed));
		all |= reasons;
		stats_copy_text(name, sizeof(name), pages->pools[n]->header->pool_name, LAYOUT_NAME);
		for (unsigned bit = 0; bit < HEALTH_NREASONS; bit++) {
			if ((reasons & 1u << bit) == 0)
				continue;
			health_names(1u << bit, word);
			text_add(body, "pool ");
			text_add(body, name);
			text_add(body, ": ");
			text_add(body, word);
			text_add(body, ": ");
			text_add(body, health_reason_text(bit));
			text_add_char(body, '\n');
		}
	}
	return all;
}

static int
health(const struct http_pages *pages, const struct http_request *request, struct text *body, const char **ret_type)
{
	struct text reasons = {0};
	enum health_level level = health_level(add_reasons(pages, &reasons));

	text_add(body, health_level_name(level));
	text_add_char(body, '\n');
	text_add_n(body, reasons.at != NULL ? reasons.at : "", reasons.length);
	text_fini(&reasons);
	return level == HEALTH_DOWN ? 503 : 200;
}

/* Whether a worker that starts now would get what it needs: the instance serves, and each pool can grant leases. */
static int
ready(const struct http_pages *pages, const struct http_request *request, struct text *body, const char **ret_type)
{
	const char *why_not = pages->why_not_ready(pages->context);
	struct text reasons = {0};
	uint32_t all = add_reasons(pages, &reasons);
	bool is_ready = why_not == NULL && (all & HEALTH_DRAINING) == 0 && health_level(all) != HEALTH_DOWN;

	text_add(body, is_ready ? "ready\n" : "not ready\n");
	if (why_not != NULL) {
		text_add(body, why_not);
		text_add_char(body, '\n');
	}
	text_add_n(body, reasons.at != NULL ? reasons.at : "", reasons.length);
	text_fini(&reasons);
	return is_ready ? 200 : 503;
}

/* What the page says in words: reasons of health (health.h), and what columns are (stats.h). */
static int
words(const struct http_pages *pages, const struct http_request *request, struct text *body, const char **ret_type)
{
	struct stats_column *column = calloc(STATS_MAX_COLUMNS, sizeof(*column));
	struct json_writer json = {.to = body};

	if (column == NULL)
		return no_memory(body);
	json_write_open(&json, NULL, '{');
	json_write_open(&json, "reasons", '{');
	for (unsigned bit = 0; bit < HEALTH_NREASONS; bit++) {
		char name[HEALTH_TEXT];

		health_names(1u << bit, name);
		json_write_text(&json, name, health_reason_text(bit));
	}
	json_write_close(&json, '}');
	json_write_open(&json, "columns", '{');
	for (enum stats_table_id id = 0; id < STATS_HISTOGRAMS; id++) {
		unsigned n = stats_describe(id, column);

		json_write_open(&json, stats_table_name(id), '{');
		for (unsigned i = 0; i < n; i++)
			json_write_text(&json, column[i].name, column[i].help);
		json_write_close(&json, '}');
	}
	json_write_close(&json, '}');
	json_write_close(&json, '}');
	free(column);
	*ret_type = "application/json";
	return 200;
}

/* *ret_type is PLAIN unless they say otherwise. */
static const struct {
	const char *path;
	int (*render)(const struct http_pages *pages, const struct http_request *request, struct text *body,
	    const char **ret_type);
	bool of_page; /* it is there for the page, and with it */
} routes[] = {
    {"/metrics", metrics, false},
    {"/stats.json", stats, false},
    {"/history.json", history, false},
    {"/healthz", health, false},
    {"/readyz", ready, false},
    {"/web/words.json", words, true},
};
#define NROUTES (sizeof(routes) / sizeof(routes[0]))

int
http_pages_render(
    const struct http_pages *pages, const struct http_request *request, struct text *body, const char **ret_type)
{
	*ret_type = PLAIN;
	for (size_t i = 0; i < NROUTES; i++)
		if ((!routes[i].of_page || pages->has_page) && strcmp(request->path, routes[i].path) == 0)
			return routes[i].render(pages, request, body, ret_type);
	text_add(body, pages->has_page ? "no such page; there are: /" : "no such page; there are:");
	for (size_t i = 0; i < NROUTES; i++) {
		if (routes[i].of_page)
			continue;
		text_add_char(body, ' ');
		text_add(body, routes[i].path);
	}
	text_add_char(body, '\n');
	return 404;
}
