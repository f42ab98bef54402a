/* SPDX-License-Identifier: PostgreSQL */
/* pause, kill, disable, reconnect and what undoes them, with leases out and waiters asleep. (drain, resume, stop: test_control.) */
#include "it.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "child.h"

#define LONG_MS 60000 /* ends a failure only */
#define LONG_S "60"

static pglease_pool *pool;
static pglease_lease lease, other;
static PGconn *conn;

/* What a thread that waits has come to. */
static struct {
	pthread_t thread;
	int code;
	char why[256];
} waiter;

static void *
acquire_and_release(void *arg)
{
	pglease_lease l;
	PGconn *c;

	waiter.code = pglease_acquire(pool, LONG_MS, &l, &c);
	if (waiter.code == 0) {
		ck_assert_str_eq(it_query(c, "select 1"), "1");
		it_release(&l);
	} else {
		snprintf(waiter.why, sizeof(waiter.why), "%s", pglease_error_message());
	}
	return NULL;
}

static void
waiter_start(void)
{
	waiter.code = 1;
	ck_assert_int_eq(pthread_create(&waiter.thread, NULL, acquire_and_release, NULL), 0);
	it_await_waiting(pool, 1);
}

/* How its acquire has ended. */
static int
waiter_end(void)
{
	ck_assert_int_eq(pthread_join(waiter.thread, NULL), 0);
	return waiter.code;
}

static pglease_stats
stats(void)
{
	pglease_stats s;

	it_ok(pglease_stats_get(pool, &s));
	return s;
}

static void
assert_try(int code, const char *says)
{
	pglease_lease l;
	PGconn *c;

	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &l, &c), code);
	ck_assert_msg(strstr(pglease_error_message(), says) != NULL, "%s", pglease_error_message());
}

static void
await_log(const char *text)
{
	ck_assert_msg(pglease_test_await_log(it_env, text, LONG_MS) == 0, "%s: %s", text, pglease_test_error_message());
}

static bool
is_paused(const pglease_stats *s, const void *arg)
{
	pglease_health health;

	it_ok(pglease_health_get(pool, &health));
	return strstr(health.reasons, arg) != NULL;
}

START_TEST(callers_of_a_paused_pool_wait)
{
	struct child pause;

	it_start(2, 2, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	it_ctl_start("pause", "app", LONG_S, &pause);
	await_log("command pause");
	waiter_start();
	/* The lease that is out is not disturbed; the pause ends with it. */
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	ck_assert_int_eq(it_ctl_end(&pause), 0);
	ck_assert_uint_eq(stats().total, 0);
	ck_assert_uint_eq(stats().pending, 1);
	assert_try(PGLEASE_ETIMEOUT, "is paused");
	/* Not only after the next tick. */
	ck_assert(is_paused(NULL, "paused"));
	ck_assert_int_eq(it_ctl("pause", "app", LONG_S), 0);
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	ck_assert(!is_paused(NULL, "paused"));
	ck_assert_int_eq(waiter_end(), 0);
	ck_assert_uint_eq(stats().revoked, 0);
}
END_TEST

START_TEST(a_pause_that_takes_too_long_goes_on)
{
	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &lease);
	ck_assert_int_eq(it_ctl("pause", NULL, "0"), 4);
	waiter_start();
	it_release(&lease);
	ck_assert_int_eq(it_ctl("pause", NULL, LONG_S), 0);
	ck_assert_uint_eq(stats().pending, 1);
	ck_assert_int_eq(it_ctl("resume", NULL, NULL), 0);
	ck_assert_int_eq(waiter_end(), 0);
}
END_TEST

