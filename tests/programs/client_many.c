/* SPDX-License-Identifier: PostgreSQL */
#include "program.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

/* On a pool of two: some of them get their connection while others have theirs. */
#define MANY 12

struct each {
	PGconn *conn;
	int fd;
	bool connected, over;
};

/* Registered as the manual wants it: after each PQconnectPoll, by whatever number and file it is now. */
static void
watch(int epoll, struct each *e, bool reading)
{
	struct epoll_event event = {.events = reading ? EPOLLIN : EPOLLOUT, .data.ptr = e};

	if (e->fd >= 0)
		epoll_ctl(epoll, EPOLL_CTL_DEL, e->fd, NULL);
	e->fd = PQsocket(e->conn);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, e->fd, &event) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
advance(int epoll, struct each *e)
{
	PostgresPollingStatusType polling = e->connected ? PGRES_POLLING_OK : PQconnectPoll(e->conn);

	if (polling == PGRES_POLLING_FAILED)
		die("PQconnectPoll: %s", PQerrorMessage(e->conn));
	if (polling != PGRES_POLLING_OK) {
		watch(epoll, e, polling == PGRES_POLLING_READING);
		return;
	}
	if (!e->connected) {
		e->connected = true;
		if (!PQsendQuery(e->conn, "select 'mine'"))
			die("send: %s", PQerrorMessage(e->conn));
		watch(epoll, e, true);
		return;
	}
	if (!PQconsumeInput(e->conn))
		die("consume: %s", PQerrorMessage(e->conn));
	while (!PQisBusy(e->conn)) {
		PGresult *result = PQgetResult(e->conn);

		if (result == NULL) {
			epoll_ctl(epoll, EPOLL_CTL_DEL, e->fd, NULL);
			PQfinish(e->conn);
			e->over = true;
			return;
		}
		expect_text("row", PQgetvalue(result, 0, 0), "mine");
		PQclear(result);
	}
}

void
loop(void)
{
	struct each all[MANY] = {{NULL}};
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	unsigned over = 0;

	for (unsigned i = 0; i < MANY; i++) {
		all[i].fd = -1;
		all[i].conn = PQconnectStart("");
		if (PQstatus(all[i].conn) == CONNECTION_BAD || PQsocket(all[i].conn) < 0)
			die("PQconnectStart: %s", PQerrorMessage(all[i].conn));
		watch(epoll, &all[i], false);
	}
	while (over < MANY) {
		struct epoll_event events[MANY];
		int n = epoll_wait(epoll, events, MANY, WAIT_MS);

		if (n <= 0)
			die("nothing happens: %u of %u are over", over, MANY);
		for (int i = 0; i < n; i++) {
			struct each *e = events[i].data.ptr;

			if (!e->over)
				advance(epoll, e);
			over += e->over;
		}
	}
	close(epoll);
}

/* On a pool of one: what waits, and is given up, cancelled, reset, or waits in vain. */
void
waiting(void)
{
	PGconn *held = good(PQconnectdb("")), *conn;
	char *end;

	for (unsigned i = 0; i < 50; i++) {
		conn = PQconnectStart("");
		if (i % 2 == 0 && PQconnectPoll(conn) != PGRES_POLLING_READING)
			die("PQconnectPoll of one that waits");
		PQfinish(conn);
	}
	conn = PQconnectStart("connect_timeout=2");
	if (poll_through(conn, PQconnectPoll) != PGRES_POLLING_FAILED || PQstatus(conn) != CONNECTION_BAD ||
	    strstr(PQerrorMessage(conn), "no connection free in pool app") == NULL)
		die("a wait in vain: %s", PQerrorMessage(conn));
	PQfinish(conn);
	conn = PQconnectdb("connect_timeout=2");
	if (PQstatus(conn) != CONNECTION_BAD || strstr(PQerrorMessage(conn), "no connection free in pool app") == NULL)
		die("a wait in vain: %s", PQerrorMessage(conn));
	PQfinish(conn);
	conn = PQconnectStart("application_name=waits");
	if (PQconnectPoll(conn) != PGRES_POLLING_READING)
		die("PQconnectPoll of one that waits");
	PQfinish(held);
	polled(conn);
	expect(conn, "show application_name", "waits");
	cancels(conn);
	end = strdup(ask(conn, "select pg_backend_pid()"));
	PQreset(conn);
	good(conn);
	if (strcmp(ask(conn, "select pg_backend_pid()"), end) == 0)
		die("the same session after PQreset");
	free(end);
	expect(conn, "show application_name", "waits");
	cancels(conn);
	PQfinish(conn);
	conn = good(PQconnectdb(""));
	expect(conn, "select 'mine'", "mine");
	PQfinish(conn);
}

#define THREADS 8

static void *
connects(void *arg)
{
	for (unsigned i = 0; i < 30; i++) {
		PGconn *conn = i % 2 == 0 ? good(PQconnectdb("")) : polled(PQconnectStart(""));
		char sql[64], expected[16];

		snprintf(expected, sizeof(expected), "%u", i);
		snprintf(sql, sizeof(sql), "select %u", i);
		expect(conn, sql, expected);
		PQfinish(conn);
	}
	/* Handed on by a thread that ends. */
	return arg != NULL ? good(PQconnectdb("")) : NULL;
}

void
threads(void)
{
	pthread_t thread[THREADS];
	void *conn;

	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, connects, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	pthread_create(&thread[0], NULL, connects, thread);
	pthread_join(thread[0], &conn);
	expect(conn, "select 'still there'", "still there");
	PQfinish(conn);
}

void
forks(void)
{
	PGconn *conn = good(PQconnectdb("")), *own;
	int status;
	pid_t child;

	ask(conn, "begin");
	for (unsigned i = 0; i < 4; i++) {
		child = fork();
		if (child == 0) {
			if (i % 2 == 0)
				PQfinish(conn);
			own = good(i < 2 ? PQconnectdb("") : polled(PQconnectStart("")));
			expect(own, "select 'mine'", "mine");
			if (i % 2 != 0)
				_exit(PQresultStatus(PQexec(conn, "select 'the parent''s'")) == PGRES_FATAL_ERROR ? 0 : 2);
			PQfinish(own);
			exit(0);
		}
		if (waitpid(child, &status, 0) != child || status != 0)
			die("a child ended with %x", status);
	}
	expect(conn, "select pg_current_xact_id_if_assigned() is null", "t");
	if (PQtransactionStatus(conn) != PQTRANS_INTRANS)
		die("the transaction has gone");
	PQfinish(conn);
}
