/* SPDX-License-Identifier: PostgreSQL */
/*
 * Cancel threads and the watch for hang-ups, against a process that plays a PostgreSQL server as far as both need:
 * it answers a start-up packet with the broker's own answers and a cancel request by closing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <event2/event.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "cancels.h"
#include "hangups.h"
#include "startup.h"
#include "unit.h"

#define CANCELS 200

static char top[64], path[96];
static pid_t server;

static void
serve(int listener)
{
	for (;;) {
		uint8_t buf[STARTUP_ANSWER];
		struct startup startup;
		int fd = accept(listener, NULL, NULL);
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n > 0 && startup_parse(buf, (size_t)n, &startup) == STARTUP_PACKET) {
			size_t size = startup_answer(&startup, "a\0b\0", 5, 42, 4711, buf, sizeof(buf));

			/* Left open: it ends with this process. */
			if (send(fd, buf, size, 0) == (ssize_t)size)
				continue;
		}
		close(fd);
	}
}

static PGconn *
setup(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	char conninfo[160];
	PGconn *conn;

	strcpy(top, "/tmp/test_cancels_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/.s.PGSQL.5432", top);
	strcpy(address.sun_path, path);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 1024), 0);
	server = fork();
	if (server == 0)
		serve(listener);
	close(listener);
	snprintf(
	    conninfo, sizeof(conninfo), "host=%s port=5432 user=u sslmode=disable gssencmode=disable", top);
	conn = PQconnectdb(conninfo);
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
	return conn;
}

static void
stop_server(void)
{
	if (server == 0)
		return;
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	server = 0;
}

static void
finish(PGconn *conn)
{
	PQfinish(conn);
	stop_server();
	unlink(path);
	ck_assert_int_eq(rmdir(top), 0);
}

/* By libpq, or raw, where the key is known. */
static int
submit(struct cancels *cancels, PGconn *conn, bool raw, const struct cancels_ticket *ticket)
{
	struct backend backend = {.fd = PQsocket(conn), .conn = raw ? NULL : conn};
	struct sockaddr_un *address = (struct sockaddr_un *)&backend.address;

	if (raw) {
		backend.key = (struct backend_key){.pid = 42, .size = 4, .bytes = {0, 0, 0x12, 0x67}};
		address->sun_family = AF_UNIX;
		snprintf(address->sun_path, sizeof(address->sun_path), "%s/.s.PGSQL.5432", PQhost(conn));
		backend.address_size = sizeof(*address);
	}
	return cancels_submit(cancels, &backend, ticket);
}

static unsigned returned, sent_well, seen[CANCELS];

static void
on_returned(void *context, const struct cancels_ticket *ticket, int sent)
{
	returned++;
	sent_well += sent != 0;
	seen[ticket->slot]++;
}

START_TEST(each_cancel_returns_once_and_then_the_requester_is_let_go)
{
	PGconn *conn = setup();
	struct event_base *base = event_base_new();
	struct cancels *cancels;
	int requester[2];

	ck_assert_int_eq(cancels_new(base, on_returned, NULL, &cancels), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, requester), 0);
	for (unsigned i = 0; i < CANCELS; i++) {
		struct cancels_ticket ticket = {.slot = i, .requester = i == 0 ? requester[1] : -1};
		struct pollfd ended = {.fd = requester[0], .events = POLLIN};

		ck_assert_int_eq(submit(cancels, conn, ticket.slot % 2, &ticket), 0);
		/* It has not been let go before the loop has heard of the cancel's return. */
		ck_assert_int_eq(poll(&ended, 1, 0), 0);
	}
	while (returned < CANCELS)
		ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(sent_well, CANCELS);
	for (unsigned i = 0; i < CANCELS; i++)
		ck_assert_uint_eq(seen[i], 1);
	ck_assert_int_eq(recv(requester[0], &returned, 1, MSG_DONTWAIT), 0);
	cancels_free(cancels, 0);
	event_base_free(base);
	finish(conn);
}
END_TEST

