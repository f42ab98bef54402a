/* SPDX-License-Identifier: PostgreSQL */
/* Looking at a PGconn and its session: what the checks share. */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hygiene.h"
#include "it.h"

#define PATIENCE_MS 20000 /* for an answer: what it takes to fail */
#define SILENCE_MS 1000 /* where a leak may show as silence */

static int patience_ms = PATIENCE_MS;

const char *
hygiene_found(const char *format, ...)
{
	static char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return text;
}

/* Waits until libpq has the next result, or that there is none. False: it has not come. */
static bool
await_result(PGconn *conn)
{
	struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};

	while (PQisBusy(conn))
		if (poll(&p, 1, patience_ms) != 1 || !PQconsumeInput(conn))
			return false;
	return true;
}

const char *
hygiene_differs(PGconn *conn, const char *sql, const char *answer)
{
	const char *found = NULL;
	PGresult *result;
	unsigned results = 0;

	if (!PQsendQuery(conn, sql))
		return hygiene_found("%s: not sent: %s", sql, PQerrorMessage(conn));
	for (;;) {
		if (!await_result(conn))
			return hygiene_found("%s: no answer: %s", sql, PQerrorMessage(conn));
		if ((result = PQgetResult(conn)) == NULL)
			break;
		results++;
		if (found == NULL && (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1))
			found = hygiene_found(
			    "%s: %s %s", sql, PQresStatus(PQresultStatus(result)), PQerrorMessage(conn));
		else if (found == NULL && strcmp(PQgetvalue(result, 0, 0), answer) != 0)
			found =
			    hygiene_found("%s: \"%s\", not \"%s\"", sql, PQgetvalue(result, 0, 0), answer);
		PQclear(result);
	}
	/* PQexec would give the last one, and nobody would see the others. */
	if (found == NULL && results != 1)
		found = hygiene_found("%s: %u results", sql, results);
	return found;
}

const char *
hygiene_disagrees(PGconn *conn)
{
	static const char *const names[] = {"client_encoding", "standard_conforming_strings", "TimeZone",
	    "DateStyle", "IntervalStyle", "application_name", "session_authorization", "is_superuser",
	    "integer_datetimes", "server_encoding", "server_version", "default_transaction_read_only",
	    "in_hot_standby"};
	const int n = sizeof(names) / sizeof(names[0]);
	char sql[1024] = "select ";
	const char *found = NULL;
	PGresult *result;

	for (int i = 0; i < n; i++)
		snprintf(sql + strlen(sql), sizeof(sql) - strlen(sql), "%scurrent_setting('%s')",
		    i == 0 ? "" : ", ", names[i]);
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		found = hygiene_found("%s", PQerrorMessage(conn));
	for (int i = 0; i < n && found == NULL; i++) {
		const char *believed = PQparameterStatus(conn, names[i]);

		if (believed == NULL || strcmp(believed, PQgetvalue(result, 0, i)) != 0)
			found = hygiene_found("%s: the PGconn believes \"%s\", the session has \"%s\"",
			    names[i], believed != NULL ? believed : "nothing", PQgetvalue(result, 0, i));
	}
	PQclear(result);
	return found;
}

void
hygiene_quiet(void *arg, const char *message)
{
}

struct bytes {
	int fd, wanted;
};

static int
are_there(void *context)
{
	const struct bytes *b = context;
	int there = 0;

	ck_assert_int_eq(ioctl(b->fd, FIONREAD, &there), 0);
	return there >= b->wanted;
}

void
hygiene_await_bytes(PGconn *conn, int n)
{
	struct bytes bytes = {PQsocket(conn), n};

	ck_assert_msg(pglease_test_await(are_there, &bytes, IT_PATIENCE_MS) == 0, "%d bytes do not come", n);
}

void
hygiene_expect_silence(void)
{
	patience_ms = SILENCE_MS;
}
