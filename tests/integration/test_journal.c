/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's log in the journal: a socket of the test's own, where the journal's is, in a mount namespace. The broker begins on
 * stderr, where the environment looks for its being ready, and then changes over.
 */
#include "it.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "journal.h"
#include "run.h"
#include "spaces.h"

#define SECRET "Rumpelstilz"
#define ENTRY 65536

static int journal = -1;
static char entry[ENTRY + 2] = "\n"; /* a line end before each field */

static void
be_the_journal(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};

	spaces_enter(CLONE_NEWNS);
	spaces_mount_run();
	ck_assert_int_eq(mkdir("/run/systemd", 0755), 0);
	ck_assert_int_eq(mkdir("/run/systemd/journal", 0755), 0);
	journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(journal, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(chmod(JOURNAL_SOCKET, 0666), 0);
}

static bool
has(const char *name, const char *value)
{
	char field[512];

	snprintf(field, sizeof(field), "\n%s=%s\n", name, value);
	return strstr(entry, field) != NULL;
}

static bool
has_number(const char *name, long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	return has(name, text);
}

#define HAS(name, value) ck_assert_msg(has(name, value), "no %s=%s in:%s", name, value, entry)
#define HAS_NUMBER(name, value) ck_assert_msg(has_number(name, value), "no %s=%ld in:%s", name, (long)(value), entry)

/* The next entry whose message has this; what every entry has, and what none may have, is looked for in all of them. */
static void
await_entry(const char *message)
{
	const char *at;

	do {
		struct pollfd p = {.fd = journal, .events = POLLIN};
		ssize_t n;

		ck_assert_msg(poll(&p, 1, IT_PATIENCE_MS) == 1, "the journal has never heard of: %s", message);
		n = recv(journal, entry + 1, ENTRY, 0);
		ck_assert_int_gt(n, 0);
		entry[n + 1] = '\0';
		HAS("SYSLOG_IDENTIFIER", "pgleased");
		HAS("PGLEASE_INSTANCE", pglease_test_instance(it_env));
		ck_assert_ptr_null(strstr(entry, SECRET));
		at = strstr(entry, "\nMESSAGE=");
		ck_assert_ptr_nonnull(at);
	} while (memmem(at + 9, strcspn(at + 9, "\n"), message, strlen(message)) == NULL);
}

static void
hold(int socket, const void *arg)
{
	pglease_lease lease;
	PGconn *conn = it_acquire(it_attach(), &lease);
	const char *params[] = {SECRET};
	char pid[32];

	/* What the application sends and gets is none of the log's business. */
	PQclear(PQexecParams(conn, "select $1::int", 1, NULL, params, NULL, NULL, 0));
	PQclear(PQexec(conn, "select '" SECRET "'::int"));
	snprintf(pid, sizeof(pid), "%d", PQbackendPID(conn));
	ck_assert_int_eq(write(socket, pid, sizeof(pid)), sizeof(pid));
	pause();
}

START_TEST(what_an_event_has)
{
	struct it_worker worker;
	char server[32];

	be_the_journal();
	it_start(1, 1, NULL);
	ck_assert_int_eq(it_ctl("set", "log=journal", NULL), 0);
	await_entry("goes on as pgleased");
	HAS("PRIORITY", "6");
	worker = it_worker(hold, NULL);
	ck_assert_int_eq(recv(worker.socket, server, sizeof(server), MSG_WAITALL), sizeof(server));
	it_kill(&worker);
	await_entry("lease revoked from client");
	HAS("PRIORITY", "6");
	HAS("PGLEASE_POOL", "app");
	HAS("PGLEASE_SLOT", "0");
	HAS("PGLEASE_CAUSE", "revoked_death");
	HAS_NUMBER("PGLEASE_CLIENT_PID", worker.pid);
	HAS("PGLEASE_SERVER_PID", server);
	await_entry("died: 1 leases revoked");
	HAS_NUMBER("PGLEASE_CLIENT_PID", worker.pid);
	/* The session that comes in its place. */
	await_entry("connected in");
	HAS("PGLEASE_SLOT", "0");
	ck_assert(!has("PGLEASE_SERVER_PID", server));
	/* And back. */
	ck_assert_int_eq(it_ctl("set", "log=stderr", NULL), 0);
	ck_assert_msg(pglease_test_await_log(it_env, "goes on as pgleased", IT_PATIENCE_MS) == 0, "%s", pglease_test_error_message());
}
END_TEST

