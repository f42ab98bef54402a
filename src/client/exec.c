/* SPDX-License-Identifier: PostgreSQL */
/* libpq's query functions, timed. They take and give what libpq's take and give, and work with any PGconn. */
#include "timing.h"

PGresult *
pglease_exec(PGconn *conn, const char *command)
{
	struct timing t = timing_begin(conn);
	PGresult *result = PQexec(conn, command);

	timing_end(&t, result);
	return result;
}

PGresult *
pglease_exec_params(PGconn *conn, const char *command, int nParams, const Oid *paramTypes,
    const char *const *paramValues, const int *paramLengths, const int *paramFormats, int resultFormat)
{
	struct timing t = timing_begin(conn);
	PGresult *result = PQexecParams(
	    conn, command, nParams, paramTypes, paramValues, paramLengths, paramFormats, resultFormat);

	timing_end(&t, result);
	return result;
}

PGresult *
pglease_prepare(PGconn *conn, const char *stmtName, const char *query, int nParams, const Oid *paramTypes)
{
	struct timing t = timing_begin(conn);
	PGresult *result = PQprepare(conn, stmtName, query, nParams, paramTypes);

	timing_end(&t, result);
	return result;
}

PGresult *
pglease_exec_prepared(PGconn *conn, const char *stmtName, int nParams, const char *const *paramValues,
    const int *paramLengths, const int *paramFormats, int resultFormat)
{
	struct timing t = timing_begin(conn);
	PGresult *result =
	    PQexecPrepared(conn, stmtName, nParams, paramValues, paramLengths, paramFormats, resultFormat);

	timing_end(&t, result);
	return result;
}

static int
sent(const struct timing *t, int r)
{
	if (r == 1)
		timing_sent(t);
	return r;
}

int
pglease_send_query(PGconn *conn, const char *command)
{
	struct timing t = timing_begin(conn);

	return sent(&t, PQsendQuery(conn, command));
}

int
pglease_send_query_params(PGconn *conn, const char *command, int nParams, const Oid *paramTypes,
    const char *const *paramValues, const int *paramLengths, const int *paramFormats, int resultFormat)
{
	struct timing t = timing_begin(conn);

	return sent(&t,
	    PQsendQueryParams(
		conn, command, nParams, paramTypes, paramValues, paramLengths, paramFormats, resultFormat));
}

int
pglease_send_prepare(PGconn *conn, const char *stmtName, const char *query, int nParams, const Oid *paramTypes)
{
	struct timing t = timing_begin(conn);

	return sent(&t, PQsendPrepare(conn, stmtName, query, nParams, paramTypes));
}

int
pglease_send_query_prepared(PGconn *conn, const char *stmtName, int nParams, const char *const *paramValues,
    const int *paramLengths, const int *paramFormats, int resultFormat)
{
	struct timing t = timing_begin(conn);

	return sent(&t,
	    PQsendQueryPrepared(conn, stmtName, nParams, paramValues, paramLengths, paramFormats, resultFormat));
}

PGresult *
pglease_get_result(PGconn *conn)
{
	PGresult *result = PQgetResult(conn);

	timing_got(conn, result);
	return result;
}
