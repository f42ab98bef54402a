/* SPDX-License-Identifier: PostgreSQL */
/*
 * A program that knows only libpq: connects in every way, and looks at what it gets. test_preload runs it with the library
 * preloaded, one scenario at a time; it ends with 0 when all was as on connections of its own.
 */
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *
with_params(const char *keyword, const char *value, bool start)
{
	const char *keywords[] = {keyword, NULL}, *values[] = {value, NULL};

	return start ? PQconnectStartParams(keywords, values, 1) : PQconnectdbParams(keywords, values, 1);
}

/* On a pool of one connection: each way gives the same session. */
static void
ways(void)
{
	char pid[512];
	PGconn *conn = good(PQconnectdb(""));

	snprintf(pid, sizeof(pid), "%s", ask(conn, "select pg_backend_pid()"));
	for (unsigned way = 0; way < 7; way++) {
		PQfinish(conn);
		switch (way) {
		case 0:
			conn = good(PQconnectdb("application_name=way"));
			break;
		case 1:
			conn = good(with_params("application_name", "way", false));
			break;
		case 2:
			conn = good(with_params("dbname", "application_name=way", false));
			break;
		case 3:
			conn = good(PQsetdbLogin(NULL, NULL, NULL, NULL, "application_name=way", NULL, NULL));
			break;
		case 4:
			conn = polled(PQconnectStart("application_name=way"));
			break;
		case 5:
			conn = good(PQconnectdb("fallback_application_name=way"));
			break;
		default:
			conn = polled(with_params("application_name", "way", true));
		}
		expect(conn, "select pg_backend_pid()", pid);
		expect(conn, "show application_name", "way");
		expect_text("what libpq believes", PQparameterStatus(conn, "application_name"), "way");
	}
	PQfinish(conn);
	if (PQping("") != PQPING_OK)
		die("PQping");
	if (PQpingParams((const char *[]){NULL}, (const char *[]){NULL}, 0) != PQPING_OK)
		die("PQpingParams");
}

/* Nothing of one connection is in the next. */
static void
fresh(void)
{
	for (unsigned i = 0; i < 20; i++) {
		PGconn *conn = good(PQconnectdb(""));

		PQclear(PQprepare(conn, "s", "select $1::int", 1, NULL));
		if (PQresultStatus(PQdescribePrepared(conn, "s")) != PGRES_COMMAND_OK)
			die("prepare: %s", PQerrorMessage(conn));
		ask(conn, "create temporary table mine (i int)");
		expect(conn, "show work_mem", "4MB");
		ask(conn, "set work_mem = '5MB'");
		ask(conn, "listen here");
		expect(conn, "select pg_try_advisory_lock(1)", "t");
		expect(conn, "select count(*) from pg_listening_channels()", "1");
		ask(conn, "set client_encoding = 'LATIN1'");
		ask(conn, "begin");
		ask(conn, "insert into kept values (1)");
		PQfinish(conn);
		conn = good(PQconnectdb(""));
		expect(conn, "select count(*) from pg_listening_channels()", "0");
		expect(conn, "select count(*) from kept", "0");
		expect_text("encoding", pg_encoding_to_char(PQclientEncoding(conn)), "UTF8");
		PQfinish(conn);
	}
}

static void
settings(void)
{
	PGconn *conn;

	setenv("PGTZ", "Asia/Tokyo", 1);
	setenv("PGDATESTYLE", "German", 1);
	setenv("PGGEQO", "off", 1);
	setenv("PGOPTIONS", "-c search_path=a,\\ b --work-mem=7MB", 1);
	setenv("PGAPPNAME", "it's \\ me", 1);
	setenv("PGCLIENTENCODING", "LATIN1", 1);
	for (unsigned i = 0; i < 3; i++) {
		conn = good(PQconnectdb("fallback_application_name=other"));
		expect(conn, "show timezone", "Asia/Tokyo");
		expect(conn, "show datestyle", "German, DMY");
		expect(conn, "show geqo", "off");
		expect(conn, "show search_path", "a, b");
		expect(conn, "show work_mem", "7MB");
		expect(conn, "show application_name", "it's \\ me");
		expect_text("encoding", pg_encoding_to_char(PQclientEncoding(conn)), "LATIN1");
		PQfinish(conn);
	}
	for (const char *const *name = (const char *const[]){
		 "PGTZ", "PGDATESTYLE", "PGGEQO", "PGOPTIONS", "PGAPPNAME", "PGCLIENTENCODING", NULL};
	     *name != NULL; name++)
		unsetenv(*name);
	conn = polled(PQconnectStart("options='-c work_mem=9MB' application_name=other"));
	expect(conn, "show work_mem", "9MB");
	expect(conn, "show application_name", "other");
	PQfinish(conn);
	conn = good(PQconnectdb(""));
	expect(conn, "show work_mem", "4MB");
	expect(conn, "show geqo", "on");
	expect(conn, "show search_path", "\"$user\", public");
	expect_text("encoding", pg_encoding_to_char(PQclientEncoding(conn)), "UTF8");
	PQfinish(conn);
	/* The server's own words about what no session takes. */
	conn = PQconnectdb("options='-c no_such_thing=1'");
	if (PQstatus(conn) != CONNECTION_BAD || strstr(PQerrorMessage(conn), "unrecognized configuration parameter") == NULL)
		die("a wrong setting: %s", PQerrorMessage(conn));
	PQfinish(conn);
}

