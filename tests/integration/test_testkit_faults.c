/* SPDX-License-Identifier: PostgreSQL */
/* Faults on demand: each does what the manual says, the pool recovers when it is over, and an environment's end ends it. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "it.h"
#include "segment.h"

#define PATIENCE_MS 30000

#define kit_ok(call) ck_assert_msg((call) == 0, "%s: %s", #call, pglease_test_error_message())

static pglease_pool *pool;

static void
start(bool relay)
{
	static const pglease_test_pool app = {
	    .name = "app", .min = 1, .max = 2, .extra = "retry_min = 20ms\nretry_max = 50ms"};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .relay = relay);

	kit_ok(pglease_test_env_new(&options, &it_env));
	kit_ok(pglease_test_pool_open(it_env, "app", &pool));
	it_await_all_idle(pool);
}

static void
assert_serves(void)
{
	pglease_lease lease;
	PGconn *conn;

	it_ok(pglease_acquire(pool, PATIENCE_MS, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
}

static int
has_closed(void *context)
{
	const uint64_t *least = context;
	pglease_stats stats;

	it_ok(pglease_stats_get(pool, &stats));
	return stats.closed >= *least;
}

/*
 * All connections end, and the broker has seen it: until it has, one that was used a moment ago is leased as it is
 * (validation_bypass).
 */
static void
cut_idle_connections(void)
{
	pglease_stats stats;
	uint64_t closed;

	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	closed = stats.closed + stats.total;
	kit_ok(pglease_test_relay_cut(it_env));
	ck_assert_int_eq(pglease_test_await(has_closed, &closed, PATIENCE_MS), 0);
}

/* Nothing to read within a tenth of a second: what is only late would make the test pass wrongly, not fail wrongly. */
static bool
is_silent(PGconn *conn)
{
	struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};

	return poll(&p, 1, 100) == 0;
}

static void
take_answer(PGconn *conn, const char *expected)
{
	struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};
	PGresult *result;

	while (PQisBusy(conn)) {
		ck_assert_int_eq(poll(&p, 1, PATIENCE_MS), 1);
		ck_assert_int_eq(PQconsumeInput(conn), 1);
	}
	result = PQgetResult(conn);
	ck_assert_str_eq(PQgetvalue(result, 0, 0), expected);
	PQclear(result);
	ck_assert_ptr_null(PQgetResult(conn));
}

START_TEST(the_broker_is_killed_and_comes_back)
{
	pglease *other;

	start(false);
	kit_ok(pglease_test_kill(it_env, PGLEASE_TEST_BROKER, 0));
	ck_assert_int_eq(pglease_test_broker_pid(it_env), 0);
	ck_assert_int_eq(pglease_attach(NULL, NULL, &other), PGLEASE_ENOBROKER);
	ck_assert_int_lt(pglease_test_kill(it_env, PGLEASE_TEST_BROKER, 0), 0);
	pglease_test_client_end(it_env);
	kit_ok(pglease_test_broker_start(it_env));
	kit_ok(pglease_test_pool_open(it_env, "app", &pool));
	assert_serves();
}
END_TEST

START_TEST(the_broker_is_paused)
{
	pglease_options options = {.timeout_ms = 200};
	pglease *other;

	start(false);
	kit_ok(pglease_test_pause(it_env, PGLEASE_TEST_BROKER, 0));
	ck_assert_int_eq(pglease_attach(NULL, &options, &other), PGLEASE_ENOBROKER);
	kit_ok(pglease_test_continue(it_env, PGLEASE_TEST_BROKER, 0));
	it_ok(pglease_attach(NULL, NULL, &other));
	pglease_detach(other);
	/* What is still paused at the end does not hold it up. */
	kit_ok(pglease_test_pause(it_env, PGLEASE_TEST_BROKER, 0));
}
END_TEST

