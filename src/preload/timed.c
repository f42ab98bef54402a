/* SPDX-License-Identifier: PostgreSQL */
/* Queries: libpq's own, timed as the library's calls of its own are (pglease_exec and its kin) when the PGconn is leased. */
#include "call.h"
#include "timing.h"

/* A call that returns when its query is done. */
#define TIMED(function, parameters, arguments)                                                                      \
	EXPORT PGresult *function parameters                                                                        \
	{                                                                                                           \
		ENTER;                                                                                              \
		struct timing t = {.shell = NULL};                                                                  \
		PGresult *result;                                                                                   \
                                                                                                                    \
		if (!inner && lib->is_complete)                                                                     \
			t = timing_begin(conn);                                                                     \
		result = lib->function arguments;                                                                   \
		timing_end(&t, result);                                                                             \
		leave(lib, inner);                                                                                       \
		return result;                                                                                      \
	}

/* One whose results come by and by. */
#define SENT(function, parameters, arguments)                                                                       \
	EXPORT int function parameters                                                                              \
	{                                                                                                           \
		ENTER;                                                                                              \
		struct timing t = {.shell = NULL};                                                                  \
		int r;                                                                                              \
                                                                                                                    \
		if (!inner && lib->is_complete)                                                                     \
			t = timing_begin(conn);                                                                     \
		r = lib->function arguments;                                                                        \
		if (r == 1)                                                                                         \
			timing_sent(&t);                                                                            \
		leave(lib, inner);                                                                                       \
		return r;                                                                                           \
	}

TIMED(PQexec, (PGconn * conn, const char *query), (conn, query))
TIMED(PQexecParams,
    (PGconn * conn, const char *command, int n, const Oid *types, const char *const *values, const int *lengths,
	const int *formats, int format),
    (conn, command, n, types, values, lengths, formats, format))
TIMED(PQprepare, (PGconn * conn, const char *name, const char *query, int n, const Oid *types), (conn, name, query, n, types))
TIMED(PQexecPrepared,
    (PGconn * conn, const char *name, int n, const char *const *values, const int *lengths, const int *formats, int format),
    (conn, name, n, values, lengths, formats, format))
SENT(PQsendQuery, (PGconn * conn, const char *query), (conn, query))
SENT(PQsendQueryParams,
    (PGconn * conn, const char *command, int n, const Oid *types, const char *const *values, const int *lengths,
	const int *formats, int format),
    (conn, command, n, types, values, lengths, formats, format))
SENT(PQsendPrepare, (PGconn * conn, const char *name, const char *query, int n, const Oid *types), (conn, name, query, n, types))
SENT(PQsendQueryPrepared,
    (PGconn * conn, const char *name, int n, const char *const *values, const int *lengths, const int *formats, int format),
    (conn, name, n, values, lengths, formats, format))

EXPORT PGresult *
PQgetResult(PGconn *conn)
{
	ENTER;
	PGresult *result = lib->PQgetResult(conn);

	if (!inner && lib->is_complete)
		timing_got(conn, result);
	leave(lib, inner);
	return result;
}
