/* SPDX-License-Identifier: PostgreSQL */
/* A pool whose upstream is PgBouncer: in session mode it serves as PostgreSQL itself does; in the others it is refused. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "it.h"
#include "survive.h"

#define PGBOUNCER "/usr/sbin/pgbouncer"
#define PORT "6432"

static struct child pooler;
static char folder[64], log_of_pooler[96];
static pglease_pool *pool;
static pglease_lease lease;

static void
write_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

/* With so many server connections at most. */
static void
start_pooler(const char *mode, unsigned size)
{
	char text[1024], config[96];
	const char *argv[] = {PGBOUNCER, config, NULL};
	struct child_user user;
	off_t offset = 0;

	ck_assert_msg(access(PGBOUNCER, X_OK) == 0, "PgBouncer is not installed (scripts/check does so)");
	snprintf(text, sizeof(text),
	    "[databases]\n* = host=%s/pg user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = " PORT "\nunix_socket_dir = %s\n"
	    "auth_type = trust\nauth_file = %s/users\npool_mode = %s\ndefault_pool_size = %u\n",
	    pglease_test_folder(it_env), folder, folder, mode, size);
	write_file("config", text);
	write_file("users", "\"postgres\" \"\"\n");
	snprintf(config, sizeof(config), "%s/config", folder);
	ck_assert_int_eq(child_server_user(&user), 0);
	ck_assert_msg(child_start(argv, log_of_pooler, &user, &pooler) == 0, "%s", child_error());
	ck_assert_int_eq(pglease_test_watch(it_env, pooler.pid, SIGINT), 0);
	ck_assert_msg(child_await_line(log_of_pooler, &offset, "process up", &pooler, IT_PATIENCE_MS) == 0, "%s", child_error());
}

static void
stop_pooler(void)
{
	int status;

	ck_assert_int_eq(child_signal(&pooler, SIGINT), 0);
	ck_assert_msg(child_wait(&pooler, IT_PATIENCE_MS, &status) == 0, "%s", child_error());
	ck_assert_int_eq(unlink(log_of_pooler), 0);
}

static void
start(const char *mode, unsigned size, unsigned min, unsigned max, const char *extra)
{
	char conninfo[160];
	pglease_test_pool app = {.name = "app", .min = min, .max = max, .conninfo = conninfo, .extra = extra};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .no_broker = 1, .no_leak_check = 1);
	struct child_user user;

	strcpy(folder, "/tmp/test_pooler_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(child_server_user(&user), 0);
	ck_assert_int_eq(chmod(folder, 0755), 0);
	ck_assert(!user.switch_user || chown(folder, user.uid, user.gid) == 0);
	snprintf(log_of_pooler, sizeof(log_of_pooler), "%s/log", folder);
	snprintf(conninfo, sizeof(conninfo), "host=%s port=" PORT " user=postgres dbname=postgres", folder);
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	start_pooler(mode, size);
	survive_start();
	pool = it_attach();
}

/* The broker first: it takes its leave of the pooler. */
static void
finish(void)
{
	it_detach();
	survive_stop();
	stop_pooler();
	ck_assert_int_eq(child_remove_tree(folder), 0);
}

/* Since the broker's start, which may have been before its readiness. */
static int
is_logged(void *text)
{
	FILE *f = fopen(pglease_test_log(it_env), "re");
	char line[1024];
	bool found = false;

	ck_assert_ptr_nonnull(f);
	while (!found && fgets(line, sizeof(line), f) != NULL)
		found = strstr(line, text) != NULL;
	fclose(f);
	return found;
}

static void
await_log(const char *text)
{
	ck_assert_msg(pglease_test_await(is_logged, (char *)text, IT_PATIENCE_MS) == 0, "the log does not say: %s", text);
}

static void
assert_own_backend(PGconn *conn)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", PQbackendPID(conn));
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
}

static void
leases_in_a_query(int socket, const void *arg)
{
	PGconn *conn = it_acquire(it_attach(), &lease);

	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(1000)"), 1);
	it_say(socket, 'r');
	for (;;)
		pause();
}