START_TEST(the_server_is_paused)
{
	PGconn *conn;

	start(false);
	conn = pglease_test_connect(it_env);
	ck_assert_ptr_nonnull(conn);
	kit_ok(pglease_test_pause(it_env, PGLEASE_TEST_SERVER, 0));
	ck_assert_int_eq(PQsendQuery(conn, "select 'late'"), 1);
	ck_assert(is_silent(conn));
	kit_ok(pglease_test_continue(it_env, PGLEASE_TEST_SERVER, 0));
	take_answer(conn, "late");
	PQfinish(conn);
	kit_ok(pglease_test_pause(it_env, PGLEASE_TEST_SERVER, 0));
}
END_TEST

START_TEST(the_server_crashes)
{
	char value[16];

	start(false);
	kit_ok(pglease_test_sql(it_env, "create table t as select 1 as i", NULL, 0));
	kit_ok(pglease_test_sql(it_env, "checkpoint", NULL, 0));
	kit_ok(pglease_test_kill(it_env, PGLEASE_TEST_SERVER, 0));
	ck_assert_int_eq(pglease_test_server_pid(it_env), 0);
	ck_assert_ptr_null(pglease_test_connect(it_env));
	kit_ok(pglease_test_server_start(it_env));
	kit_ok(pglease_test_sql(it_env, "select i from t", value, sizeof(value)));
	ck_assert_str_eq(value, "1");
	assert_serves();
}
END_TEST

START_TEST(a_session_is_killed)
{
	pglease_lease lease;
	PGconn *conn;
	PGresult *result;

	start(false);
	conn = it_acquire(pool, &lease);
	kit_ok(pglease_test_kill(it_env, PGLEASE_TEST_SESSION, PQbackendPID(conn)));
	/* The signal is not the end: that comes when the backend has seen it. */
	do {
		result = PQexec(conn, "select 1");
		PQclear(result);
	} while (PQstatus(conn) == CONNECTION_OK);
	it_release(&lease);
	assert_serves();
	ck_assert_int_eq(pglease_test_kill(it_env, PGLEASE_TEST_SESSION, getpid()), -ESRCH);
}
END_TEST

static void
hold(int socket, const void *arg)
{
	pglease_lease lease;

	(void)arg;
	it_acquire(it_attach(), &lease);
	it_say(socket, 'l');
	it_hear(socket, 'x');
}

static bool
has_one_leased(const pglease_stats *stats, const void *arg)
{
	(void)arg;
	return stats->leased == 1;
}

START_TEST(a_client_is_killed)
{
	struct it_worker worker;
	int status;

	start(false);
	worker = it_worker(hold, NULL);
	it_hear(worker.socket, 'l');
	it_await(pool, has_one_leased, NULL, "the lease");
	kit_ok(pglease_test_kill(it_env, PGLEASE_TEST_CLIENT, worker.pid));
	ck_assert_int_eq(waitpid(worker.pid, &status, 0), worker.pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(worker.socket);
	it_await_all_idle(pool);
	assert_serves();
}
END_TEST

static void
spin(int socket, const void *arg)
{
	(void)arg;
	it_say(socket, 's');
	for (;;)
		;
}

/* CPU time of a process: hundredths of a second. */
static unsigned long
cpu_of(pid_t pid)
{
	char path[64], text[1024] = "", *end;
	unsigned long user = 0, system = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, f), 0);
	fclose(f);
	end = strrchr(text, ')');
	ck_assert_int_eq(sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
	return user + system;
}

/* Two that do the same, one of them slow: they get the processor as their shares say, whatever else runs. */
START_TEST(a_client_is_slow)
{
	struct it_worker fast, slow;
	unsigned long fast_used, slow_used;

	start(false);
	fast = it_worker(spin, NULL);
	slow = it_worker(spin, NULL);
	it_hear(fast.socket, 's');
	it_hear(slow.socket, 's');
	kit_ok(pglease_test_slow(it_env, PGLEASE_TEST_CLIENT, slow.pid, 5));
	fast_used = cpu_of(fast.pid);
	slow_used = cpu_of(slow.pid);
	while (cpu_of(fast.pid) - fast_used < 100)
		usleep(10000);
	ck_assert_uint_lt(cpu_of(slow.pid) - slow_used, 50);
	kit_ok(pglease_test_slow(it_env, PGLEASE_TEST_CLIENT, slow.pid, 100));
	/* It runs again. */
	slow_used = cpu_of(slow.pid);
	while (cpu_of(slow.pid) - slow_used < 20)
		usleep(10000);
	it_kill(&fast);
	it_kill(&slow);
}
END_TEST

