/* SPDX-License-Identifier: PostgreSQL */
/*
 * A program that knows only libpq: connects in every way, and looks at what it gets. test_preload runs it with the library
 * preloaded, one scenario at a time; it ends with 0 when all was as on connections of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libpq-events.h>
#include <libpq-fe.h>

#define WAIT_MS 20000

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static PGconn *
good(PGconn *conn)
{
	if (PQstatus(conn) != CONNECTION_OK)
		die("no connection: %s", PQerrorMessage(conn));
	return conn;
}

/* The first field, in one of a few buffers. */
static const char *
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

static void
expect(PGconn *conn, const char *sql, const char *expected)
{
	const char *got = ask(conn, sql);

	if (strcmp(got, expected) != 0)
		die("%s: '%s' instead of '%s'", sql, got, expected);
}

static void
expect_text(const char *what, const char *got, const char *expected)
{
	if (got == NULL || strcmp(got, expected) != 0)
		die("%s: '%s' instead of '%s'", what, got != NULL ? got : "(null)", expected);
}

static PGconn *
with_params(const char *keyword, const char *value, bool start)
{
	const char *keywords[] = {keyword, NULL}, *values[] = {value, NULL};

	return start ? PQconnectStartParams(keywords, values, 1) : PQconnectdbParams(keywords, values, 1);
}

/* As the manual says it is done: first writing, and the socket asked for anew each time. */
static PostgresPollingStatusType
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

