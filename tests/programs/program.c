/* SPDX-License-Identifier: PostgreSQL */
#include "program.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

PGconn *
good(PGconn *conn)
{
	if (PQstatus(conn) != CONNECTION_OK)
		die("no connection: %s", PQerrorMessage(conn));
	return conn;
}

const char *
ask(PGconn *conn, const char *sql)
{
	static _Thread_local char values[4][512];
	static _Thread_local unsigned next;
	char *value = values[next++ % 4];
	PGresult *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		die("%s: %s", sql, PQerrorMessage(conn));
	snprintf(value, sizeof(values[0]), "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return value;
}

void
expect(PGconn *conn, const char *sql, const char *expected)
{
	const char *got = ask(conn, sql);

	if (strcmp(got, expected) != 0)
		die("%s: '%s' instead of '%s'", sql, got, expected);
}

void
expect_text(const char *what, const char *got, const char *expected)
{
	if (got == NULL || strcmp(got, expected) != 0)
		die("%s: '%s' instead of '%s'", what, got != NULL ? got : "(null)", expected);
}

PostgresPollingStatusType
poll_through(PGconn *conn, PostgresPollingStatusType (*step)(PGconn *))
{
	PostgresPollingStatusType polling = PGRES_POLLING_WRITING;

	while (polling == PGRES_POLLING_WRITING || polling == PGRES_POLLING_READING) {
		struct pollfd p = {.fd = PQsocket(conn), .events = polling == PGRES_POLLING_READING ? POLLIN : POLLOUT};

		if (poll(&p, 1, WAIT_MS) != 1)
			die("nothing happens on the socket of a connect");
		polling = step(conn);
	}
	return polling;
}

PGconn *
polled(PGconn *conn)
{
	if (PQstatus(conn) == CONNECTION_BAD || poll_through(conn, PQconnectPoll) != PGRES_POLLING_OK)
		die("no connection: %s", PQerrorMessage(conn));
	return good(conn);
}
static void
noticed(void *seen, const char *message)
{
	*(bool *)seen = true;
}

/* The query runs when it has said so: a server that is idle drops a request that comes too soon. */
void
cancels(PGconn *conn)
{
	char error[256];
	PGcancel *cancel = PQgetCancel(conn);
	PGresult *result;
	bool runs = false;

	PQsetNoticeProcessor(conn, noticed, &runs);
	if (!PQsendQuery(conn, "do $$ begin raise warning 'now'; perform pg_sleep(1000); end $$"))
		die("send: %s", PQerrorMessage(conn));
	while (!runs) {
		struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};

		if (poll(&p, 1, WAIT_MS) != 1 || !PQconsumeInput(conn))
			die("nothing comes of a query: %s", PQerrorMessage(conn));
		(void)PQisBusy(conn);
	}
	if (!PQcancel(cancel, error, sizeof(error)))
		die("cancel: %s", error);
	result = PQgetResult(conn);
	expect_text("state", PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014");
	PQclear(result);
	while ((result = PQgetResult(conn)) != NULL)
		PQclear(result);
	PQfreeCancel(cancel);
	expect(conn, "select 'goes on'", "goes on");
}

bool
is_leased(PGconn *conn)
{
	return strcmp(ask(good(conn), "show lock_timeout"), "77s") == 0;
}