START_TEST(server_and_broker_are_slow_and_serve)
{
	start(false);
	kit_ok(pglease_test_slow(it_env, PGLEASE_TEST_SERVER, 0, 20));
	kit_ok(pglease_test_slow(it_env, PGLEASE_TEST_BROKER, 0, 20));
	for (unsigned i = 0; i < 20; i++)
		assert_serves();
	ck_assert_int_eq(pglease_test_slow(it_env, PGLEASE_TEST_SERVER, 0, 0), -EINVAL);
}
END_TEST

START_TEST(a_pool_is_full)
{
	pglease_lease lease;
	PGconn *conn;

	start(false);
	kit_ok(pglease_test_fill(it_env, "app", 0));
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ETIMEOUT);
	kit_ok(pglease_test_fill(it_env, "app", 1));
	it_release((it_acquire(pool, &lease), &lease));
	pglease_test_unfill(it_env);
	assert_serves();
	ck_assert_int_lt(pglease_test_fill(it_env, "nosuch", 0), 0);
	ck_assert_msg(strstr(pglease_test_error_message(), "nosuch") != NULL, "%s", pglease_test_error_message());
	kit_ok(pglease_test_fill(it_env, "app", 0)); /* the end empties it */
}
END_TEST

START_TEST(the_next_connects_fail)
{
	start(true);
	assert_serves();
	ck_assert_uint_gt(pglease_test_relay_round_trips(it_env), 0);
	/* 53300: too many connections. */
	kit_ok(pglease_test_relay_refuse(it_env, 2, "53300"));
	cut_idle_connections();
	it_await_published("app", "open_failed_53", 2);
	assert_serves();
	ck_assert_uint_eq(pglease_test_relay_refused(it_env), 2);
	/* Without an answer. */
	kit_ok(pglease_test_relay_refuse(it_env, 1, NULL));
	cut_idle_connections();
	assert_serves();
	ck_assert_uint_eq(pglease_test_relay_refused(it_env), 3);
	ck_assert_int_eq(pglease_test_relay_refuse(it_env, 1, "too long"), -EINVAL);
}
END_TEST

START_TEST(nothing_passes_and_then_all)
{
	pglease_lease lease;
	PGconn *conn;

	start(true);
	conn = it_acquire(pool, &lease);
	kit_ok(pglease_test_relay_stall(it_env));
	ck_assert_int_eq(PQsendQuery(conn, "select 'kept'"), 1);
	ck_assert(is_silent(conn));
	kit_ok(pglease_test_relay_pass(it_env));
	take_answer(conn, "kept");
	it_release(&lease);
}
END_TEST

START_TEST(what_is_sent_is_lost)
{
	pglease_lease lease;
	PGconn *conn;

	start(true);
	conn = it_acquire(pool, &lease);
	kit_ok(pglease_test_relay_drop(it_env));
	ck_assert_int_eq(PQsendQuery(conn, "select 'lost'"), 1);
	ck_assert(is_silent(conn));
	kit_ok(pglease_test_relay_pass(it_env));
	ck_assert(is_silent(conn));
	it_ok(pglease_release_as(&lease, PGLEASE_SESSION_BROKEN));
	assert_serves();
}
END_TEST

