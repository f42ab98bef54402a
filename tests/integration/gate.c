/* SPDX-License-Identifier: PostgreSQL */
/* See gate.h. One thread, one poll; writes block, for both sides read what they are sent. */
#include "gate.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_PAIRS 64
#define BUFFER 65536
#define SOCKET "/.s.PGSQL.5432"

struct order {
	unsigned bytes;
	enum gate_opens opens;
};

struct pair {
	int client, server; /* -1: none */
	size_t held; /* bytes in `buffer` */
	char buffer[BUFFER];
};

struct state {
	int control, listener;
	const char *server_folder;
	bool holding;
	struct order order;
	struct pair *holder; /* whose bytes are held; NULL: nobody's yet */
	struct pair pair[MAX_PAIRS];
};

static int
unix_socket(const char *folder, bool listening)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(sock, 0);
	ck_assert_int_lt(snprintf(address.sun_path, sizeof(address.sun_path), "%s" SOCKET, folder),
	    (int)sizeof(address.sun_path));
	if (listening) {
		ck_assert_int_eq(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
		ck_assert_int_eq(listen(sock, MAX_PAIRS), 0);
	} else {
		ck_assert_int_eq(connect(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	}
	return sock;
}

/* A side that has gone is no matter of this write's: its end is seen by a read. */
static void
write_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		bytes += sent;
		n -= (size_t)sent;
	}
}

/* What was held goes on, or is lost. */
static void
let_go(struct state *s, struct pair *p)
{
	p->held = 0;
	if (s->holder == p) {
		s->holder = NULL;
		s->holding = false;
	}
}

static void
end_pair(struct state *s, struct pair *p)
{
	close(p->client);
	close(p->server);
	p->client = p->server = -1;
	let_go(s, p);
}

static void
from_client(struct state *s, struct pair *p)
{
	char bytes[BUFFER];
	ssize_t n = recv(p->client, bytes, sizeof(bytes), 0);

	if (n <= 0) {
		end_pair(s, p);
		return;
	}
	if (p->held > 0 && s->order.opens == GATE_WHEN_ASKED) {
		write_all(p->client, p->buffer, p->held);
		let_go(s, p);
	}
	write_all(p->server, bytes, (size_t)n);
}

static void
from_server(struct state *s, struct pair *p)
{
	char bytes[BUFFER];
	ssize_t n = recv(p->server, bytes, sizeof(bytes) - p->held, 0);
	size_t pass = n > 0 ? (size_t)n : 0;
	bool holding = s->holding && (s->holder == NULL || s->holder == p);

	if (n <= 0) {
		end_pair(s, p);
		return;
	}
	if (holding && pass > s->order.bytes)
		pass = s->order.bytes;
	write_all(p->client, bytes, pass);
	if (!holding)
		return;
	s->order.bytes -= (unsigned)pass;
	if (pass == (size_t)n)
		return;
	if (p->held == 0) {
		s->holder = p;
		it_say(s->control, 'H');
	}
	memcpy(p->buffer + p->held, bytes + pass, (size_t)n - pass);
	p->held += (size_t)n - pass;
}

static void
new_pair(struct state *s)
{
	int client = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	ck_assert_int_ge(client, 0);
	for (unsigned i = 0; i < MAX_PAIRS; i++) {
		if (s->pair[i].client < 0) {
			s->pair[i].client = client;
			s->pair[i].server = unix_socket(s->server_folder, false);
			return;
		}
	}
	ck_abort_msg("more than %d connections", MAX_PAIRS);
}

/* False: the test has told it to end, or has ended. */
static bool
from_control(struct state *s)
{
	if (recv(s->control, &s->order, sizeof(s->order), MSG_WAITALL) != sizeof(s->order))
		return false;
	s->holding = true;
	s->holder = NULL;
	it_say(s->control, 'h');
	return true;
}

static void
run_gate(int socket, const void *arg)
{
	static struct state s;
	struct pollfd p[2 + 2 * MAX_PAIRS];

	s.control = socket;
	s.listener = unix_socket(arg, true);
	s.server_folder = getenv("PGHOST");
	for (unsigned i = 0; i < MAX_PAIRS; i++)
		s.pair[i].client = s.pair[i].server = -1;
	it_say(socket, 's');
	for (;;) {
		p[0] = (struct pollfd){.fd = socket, .events = POLLIN};
		p[1] = (struct pollfd){.fd = s.listener, .events = POLLIN};
		for (unsigned i = 0; i < MAX_PAIRS; i++) {
			p[2 + 2 * i] = (struct pollfd){.fd = s.pair[i].client, .events = POLLIN};
			p[3 + 2 * i] = (struct pollfd){.fd = s.pair[i].server, .events = POLLIN};
		}
		ck_assert_int_gt(poll(p, sizeof(p) / sizeof(p[0]), -1), 0);
		if (p[0].revents != 0 && !from_control(&s))
			return;
		for (unsigned i = 0; i < MAX_PAIRS; i++) {
			if (p[2 + 2 * i].revents != 0)
				from_client(&s, &s.pair[i]);
			if (p[3 + 2 * i].revents != 0 && s.pair[i].server >= 0)
				from_server(&s, &s.pair[i]);
		}
		if (p[1].revents != 0)
			new_pair(&s);
	}
}

void
gate_start(struct gate *gate, const char *folder)
{
	snprintf(gate->folder, sizeof(gate->folder), "%s/gate", folder);
	ck_assert_int_eq(mkdir(gate->folder, 0700), 0);
	gate->worker = it_worker(run_gate, gate->folder);
	it_hear(gate->worker.socket, 's');
}

void
gate_hold(const struct gate *gate, unsigned bytes, enum gate_opens opens)
{
	struct order order = {.bytes = bytes, .opens = opens};

	ck_assert_int_eq(send(gate->worker.socket, &order, sizeof(order), MSG_NOSIGNAL), sizeof(order));
	it_hear(gate->worker.socket, 'h');
}

void
gate_await_held(const struct gate *gate)
{
	it_hear(gate->worker.socket, 'H');
}

void
gate_stop(struct gate *gate)
{
	shutdown(gate->worker.socket, SHUT_WR);
	it_join(&gate->worker);
}
