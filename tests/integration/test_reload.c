/* SPDX-License-Identifier: PostgreSQL */
/* pgleasectl reload and SIGHUP: what takes effect, what is refused as a whole, and that nobody fails by it. */
#include "restart.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "child.h"

#define LONG_S "60"
#define SECOND UINT64_C(1000000000)

static pglease_pool *pool;
static pglease_lease lease;
static PGconn *conn;

static void
start(unsigned min, unsigned max, const char *extra)
{
	restart_prepare();
	it_start(min, max, extra);
	pool = it_attach();
	it_await_all_idle(pool);
}

static void
reload(void)
{
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 0);
}

START_TEST(settings_take_effect)
{
	start(1, 2, NULL);
	conn = it_acquire(pool, &lease);
	restart_set("acquire_timeout = 7s");
	reload();
	restart_said("reloaded, with 1 connections and 1 clients");
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 7 * SECOND);
	restart_set("acquire_timeout = 8s");
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGHUP), 0);
	it_await_published("app", "acquire_timeout", 8 * SECOND);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	restart_set(NULL);
	reload();
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 10 * SECOND);
}
END_TEST

/* It is the program that runs, whatever has been put in its file's place. */
START_TEST(another_program_on_disk_is_not_run)
{
	start(1, 1, NULL);
	restart_script("exit 1", "exit 1");
	restart_set("acquire_timeout = 7s");
	reload();
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 7 * SECOND);
	restart_nothing();
	restart_set("acquire_timeout = 8s");
	reload();
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 8 * SECOND);
	restart_real();
	restart_now();
}
END_TEST

START_TEST(a_bad_file_changes_nothing_and_all_is_said)
{
	start(1, 1, NULL);
	restart_set("acquire_timeout = 7s\nnonsense = 1\nidle_timeout = soon\nretry_min = 0");
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 3);
	restart_said("is not reloaded: ");
	restart_said("unknown key \"nonsense\"");
	restart_said("idle_timeout: bad value \"soon\"");
	restart_said("retry_min: bad value \"0\"");
	restart_await_log("idle_timeout: bad value \"soon\"");
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 10 * SECOND);
	it_acquire(pool, &lease);
	it_release(&lease);
	restart_set(NULL);
	reload();
}
END_TEST

START_TEST(what_needs_a_start_is_named_and_nothing_changes)
{
	start(1, 1, NULL);
	restart_configure("max_clients = 77\ndrain_timeout = 77s\npid_file = /tmp/none", NULL);
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 3);
	restart_said("max_clients of the instance is 256, and would be 77");
	restart_said("pid_file of the instance is , and would be /tmp/none");
	ck_assert_int_eq(it_ctl("show", "config", NULL), 0);
	restart_said("drain_timeout = 30s");
	/* A signal has nobody to answer: the log tells. */
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGHUP), 0);
	restart_await_log("is not reloaded: max_clients of the instance is 256, and would be 77");
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

/* Leases all the time, and none fails. */
static void
busy(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_say(socket, 'r');
	for (struct pollfd told = {.fd = socket, .events = POLLIN}; poll(&told, 1, 0) == 0;) {
		it_query(it_acquire(p, &lease), "select 1");
		it_release(&lease);
	}
}

START_TEST(a_new_conninfo_replaces_the_connections)
{
	struct it_worker worker;
	char before[512], after[512], line[512], pid[16];
	pglease_stats stats;
	PGconn *direct;

	start(3, 3, NULL);
	it_backends(before);
	conn = it_acquire(pool, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	worker = it_worker(busy, NULL);
	it_hear(worker.socket, 'r');
	snprintf(line, sizeof(line), "conninfo = %s application_name='pglease after'", pglease_test_conninfo(it_env));
	restart_set(line);
	reload();
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
	ck_assert_int_eq(it_ctl("wait-close", "app", LONG_S), 0);
	it_say(worker.socket, 'q');
	it_join(&worker);
	it_await_all_idle(pool);
	it_backends(after);
	for (char *word = strtok(before, " "); word != NULL; word = strtok(NULL, " "))
		ck_assert_msg(strstr(after, word) == NULL, "%s is still there: %s", word, after);
	direct = PQconnectdb(pglease_test_conninfo(it_env));
	ck_assert_str_eq(
	    it_query(direct, "select count(*) from pg_stat_activity where application_name = 'pglease after'"), "3");
	PQfinish(direct);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.failed, 0);
	ck_assert_uint_eq(stats.revoked, 0);
}
END_TEST

static bool
has_total(const pglease_stats *stats, const void *arg)
{
	return stats->total == *(const uint32_t *)arg;
}

/* Up as far as the segment has room, and down, while leases are out. */
START_TEST(sizes)
{
	pglease_lease leases[6];
	uint32_t six = 6, two = 2;

	start(1, 2, "acquire_timeout = 60s");
	restart_set("max_connections = 6");
	reload();
	for (unsigned i = 0; i < 6; i++)
		it_acquire(pool, &leases[i]);
	it_await(pool, has_total, &six, "six connections");
	restart_set("max_connections = 2");
	reload();
	it_await(pool, has_total, &six, "six that are leased");
	for (unsigned i = 0; i < 6; i++)
		it_release(&leases[i]);
	it_await(pool, has_total, &two, "two connections");
	restart_set("min_connections = 2");
	reload();
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

/* Until the next reload, over restarts; the last value of a key counts. */
START_TEST(what_is_set_by_hand)
{
	start(1, 2, NULL);
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(it_ctl("set", "app/acquire_timeout=7s", NULL), 0);
	ck_assert_int_eq(it_ctl("set", "app/acquire_timeout=8s", NULL), 0);
	ck_assert_int_eq(it_ctl("set", "drain_timeout=1min", NULL), 0);
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 8 * SECOND);
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 8 * SECOND);
	ck_assert_int_eq(it_ctl("show", "config", NULL), 0);
	restart_said("drain_timeout = 1min");
	/* What is wrong changes nothing, and is forgotten. */
	ck_assert_int_eq(it_ctl("set", "app/acquire_timeout=soon", NULL), 3);
	restart_said("set: acquire_timeout: bad value: ");
	ck_assert_int_eq(it_ctl("set", "app/min_connections=9", NULL), 3);
	restart_said("is above max_connections");
	ck_assert_int_eq(it_ctl("set", "nope/acquire_timeout=1s", NULL), 3);
	restart_said("there is no pool \"nope\"");
	ck_assert_int_eq(it_ctl("set", "acquire_timeout=1s", NULL), 3);
	restart_said("unknown key of the instance");
	ck_assert_int_eq(it_ctl("set", "app/conninfo=password=s3cret", NULL), 3);
	restart_said("conninfo: it may have a password in it");
	ck_assert_int_ne(pglease_test_await_log(it_env, "s3cret", 0), 0);
	ck_assert_int_eq(it_ctl("set", "max_clients=7", NULL), 3);
	restart_said("max_clients of the instance is 256, and would be 7");
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 8 * SECOND);
	reload();
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 10 * SECOND);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
}
END_TEST

IT_MAIN("reload", settings_take_effect, another_program_on_disk_is_not_run, a_bad_file_changes_nothing_and_all_is_said,
    what_needs_a_start_is_named_and_nothing_changes, a_new_conninfo_replaces_the_connections, sizes,
    what_is_set_by_hand)