static void
sql(const char *text)
{
	ck_assert_msg(pglease_test_sql(it_env, text, NULL, 0) == 0, "%s", pglease_test_error_message());
}

/* A password that is wrong, one that is right, and what a server says. */
START_TEST(no_password)
{
	pglease_test_pool pool = {.name = "app", .conninfo = "user=guest dbname=postgres password=" SECRET, .extra = "retry_max = 200ms"};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &pool, .npools = 1, .no_broker = true,
	    .memory_slack = 1 << 20); /* what OpenSSL takes at its first use, and keeps */
	char path[256], host[256];
	FILE *f;

	be_the_journal();
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	snprintf(host, sizeof(host), "%s/pg", pglease_test_folder(it_env));
	ck_assert_int_eq(setenv("PGHOST", host, 1), 0);
	sql("create role guest login password 'Schneewittchen'");
	snprintf(path, sizeof(path), "%s/data/pg_hba.conf", pglease_test_folder(it_env));
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fputs("local all guest scram-sha-256\nlocal all all trust\n", f);
	ck_assert_int_eq(fclose(f), 0);
	sql("select pg_reload_conf()");
	for (bool lets_in = true; lets_in;) {
		PGconn *conn = PQconnectdb("user=guest dbname=postgres password=wrong");

		lets_in = PQstatus(conn) == CONNECTION_OK;
		PQfinish(conn);
	}
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_int_eq(it_ctl("set", "log=journal", NULL), 0);
	await_entry("goes on as pgleased");
	/* The same words are said once: others have to come between. */
	sql("alter role guest nologin password '" SECRET "'");
	await_entry("is not permitted to log in");
	HAS("PGLEASE_SQLSTATE", "28000");
	sql("alter role guest login password 'Schneewittchen'");
	await_entry("password authentication failed for user \"guest\" (SQLSTATE 28P01)");
	HAS("PRIORITY", "4");
	HAS("PGLEASE_POOL", "app");
	HAS("PGLEASE_SQLSTATE", "28P01");
	HAS("PGLEASE_CAUSE", "open_failed_28");
	sql("alter role guest password '" SECRET "'");
	await_entry("the server takes connections again");
	await_entry("connected in");
}
END_TEST

/* On one line, at a start and at a change; a broker that runs goes on as it did. */
START_TEST(without_a_journal)
{
	const char *given[] = {"-c", NULL, NULL};
	char text[512], said[4096] = "", path[512];
	pglease_lease lease;
	FILE *f;

	be_the_journal();
	close(journal);
	unlink(JOURNAL_SOCKET);
	it_start(1, 1, NULL);
	snprintf(text, sizeof(text), "[pglease]\nlog = journal\ninstance = %s-2\nsocket_dir = %s/2\n[pool a]\nconninfo = host=/nonexistent\n",
	    pglease_test_instance(it_env), pglease_test_folder(it_env));
	given[1] = run_file("second.ini", text, strlen(text));
	run_refused(given, NULL, "log = journal", "no journal listens at " JOURNAL_SOCKET, NULL);
	ck_assert_int_eq(it_ctl("set", "log=journal", NULL), 3);
	snprintf(path, sizeof(path), "%s/pgleasectl.log", pglease_test_folder(it_env));
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_gt(fread(said, 1, sizeof(said) - 1, f), 0);
	fclose(f);
	ck_assert_msg(strstr(said, "no journal listens at ") != NULL, "%s", said);
	ck_assert_str_eq(it_query(it_acquire(it_attach(), &lease), "select 1"), "1");
	it_release(&lease);
}
END_TEST

IT_MAIN("journal", what_an_event_has, no_password, without_a_journal)
