/* SPDX-License-Identifier: PostgreSQL */
/* What a lessee can leave in the server's session. */
#include <string.h>

#include "hygiene.h"
#include "it.h"

static void
leave_failed(PGconn *conn)
{
	PGresult *result = PQexec(conn, "select 1/0");

	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_INERROR);
	PQclear(result);
}

static void
leave_prepared(PGconn *conn)
{
	PGresult *result = PQprepare(conn, "by protocol", "select $1::int", 1, NULL);

	ck_assert_int_eq(PQresultStatus(result), PGRES_COMMAND_OK);
	PQclear(result);
}

/* A descriptor of the session's is a small number: whoever is in the same transaction may use it. */
static const char *
find_large_object(PGconn *conn)
{
	PGresult *result = PQexec(conn, "select loread(0, 1)");
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE), *found = NULL;

	/* undefined_object is the answer of a session without one. */
	if (state == NULL || strcmp(state, "42704") != 0)
		found =
		    hygiene_found("descriptor 0 of a large object: %s", PQresStatus(PQresultStatus(result)));
	PQclear(result);
	return found;
}

static const char *
find_currval(PGconn *conn)
{
	PGresult *result = PQexec(conn, "select currval('seq'), lastval()");
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE), *found = NULL;

	/* object_not_in_prerequisite_state: not called in this session yet. */
	if (state == NULL || strcmp(state, "55000") != 0)
		found =
		    hygiene_found("currval and lastval are known: %s", PQresStatus(PQresultStatus(result)));
	PQclear(result);
	return found;
}

/* clang-format off */
const struct hygiene_case hygiene_session[] = {
    {"open transaction", HYGIENE_OWN_TOO | HYGIENE_ROLLBACK,
        .sql = "begin; insert into kept values (1)",
        .asks = "select count(*) from kept", .answer = "0"},
    {"failed transaction", HYGIENE_OWN_TOO | HYGIENE_ROLLBACK,
        .sql = "begin; insert into kept values (1)", .leave = leave_failed,
        .asks = "select count(*) from kept", .answer = "0"},
    {"open transaction with a savepoint and SET LOCAL", HYGIENE_OWN_TOO | HYGIENE_ROLLBACK,
        .sql = "begin; set local work_mem = '64kB'; savepoint s; insert into kept values (1)",
        .asks = "select count(*) || current_setting('work_mem') from kept", .answer = "04MB"},
    {"large-object descriptor", HYGIENE_OWN_TOO | HYGIENE_ROLLBACK,
        .sql = "begin; select lo_open(4711, 393216)",
        .find = find_large_object},
    {"settings", 0,
        .sql = "set work_mem = '64kB'; set statement_timeout = '1h'; set lc_messages = 'POSIX'",
        .asks = "select coalesce(string_agg(name, ' '), '') from pg_settings where source = 'session'", .answer = ""},
    {"settings of one's own", 0,
        .sql = "set my.own = 'secret'",
        .asks = "select coalesce(current_setting('my.own', true), '')", .answer = ""},
    {"SESSION CHARACTERISTICS", 0,
        .sql = "set session characteristics as transaction isolation level serializable, read only",
        .asks = "select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')",
        .answer = "read committed off"},
    {"search_path", 0,
        .sql = "set search_path = evil",
        .asks = "show search_path", .answer = "\"$user\", public"},
    {"ROLE", 0,
        .sql = "set role other",
        .asks = "select current_user", .answer = "postgres"},
    {"SESSION AUTHORIZATION", 0,
        .sql = "set session authorization other",
        .asks = "select session_user || ' ' || current_user", .answer = "postgres postgres"},
    {"temporary table", 0,
        .sql = "create temporary table t as select 1",
        .asks = "select coalesce(to_regclass('pg_temp.t')::text, '')", .answer = ""},
    {"temporary table that hides another", 0,
        .sql = "create temporary table kept as select generate_series(1, 7)",
        .asks = "select count(*) from kept", .answer = "0"},
    {"prepared statement", HYGIENE_LIGHT_KEEPS,
        .sql = "prepare by_sql as select 1",
        .asks = "select count(*) from pg_prepared_statements", .answer = "0"},
    {"prepared statement, by the protocol", HYGIENE_LIGHT_KEEPS,
        .leave = leave_prepared,
        .asks = "select count(*) from pg_prepared_statements", .answer = "0"},
    {"sequence caches", HYGIENE_LIGHT_KEEPS,
        .sql = "select nextval('seq')",
        .find = find_currval},
    {"LISTEN", 0,
        .sql = "listen ch",
        .asks = "select count(*) from pg_listening_channels()", .answer = "0"},
    {"advisory lock", 0,
        .sql = "select pg_advisory_lock(42), pg_advisory_lock_shared(43)",
        .asks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
        .answer = "0"},
    {"WITH HOLD cursor", 0,
        .sql = "begin; declare c cursor with hold for select 'secret'; commit",
        .asks = "select count(*) from pg_cursors", .answer = "0"},
    {NULL},
};
/* clang-format on */
