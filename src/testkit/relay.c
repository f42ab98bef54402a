/* SPDX-License-Identifier: PostgreSQL */
/* See relay.h: the relay's own process. One thread, one poll; nothing blocks, what cannot be written yet is queued. */
#include "relay_priv.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "segment.h"
#include "upstream.h"

#define MAX_PAIRS 256
#define CHUNK 65536
#define QUEUE_MAX (64 * CHUNK) /* more is not read before this has gone */

struct chunk {
	struct chunk *next;
	uint64_t due; /* CLOCK_MONOTONIC ns */
	size_t at, n;
	char bytes[];
};

/* One direction of a pair. */
struct way {
	int from, to;
	struct chunk *first, *last;
	size_t queued;
	bool ended;        /* nothing more comes: `to` is closed when the queue is empty */
	unsigned header_n; /* of the server's messages: bytes of the header that are there, */
	unsigned char header[5];
	uint32_t left;     /* and bytes of the body that are to come */
};

struct pair {
	bool used;
	struct way up, down; /* to the server, to the client */
	struct chunk *held;  /* of `down`; NULL: none */
};

struct state {
	struct relay_counts *counts;
	char listening[UPSTREAM_PATH + 32], aside[UPSTREAM_PATH + 32], server[UPSTREAM_PATH + 32];
	int control, listener;
	bool stalled, dropping, bypassed;
	uint64_t delay;
	bool holding, until_asked;
	uint64_t pass; /* bytes of the server's before the hold */
	struct pair *holder;
	uint64_t refuse;
	char sqlstate[8];
	struct pair pair[MAX_PAIRS];
};

static void
count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static int
unix_socket(const char *path, bool listening)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || (size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= sizeof(address.sun_path))
		goto fail;
	if (listening ? bind(sock, (struct sockaddr *)&address, sizeof(address)) || listen(sock, MAX_PAIRS)
	              : connect(sock, (struct sockaddr *)&address, sizeof(address)))
		goto fail;
	return sock;
fail:
	if (sock >= 0)
		close(sock);
	return -1;
}

static void
clear_queue(struct way *way)
{
	while (way->first != NULL) {
		struct chunk *chunk = way->first;

		way->first = chunk->next;
		free(chunk);
	}
	way->last = NULL;
	way->queued = 0;
}

static void
end_pair(struct state *s, struct pair *p)
{
	close(p->up.from);
	if (p->up.to >= 0)
		close(p->up.to);
	clear_queue(&p->up);
	clear_queue(&p->down);
	free(p->held);
	if (s->holder == p) {
		s->holder = NULL;
		s->holding = false;
	}
	memset(p, 0, sizeof(*p));
}

static void
queue(struct way *way, struct chunk *chunk)
{
	chunk->next = NULL;
	if (way->last != NULL)
		way->last->next = chunk;
	else
		way->first = chunk;
	way->last = chunk;
	way->queued += chunk->n - chunk->at;
}

static struct chunk *
new_chunk(const char *bytes, size_t n, uint64_t due)
{
	struct chunk *chunk = malloc(sizeof(*chunk) + n);

	if (chunk == NULL)
		_exit(1);
	*chunk = (struct chunk){.due = due, .n = n};
	memcpy(chunk->bytes, bytes, n);
	return chunk;
}

/* Each message of the server is a type, four bytes of length that count themselves, and the rest. */
static void
count_messages(struct state *s, struct way *way, const char *bytes, size_t n)
{
	while (n > 0) {
		if (way->left > 0) {
			size_t skip = n < way->left ? n : way->left;

			way->left -= (uint32_t)skip;
			bytes += skip;
			n -= skip;
			continue;
		}
		way->header[way->header_n++] = (unsigned char)*bytes++;
		n--;
		if (way->header_n < sizeof(way->header))
			continue;
		way->header_n = 0;
		way->left = (uint32_t)way->header[1] << 24 | (uint32_t)way->header[2] << 16 | (uint32_t)way->header[3] << 8 |
		            way->header[4];
		way->left -= way->left >= 4 ? 4 : way->left;
		if (way->header[0] == 'Z')
			count(&s->counts->round_trips);
	}
}

/* What was held goes on, before what comes now. */
static void
let_go(struct state *s, struct pair *p)
{
	if (p->held != NULL)
		queue(&p->down, p->held);
	p->held = NULL;
	if (s->holder == p) {
		s->holder = NULL;
		s->holding = false;
	}
}

static void
hold(struct state *s, struct pair *p, const char *bytes, size_t n)
{
	size_t before = p->held != NULL ? p->held->n : 0;
	struct chunk *chunk = malloc(sizeof(*chunk) + before + n);

	if (chunk == NULL)
		_exit(1);
	*chunk = (struct chunk){.n = before + n};
	if (before > 0)
		memcpy(chunk->bytes, p->held->bytes, before);
	memcpy(chunk->bytes + before, bytes, n);
	free(p->held);
	p->held = chunk;
	if (before == 0) {
		s->holder = p;
		count(&s->counts->holds);
	}
}

