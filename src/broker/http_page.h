/* SPDX-License-Identifier: PostgreSQL */
/*
 * The files of the broker's page (src/web), each under a fixed path: what is asked for never names a file of the system. They are
 * part of the program, so that a page is of its broker's version, wherever it was installed and whoever took its place.
 * The library that draws the charts, dygraphs, is read once, at the start, from its package's folder; without it the page has
 * its numbers and no lines.
 */
#ifndef PGLEASE_BROKER_HTTP_PAGE_H
#define PGLEASE_BROKER_HTTP_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_PAGE_ETAG 24 /* bytes, with the quotes and the zero */

/* What browsers may do with it: nothing but the page's own files. */
#define HTTP_PAGE_POLICY \
	"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " \
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

struct http_page;

struct http_page_file {
	const char *path, *type;
	const unsigned char *bytes; /* live as long as the page */
	size_t size;
	char etag[HTTP_PAGE_ETAG];
};

/* charts: the folder of dygraph.min.js. NULL without memory; what else is missing is logged, and not served. */
struct http_page *http_page_new(const char *charts);
/* NULL: there is no such file. Accepts a page of NULL, which has none. */
const struct http_page_file *http_page_find(const struct http_page *page, const char *path);
/* Whether who asks (If-None-Match; NULL: none) has it already. */
bool http_page_is_known(const struct http_page_file *file, const char *if_none_match);
void http_page_free(struct http_page *page); /* accepts NULL */

#endif
