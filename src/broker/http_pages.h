/* SPDX-License-Identifier: PostgreSQL */
/*
 * What HTTP shows: one table of paths, and the text of each page, from the publisher's rows of its last tick and the pools'
 * health. Nothing here waits, or walks the lease segments. How requests come and answers go is http.c's matter.
 */
#ifndef PGLEASE_BROKER_HTTP_PAGES_H
#define PGLEASE_BROKER_HTTP_PAGES_H

#include <stdbool.h>

#include "publish.h"
#include "recorder.h"
#include "text.h"

struct http_pages {
	const struct publisher *publisher;
	const struct recorder *recorder; /* NULL: there are no histories */
	const struct segment *const *pools;
	unsigned npools;
	uint64_t retention; /* metrics_retention; ns */
	/* NULL: the instance serves; else why it does not, or not any more. */
	const char *(*why_not_ready)(void *context);
	void *context;
	bool has_page; /* there are the files of http_page.h too */
};

struct http_request {
	const char *path;
	const char *query;  /* after the '?', not decoded; NULL: none */
	const char *accept; /* the header; NULL: none */
};

/* The status of the answer; its text is added to `body`, its type goes to *ret_type (static). 404 for an unknown path. */
int http_pages_render(
    const struct http_pages *pages, const struct http_request *request, struct text *body, const char **ret_type);

/* Whether a client that accepts this wants OpenMetrics rather than plain text. */
bool http_pages_wants_openmetrics(const char *accept);

#endif