/* Of the server's bytes, those that an order holds back are not queued. Returns how many are. */
static size_t
pass_or_hold(struct state *s, struct pair *p, const char *bytes, size_t n)
{
	size_t pass = n;

	if (!s->holding || (s->holder != NULL && s->holder != p))
		return n;
	if (pass > s->pass)
		pass = s->pass;
	s->pass -= pass;
	if (pass < n)
		hold(s, p, bytes + pass, n - pass);
	return pass;
}

static void
take(struct state *s, struct pair *p, struct way *way)
{
	char bytes[CHUNK];
	ssize_t n = recv(way->from, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		way->ended = true;
		return;
	}
	if (s->dropping)
		return;
	if (way == &p->down) {
		count_messages(s, way, bytes, (size_t)n);
		n = (ssize_t)pass_or_hold(s, p, bytes, (size_t)n);
	} else if (p->held != NULL && s->until_asked) {
		let_go(s, p);
	}
	if (n > 0)
		queue(way, new_chunk(bytes, (size_t)n, s->delay > 0 ? clock_ns() + s->delay : 0));
}

/* Writes what is due; false when the other side has gone. */
static bool
give(struct way *way)
{
	while (way->first != NULL && way->first->due <= clock_ns()) {
		struct chunk *chunk = way->first;
		ssize_t n = send(way->to, chunk->bytes + chunk->at, chunk->n - chunk->at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n < 0)
			return false;
		chunk->at += (size_t)n;
		way->queued -= (size_t)n;
		if (chunk->at < chunk->n)
			return true;
		way->first = chunk->next;
		if (way->first == NULL)
			way->last = NULL;
		free(chunk);
	}
	return true;
}

/* FATAL, as the server says it; to a client that has sent its first packet. */
static void
refuse(struct state *s, int client)
{
	char packet[256], fields[200], first[1024];
	size_t n = 0;
	uint32_t length;

	(void)!recv(client, first, sizeof(first), 0);
	if (s->sqlstate[0] != '\0') {
		n += (size_t)snprintf(fields + n, sizeof(fields) - n, "SFATAL") + 1;
		n += (size_t)snprintf(fields + n, sizeof(fields) - n, "VFATAL") + 1;
		n += (size_t)snprintf(fields + n, sizeof(fields) - n, "C%s", s->sqlstate) + 1;
		n += (size_t)snprintf(fields + n, sizeof(fields) - n, "Mrefused by the test's relay") + 1;
		fields[n++] = '\0';
		length = htobe32((uint32_t)n + 4);
		packet[0] = 'E';
		memcpy(packet + 1, &length, 4);
		memcpy(packet + 5, fields, n);
		(void)!send(client, packet, n + 5, MSG_NOSIGNAL);
	}
	close(client);
	count(&s->counts->refused);
	s->refuse--;
}

static void
new_pair(struct state *s)
{
	int client = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC), server;

	if (client < 0)
		return;
	if (s->refuse > 0) {
		refuse(s, client);
		return;
	}
	server = unix_socket(s->server, false);
	for (unsigned i = 0; server >= 0 && i < MAX_PAIRS; i++) {
		struct pair *p = &s->pair[i];

		if (p->used)
			continue;
		*p = (struct pair){.used = true, .up = {.from = client, .to = server}, .down = {.from = server, .to = client}};
		count(&s->counts->connections);
		return;
	}
	if (server >= 0)
		close(server);
	close(client);
}

static int
bypass(struct state *s, bool on)
{
	if (on == s->bypassed)
		return 0;
	/* Who connects finds the server's socket behind the same name. */
	if (on ? rename(s->listening, s->aside) || symlink(s->server, s->listening)
	       : unlink(s->listening) || rename(s->aside, s->listening))
		return -errno;
	s->bypassed = on;
	return 0;
}

static int
obey(struct state *s, const struct relay_message *m)
{
	switch (m->order) {
	case RELAY_PASS:
		s->stalled = s->dropping = s->holding = false;
		s->delay = s->refuse = 0;
		for (unsigned i = 0; i < MAX_PAIRS; i++) {
			if (!s->pair[i].used)
				continue;
			let_go(s, &s->pair[i]);
			for (struct chunk *c = s->pair[i].up.first; c != NULL; c = c->next)
				c->due = 0;
			for (struct chunk *c = s->pair[i].down.first; c != NULL; c = c->next)
				c->due = 0;
		}
		return 0;
	case RELAY_STALL:
		s->stalled = true;
		return 0;
	case RELAY_DROP:
		s->dropping = true;
		return 0;
	case RELAY_DELAY:
		s->delay = (uint64_t)m->a * UINT64_C(1000000);
		return 0;
	case RELAY_HOLD:
		s->holding = true;
		s->holder = NULL;
		s->pass = (uint64_t)m->a;
		s->until_asked = m->b != 0;
		return 0;
	case RELAY_CUT:
		for (unsigned i = 0; i < MAX_PAIRS; i++) {
			if (s->pair[i].used) {
				end_pair(s, &s->pair[i]);
				count(&s->counts->cut);
			}
		}
		return 0;
	case RELAY_REFUSE:
		s->refuse = (uint64_t)m->a;
		snprintf(s->sqlstate, sizeof(s->sqlstate), "%s", m->text);
		return 0;
	case RELAY_BYPASS:
		return bypass(s, m->a != 0);
	}
	return -EINVAL;
}