static void
info(void)
{
	PGconn *conn = good(PQconnectdb("application_name=info"));
	PQconninfoOption *options = PQconninfo(conn);
	unsigned seen = 0;

	expect_text("PQhost", PQhost(conn), getenv("PGHOST"));
	expect_text("PQport", PQport(conn), "5432");
	expect_text("PQuser", PQuser(conn), "postgres");
	expect_text("PQdb", PQdb(conn), "postgres");
	expect_text("PQpass", PQpass(conn), "");
	expect_text("PQoptions", PQoptions(conn), "");
	for (PQconninfoOption *o = options; o->keyword != NULL; o++) {
		if (strcmp(o->keyword, "host") == 0) {
			expect_text("host", o->val, getenv("PGHOST"));
			seen++;
		} else if (strcmp(o->keyword, "application_name") == 0) {
			expect_text("application_name", o->val, "info");
			seen++;
		} else if (strcmp(o->keyword, "options") == 0 && o->val != NULL && *o->val != '\0') {
			die("options: %s", o->val);
		}
	}
	if (seen != 2)
		die("PQconninfo has %u of 2", seen);
	PQconninfoFree(options);
	PQfinish(conn);
}

static void
reset(void)
{
	PGconn *conn = good(PQconnectdb("application_name=reset options='-c work_mem=9MB'"));
	const char *pid = ask(conn, "select pg_backend_pid()");

	ask(conn, "create temporary table mine (i int)");
	PQreset(conn);
	good(conn);
	if (strcmp(ask(conn, "select pg_backend_pid()"), pid) == 0)
		die("the same session after PQreset");
	expect(conn, "select to_regclass('mine') is null", "t");
	expect(conn, "show application_name", "reset");
	pid = ask(conn, "select pg_backend_pid()");
	if (!PQresetStart(conn) || poll_through(conn, PQresetPoll) != PGRES_POLLING_OK)
		die("PQresetStart: %s", PQerrorMessage(conn));
	if (strcmp(ask(conn, "select pg_backend_pid()"), pid) == 0)
		die("the same session after PQresetPoll");
	expect(conn, "show application_name", "reset");
	expect(conn, "show work_mem", "9MB");
	PQfinish(conn);
}

static void
cancel(void)
{
	PGconn *conn = good(PQconnectdb(""));

	cancels(conn);
	PQfinish(conn);
}

/* Nine queries of ten rows, one error; five transactions. */
static void
timed(void)
{
	PGconn *conn = good(PQconnectdb(""));

	ask(conn, "select 1 union all select 2");
	PQclear(PQexec(conn, "select 1/0"));
	PQclear(PQexec(conn, "begin"));
	PQclear(PQexecParams(conn, "select 1", 0, NULL, NULL, NULL, NULL, 0));
	PQclear(PQprepare(conn, "s", "select generate_series(1, 3)", 0, NULL));
	PQclear(PQexecPrepared(conn, "s", 0, NULL, NULL, NULL, 0));
	PQclear(PQexec(conn, "end"));
	PQsendQuery(conn, "select 1");
	while (PQgetResult(conn) != NULL)
		;
	PQsendQueryPrepared(conn, "s", 0, NULL, NULL, NULL, 0);
	PQclear(PQgetResult(conn));
	PQclear(PQgetResult(conn));
	PQfinish(conn);
}

/* Prints whether the pool's session was had; the arguments are conninfos. */
static void
whose(char **conninfos)
{
	for (; *conninfos != NULL; conninfos++) {
		PGconn *conn = PQconnectdb(*conninfos);

		printf("%s\n", PQstatus(conn) != CONNECTION_OK ? "bad" : is_leased(conn) ? "leased" : "direct");
		if (PQstatus(conn) != CONNECTION_OK && getenv("CLIENT_SAYS_WHY") != NULL)
			fprintf(stderr, "%s", PQerrorMessage(conn));
		PQfinish(conn);
	}
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} scenarios[] = {{"ways", ways}, {"fresh", fresh}, {"settings", settings}, {"info", info}, {"reset", reset},
	    {"timed", timed}, {"cancel", cancel}, {"loop", loop}, {"waiting", waiting}, {"threads", threads}, {"forks", forks},
	    {"vanishes", vanishes}, {"survives", survives}, {"late", late}, {"registers", registers}, {"nested", nested}};

	if (argc < 2)
		die("which scenario?");
	if (strcmp(argv[1], "whose") == 0) {
		whose(argv + 2);
		return 0;
	}
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		if (strcmp(argv[1], scenarios[i].name) == 0) {
			scenarios[i].run();
			return 0;
		}
	}
	die("no scenario %s", argv[1]);
}
