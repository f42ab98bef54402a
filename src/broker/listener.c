/* SPDX-License-Identifier: PostgreSQL */
/* Listening sockets. */
#include "listener.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "handover.h"
#include "log.h"

#define BACKLOG 1024
#define ACCEPTS_AT_ONCE 64

struct listener {
	int fd;
	bool bound, paused;
	bool told; /* that nothing can be accepted: once, until something is */
	struct event *readable;
	listener_accepted accepted;
	listener_starved starved;
	void *context;
	struct sockaddr_un address;
};

/* Without a free descriptor accept fails before it looks whether there is anything to accept. */
static bool
is_pending(const struct listener *l)
{
	struct pollfd poll_fd = {.fd = l->fd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) == 1;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	for (unsigned i = 0; i < ACCEPTS_AT_ONCE; i++) {
		int error, accepted = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (accepted >= 0) {
			l->told = false;
			l->accepted(l->context, accepted);
			continue;
		}
		error = errno;
		if ((error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) &&
		    is_pending(l)) {
			if (!l->told)
				log_warning("cannot accept on %s: %s", l->address.sun_path, strerror(error));
			l->told = true;
			l->starved(l->context);
			/* Readable all the time now: wait for the tick instead of spinning. */
			l->paused = true;
			event_del(l->readable);
		}
		return;
	}
}

void
listener_hand_over(struct listener *l, struct handover *h)
{
	handover_section(h, "listener");
	handover_fd(h, &l->fd);
	HANDOVER(h, l->bound);
}

static int
listen_at(struct listener *l, const char *path, int socket_type)
{
	l->fd = socket(AF_UNIX, socket_type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0 || bind(l->fd, (struct sockaddr *)&l->address, sizeof(l->address)) != 0)
		return -errno;
	l->bound = true;
	return chmod(path, 0666) != 0 || listen(l->fd, BACKLOG) != 0 ? -errno : 0;
}

int
listener_new(struct event_base *base, const char *path, int socket_type, listener_accepted accepted,
    listener_starved starved, void *context, int passed, struct handover *from, struct listener **ret)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r = -ENOMEM;

	if (l == NULL)
		return r;
	l->accepted = accepted;
	l->starved = starved;
	l->context = context;
	l->address.sun_family = AF_UNIX;
	l->fd = -1;
	if (strlen(path) >= sizeof(l->address.sun_path)) {
		r = -ENAMETOOLONG;
		goto fail;
	}
	strcpy(l->address.sun_path, path);
	if (from != NULL) {
		listener_hand_over(l, from); /* the same field, read */
		r = l->fd >= 0 ? 0 : -EBADF;
	} else if (passed >= 0) {
		l->fd = passed;
		/* Once more: whoever connects from now on finds that this process listens (SO_PEERCRED), not who has made the socket. */
		r = listen(l->fd, BACKLOG) == 0 ? 0 : -errno;
	} else {
		r = listen_at(l, path, socket_type);
	}
	if (r != 0)
		goto fail;
	r = -ENOMEM;
	l->readable = event_new(base, l->fd, EV_READ | EV_PERSIST, on_readable, l);
	if (l->readable == NULL || event_add(l->readable, NULL) != 0)
		goto fail;
	*ret = l;
	return 0;

fail:
	listener_free(l);
	return r;
}

void
listener_tick(struct listener *l)
{
	if (l->paused && event_add(l->readable, NULL) == 0)
		l->paused = false;
}

void
listener_free(struct listener *l)
{
	if (l == NULL)
		return;
	if (l->readable != NULL)
		event_free(l->readable);
	if (l->fd >= 0)
		close(l->fd);
	if (l->bound)
		unlink(l->address.sun_path);
	free(l);
}
