/* SPDX-License-Identifier: PostgreSQL */
/*
 * Servers that refuse, are down, or go away: the broker starts and stays, workers are told why in the server's words and
 * never a password, and all is well as soon as the server is.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "it.h"

#define PATIENCE_MS 60000
#define LOG_MAX 200000

/* Whether the whole log has this text. */
static bool
log_has(const char *text)
{
	static char log[LOG_MAX];
	int fd = open(pglease_test_log(it_env), O_RDONLY);
	ssize_t n = read(fd, log, sizeof(log) - 1);

	ck_assert_int_gt(n, 0);
	ck_assert_int_lt(n, (ssize_t)sizeof(log) - 1);
	log[n] = '\0';
	close(fd);
	return strstr(log, text) != NULL;
}

/* The broker knows at its next look: until then nothing is free. */
static int
try(void *arg)
{
	pglease_lease lease;
	PGconn *conn;
	int r = pglease_acquire(arg, PGLEASE_TIMEOUT_TRY, &lease, &conn);

	if (r == PGLEASE_ETIMEOUT)
		return 0;
	ck_assert_int_eq(r, PGLEASE_EUPSTREAM);
	return 1;
}

/* The upstream refuses for this reason: a worker is told so, at once when it does not wait. */
static void
assert_refused(pglease_pool *pool, const char *reason)
{
	ck_assert_msg(pglease_test_await(try, pool, PATIENCE_MS) == 0, "the upstream is not seen to refuse");
	ck_assert_msg(strstr(pglease_error_message(), "pool app") != NULL &&
	                  strstr(pglease_error_message(), "the server refuses") != NULL &&
	                  strstr(pglease_error_message(), reason) != NULL &&
	                  strchr(pglease_error_message(), '\n') == NULL,
	    "no \"%s\" in: %s", reason, pglease_error_message());
}

static void
assert_serves(pglease_pool *pool)
{
	pglease_lease lease;
	PGconn *conn;

	it_ok(pglease_acquire(pool, PATIENCE_MS, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
}

static void
start_with(const char *conninfo, bool replication)
{
	pglease_test_pool pool = {.name = "app", .conninfo = conninfo};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &pool, .npools = 1, .no_broker = true, .replication = replication,
	    .memory_slack = 1 << 20); /* what OpenSSL takes at its first use, and keeps */
	char host[256];

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	/* Its folder was not known before: the broker finds the server by the environment. */
	snprintf(host, sizeof(host), "%s/pg", pglease_test_folder(it_env));
	ck_assert_int_eq(setenv("PGHOST", host, 1), 0);
}

static void
sql(const char *text)
{
	ck_assert_msg(pglease_test_sql(it_env, text, NULL, 0) == 0, "%s", pglease_test_error_message());
}

START_TEST(a_wrong_password)
{
	char path[256], hba[] = "local all guest scram-sha-256\nlocal all all trust\n";
	pglease_pool *pool;
	FILE *f;

	start_with("user=guest dbname=postgres password=Rumpelstilz", false);
	sql("create role guest login password 'Schneewittchen'");
	snprintf(path, sizeof(path), "%s/data/pg_hba.conf", pglease_test_folder(it_env));
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fputs(hba, f);
	ck_assert_int_eq(fclose(f), 0);
	sql("select pg_reload_conf()");
	/* A reload is seen by the postmaster when it is: until then it lets everybody in. */
	for (bool lets_in = true; lets_in;) {
		PGconn *conn = PQconnectdb("user=guest dbname=postgres password=wrong");

		lets_in = PQstatus(conn) == CONNECTION_OK;
		PQfinish(conn);
	}
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	assert_refused(pool, "password authentication failed for user \"guest\"");
	it_await_published("app", "open_failed_28", 1);
	ck_assert_uint_eq(it_published("app", "open_failed_other"), 0);
	ck_assert_ptr_null(strstr(pglease_error_message(), "Rumpelstilz"));
	ck_assert(log_has("password authentication failed"));
	ck_assert(!log_has("Rumpelstilz"));
	sql("alter role guest password 'Rumpelstilz'");
	assert_serves(pool);
	ck_assert(!log_has("Rumpelstilz"));
}
END_TEST

START_TEST(an_unknown_database)
{
	pglease_pool *pool;

	start_with("user=postgres dbname=tomorrow", false);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	assert_refused(pool, "database \"tomorrow\" does not exist");
	it_await_published("app", "open_failed_3d", 1);
	sql("create database tomorrow");
	assert_serves(pool);
	it_await_all_idle(pool);
}
END_TEST

START_TEST(an_unknown_user)
{
	pglease_pool *pool;

	start_with("user=stranger dbname=postgres", false);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	assert_refused(pool, "role \"stranger\" does not exist");
	sql("create role stranger login");
	assert_serves(pool);
}
END_TEST

static int
is_healthy(void *arg)
{
	pglease_health health;

	it_ok(pglease_health_get(arg, &health));
	return health.level == PGLEASE_HEALTH_OK;
}

/* Whoever wanted one more goes away; what is open is enough again. That the server takes more is found out all the same. */
START_TEST(one_that_is_refused_while_others_serve)
{
	pglease_pool *pool;
	pglease_lease lease, more;
	PGconn *conn;

	start_with("user=single dbname=postgres", false);
	sql("create role single login connection limit 1");
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	it_acquire(pool, &lease);
	ck_assert_int_eq(pglease_acquire(pool, 300, &more, &conn), PGLEASE_ETIMEOUT);
	ck_assert_msg(pglease_test_await_log(it_env, "too many connections for role", PATIENCE_MS) == 0, "%s",
	    pglease_test_error_message());
	it_release(&lease);
	ck_assert(!is_healthy(pool));
	sql("alter role single connection limit -1");
	ck_assert_msg(pglease_test_await(is_healthy, pool, PATIENCE_MS) == 0, "the server is taken for down");
	ck_assert(log_has("the server takes connections again"));
}
END_TEST

/* Waits with a long limit, and says so. */
static void
wait_for_a_lease(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();

	(void)arg;
	it_say(socket, 'a');
	assert_serves(pool);
	it_say(socket, 'd');
}

START_TEST(down_at_the_start)
{
	struct it_worker worker;
	pglease_pool *pool;

	start_with("user=postgres dbname=postgres", false);
	ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	assert_refused(pool, "No such file");
	/* One that waits is served when the server comes. */
	worker = it_worker(wait_for_a_lease, NULL);
	it_hear(worker.socket, 'a');
	it_await_waiting(pool, 1);
	ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
	it_hear(worker.socket, 'd');
	it_join(&worker);
	assert_serves(pool);
	ck_assert(log_has("the server takes connections again"));
}
END_TEST

static bool
nothing_open(const pglease_stats *stats, const void *arg)
{
	(void)arg;
	return stats->idle == 0 && stats->leased == 0 && stats->open_failed > 0;
}

START_TEST(it_goes_away_and_comes_back)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	PGresult *result;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	for (unsigned round = 0; round < 2; round++) {
		/* One lease is out: its query fails, and its release is no error. */
		conn = it_acquire(pool, &lease);
		ck_assert_str_eq(it_query(conn, "select 1"), "1");
		ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
		result = PQexec(conn, "select 2");
		ck_assert_int_eq(PQresultStatus(result), PGRES_FATAL_ERROR);
		PQclear(result);
		ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
		it_release(&lease);
		it_await(pool, nothing_open, NULL, "a pool without connections");
		assert_refused(pool, "");
		ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
		assert_serves(pool);
	}
	it_await_all_idle(pool);
}
END_TEST

