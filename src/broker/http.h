/* SPDX-License-Identifier: PostgreSQL */
/*
 * HTTP in the broker's loop, for monitors (setting http_listen): GET and HEAD of the pages of http_pages.h and the files of
 * http_page.h, on a Unix socket or a loopback address. It changes nothing, and no client can hold it up: requests are small, answers come from memory,
 * and http_guard.h bounds how many connections there are and for how long. Each connection serves one request.
 */
#ifndef PGLEASE_BROKER_HTTP_H
#define PGLEASE_BROKER_HTTP_H

#include <stdint.h>
#include <sys/types.h>

#include "http_guard.h"
#include "http_pages.h"

/* Descriptors that it may need. */
#define HTTP_DESCRIPTORS (2 * HTTP_GUARD_CONNECTIONS + 1)

struct handover;
struct http;

struct http_params {
	struct event_base *base;
	const char *listen; /* the setting */
	mode_t mode;        /* of a Unix socket */
	const char *charts; /* folder of the library that draws the page's charts; NULL: no page */
	struct http_pages pages; /* what it refers to outlives it */
	struct handover *from; /* NULL: a new socket */
};

/* 0, or -1 with log_refuse(). */
int http_new(const struct http_params *params, struct http **ret);
/* Takes no more connections; takes them again. Accept NULL. */
void http_pause(struct http *http);
void http_go_on(struct http *http);
/* No connection is open. Accepts NULL. */
bool http_is_quiet(const struct http *http);
/* To the broker that takes this one's place. */
void http_hand_over(struct http *http, struct handover *to);
void http_tick(struct http *http, uint64_t now); /* accepts NULL */
/* Ends its connections and removes its socket. Accepts NULL. */
void http_free(struct http *http);

#endif
