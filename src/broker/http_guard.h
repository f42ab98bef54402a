/* SPDX-License-Identifier: PostgreSQL */
/*
 * The connections of HTTP's clients: how many there may be and how long each may take. evhttp bounds neither, and a client
 * that sends a byte now and then keeps its own timeouts from ending it. So each connection gets a fixed time for all that
 * it does; and a new one, when there are too many, takes the place of the oldest: an honest request takes milliseconds,
 * so that the oldest is hardly one.
 */
#ifndef PGLEASE_BROKER_HTTP_GUARD_H
#define PGLEASE_BROKER_HTTP_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>

#define HTTP_GUARD_CONNECTIONS 32
#define HTTP_GUARD_LIMIT UINT64_C(10000000000) /* ns, of a connection */

struct http_guard;

/* For all connections of `http`, which come from `listener`. NULL without memory. Freed after `http`. */
struct http_guard *http_guard_new(struct event_base *base, struct evhttp *http, struct evconnlistener *listener);
/* Accepts no connection while it pauses. */
void http_guard_pause(struct http_guard *guard, bool pauses);
/* No connection is open. */
bool http_guard_is_quiet(const struct http_guard *guard);
/*
 * Ends those that have had their time; accepts again after running out of descriptors. Called at each tick; `now`:
 * CLOCK_MONOTONIC ns.
 */
void http_guard_tick(struct http_guard *guard, uint64_t now);
void http_guard_free(struct http_guard *guard); /* accepts NULL */

#endif
