/* SPDX-License-Identifier: PostgreSQL */
/* See upstream.h. */
#include "upstream.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"
#include "startup.h"

#define CONNECTIONS 16

static const char baseline[] = "client_encoding\0UTF8\0standard_conforming_strings\0on\0TimeZone\0UTC\0";
static const char *const values[] = {"UTF8", "on", "UTC"};

static struct connection {
	int fd; /* -1: free */
	struct event *readable;
	bool started;
	uint32_t pid;
	size_t used;
	uint8_t buf[8192];
} connection[CONNECTIONS];
static struct event_base *loop;
static struct event *acceptable;
static int listening = -1;
static char path[108];
static const uint8_t *said;
static size_t said_size;

static void
end(struct connection *c)
{
	event_free(c->readable);
	close(c->fd);
	c->fd = -1;
}

static void
say(struct connection *c, const void *bytes, size_t size)
{
	(void)send(c->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
say_message(struct connection *c, char type, const void *body, size_t size)
{
	uint32_t length = htonl((uint32_t)size + 4);

	say(c, &type, 1);
	say(c, &length, 4);
	say(c, body, size);
}

static void
say_row(struct connection *c, const char *value)
{
	uint8_t row[64] = {0, 1};
	uint32_t length = htonl((uint32_t)strlen(value));

	memcpy(row + 2, &length, 4);
	memcpy(row + 6, value, strlen(value));
	say_message(c, 'D', row, 6 + strlen(value));
}

static void
say_tag(struct connection *c, const char *tag)
{
	say_message(c, 'C', tag, strlen(tag) + 1);
}

/* What the right server answers to the broker's own statements. */
static void
answer_query(struct connection *c, const char *sql)
{
	if (said != NULL) {
		say(c, said, said_size);
		return;
	}
	if (*sql == '\0') {
		say_message(c, 'I', "", 0);
	} else if (strncmp(sql, "SELECT pg_catalog.current_setting", 33) == 0) {
		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
			say_row(c, values[i]);
		say_tag(c, "SELECT 3");
	} else if (strcmp(sql, "select pg_catalog.pg_backend_pid()") == 0) {
		/* One column of no table: an int4, as text. libpq asks. */
		static const uint8_t column[] = {0, 1, 'p', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 0};
		char pid[16];

		snprintf(pid, sizeof(pid), "%" PRIu32, c->pid);
		say_message(c, 'T', column, sizeof(column));
		say_row(c, pid);
		say_tag(c, "SELECT 1");
	} else {
		say_tag(c, sql); /* DISCARD ALL, ROLLBACK, UNLISTEN */
	}
	say_message(c, 'Z', "I", 1);
}

/* False when the connection has ended. */
static bool
take(struct connection *c, size_t *ret_size)
{
	static uint32_t pids = 1u << 30; /* no process has such a one */
	uint8_t out[STARTUP_ANSWER];
	struct startup s;
	uint32_t length;

	*ret_size = 0;
	if (!c->started) {
		switch (startup_parse(c->buf, c->used, &s)) {
		case STARTUP_MORE:
			return true;
		case STARTUP_SSL:
			say(c, "N", 1);
			break;
		case STARTUP_PACKET:
			c->started = true;
			if (said != NULL)
				say(c, said, said_size);
			else
				say(c, out, startup_answer(&s, baseline, sizeof(baseline), c->pid = ++pids, 4711, out, sizeof(out)));
			break;
		default: /* a cancel */
			end(c);
			return false;
		}
		*ret_size = s.used;
		return true;
	}
	if (c->used < 5)
		return true;
	memcpy(&length, c->buf + 1, 4);
	length = ntohl(length);
	if (c->buf[0] == 'X' || length < 4 || length > sizeof(c->buf) - 1) {
		end(c);
		return false;
	}
	if (c->used < 1 + (size_t)length)
		return true;
	c->buf[length] = '\0'; /* it has one */
	if (c->buf[0] == 'Q')
		answer_query(c, (const char *)c->buf + 5);
	*ret_size = 1 + (size_t)length;
	return true;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;
	ssize_t n = recv(fd, c->buf + c->used, sizeof(c->buf) - c->used, MSG_DONTWAIT);
	size_t size;

	if (n <= 0) {
		end(c);
		return;
	}
	c->used += (size_t)n;
	do {
		if (!take(c, &size))
			return;
		c->used -= size;
		memmove(c->buf, c->buf + size, c->used);
	} while (size != 0);
}

static void
on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (accepted < 0)
		return;
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct connection *c = &connection[i];

		if (c->fd >= 0)
			continue;
		c->fd = accepted;
		c->started = false;
		c->used = 0;
		c->readable = event_new(loop, accepted, EV_READ | EV_PERSIST, on_readable, c);
		fuzz_must(c->readable != NULL && event_add(c->readable, NULL) == 0);
		return;
	}
	close(accepted);
}

void
upstream_start(struct event_base *base, const char *dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	loop = base;
	said = NULL;
	for (unsigned i = 0; i < CONNECTIONS; i++)
		connection[i].fd = -1;
	snprintf(path, sizeof(path), "%.80s/.s.PGSQL.5432", dir);
	strcpy(address.sun_path, path);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	fuzz_must(bind(listening, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listening, 64) == 0);
	acceptable = event_new(base, listening, EV_READ | EV_PERSIST, on_acceptable, NULL);
	fuzz_must(acceptable != NULL && event_add(acceptable, NULL) == 0);
}

void
upstream_stop(void)
{
	for (unsigned i = 0; i < CONNECTIONS; i++)
		if (connection[i].fd >= 0)
			end(&connection[i]);
	event_free(acceptable);
	close(listening);
	unlink(path);
}

void
upstream_say(const uint8_t *bytes, size_t size)
{
	said = bytes;
	said_size = size;
}

void
upstream_hang_up(unsigned n)
{
	unsigned open = 0;

	for (unsigned i = 0; i < CONNECTIONS; i++)
		open += connection[i].fd >= 0;
	if (open == 0)
		return;
	n %= open;
	for (unsigned i = 0; i < CONNECTIONS; i++)
		if (connection[i].fd >= 0 && n-- == 0)
			end(&connection[i]);
}
