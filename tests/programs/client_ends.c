/* SPDX-License-Identifier: PostgreSQL */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpq-events.h>

/* In a transaction, without a word. */
void
vanishes(void)
{
	PGconn *conn = good(PQconnectdb(""));

	ask(conn, "begin");
	ask(conn, "insert into kept values (1)");
	_exit(0);
}

/* The backend of a session that owes the answer to its reset is stopped; what was sent behind it must not be in the next one. */
void
late(void)
{
	PGconn *conn = good(PQconnectdb("application_name=one")), *other, *next;
	int stopped = PQbackendPID(conn);

	if (kill(stopped, SIGSTOP) != 0)
		die("SIGSTOP: %s", strerror(errno));
	PQfinish(conn);
	other = good(PQconnectdb("application_name=one"));
	if (PQbackendPID(other) == stopped)
		die("a backend that is stopped has answered");
	expect(other, "show application_name", "one");
	kill(stopped, SIGCONT);
	next = good(PQconnectdb(""));
	if (PQbackendPID(next) != stopped)
		die("the session that was late is another's");
	if (strcmp(ask(next, "show application_name"), "one") == 0)
		die("the session has another's name");
	PQfinish(next);
	PQfinish(other);
}

static unsigned events, ends;

static int
on_event(PGEventId id, void *info, void *arg)
{
	events++;
	ends += id == PGEVT_CONNDESTROY;
	return 1;
}

void
registers(void)
{
	PGconn *conn = good(PQconnectdb(""));
	unsigned before;

	if (!PQregisterEventProc(conn, on_event, "ours", NULL))
		die("PQregisterEventProc");
	ask(conn, "select 1");
	PQfinish(conn);
	if (ends != 1)
		die("an event procedure was told of %u ends", ends);
	before = events;
	for (unsigned i = 0; i < 3; i++) {
		conn = good(PQconnectdb(""));
		ask(conn, "select 1");
		PQfinish(conn);
	}
	if (events != before)
		die("an event procedure of another connection was called");
}

/* What is done to this one in a callback of another's, as a language's finaliser does it. */
static PGconn *other;
static enum { RESETS, POLLS, REGISTERS, FINISHES } what;

static void
do_to_other(void)
{
	switch (what) {
	case RESETS:
		PQreset(other);
		break;
	case POLLS:
		if (!PQresetStart(other) || poll_through(other, PQresetPoll) != PGRES_POLLING_OK)
			die("PQresetStart: %s", PQerrorMessage(other));
		break;
	case REGISTERS:
		if (!PQregisterEventProc(other, on_event, "ours", NULL))
			die("PQregisterEventProc");
		break;
	case FINISHES:
		PQfinish(other);
		other = NULL;
	}
}

static void
on_notice(void *arg, const PGresult *notice)
{
	do_to_other();
}

static int
on_end(PGEventId id, void *info, void *arg)
{
	if (id == PGEVT_CONNDESTROY)
		do_to_other();
	return 1;
}

/* On a pool of two: what is not given back is missed. */
void
nested(void)
{
	PGconn *conn = good(PQconnectdb(""));
	int backend;

	other = good(PQconnectdb("application_name=other"));
	PQsetNoticeReceiver(conn, on_notice, NULL);
	for (what = RESETS; what <= FINISHES; what++) {
		backend = PQbackendPID(other);
		ask(conn, "do $$ begin raise warning 'now'; end $$");
		if (other == NULL)
			break;
		if (what != REGISTERS && PQbackendPID(good(other)) == backend)
			die("the same session after a reset");
		expect(other, "show application_name", "other");
	}
	if (ends != 1)
		die("an event procedure was told of %u ends", ends);
	what = FINISHES;
	other = good(PQconnectdb(""));
	if (PQbackendPID(other) != backend)
		die("another session than the one that was given back");
	if (!PQregisterEventProc(conn, on_end, "ends", NULL))
		die("PQregisterEventProc");
	PQfinish(conn);
	if (other != NULL)
		die("an event procedure was not called");
	conn = good(PQconnectdb(""));
	other = good(PQconnectdb(""));
	if (!is_leased(conn) || !is_leased(other))
		die("connected directly");
	PQfinish(conn);
	PQfinish(other);
}

/* Says that it has come so far, and waits until the test has done its part. */
static void
meet(int from, int to, char here)
{
	char there;

	if (write(from, &here, 1) != 1 || read(to, &there, 1) != 1 || there != here)
		die("the test has gone");
}

/* Leased by that broker's successor, and not directly. */
static void
await_another(int backend)
{
	PGconn *conn;
	bool is_another = false;

	for (unsigned i = 0; i < WAIT_MS && !is_another; i++) {
		conn = PQconnectdb("");
		if (!is_leased(conn))
			die("connected directly");
		is_another = PQbackendPID(conn) != backend;
		PQfinish(conn);
		if (!is_another)
			usleep(1000);
	}
	if (!is_another)
		die("the next broker is not found");
}

/* The broker is killed, and started again, at the test's hands. */
void
survives(void)
{
	char path[512];
	PGconn *conn;
	int from, to, backend;

	snprintf(path, sizeof(path), "%s/from", getenv("PGLEASE_WORK"));
	from = open(path, O_WRONLY);
	snprintf(path, sizeof(path), "%s/to", getenv("PGLEASE_WORK"));
	to = open(path, O_RDONLY);
	conn = PQconnectdb("");
	backend = PQbackendPID(good(conn));
	PQfinish(conn);
	meet(from, to, 'k');
	/* What it has had it can have again; what a fresh connection is without, this one is, too. */
	for (unsigned i = 0; i < 10; i++) {
		conn = PQconnectdb("");
		if (PQbackendPID(good(conn)) != backend || !is_leased(conn))
			die("another session");
		expect(conn, "select coalesce(current_setting('my.own', true), '')", "");
		ask(conn, "set my.own = 'left'");
		PQfinish(conn);
	}
	meet(from, to, 's');
	await_another(backend);
	/* Over the change. */
	conn = PQconnectdb("");
	backend = PQbackendPID(good(conn));
	meet(from, to, 'k');
	meet(from, to, 's');
	expect(conn, "select 'still'", "still");
	PQfinish(conn);
	await_another(backend);
}
