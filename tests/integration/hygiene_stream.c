/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a lessee can leave on the way between its PGconn and the server. Nearly all of it costs the
 * connection: it cannot be brought back for the next lessee in a bounded time.
 */
#include <stdio.h>

#include "hygiene.h"
#include "it.h"

#define MINE .asks = "select 'mine'", .answer = "mine"
#define COSTS HYGIENE_REPLACED | HYGIENE_OWN_TOO
/* More than the socket takes: the server is still at it when the lease ends. */
#define LONG_RESULT "select 'not yours', repeat('x', 1000) from generate_series(1, 3000)"
/*
 * Notifications of nearly the longest size there is: two fit into libpq's buffer of 16 KiB, the third one
 * only in part.
 */
#define PAYLOAD 7900
#define NOTIFICATION (1 + 4 + 4 + sizeof("ch") + PAYLOAD + 1)
#define NOTIFICATIONS 3

static void
leave_copy_in(PGconn *conn)
{
	PGresult *result = PQexec(conn, "copy kept from stdin");

	ck_assert_int_eq(PQresultStatus(result), PGRES_COPY_IN);
	PQclear(result);
	ck_assert_int_eq(PQputCopyData(conn, "1\n", 2), 1);
	ck_assert_int_eq(PQflush(conn), 0);
}

static void
leave_copy_out(PGconn *conn)
{
	PGresult *result = PQexec(conn, "copy (" LONG_RESULT ") to stdout");
	char *row;

	ck_assert_int_eq(PQresultStatus(result), PGRES_COPY_OUT);
	PQclear(result);
	ck_assert_int_gt(PQgetCopyData(conn, &row, 0), 0);
	PQfreemem(row);
}

static void
leave_unread(PGconn *conn)
{
	ck_assert_int_eq(PQsendQuery(conn, LONG_RESULT), 1);
}

static void
leave_unread_and_small(PGconn *conn)
{
	ck_assert_int_eq(PQsendQuery(conn, "select 'not yours'"), 1);
	hygiene_await_bytes(conn, 1);
}

static void
leave_single_row(PGconn *conn)
{
	PGresult *result;

	leave_unread(conn);
	ck_assert_int_eq(PQsetSingleRowMode(conn), 1);
	result = PQgetResult(conn);
	ck_assert_int_eq(PQresultStatus(result), PGRES_SINGLE_TUPLE);
	PQclear(result);
}

static void
leave_pipeline(PGconn *conn)
{
	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	ck_assert_int_eq(PQsendQueryParams(conn, "select 'not yours'", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQsendFlushRequest(conn), 1);
	ck_assert_int_eq(PQflush(conn), 0);
}

static void
leave_pipeline_with_sync(PGconn *conn)
{
	leave_pipeline(conn);
	ck_assert_int_eq(PQpipelineSync(conn), 1);
}

/* The query after the one that fails is skipped until the end of the pipeline, which never comes. */
static void
leave_aborted_pipeline(PGconn *conn)
{
	PGresult *result;

	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	ck_assert_int_eq(PQsendQueryParams(conn, "select 1/0", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQsendFlushRequest(conn), 1);
	ck_assert_int_eq(PQflush(conn), 0);
	result = PQgetResult(conn);
	ck_assert_int_eq(PQresultStatus(result), PGRES_FATAL_ERROR);
	PQclear(result);
	ck_assert_int_eq(PQpipelineStatus(conn), PQ_PIPELINE_ABORTED);
}

static void
leave_sleeping(PGconn *conn)
{
	ck_assert_int_eq(PQsendQuery(conn, "select 'not yours' from pg_sleep(0.05)"), 1);
}

/* From another session, so that the server sends it to this one while it is idle. */
static void
notify(unsigned n)
{
	char sql[128];

	/* Each one's payload is another one, or the server drops all but the first. */
	snprintf(sql, sizeof(sql),
	    "select pg_notify('ch', g || repeat('x', %d)) from generate_series(1, %u) g", PAYLOAD - 1, n);
	ck_assert_msg(pglease_test_sql(it_env, sql, NULL, 0) == 0, "%s", pglease_test_error_message());
}

static void
leave_notification(PGconn *conn)
{
	notify(1);
	hygiene_await_bytes(conn, NOTIFICATION);
}

/* libpq has two and a part of the third one; the rest is still in the socket. */
static void
leave_half_a_notification(PGconn *conn)
{
	notify(NOTIFICATIONS);
	hygiene_await_bytes(conn, NOTIFICATIONS * NOTIFICATION);
	ck_assert_int_eq(PQconsumeInput(conn), 1);
	hygiene_await_bytes(conn, 1);
}

/* clang-format off */
const struct hygiene_case hygiene_stream[] = {
    {"COPY in", COSTS, .leave = leave_copy_in, MINE},
    {"COPY out", COSTS, .leave = leave_copy_out, MINE},
    {"unread result", COSTS, .leave = leave_unread, MINE},
    {"unread result that has come", COSTS, .leave = leave_unread_and_small, MINE},
    {"query in progress", COSTS, .leave = leave_sleeping, MINE},
    {"single-row mode left halfway", COSTS, .leave = leave_single_row, MINE},
    {"pipeline", COSTS, .leave = leave_pipeline, MINE},
    {"pipeline with its end sent", COSTS, .leave = leave_pipeline_with_sync, MINE},
    {"aborted pipeline", COSTS, .leave = leave_aborted_pipeline, MINE},
    {"notification on its way", HYGIENE_EITHER, .sql = "listen ch", .leave = leave_notification,
        .asks = "select count(*) from pg_listening_channels()", .answer = "0"},
    {"half a notification in libpq's buffer", HYGIENE_REPLACED, .sql = "listen ch",
        .leave = leave_half_a_notification, MINE},
    {NULL},
};
/* clang-format on */