static PGconn *
polled(PGconn *conn)
{
	if (PQstatus(conn) == CONNECTION_BAD || poll_through(conn, PQconnectPoll) != PGRES_POLLING_OK)
		die("no connection: %s", PQerrorMessage(conn));
	return good(conn);
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
noticed(void *seen, const char *message)
{
	*(bool *)seen = true;
}

/* The query runs when it has said so: a server that is idle drops a request that comes too soon. */
static void
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

/* On a pool of two: some of them get their connection while others have theirs. */
#define MANY 12

struct each {
	PGconn *conn;
	int fd;
	bool connected, over;
};

/* Registered as the manual wants it: after each PQconnectPoll, by whatever number and file it is now. */
static void
watch(int epoll, struct each *e, bool reading)
{
	struct epoll_event event = {.events = reading ? EPOLLIN : EPOLLOUT, .data.ptr = e};

	if (e->fd >= 0)
		epoll_ctl(epoll, EPOLL_CTL_DEL, e->fd, NULL);
	e->fd = PQsocket(e->conn);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, e->fd, &event) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
advance(int epoll, struct each *e)
{
	PostgresPollingStatusType polling = e->connected ? PGRES_POLLING_OK : PQconnectPoll(e->conn);

	if (polling == PGRES_POLLING_FAILED)
		die("PQconnectPoll: %s", PQerrorMessage(e->conn));
	if (polling != PGRES_POLLING_OK) {
		watch(epoll, e, polling == PGRES_POLLING_READING);
		return;
	}
	if (!e->connected) {
		e->connected = true;
		if (!PQsendQuery(e->conn, "select 'mine'"))
			die("send: %s", PQerrorMessage(e->conn));
		watch(epoll, e, true);
		return;
	}
	if (!PQconsumeInput(e->conn))
		die("consume: %s", PQerrorMessage(e->conn));
	while (!PQisBusy(e->conn)) {
		PGresult *result = PQgetResult(e->conn);

		if (result == NULL) {
			epoll_ctl(epoll, EPOLL_CTL_DEL, e->fd, NULL);
			PQfinish(e->conn);
			e->over = true;
			return;
		}
		expect_text("row", PQgetvalue(result, 0, 0), "mine");
		PQclear(result);
	}
}

static void
loop(void)
{
	struct each all[MANY] = {{NULL}};
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	unsigned over = 0;

	for (unsigned i = 0; i < MANY; i++) {
		all[i].fd = -1;
		all[i].conn = PQconnectStart("");
		if (PQstatus(all[i].conn) == CONNECTION_BAD || PQsocket(all[i].conn) < 0)
			die("PQconnectStart: %s", PQerrorMessage(all[i].conn));
		watch(epoll, &all[i], false);
	}
	while (over < MANY) {
		struct epoll_event events[MANY];
		int n = epoll_wait(epoll, events, MANY, WAIT_MS);

		if (n <= 0)
			die("nothing happens: %u of %u are over", over, MANY);
		for (int i = 0; i < n; i++) {
			struct each *e = events[i].data.ptr;

			if (!e->over)
				advance(epoll, e);
			over += e->over;
		}
	}
	close(epoll);
}

/* On a pool of one: what waits, and is given up, cancelled, reset, or waits in vain. */
static void
waiting(void)
{
	PGconn *held = good(PQconnectdb("")), *conn;
	char *end;

	for (unsigned i = 0; i < 50; i++) {
		conn = PQconnectStart("");
		if (i % 2 == 0 && PQconnectPoll(conn) != PGRES_POLLING_READING)
			die("PQconnectPoll of one that waits");
		PQfinish(conn);
	}
	conn = PQconnectStart("connect_timeout=2");
	if (poll_through(conn, PQconnectPoll) != PGRES_POLLING_FAILED || PQstatus(conn) != CONNECTION_BAD ||
	    strstr(PQerrorMessage(conn), "no connection free in pool app") == NULL)
		die("a wait in vain: %s", PQerrorMessage(conn));
	PQfinish(conn);
	conn = PQconnectdb("connect_timeout=2");
	if (PQstatus(conn) != CONNECTION_BAD || strstr(PQerrorMessage(conn), "no connection free in pool app") == NULL)
		die("a wait in vain: %s", PQerrorMessage(conn));
	PQfinish(conn);
	conn = PQconnectStart("application_name=waits");
	if (PQconnectPoll(conn) != PGRES_POLLING_READING)
		die("PQconnectPoll of one that waits");
	PQfinish(held);
	polled(conn);
	expect(conn, "show application_name", "waits");
	cancels(conn);
	end = strdup(ask(conn, "select pg_backend_pid()"));
	PQreset(conn);
	good(conn);
	if (strcmp(ask(conn, "select pg_backend_pid()"), end) == 0)
		die("the same session after PQreset");
	free(end);
	expect(conn, "show application_name", "waits");
	cancels(conn);
	PQfinish(conn);
	conn = good(PQconnectdb(""));
	expect(conn, "select 'mine'", "mine");
	PQfinish(conn);
}

#define THREADS 8

static void *
connects(void *arg)
{
	for (unsigned i = 0; i < 30; i++) {
		PGconn *conn = i % 2 == 0 ? good(PQconnectdb("")) : polled(PQconnectStart(""));
		char sql[64], expected[16];

		snprintf(expected, sizeof(expected), "%u", i);
		snprintf(sql, sizeof(sql), "select %u", i);
		expect(conn, sql, expected);
		PQfinish(conn);
	}
	/* Handed on by a thread that ends. */
	return arg != NULL ? good(PQconnectdb("")) : NULL;
}

static void
threads(void)
{
	pthread_t thread[THREADS];
	void *conn;

	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, connects, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	pthread_create(&thread[0], NULL, connects, thread);
	pthread_join(thread[0], &conn);
	expect(conn, "select 'still there'", "still there");
	PQfinish(conn);
}

static void
forks(void)
{
	PGconn *conn = good(PQconnectdb("")), *own;
	int status;
	pid_t child;

	ask(conn, "begin");
	for (unsigned i = 0; i < 4; i++) {
		child = fork();
		if (child == 0) {
			if (i % 2 == 0)
				PQfinish(conn);
			own = good(i < 2 ? PQconnectdb("") : polled(PQconnectStart("")));
			expect(own, "select 'mine'", "mine");
			if (i % 2 != 0)
				_exit(0);
			PQfinish(own);
			exit(0);
		}
		if (waitpid(child, &status, 0) != child || status != 0)
			die("a child ended with %x", status);
	}
	expect(conn, "select pg_current_xact_id_if_assigned() is null", "t");
	if (PQtransactionStatus(conn) != PQTRANS_INTRANS)
		die("the transaction has gone");
	PQfinish(conn);
}

/* In a transaction, without a word. */
static void
vanishes(void)
{
	PGconn *conn = good(PQconnectdb(""));

	ask(conn, "begin");
	ask(conn, "insert into kept values (1)");
	_exit(0);
}

/* Prints whether the pool's session was had; the arguments are conninfos. */
/* The backend of a session that owes the answer to its reset is stopped; what was sent behind it must not be in the next one. */
static void
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

static void
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

static bool
is_leased(PGconn *conn)
{
	/* The broker's sessions have a default of their own for this. */
	return strcmp(ask(good(conn), "show lock_timeout"), "77s") == 0;
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
static void
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
	    {"vanishes", vanishes}, {"survives", survives}, {"late", late}, {"registers", registers}};

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