static void
assert_served_by(pglease_pool *pool, const char *folder)
{
	pglease_lease lease;
	PGconn *conn;
	char expected[300];

	snprintf(expected, sizeof(expected), "%s/%s", pglease_test_folder(it_env), folder);
	it_ok(pglease_acquire(pool, PATIENCE_MS, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select pg_is_in_recovery()"), "f");
	ck_assert_str_eq(it_query(conn, "select current_setting('unix_socket_directories')"), expected);
	it_release(&lease);
}

/* Two servers in conninfo, of which one writes; then it is the other. */
START_TEST(it_follows_the_server_that_writes)
{
	char hosts[600];
	pglease_pool *pool;
	PGconn *conn;

	start_with("user=postgres dbname=postgres target_session_attrs=read-write", true);
	ck_assert_msg(pglease_test_standby_start(it_env) == 0, "%s", pglease_test_error_message());
	snprintf(hosts, sizeof(hosts), "%s/pgs,%s/pg", pglease_test_folder(it_env), pglease_test_folder(it_env));
	ck_assert_int_eq(setenv("PGHOST", hosts, 1), 0);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	it_await_all_idle(pool);
	assert_served_by(pool, "pg");
	ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
	conn = PQconnectdb(pglease_test_standby_conninfo(it_env));
	ck_assert_str_eq(it_query(conn, "select pg_promote()"), "t"); /* waits for it */
	PQfinish(conn);
	assert_served_by(pool, "pgs");
	it_await_all_idle(pool);
	/* Who is back writes too, as nobody has told it otherwise: the first in the list is taken. */
	ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
	assert_served_by(pool, "pgs");
}
END_TEST

IT_MAIN("bad_upstream", a_wrong_password, an_unknown_database, an_unknown_user, one_that_is_refused_while_others_serve, down_at_the_start,
    it_goes_away_and_comes_back, it_follows_the_server_that_writes)