START_TEST(what_is_sent_takes_its_time)
{
	pglease_lease lease;
	PGconn *conn;
	uint64_t began;

	start(true);
	conn = it_acquire(pool, &lease);
	kit_ok(pglease_test_relay_delay(it_env, 50));
	began = clock_ns();
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	/* There and back. A slow machine makes it longer, nothing makes it shorter. */
	ck_assert_uint_ge(clock_ns() - began, UINT64_C(100000000));
	kit_ok(pglease_test_relay_pass(it_env));
	it_release(&lease);
}
END_TEST

START_TEST(connections_are_cut)
{
	pglease_lease lease;
	PGconn *conn;
	PGresult *result;

	start(true);
	conn = it_acquire(pool, &lease);
	kit_ok(pglease_test_relay_cut(it_env));
	result = PQexec(conn, "select 1");
	ck_assert_int_ne(PQresultStatus(result), PGRES_TUPLES_OK);
	PQclear(result);
	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
	it_release(&lease);
	assert_serves();
}
END_TEST

START_TEST(a_large_answer_passes)
{
	pglease_lease lease;
	PGconn *conn;
	uint64_t before;

	start(true);
	conn = it_acquire(pool, &lease);
	before = pglease_test_relay_round_trips(it_env);
	ck_assert_str_eq(it_query(conn, "select length(repeat('x', 20000000)::text), repeat('x', 20000000)"), "20000000");
	ck_assert_str_eq(it_query(conn, "select length('" "y" "')"), "1");
	ck_assert_uint_eq(pglease_test_relay_round_trips(it_env) - before, 2);
	it_release(&lease);
}
END_TEST

START_TEST(without_a_relay_orders_are_errors)
{
	start(false);
	ck_assert_int_eq(pglease_test_relay_cut(it_env), -EINVAL);
	ck_assert_ptr_nonnull(strstr(pglease_test_error_message(), "relay"));
	ck_assert_int_eq(pglease_test_relay_await_held(it_env, 0), -EINVAL);
}
END_TEST

/* The process that slowed the server dies with the test; the server does not stay stopped, and all of it goes. */
START_TEST(a_crash_leaves_nothing_stopped)
{
	char folder[256];
	int told[2], lives[2], status;
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe(told), 0);
	ck_assert_int_eq(pipe(lives), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		pglease_test_options options = PGLEASE_TEST_OPTIONS(.relay = true);
		pglease_test_env *env;

		/* The guardian inherits stdout, so the end of this pipe is the guardian's end. */
		dup2(lives[1], STDOUT_FILENO);
		close(lives[0]);
		close(lives[1]);
		close(told[0]);
		if (pglease_test_env_new(&options, &env) || pglease_test_slow(env, PGLEASE_TEST_SERVER, 0, 10) ||
		    pglease_test_pause(env, PGLEASE_TEST_BROKER, 0) || pglease_test_relay_stall(env))
			_exit(1);
		memset(folder, 0, sizeof(folder));
		snprintf(folder, sizeof(folder), "%s", pglease_test_folder(env));
		if (write(told[1], folder, sizeof(folder)) != sizeof(folder))
			_exit(1);
		raise(SIGKILL);
	}
	close(lives[1]);
	close(told[1]);
	ck_assert_int_eq(read(told[0], folder, sizeof(folder)), (ssize_t)sizeof(folder));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(read(lives[0], &byte, 1), 0);
	ck_assert_msg(access(folder, F_OK) != 0, "%s is left", folder);
	ck_assert_int_eq(child_working_in(folder), 0);
}
END_TEST

IT_MAIN("testkit_faults", the_broker_is_killed_and_comes_back, the_broker_is_paused, the_server_is_paused, the_server_crashes,
    a_session_is_killed, a_client_is_killed, a_client_is_slow, server_and_broker_are_slow_and_serve, a_pool_is_full,
    the_next_connects_fail, nothing_passes_and_then_all, what_is_sent_is_lost, what_is_sent_takes_its_time, connections_are_cut,
    a_large_answer_passes, without_a_relay_orders_are_errors, a_crash_leaves_nothing_stopped)
