/* SPDX-License-Identifier: PostgreSQL */
/*
 * What an application can set on a leased PGconn, which is another lessee's of the same process next. What
 * can be put back is; for what cannot the PGconn is made anew, on the same session.
 */
#include <libpq-events.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "hygiene.h"
#include "it.h"

#define OWN HYGIENE_PGCONN | HYGIENE_OWN_TOO

static unsigned notices, events;
static int instance_data;
static FILE *trace;

static void
leave_nonblocking(PGconn *conn)
{
	ck_assert_int_eq(PQsetnonblocking(conn, 1), 0);
}

static const char *
find_nonblocking(PGconn *conn)
{
	return PQisnonblocking(conn) ? hygiene_found("non-blocking mode") : NULL;
}

static void
leave_verbosity(PGconn *conn)
{
	PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
}

/* By what it does: the text of an error has more than a SQLSTATE. */
static const char *
find_verbosity(PGconn *conn)
{
	PGresult *result = PQexec(conn, "select 1/0");
	const char *found = strstr(PQresultErrorMessage(result), "division by zero") != NULL
	                        ? NULL
	                        : hygiene_found("the verbosity of errors: %s", PQresultErrorMessage(result));

	PQclear(result);
	return found;
}

static void
leave_context(PGconn *conn)
{
	PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_NEVER);
}

static const char *
find_context(PGconn *conn)
{
	PGresult *result = PQexec(conn, "do $$ begin raise 'an error with a context'; end $$");
	const char *found = strstr(PQresultErrorMessage(result), "CONTEXT:") != NULL
	                        ? NULL
	                        : hygiene_found("errors without a context: %s", PQresultErrorMessage(result));

	PQclear(result);
	return found;
}

static void
count_notice(void *arg, const PGresult *result)
{
	++*(unsigned *)arg;
}

static void
count_message(void *arg, const char *message)
{
	++*(unsigned *)arg;
}

static void
raise_warning(PGconn *conn)
{
	notices = 0;
	it_query(conn, "do $$ begin raise warning 'for the one who asked for it'; end $$");
}

static void
leave_receiver(PGconn *conn)
{
	PQsetNoticeReceiver(conn, count_notice, &notices);
}

/* libpq's own receiver calls the processor. */
static const char *
find_receiver(PGconn *conn)
{
	unsigned processed = 0;

	PQsetNoticeProcessor(conn, count_message, &processed);
	raise_warning(conn);
	PQsetNoticeProcessor(conn, hygiene_quiet, NULL);
	return notices != 0     ? hygiene_found("a notice receiver was called")
	       : processed != 1 ? hygiene_found("libpq's own notice receiver is not back")
	                        : NULL;
}

static void
leave_processor(PGconn *conn)
{
	PQsetNoticeProcessor(conn, count_message, &notices);
}

static const char *
find_processor(PGconn *conn)
{
	PQnoticeProcessor processor = PQsetNoticeProcessor(conn, hygiene_quiet, NULL);

	return processor == count_message ? hygiene_found("a notice processor") : NULL;
}

static void
leave_trace(PGconn *conn)
{
	trace = tmpfile();
	ck_assert_ptr_nonnull(trace);
	PQtrace(conn, trace);
	PQsetTraceFlags(conn, PQTRACE_REGRESS_MODE | PQTRACE_SUPPRESS_TIMESTAMPS);
	it_query(conn, "select 'traced'");
}

static off_t
trace_size(void)
{
	struct stat st;

	ck_assert_int_eq(fflush(trace), 0);
	ck_assert_int_eq(fstat(fileno(trace), &st), 0);
	return st.st_size;
}

static const char *
find_trace(PGconn *conn)
{
	off_t before = trace_size(), after;

	ck_assert_int_gt(before, 0);
	it_query(conn, "select 'not traced'");
	after = trace_size();
	return after != before ? hygiene_found("PQtrace: %jd bytes more", (intmax_t)(after - before)) : NULL;
}

static int
on_event(PGEventId id, void *info, void *pass_through)
{
	++*(unsigned *)pass_through;
	return 1;
}

static void
leave_event_procedure(PGconn *conn)
{
	events = 0;
	ck_assert_int_eq(PQregisterEventProc(conn, on_event, "application", &events), 1);
	ck_assert_int_eq(PQsetInstanceData(conn, on_event, &instance_data), 1);
}

static const char *
find_event_procedure(PGconn *conn)
{
	events = 0;
	it_query(conn, "select 1");
	return events != 0 ? hygiene_found("an event procedure was called") : NULL;
}

static const char *
find_instance_data(PGconn *conn)
{
	return PQinstanceData(conn, on_event) != NULL ? hygiene_found("an event procedure's instance data")
	                                              : NULL;
}

/* Read by libpq and not taken by the application. */
static void
leave_notification(PGconn *conn)
{
	it_query(conn, "listen ch");
	it_query(conn, "notify ch, 'of the session itself'");
}

static const char *
find_notification(PGconn *conn)
{
	PGnotify *notify = PQnotifies(conn);

	if (notify == NULL)
		return NULL;
	PQfreemem(notify);
	return hygiene_found("a notification");
}

static void
leave_pipeline_mode(PGconn *conn)
{
	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
}

static void
leave_unsent_pipeline(PGconn *conn)
{
	leave_pipeline_mode(conn);
	ck_assert_int_eq(PQsendQueryParams(conn, "select 'not yours'", 0, NULL, NULL, NULL, NULL, 0), 1);
}

static const char *
find_pipeline_mode(PGconn *conn)
{
	return PQpipelineStatus(conn) != PQ_PIPELINE_OFF ? hygiene_found("pipeline mode") : NULL;
}

/* All of it has come, and libpq has read it. The application has not. */
static void
leave_read_by_libpq_only(PGconn *conn)
{
	ck_assert_int_eq(PQsendQuery(conn, "select 'not yours'"), 1);
	while (PQisBusy(conn)) {
		hygiene_await_bytes(conn, 1);
		ck_assert_int_eq(PQconsumeInput(conn), 1);
	}
}

static const char *
find_result(PGconn *conn)
{
	PGresult *result = PQgetResult(conn);

	if (result == NULL)
		return NULL;
	PQclear(result);
	return hygiene_found("a result that nobody asked for");
}

/* clang-format off */
const struct hygiene_case hygiene_pgconn[] = {
    {"non-blocking mode", OWN, .leave = leave_nonblocking, .find = find_nonblocking},
    {"error verbosity", OWN, .leave = leave_verbosity, .find = find_verbosity},
    {"error context visibility", OWN, .leave = leave_context, .find = find_context},
    {"notice receiver", OWN, .leave = leave_receiver, .find = find_receiver},
    {"notice processor", OWN, .leave = leave_processor, .find = find_processor},
    {"PQtrace", OWN, .leave = leave_trace, .find = find_trace},
    {"event procedure", OWN, .leave = leave_event_procedure, .find = find_event_procedure},
    {"event procedure's instance data", OWN, .leave = leave_event_procedure, .find = find_instance_data},
    {"notification not taken", OWN, .leave = leave_notification, .find = find_notification},
    {"result not taken", OWN | HYGIENE_REPLACED, .leave = leave_read_by_libpq_only, .find = find_result},
    {"pipeline mode with nothing sent", OWN | HYGIENE_REPLACED, .leave = leave_pipeline_mode,
        .find = find_pipeline_mode},
    {"pipeline that was not flushed", OWN | HYGIENE_REPLACED, .leave = leave_unsent_pipeline,
        .find = find_pipeline_mode},
    {NULL},
};
/* clang-format on */
