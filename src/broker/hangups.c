/* SPDX-License-Identifier: PostgreSQL */
/* The epoll set of lent server connections. */
#include "hangups.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 32

struct hangups {
	int epoll;
	struct event *readable;
	hangups_report report;
	void *context;
};

/* 8 bits of pool, 16 of slot, 32 of generation: a report of a connection that was closed meanwhile is recognised. */
static uint64_t
pack(uint32_t pool, uint32_t slot, uint64_t generation)
{
	return (uint64_t)pool << 48 | (uint64_t)slot << 32 | (generation & UINT32_MAX);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct hangups *h = arg;
	struct epoll_event event[BATCH];
	int n = epoll_wait(h->epoll, event, BATCH, 0);

	for (int i = 0; i < n; i++) {
		uint64_t id = event[i].data.u64;

		h->report(h->context, (uint32_t)(id >> 48), (id >> 32) & 0xffff, (uint32_t)id);
	}
}

int
hangups_new(struct event_base *base, hangups_report report, void *context, struct hangups **ret)
{
	struct hangups *h = calloc(1, sizeof(*h));
	int r = -ENOMEM;

	if (h == NULL)
		return r;
	h->report = report;
	h->context = context;
	h->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (h->epoll < 0) {
		r = -errno;
		goto fail;
	}
	h->readable = event_new(base, h->epoll, EV_READ | EV_PERSIST, on_readable, h);
	if (h->readable == NULL || event_add(h->readable, NULL) != 0)
		goto fail;
	*ret = h;
	return 0;

fail:
	hangups_free(h);
	return r;
}

void
hangups_free(struct hangups *h)
{
	if (h == NULL)
		return;
	if (h->readable != NULL)
		event_free(h->readable);
	if (h->epoll >= 0)
		close(h->epoll);
	free(h);
}

int
hangups_watch(struct hangups *h, int fd, uint32_t pool, uint32_t slot, uint64_t generation)
{
	/* EPOLLERR and EPOLLHUP are always reported. */
	struct epoll_event event = {
	    .events = EPOLLRDHUP | EPOLLONESHOT,
	    .data.u64 = pack(pool, slot, generation),
	};

	if (epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
		return 0;
	if (errno == EEXIST && epoll_ctl(h->epoll, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	return -errno;
}

void
hangups_unwatch(struct hangups *h, int fd)
{
	epoll_ctl(h->epoll, EPOLL_CTL_DEL, fd, NULL);
}
