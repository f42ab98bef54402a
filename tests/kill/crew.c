/* SPDX-License-Identifier: PostgreSQL */
/* See crew.h. */
#include "crew.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pglease.h"
#include "report.h"

/* Far longer than any recovery takes; a failure costs this much. */
#define ACQUIRE_MS 20000
#define HEAR_MS 40000

struct order {
	char what; /* 'a'cquire, 'v'erify, 'r'elease */
	unsigned pool;
	uint32_t number; /* nobody else's */
};

struct answer {
	bool good;
	int code; /* of an acquire that failed */
	uint32_t backend;
	char text[256];
};

static struct {
	pid_t pid;
	int socket;
} crew[NCREW];

static const char *const crew_name[NCREW] = {"the holder", "the next lessee"};

/* One row: the number asked for, the traces there (its own are its own), the backend. */
static void
check_session(PGconn *conn, uint32_t number, const char *own, struct answer *ret)
{
	char sql[160], expect[16];
	PGresult *result;

	snprintf(sql, sizeof(sql),
	    "select %u, coalesce(current_setting('" CREW_SETTING "', true), ''), pg_backend_pid()", number);
	snprintf(expect, sizeof(expect), "%u", number);
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1 || PQnfields(result) != 3)
		snprintf(ret->text, sizeof(ret->text), "no row of its own: %s", PQerrorMessage(conn));
	else if (strcmp(PQgetvalue(result, 0, 0), expect) != 0)
		snprintf(ret->text, sizeof(ret->text), "another's row: %s, not %s", PQgetvalue(result, 0, 0),
		    expect);
	else if (strcmp(PQgetvalue(result, 0, 1), "") != 0 && strcmp(PQgetvalue(result, 0, 1), own) != 0)
		snprintf(ret->text, sizeof(ret->text), "another's session: it has the traces of %s",
		    PQgetvalue(result, 0, 1));
	else
		ret->good = true;
	if (ret->good)
		ret->backend = (uint32_t)atol(PQgetvalue(result, 0, 2));
	PQclear(result);
}

static void
obey(enum crew who, const struct order *order, pglease_pool *pool, pglease_lease *lease, struct answer *ret)
{
	char sql[64];
	static PGconn *conn;
	PGresult *result;

	*ret = (struct answer){.good = false};
	if (order->what == 'r') {
		ret->good = pglease_release(lease) == 0;
		if (!ret->good)
			snprintf(ret->text, sizeof(ret->text), "release: %s", pglease_error_message());
		return;
	}
	if (order->what == 'v') {
		check_session(conn, order->number, crew_name[who], ret);
		return;
	}
	ret->code = pglease_acquire(pool, ACQUIRE_MS, lease, &conn);
	if (ret->code != 0) {
		snprintf(ret->text, sizeof(ret->text), "is forgotten: %s", pglease_error_message());
		return;
	}
	check_session(conn, order->number, crew_name[who], ret);
	snprintf(sql, sizeof(sql), "set " CREW_SETTING " = '%s'", crew_name[who]);
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_COMMAND_OK && ret->good) {
		ret->good = false;
		snprintf(ret->text, sizeof(ret->text), "SET: %s", PQerrorMessage(conn));
	}
	PQclear(result);
}

static void
serve(enum crew who, int socket, const char *const pools[], unsigned npools)
{
	pglease_pool *pool[VIEW_MAX_POOLS] = {NULL};
	pglease_lease lease[VIEW_MAX_POOLS];
	struct order order;
	struct answer answer = {.good = true};
	pglease *client;

	if (pglease_attach(NULL, NULL, &client) != 0)
		answer.good = false;
	for (unsigned i = 0; answer.good && i < npools; i++)
		answer.good = pglease_pool_open(client, pools[i], &pool[i]) == 0;
	if (!answer.good)
		snprintf(answer.text, sizeof(answer.text), "%s", pglease_error_message());
	while (send(socket, &answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer) &&
	       recv(socket, &order, sizeof(order), 0) == sizeof(order))
		obey(who, &order, pool[order.pool], &lease[order.pool], &answer);
	_exit(0);
}

static void
listen_to(enum crew who, struct answer *ret)
{
	struct pollfd p = {.fd = crew[who].socket, .events = POLLIN};

	if (poll(&p, 1, HEAR_MS) != 1 || recv(p.fd, ret, sizeof(*ret), 0) != sizeof(*ret))
		report_fail("%s says nothing any more", crew_name[who]);
}

static void
hear(enum crew who, struct answer *ret)
{
	listen_to(who, ret);
	if (!ret->good)
		report_fail("%s: %s", crew_name[who], ret->text);
}

void
crew_start(const char *const pools[], unsigned npools)
{
	for (enum crew who = 0; who < NCREW; who++) {
		pid_t parent = getpid();
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
			report_fail("socketpair: %m");
		fflush(stdout);
		crew[who].pid = fork();
		if (crew[who].pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(0);
			close(pair[0]);
			serve(who, pair[1], pools, npools);
		}
		close(pair[1]);
		crew[who].socket = pair[0];
		crew_done(who);
	}
}

void
crew_stop(void)
{
	for (enum crew who = 0; who < NCREW; who++) {
		int status;

		if (crew[who].pid == 0)
			continue;
		kill(crew[who].pid, SIGKILL);
		waitpid(crew[who].pid, &status, 0);
		close(crew[who].socket);
		crew[who].pid = 0;
	}
}

static unsigned its_pool[NCREW];

static void
say(enum crew who, char what, unsigned pool)
{
	static uint32_t number;
	struct order order = {.what = what, .pool = pool, .number = ++number};

	its_pool[who] = pool;
	if (send(crew[who].socket, &order, sizeof(order), MSG_NOSIGNAL) != sizeof(order))
		report_fail("%s has gone", crew_name[who]);
}

void
crew_acquire(enum crew who, unsigned pool)
{
	say(who, 'a', pool);
}

void
crew_expect(enum crew who, const struct view_held *not_of)
{
	struct answer answer;

	hear(who, &answer);
	for (unsigned i = 0; not_of != NULL && i < not_of->n; i++)
		if (answer.backend == not_of->pid[i])
			report_fail(
			    "%s has the dead one's session, backend %u", crew_name[who], answer.backend);
}

bool
crew_expect_or_gone(enum crew who)
{
	struct answer answer;

	listen_to(who, &answer);
	if (!answer.good && answer.code != PGLEASE_ENOBROKER)
		report_fail("%s: %s (code %d)", crew_name[who], answer.text, answer.code);
	return answer.good;
}

bool
crew_has_answered(enum crew who)
{
	struct pollfd p = {.fd = crew[who].socket, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

void
crew_release(enum crew who)
{
	say(who, 'r', its_pool[who]);
}

void
crew_done(enum crew who)
{
	struct answer answer;

	hear(who, &answer);
}

void
crew_verify(enum crew who)
{
	say(who, 'v', its_pool[who]);
	crew_done(who);
}

void
crew_lease(enum crew who, unsigned pool, const struct view_held *not_of)
{
	crew_acquire(who, pool);
	crew_expect(who, not_of);
	crew_release(who);
	crew_done(who);
}