START_TEST(a_drain_is_stronger_than_a_pause)
{
	it_start(1, 1, NULL);
	pool = it_attach();
	ck_assert_int_eq(it_ctl("pause", "app", LONG_S), 0);
	waiter_start();
	ck_assert_int_eq(it_ctl("drain", "app", LONG_S), 0);
	ck_assert_int_eq(waiter_end(), PGLEASE_EDRAINING);
	/* And does not become one again. */
	ck_assert_int_eq(it_ctl("pause", "app", LONG_S), 0);
	assert_try(PGLEASE_EDRAINING, "draining");
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

START_TEST(a_kill_takes_leases_away_and_pauses)
{
	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	it_acquire(pool, &lease);
	it_acquire(pool, &other);
	waiter_start();
	ck_assert_int_eq(it_ctl("kill", "app", LONG_S), 0);
	ck_assert_uint_eq(stats().revoked, 2);
	ck_assert_uint_eq(stats().total, 0);
	ck_assert_uint_eq(stats().pending, 1);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	ck_assert_int_eq(pglease_release(&other), PGLEASE_ESTALE);
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	ck_assert_int_eq(waiter_end(), 0);
}
END_TEST

START_TEST(a_disabled_pool_refuses_and_keeps_its_connections)
{
	char before[512], after[512];

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	it_backends(before);
	conn = it_acquire(pool, &lease);
	it_acquire(pool, &other);
	waiter_start();
	ck_assert_int_eq(it_ctl("disable", "app", NULL), 0);
	ck_assert_int_eq(waiter_end(), PGLEASE_EDRAINING);
	ck_assert_msg(strstr(waiter.why, "is disabled") != NULL, "%s", waiter.why);
	it_release(&other);
	assert_try(PGLEASE_EDRAINING, "is disabled");
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	it_await(pool, is_paused, "disabled", "the health of a disabled pool");
	ck_assert_int_eq(it_ctl("enable", "app", NULL), 0);
	conn = it_acquire(pool, &lease);
	it_release(&lease);
	it_backends(after);
	ck_assert_str_eq(before, after);
}
END_TEST

/* Disabled and paused: refused; then both are undone in either order. */
START_TEST(disabled_and_paused)
{
	it_start(1, 1, NULL);
	pool = it_attach();
	ck_assert_int_eq(it_ctl("disable", "app", NULL), 0);
	ck_assert_int_eq(it_ctl("pause", "app", LONG_S), 0);
	assert_try(PGLEASE_EDRAINING, "is disabled");
	ck_assert_int_eq(it_ctl("enable", "app", NULL), 0);
	assert_try(PGLEASE_ETIMEOUT, "is paused");
	ck_assert_int_eq(it_ctl("disable", "app", NULL), 0);
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	assert_try(PGLEASE_EDRAINING, "is disabled");
	ck_assert_int_eq(it_ctl("enable", "app", NULL), 0);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

/* Leases all the time, never refused and never told to wait for long. */
static void
busy(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_say(socket, 'r');
	for (struct pollfd told = {.fd = socket, .events = POLLIN}; poll(&told, 1, 0) == 0;) {
		PGconn *c = it_acquire(p, &other);

		ck_assert_str_eq(it_query(c, "select 'mine'"), "mine");
		it_release(&other);
	}
}

START_TEST(a_reconnect_replaces_all_and_fails_nobody)
{
	struct it_worker workers[2];
	char before[512], after[512], pid[16];

	it_start(4, 4, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	it_backends(before);
	conn = it_acquire(pool, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	for (unsigned i = 0; i < 2; i++) {
		workers[i] = it_worker(busy, NULL);
		it_hear(workers[i].socket, 'r');
	}
	ck_assert_int_eq(it_ctl("reconnect", "app", NULL), 0);
	ck_assert_int_eq(it_ctl("wait-close", "app", "0"), 4);
	/* The lease that is out keeps its session. */
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
	ck_assert_int_eq(it_ctl("wait-close", NULL, LONG_S), 0);
	for (unsigned i = 0; i < 2; i++) {
		it_say(workers[i].socket, 'q');
		it_join(&workers[i]);
	}
	it_await_all_idle(pool);
	it_backends(after);
	for (char *word = strtok(before, " "); word != NULL; word = strtok(NULL, " "))
		ck_assert_msg(strstr(after, word) == NULL, "%s is still there: %s", word, after);
	ck_assert_uint_eq(stats().failed, 0);
	ck_assert_uint_eq(stats().revoked, 0);
	ck_assert_uint_eq(stats().total, 4);
}
END_TEST

/* What the successor of a restart goes on with: the pause, who waits for its end, and what is outdated. */
START_TEST(a_restart_changes_none_of_it)
{
	struct child pause, wait_close;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	it_acquire(pool, &lease);
	ck_assert_int_eq(it_ctl("reconnect", "app", NULL), 0);
	it_ctl_start("wait-close", "app", LONG_S, &wait_close);
	await_log("command wait-close");
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	it_release(&lease);
	ck_assert_int_eq(it_ctl_end(&wait_close), 0);

	it_acquire(pool, &lease);
	it_ctl_start("pause", "app", LONG_S, &pause);
	await_log("command pause");
	waiter_start();
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	it_release(&lease);
	ck_assert_int_eq(it_ctl_end(&pause), 0);
	assert_try(PGLEASE_ETIMEOUT, "is paused");
	ck_assert_int_eq(it_ctl("disable", "app", NULL), 0);
	ck_assert_int_eq(waiter_end(), PGLEASE_EDRAINING);
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	assert_try(PGLEASE_EDRAINING, "is disabled");
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	ck_assert_int_eq(it_ctl("enable", "app", NULL), 0);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

static void
waits(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_say(socket, 'w');
	it_acquire(p, &other);
	it_release(&other);
}

/* Each who has a part in a pause dies: a waiter, a lessee, the broker. */
START_TEST(deaths_in_a_pause)
{
	struct it_worker dies;
	struct child pause;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &lease);
	it_ctl_start("pause", "app", LONG_S, &pause);
	await_log("command pause");
	dies = it_worker(waits, NULL);
	it_hear(dies.socket, 'w');
	it_await_waiting(pool, 1);
	it_kill(&dies);
	it_await_waiting(pool, 0);
	it_release(&lease);
	ck_assert_int_eq(it_ctl_end(&pause), 0);
	waiter_start();
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	/* The next broker knows of no pause. */
	ck_assert_int_eq(waiter_end(), 0);
}
END_TEST

static void
holds(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_acquire(p, &other);
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

START_TEST(a_lessee_dies_in_a_pause)
{
	struct it_worker dies;
	struct child pause;

	it_start(1, 1, NULL);
	pool = it_attach();
	dies = it_worker(holds, NULL);
	it_hear(dies.socket, 'h');
	it_ctl_start("pause", "app", LONG_S, &pause);
	await_log("command pause");
	it_kill(&dies);
	ck_assert_int_eq(it_ctl_end(&pause), 0);
	assert_try(PGLEASE_ETIMEOUT, "is paused");
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

/* What is outdated is not closed while no other could take its place. */
static bool
has_failed(const pglease_stats *s, const void *arg)
{
	return s->open_failed >= *(const uint64_t *)arg;
}

START_TEST(a_reconnect_while_the_server_refuses)
{
	static const pglease_test_pool app = {
	    .name = "app", .min = 2, .max = 2, .extra = "retry_min = 10ms\nretry_max = 50ms\n"};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .relay = true);
	uint64_t some = 5;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	it_await_all_idle(pool);
	ck_assert_int_eq(pglease_test_relay_refuse(it_env, 1000000, "53300"), 0);
	ck_assert_int_eq(it_ctl("reconnect", "app", NULL), 0);
	it_await(pool, has_failed, &some, "connects that fail");
	ck_assert_int_eq(it_ctl("wait-close", "app", "0"), 4);
	/* One was closed, and could not be replaced: the other one serves on. */
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 'old'"), "old");
	it_release(&lease);
	ck_assert_int_eq(pglease_test_relay_refuse(it_env, 0, NULL), 0);
	ck_assert_int_eq(it_ctl("wait-close", "app", LONG_S), 0);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

IT_MAIN("pause", callers_of_a_paused_pool_wait, a_pause_that_takes_too_long_goes_on, a_drain_is_stronger_than_a_pause,
    a_kill_takes_leases_away_and_pauses, a_disabled_pool_refuses_and_keeps_its_connections, disabled_and_paused,
    a_reconnect_replaces_all_and_fails_nobody, a_restart_changes_none_of_it, deaths_in_a_pause, a_lessee_dies_in_a_pause,
    a_reconnect_while_the_server_refuses)