START_TEST(a_server_that_does_not_answer_keeps_no_other_pools_cancels_waiting)
{
	PGconn *conn = setup(), *mute;
	struct event_base *base = event_base_new();
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char mute_top[] = "/tmp/test_cancels_XXXXXX", conninfo[160];
	uint8_t buf[STARTUP_ANSWER];
	struct cancels *cancels;
	struct startup startup;
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	ssize_t n;

	/* It answers one start-up packet; cancels stay in its queue. */
	ck_assert_ptr_nonnull(mkdtemp(mute_top));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.5432", mute_top);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 1024), 0);
	snprintf(conninfo, sizeof(conninfo), "host=%s port=5432 user=u sslmode=disable gssencmode=disable", mute_top);
	mute = PQconnectStart(conninfo);
	fd = accept(listener, NULL, NULL);
	while (PQconnectPoll(mute) == PGRES_POLLING_WRITING)
		;
	n = recv(fd, buf, sizeof(buf), 0);
	ck_assert_int_eq(startup_parse(buf, (size_t)n, &startup), STARTUP_PACKET);
	n = (ssize_t)startup_answer(&startup, "a\0b\0", 5, 42, 4711, buf, sizeof(buf));
	ck_assert_int_eq(send(fd, buf, (size_t)n, 0), n);
	while (PQconnectPoll(mute) == PGRES_POLLING_READING)
		;
	ck_assert_int_eq(PQstatus(mute), CONNECTION_OK);

	ck_assert_int_eq(cancels_new(base, on_returned, NULL, &cancels), 0);
	for (unsigned i = 0; i < CANCELS; i++) {
		struct cancels_ticket ticket = {.pool = 7, .slot = i, .requester = -1};

		ck_assert_int_eq(submit(cancels, mute, ticket.slot % 2, &ticket), 0);
	}
	for (unsigned i = 0; i < 40; i++) {
		struct cancels_ticket ticket = {.pool = 8, .slot = i, .requester = -1};

		ck_assert_int_eq(submit(cancels, conn, ticket.slot % 2, &ticket), 0);
	}
	while (returned < 40)
		ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(sent_well, 40);
	for (unsigned i = 0; i < CANCELS; i++)
		ck_assert_uint_eq(seen[i], i < 40);
	/* Its end lets those that run return; the others are dropped. */
	close(listener);
	cancels_free(cancels, 60000);
	event_base_free(base);
	PQfinish(mute);
	close(fd);
	unlink(address.sun_path);
	ck_assert_int_eq(rmdir(mute_top), 0);
	finish(conn);
}
END_TEST

START_TEST(a_server_that_is_gone_is_reported)
{
	PGconn *conn = setup();
	struct event_base *base = event_base_new();
	struct cancels *cancels;

	stop_server();
	ck_assert_int_eq(cancels_new(base, on_returned, NULL, &cancels), 0);
	for (uint32_t i = 0; i < 2; i++) {
		struct cancels_ticket ticket = {.slot = i, .requester = -1};

		ck_assert_int_eq(submit(cancels, conn, i == 1, &ticket), 0);
	}
	while (returned < 2)
		ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(sent_well, 0);
	cancels_free(cancels, 0);
	event_base_free(base);
	finish(conn);
}
END_TEST

static bool has_no_threads;

/* This program's own, and so that of the broker's code in it. */
int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = NULL;
	void *found = dlsym(RTLD_NEXT, "pthread_create");

	if (has_no_threads)
		return EAGAIN;
	memcpy(&real, &found, sizeof(real));
	return real(thread, attr, start, arg);
}