START_TEST(session_mode_serves)
{
	struct it_worker worker;
	PGconn *conn;

	start("session", 4, 2, 2, "reset = always\n");
	await_log("pool app: the upstream is a pooler in session mode");
	it_await_all_idle(pool);
	conn = it_acquire(pool, &lease);
	assert_own_backend(conn);
	it_query(conn, "set work_mem = '1MB'");
	it_query(conn, "create temporary table mine (n int)");
	ck_assert_str_eq(it_query(conn, "select count(*) from mine"), "0");
	/* A cancel goes by way of the broker and the pooler. */
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(1000)"), 1);
	it_cancel(conn);
	it_release(&lease);
	/* Nothing of it is left for the next lease, whichever session that gets. */
	for (unsigned i = 0; i < 4; i++) {
		conn = it_acquire(pool, &lease);
		assert_own_backend(conn);
		ck_assert_str_eq(it_query(conn, "select to_regclass('mine') is null and current_setting('work_mem') <> '1MB'"), "t");
		it_release(&lease);
	}
	/* A lessee that dies in a query costs the pool nothing but that session. */
	worker = it_worker(leases_in_a_query, NULL);
	it_hear(worker.socket, 'r');
	it_kill(&worker);
	it_await_all_idle(pool);
	finish();
}
END_TEST

/* An old session is ended by its backend's pid, which is not the one that the pooler gives. */
START_TEST(sessions_of_a_broker_that_was_killed)
{
	struct it_worker worker;

	start("session", 4, 1, 1, "takeover_limit = 1s\n");
	worker = it_worker(leases_in_a_query, NULL);
	it_hear(worker.socket, 'r');
	it_detach();
	survive_kill();
	survive_note_sessions();
	survive_start();
	it_await_published("app", "takeover_ended", 1);
	survive_await_sessions(1); /* the pooler's own, of the second connection */
	it_kill(&worker);
	pool = it_attach();
	assert_own_backend(it_acquire(pool, &lease));
	it_release(&lease);
	finish();
}
END_TEST

/* With one server connection there is none to compare with, and transaction mode would have shown. */
START_TEST(session_mode_with_one_backend)
{
	start("session", 1, 1, 1, "connect_timeout = 2s\n");
	await_log("it is taken to be in session mode");
	assert_own_backend(it_acquire(pool, &lease));
	it_release(&lease);
	finish();
}
END_TEST

static int
serves(void *context)
{
	PGconn *conn;

	if (pglease_acquire(pool, IT_PATIENCE_MS, &lease, &conn) != 0)
		return 0; /* it fails fast */
	assert_own_backend(conn);
	it_release(&lease);
	return 1;
}

static void
is_refused(const char *mode, unsigned size)
{
	PGconn *conn;

	start(mode, size, 0, 2, "fail_fast = yes\nretry_max = 200ms\n");
	ck_assert_int_eq(pglease_acquire(pool, IT_PATIENCE_MS, &lease, &conn), PGLEASE_EUPSTREAM);
	ck_assert_msg(strstr(pglease_error_message(), "gives each transaction another session") != NULL, "%s", pglease_error_message());
	/* It is mended. */
	stop_pooler();
	start_pooler("session", 4);
	ck_assert_msg(pglease_test_await(serves, NULL, IT_PATIENCE_MS) == 0, "%s", pglease_error_message());
	await_log("the upstream is a pooler in session mode");
	finish();
}

START_TEST(transaction_mode_is_refused)
{
	is_refused("transaction", 4);
}
END_TEST

START_TEST(transaction_mode_with_one_backend_is_refused)
{
	is_refused("transaction", 1);
}
END_TEST

START_TEST(statement_mode_is_refused)
{
	is_refused("statement", 4);
}
END_TEST

IT_MAIN("pooler", session_mode_serves, sessions_of_a_broker_that_was_killed, session_mode_with_one_backend, transaction_mode_is_refused,
    transaction_mode_with_one_backend_is_refused, statement_mode_is_refused)
