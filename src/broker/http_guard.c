/* SPDX-License-Identifier: PostgreSQL */
/*
 * Bounds on HTTP's connections; see http_guard.h.
 *
 * evhttp owns a connection and its buffer event, and tells nobody when it frees them. The guard holds a reference of its own
 * to each buffer event: one that evhttp has freed has no event callback any more.
 */
#include "http_guard.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "log.h"
#include "segment.h"

struct http_guard {
	struct evconnlistener *listener;
	bool pauses;
	struct event *again; /* accepts again, in the next round of the loop */
	struct guarded {
		struct bufferevent *bev; /* NULL: free */
		uint64_t since;
	} connection[HTTP_GUARD_CONNECTIONS];
};

/* That nothing can be accepted has been said. Here, because evhttp's argument is what the error callback gets. */
static bool told;

static bool
is_alive(struct bufferevent *bev)
{
	bufferevent_event_cb event;

	bufferevent_getcb(bev, NULL, NULL, &event, NULL);
	return event != NULL;
}

static void
forget(struct guarded *c)
{
	bufferevent_decref(c->bev);
	c->bev = NULL;
}

/* evhttp sees the end of the connection, and frees it in the next round of the loop. */
static void
end(const struct guarded *c)
{
	shutdown(bufferevent_getfd(c->bev), SHUT_RDWR);
}

/* A free place; that of the oldest connection, which is ended, when there is none. */
static struct guarded *
make_place(struct http_guard *guard)
{
	struct guarded *oldest = &guard->connection[0];

	for (unsigned i = 0; i < HTTP_GUARD_CONNECTIONS; i++) {
		struct guarded *c = &guard->connection[i];

		if (c->bev != NULL && !is_alive(c->bev))
			forget(c);
		if (c->bev == NULL)
			return c;
		if (c->since < oldest->since)
			oldest = c;
	}
	end(oldest);
	forget(oldest);
	/* One more at a time, or a flood would be accepted before a single one of those has ended. */
	evconnlistener_disable(guard->listener);
	event_active(guard->again, 0, 0);
	return oldest;
}

/* evhttp asks for the buffer event of each connection that it has accepted. */
static struct bufferevent *
on_connection(struct event_base *base, void *arg)
{
	struct http_guard *guard = arg;
	/*
	 * It closes the descriptor, when its last holder lets go. Were evhttp to close it before that, the number might be
	 * another connection's by the time the events of this one are deleted, and the loop would forget that one.
	 */
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct guarded *c;

	if (bev == NULL)
		return NULL; /* it makes one itself, or gives up */
	c = make_place(guard);
	told = false;
	bufferevent_incref(bev);
	c->bev = bev;
	c->since = clock_ns();
	return bev;
}

static void
on_again(evutil_socket_t fd, short what, void *arg)
{
	struct http_guard *guard = arg;

	if (!guard->pauses)
		evconnlistener_enable(guard->listener);
}

/* No descriptor left, most likely. The listener would be ready all the time: it waits for the tick. */
static void
on_error(struct evconnlistener *listener, void *arg)
{
	if (!told)
		log_warning("cannot accept HTTP connections: %m");
	told = true;
	evconnlistener_disable(listener);
}

struct http_guard *
http_guard_new(struct event_base *base, struct evhttp *http, struct evconnlistener *listener)
{
	struct http_guard *guard = calloc(1, sizeof(*guard));

	if (guard == NULL)
		return NULL;
	guard->listener = listener;
	guard->again = event_new(base, -1, 0, on_again, guard);
	if (guard->again == NULL) {
		free(guard);
		return NULL;
	}
	evconnlistener_set_error_cb(listener, on_error);
	evhttp_set_bevcb(http, on_connection, guard);
	return guard;
}

void
http_guard_tick(struct http_guard *guard, uint64_t now)
{
	for (unsigned i = 0; i < HTTP_GUARD_CONNECTIONS; i++) {
		struct guarded *c = &guard->connection[i];

		if (c->bev == NULL)
			continue;
		if (!is_alive(c->bev))
			forget(c);
		else if (now > c->since && now - c->since > HTTP_GUARD_LIMIT)
			end(c);
	}
	if (!guard->pauses)
		evconnlistener_enable(guard->listener);
}

void
http_guard_pause(struct http_guard *guard, bool pauses)
{
	guard->pauses = pauses;
	if (pauses)
		evconnlistener_disable(guard->listener);
	else
		evconnlistener_enable(guard->listener);
}

bool
http_guard_is_quiet(const struct http_guard *guard)
{
	for (unsigned i = 0; i < HTTP_GUARD_CONNECTIONS; i++)
		if (guard->connection[i].bev != NULL && is_alive(guard->connection[i].bev))
			return false;
	return true;
}

void
http_guard_free(struct http_guard *guard)
{
	if (guard == NULL)
		return;
	for (unsigned i = 0; i < HTTP_GUARD_CONNECTIONS; i++)
		if (guard->connection[i].bev != NULL)
			forget(&guard->connection[i]);
	event_free(guard->again);
	free(guard);
}