/* False: the test has ended. */
static bool
hear(struct state *s)
{
	struct relay_message m;
	int32_t answer;

	if (recv(s->control, &m, sizeof(m), 0) != sizeof(m))
		return false;
	answer = obey(s, &m);
	(void)!send(s->control, &answer, sizeof(answer), MSG_NOSIGNAL);
	return true;
}

/* Milliseconds to the next chunk that becomes due; -1: none does. */
static int
next_due(const struct state *s)
{
	uint64_t now = clock_ns(), first = UINT64_MAX;

	for (unsigned i = 0; i < MAX_PAIRS; i++) {
		const struct pair *p = &s->pair[i];

		if (p->used && p->up.first != NULL && p->up.first->due > now && p->up.first->due < first)
			first = p->up.first->due;
		if (p->used && p->down.first != NULL && p->down.first->due > now && p->down.first->due < first)
			first = p->down.first->due;
	}
	return first == UINT64_MAX ? -1 : (int)((first - now) / 1000000) + 1;
}

static short
wanted(const struct way *in, const struct way *out)
{
	bool due = out->first != NULL && out->first->due <= clock_ns();

	return (short)((in->ended || in->queued > QUEUE_MAX ? 0 : POLLIN) | (due ? POLLOUT : 0));
}

static void
serve_pair(struct state *s, struct pair *p, short client, short server)
{
	bool gone = false;

	if (client & (POLLIN | POLLHUP | POLLERR))
		take(s, p, &p->up);
	if (server & (POLLIN | POLLHUP | POLLERR))
		take(s, p, &p->down);
	gone = !give(&p->up) || !give(&p->down);
	/* What is queued for the one that is still there reaches it first; what is held never does. */
	if (gone || (p->up.ended && p->up.first == NULL) || (p->down.ended && p->down.first == NULL))
		end_pair(s, p);
}

void
relay_run(int control, const char *folder, const char *server, struct relay_counts *counts)
{
	static struct state s;
	static struct pollfd fds[2 + 2 * MAX_PAIRS];
	int32_t ready = 0;

	signal(SIGPIPE, SIG_IGN);
	s.control = control;
	s.counts = counts;
	snprintf(s.listening, sizeof(s.listening), "%s/.s.PGSQL.5432", folder);
	snprintf(s.aside, sizeof(s.aside), "%s/aside", folder);
	snprintf(s.server, sizeof(s.server), "%s/.s.PGSQL.5432", server);
	s.listener = unix_socket(s.listening, true);
	if (s.listener < 0)
		ready = -errno;
	(void)!send(control, &ready, sizeof(ready), MSG_NOSIGNAL);
	if (ready != 0)
		_exit(1);
	for (;;) {
		fds[0] = (struct pollfd){.fd = control, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = s.listener, .events = POLLIN};
		for (unsigned i = 0; i < MAX_PAIRS; i++) {
			struct pair *p = &s.pair[i];
			bool watch = p->used && !s.stalled;
			struct pollfd *client = &fds[2 + 2 * i], *to = &fds[3 + 2 * i];

			*client = (struct pollfd){.fd = watch ? p->up.from : -1, .events = watch ? wanted(&p->up, &p->down) : 0};
			*to = (struct pollfd){.fd = watch ? p->down.from : -1, .events = watch ? wanted(&p->down, &p->up) : 0};
			/* An end that was seen would be told again and again. */
			if (p->up.ended && client->events == 0)
				client->fd = -1;
			if (p->down.ended && to->events == 0)
				to->fd = -1;
		}
		if (poll(fds, sizeof(fds) / sizeof(fds[0]), next_due(&s)) < 0)
			continue;
		if (fds[0].revents != 0 && !hear(&s))
			_exit(0);
		for (unsigned i = 0; i < MAX_PAIRS; i++)
			if (s.pair[i].used && !s.stalled)
				serve_pair(&s, &s.pair[i], fds[2 + 2 * i].revents, fds[3 + 2 * i].revents);
		if (fds[1].revents != 0 && !s.stalled)
			new_pair(&s);
	}
}