/* Who submits one is not told of its end before it knows that there is one. */
START_TEST(without_threads_a_cancel_fails_and_not_at_once)
{
	PGconn *conn = setup();
	struct event_base *base = event_base_new();
	struct cancels *cancels;

	ck_assert_int_eq(cancels_new(base, on_returned, NULL, &cancels), 0);
	has_no_threads = true;
	for (uint32_t i = 0; i < 3; i++) {
		struct cancels_ticket ticket = {.slot = i, .requester = -1};

		ck_assert_int_eq(submit(cancels, conn, i == 1, &ticket), 0);
		ck_assert_uint_eq(returned, 0);
	}
	while (returned < 3)
		ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(sent_well, 0);
	has_no_threads = false;
	cancels_free(cancels, 0);
	event_base_free(base);
	finish(conn);
}
END_TEST

START_TEST(stopping_waits_for_what_runs_and_drops_what_waits)
{
	PGconn *conn = setup();
	struct event_base *base = event_base_new();
	struct cancels *cancels;

	ck_assert_int_eq(cancels_new(base, on_returned, NULL, &cancels), 0);
	for (unsigned i = 0; i < CANCELS; i++) {
		struct cancels_ticket ticket = {.slot = i, .requester = -1};

		ck_assert_int_eq(submit(cancels, conn, ticket.slot % 2, &ticket), 0);
	}
	cancels_free(cancels, 60000);
	ck_assert_uint_le(returned, 32);
	ck_assert_uint_gt(returned, 0);
	event_base_free(base);
	finish(conn);
}
END_TEST

static unsigned reports;
static uint32_t reported[3];

static void
on_hang_up(void *context, uint32_t pool, uint32_t slot, uint32_t generation)
{
	reports++;
	reported[0] = pool;
	reported[1] = slot;
	reported[2] = generation;
}

START_TEST(a_hang_up_is_reported_once_and_input_is_not)
{
	struct event_base *base = event_base_new();
	struct hangups *hangups;
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	ck_assert_int_eq(hangups_new(base, on_hang_up, NULL, &hangups), 0);
	ck_assert_int_eq(hangups_watch(hangups, pair[0], 63, 1023, UINT64_C(0x500000007)), 0);
	ck_assert_int_eq(send(pair[1], "x", 1, 0), 1);
	ck_assert_int_ge(event_base_loop(base, EVLOOP_NONBLOCK), 0);
	ck_assert_uint_eq(reports, 0);
	close(pair[1]);
	ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(reports, 1);
	ck_assert_uint_eq(reported[0], 63);
	ck_assert_uint_eq(reported[1], 1023);
	ck_assert_uint_eq(reported[2], 7);
	ck_assert_int_ge(event_base_loop(base, EVLOOP_NONBLOCK), 0);
	ck_assert_uint_eq(reports, 1);
	hangups_unwatch(hangups, pair[0]);
	hangups_free(hangups);
	close(pair[0]);
	event_base_free(base);
}
END_TEST

START_TEST(an_unwatched_socket_is_silent_though_others_hold_it)
{
	struct event_base *base = event_base_new();
	struct hangups *hangups;
	int pair[2], held;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	ck_assert_int_eq(hangups_new(base, on_hang_up, NULL, &hangups), 0);
	ck_assert_int_eq(hangups_watch(hangups, pair[0], 1, 2, 3), 0);
	held = dup(pair[0]);
	hangups_unwatch(hangups, pair[0]);
	close(pair[0]);
	close(pair[1]);
	ck_assert_int_ge(event_base_loop(base, EVLOOP_NONBLOCK), 0);
	ck_assert_uint_eq(reports, 0);
	close(held);
	hangups_free(hangups);
	event_base_free(base);
}
END_TEST

UNIT_MAIN("cancels", each_cancel_returns_once_and_then_the_requester_is_let_go,
    a_server_that_does_not_answer_keeps_no_other_pools_cancels_waiting,
    a_server_that_is_gone_is_reported, without_threads_a_cancel_fails_and_not_at_once, stopping_waits_for_what_runs_and_drops_what_waits,
    a_hang_up_is_reported_once_and_input_is_not, an_unwatched_socket_is_silent_though_others_hold_it)
