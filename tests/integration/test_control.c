/* SPDX-License-Identifier: PostgreSQL */
/* Drain, resume and stop, with leases out and waiters asleep: by the library, by pgleasectl and by signals. */
#include "it.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "child.h"
#include "command.h"
#include "dial.h"

#define LONG_MS 60000 /* ends a failure only */

static pglease_pool *app, *two;
static pglease_lease lease;

/* Two pools of two connections each, both open. */
static void
start_two(const char *extra)
{
	static const pglease_test_pool pools[] = {{.name = "app", .max = 2}, {.name = "two", .max = 2}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .extra = extra);

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	app = it_attach();
	it_ok(pglease_pool_open(it_client(), "two", &two));
}

static void
assert_draining(pglease_pool *pool)
{
	pglease_lease other;
	PGconn *conn;

	ck_assert_int_eq(pglease_acquire(pool, LONG_MS, &other, &conn), PGLEASE_EDRAINING);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "draining"));
}

static void
await_log(const char *text)
{
	ck_assert_msg(pglease_test_await_log(it_env, text, LONG_MS) == 0, "%s: %s", text, pglease_test_error_message());
}

/* The broker ends by itself. It is not reaped before the environment stops, so the number is still its own. */
static void
await_end(void)
{
	struct pollfd p = {.fd = pidfd_open(pglease_test_broker_pid(it_env), 0), .events = POLLIN};

	ck_assert_int_ge(p.fd, 0);
	ck_assert_int_eq(poll(&p, 1, LONG_MS), 1);
	close(p.fd);
}

static uint32_t
total(pglease_pool *pool)
{
	pglease_stats stats;

	it_ok(pglease_stats_get(pool, &stats));
	return stats.total;
}

START_TEST(a_drained_pool_leaves_the_others_alone)
{
	pglease_lease other;
	pglease_stats stats;
	PGconn *conn;
	char pid[32];

	start_two(NULL);
	conn = it_acquire(app, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	ck_assert_int_eq(pglease_drain(it_client(), "app", 0), PGLEASE_ETIMEOUT);
	ck_assert_msg(strstr(pglease_error_message(), "1 leases are out") != NULL, "%s", pglease_error_message());
	assert_draining(app);
	/* The lease that is out is not disturbed, nor is the other pool. */
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	ck_assert_str_eq(it_query(it_acquire(two, &other), "select 2"), "2");
	it_release(&other);
	it_release(&lease);
	it_ok(pglease_drain(it_client(), "app", LONG_MS));
	await_log("connections closed: drain or stop");
	ck_assert_uint_eq(total(app), 0);
	ck_assert_uint_gt(total(two), 0);
	assert_draining(app);

	it_ok(pglease_resume(it_client(), "app"));
	conn = it_acquire(app, &lease);
	ck_assert_str_ne(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
	it_ok(pglease_stats_get(app, &stats));
	ck_assert_uint_eq(stats.revoked, 0);
	ck_assert_uint_eq(stats.closed, 1);
}
END_TEST

START_TEST(wrong_arguments_and_names)
{
	start_two(NULL);
	ck_assert_int_eq(pglease_drain(NULL, NULL, 0), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_resume(NULL, NULL), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_drain(it_client(), "", 0), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_drain(it_client(), NULL, -2), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_drain(it_client(), "nope", 0), PGLEASE_ENOPOOL);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "nope"));
	ck_assert_int_eq(pglease_drain(it_client(), "app/0", 0), PGLEASE_ENOPOOL); /* only revoke knows slots */
	ck_assert_int_eq(pglease_resume(it_client(), "nope"), PGLEASE_ENOPOOL);
	it_ok(pglease_resume(it_client(), NULL)); /* nothing to undo is no error */
	ck_assert_uint_gt(total(app), 0);
}
END_TEST

static void *
wait_for_drain(void *arg)
{
	pglease_lease other;
	PGconn *conn;
	int *code = arg;

	*code = pglease_acquire(app, LONG_MS, &other, &conn);
	return NULL;
}

START_TEST(waiters_are_woken)
{
	static const pglease_test_pool pools[] = {{.name = "app", .max = 1}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 1);
	pthread_t threads[3];
	int codes[3] = {0};

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	app = it_attach();
	it_acquire(app, &lease);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_for_drain, &codes[i]), 0);
	it_await_waiting(app, 3);
	ck_assert_int_eq(pglease_drain(it_client(), NULL, 0), PGLEASE_ETIMEOUT);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_int_eq(codes[i], PGLEASE_EDRAINING);
	}
	it_release(&lease);
	it_ok(pglease_drain(it_client(), NULL, LONG_MS));
	it_ok(pglease_resume(it_client(), NULL));
	it_acquire(app, &lease);
	it_release(&lease);
}
END_TEST

static void *
drain_in_thread(void *arg)
{
	int *code = arg;

	*code = pglease_drain(it_client(), "app", LONG_MS);
	return NULL;
}

START_TEST(a_resume_ends_a_drain_that_is_waited_for)
{
	pthread_t thread;
	PGconn *conn;
	int code = 0;

	start_two(NULL);
	conn = it_acquire(app, &lease);
	ck_assert_int_eq(pthread_create(&thread, NULL, drain_in_thread, &code), 0);
	await_log("command drain");
	it_ok(pglease_resume(it_client(), "app"));
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(code, PGLEASE_EREFUSED);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	it_acquire(app, &lease);
	it_release(&lease);
}
END_TEST

/* A tool that goes away takes only its answer with it. */
START_TEST(a_drain_outlives_who_asked_for_it)
{
	struct child child;
	int status;

	start_two(NULL);
	it_acquire(app, &lease);
	it_ctl_start("drain", "app", NULL, &child);
	await_log("command drain");
	ck_assert_int_eq(child_signal(&child, SIGKILL), 0);
	ck_assert_int_eq(child_wait(&child, LONG_MS, &status), 0);
	assert_draining(app);
	it_release(&lease);
	ck_assert_int_eq(it_ctl("drain", "app", NULL), 0);
	ck_assert_uint_eq(total(app), 0);
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	it_acquire(app, &lease);
	it_release(&lease);
}
END_TEST

START_TEST(pgleasectl_says_by_its_status_how_it_went)
{
	start_two(NULL);
	it_acquire(app, &lease);
	ck_assert_int_eq(it_ctl("drain", "app", "0.05"), 4);
	ck_assert_int_eq(it_ctl("drain", "two", "0"), 0);
	ck_assert_int_eq(it_ctl("drain", "nope", "0"), 3);
	ck_assert_int_eq(it_ctl("resume", NULL, NULL), 0);
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	it_release(&lease);
}
END_TEST

START_TEST(a_stop_waits_for_the_lease_that_is_out)
{
	struct child first, second;
	PGconn *conn;

	start_two(NULL);
	conn = it_acquire(app, &lease);
	it_ctl_start("stop", NULL, NULL, &first);
	await_log("command stop");
	assert_draining(app);
	assert_draining(two);
	/* Twice is once; and what stops is not resumed. */
	it_ctl_start("stop", NULL, NULL, &second);
	await_log("command stop");
	ck_assert_int_eq(pglease_resume(it_client(), NULL), PGLEASE_EREFUSED);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	ck_assert_int_eq(it_ctl_end(&first), 0);
	ck_assert_int_eq(it_ctl_end(&second), 0);
	ck_assert_int_eq(it_ctl("stop", NULL, NULL), 2);
	ck_assert_int_eq(pglease_drain(it_client(), NULL, 0), PGLEASE_ENOBROKER);
}
END_TEST

START_TEST(a_second_stop_may_be_sooner)
{
	struct child first;

	start_two(NULL);
	it_acquire(app, &lease);
	it_ctl_start("stop", NULL, NULL, &first);
	await_log("command stop");
	ck_assert_int_eq(it_ctl("stop", NULL, "0"), 0);
	ck_assert_int_eq(it_ctl_end(&first), 0);
	await_log("1 leases are revoked");
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
}
END_TEST

START_TEST(sigterm_drains_and_a_second_one_ends_it)
{
	PGconn *conn;

	start_two(NULL);
	conn = it_acquire(app, &lease);
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGTERM), 0);
	await_log("stops: SIGTERM");
	assert_draining(app);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	/* The second SIGTERM, and the status that the broker ends with. */
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	await_log("stops at once: SIGTERM");
	await_log("1 leases are revoked");
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
}
END_TEST

START_TEST(sigterm_ends_with_the_last_lease)
{
	start_two("drain_timeout = 24h");
	it_acquire(app, &lease);
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGTERM), 0);
	await_log("stops: SIGTERM");
	assert_draining(app);
	it_release(&lease);
	await_end();
	ck_assert_int_eq(pglease_test_await_log(it_env, "are revoked", LONG_MS), -ECHILD);
}
END_TEST

START_TEST(sigterm_waits_no_longer_than_it_is_told)
{
	start_two("drain_timeout = 50ms");
	it_acquire(app, &lease);
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	await_log("1 leases are revoked");
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
}
END_TEST

START_TEST(sigint_ends_it_at_once)
{
	start_two("drain_timeout = 24h");
	it_acquire(app, &lease);
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGINT), 0);
	await_log("stops: SIGINT");
	await_end();
	await_log("1 leases are revoked");
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
}
END_TEST

START_TEST(sigint_ends_a_drain)
{
	start_two("drain_timeout = 24h");
	it_acquire(app, &lease);
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGTERM), 0);
	await_log("stops: SIGTERM");
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGINT), 0);
	await_end();
	await_log("stops at once: SIGINT");
}
END_TEST

/* A connection to the control socket, blocking. */
static int
dial(void)
{
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	int sock;

	ck_assert_int_eq(dial_broker(pglease_test_instance(it_env), pglease_test_socket_dir(it_env), dir, &sock, tried), 0);
	ck_assert_int_eq(fcntl(sock, F_SETFL, 0), 0);
	return sock;
}

/* The next packet is an error or a last result, with this code; then the broker closes. */
static void
refused(int sock, int code, const char *word)
{
	union {
		struct wire_error error;
		struct wire_result result;
		char bytes[WIRE_MAX];
	} got;
	ssize_t n = wire_recv(sock, &got, sizeof(got), NULL);

	if (n == (ssize_t)sizeof(got.error)) {
		ck_assert(wire_is(&got, (size_t)n, WIRE_ERROR));
		ck_assert_int_eq(got.error.code, code);
		ck_assert_msg(strstr(got.error.text, word) != NULL, "%s", got.error.text);
	} else {
		ck_assert(wire_is(&got, (size_t)n, WIRE_RESULT));
		ck_assert_int_eq(got.result.code, code);
		ck_assert_uint_eq(got.result.more, 0);
		ck_assert_msg(strstr(got.result.text, word) != NULL, "%s", got.result.text);
	}
	ck_assert_int_eq(wire_recv(sock, &got, sizeof(got), NULL), 0);
	close(sock);
}

static int
say_command(int sock, const char *verb, const char *argument)
{
	struct wire_command command = {.timeout_ms = LONG_MS};

	wire_header_init(&command.header, WIRE_COMMAND);
	memcpy(command.verb, verb, strnlen(verb, sizeof(command.verb)));
	memcpy(command.argument, argument, strnlen(argument, sizeof(command.argument)));
	ck_assert_int_eq(wire_send(sock, &command, sizeof(command), -1), (int)sizeof(command));
	return sock;
}

START_TEST(commands_that_make_no_sense)
{
	struct wire_hello hello = {.layout_version = LAYOUT_VERSION, .layout_hash = layout_hash()};
	struct wire_welcome welcome;
	char unended[LAYOUT_NAME + 1] = "";
	struct wire_result first;
	int sock;

	start_two(NULL);
	memset(unended, 'x', LAYOUT_NAME);
	refused(say_command(dial(), "nonsense", ""), PGLEASE_EINVAL, "nonsense");
	refused(say_command(dial(), "", ""), PGLEASE_EINVAL, "\"\"");
	refused(say_command(dial(), "xxxxxxxxxxxxxxxx", unended), PGLEASE_EINVAL, "xxxxxxxxxxxxxxxx");
	refused(say_command(dial(), "drain", unended), PGLEASE_ENOPOOL, unended);
	refused(say_command(dial(), "status", "app"), PGLEASE_EINVAL, "no argument");

	/* A client's connection takes none. */
	sock = dial();
	wire_header_init(&hello.header, WIRE_HELLO);
	ck_assert_int_eq(wire_send(sock, &hello, sizeof(hello), -1), (int)sizeof(hello));
	ck_assert_int_eq(wire_recv(sock, &welcome, sizeof(welcome), NULL), (int)sizeof(welcome));
	refused(say_command(sock, "drain", "app"), PGLEASE_EPROTOCOL, "first");

	/* Nor does one that waits for another, and nothing else follows a command. */
	it_acquire(two, &lease);
	for (unsigned hi = 0; hi < 2; hi++) {
		sock = say_command(dial(), "drain", "two");
		ck_assert_int_eq(wire_recv(sock, &first, sizeof(first), NULL), (int)sizeof(first));
		ck_assert_uint_eq(first.more, 1);
		if (hi)
			ck_assert_int_eq(wire_send(sock, &hello, sizeof(hello), -1), (int)sizeof(hello));
		else
			say_command(sock, "drain", "app");
		refused(sock, PGLEASE_EPROTOCOL, hi ? "HELLO" : "once");
	}
	it_release(&lease);
	it_ok(pglease_drain(it_client(), "two", LONG_MS));
	it_acquire(app, &lease); /* which none of them has drained */
	it_release(&lease);
}
END_TEST

/* The tool as a user who may not: root's broker, the PostgreSQL user's hands. */
START_TEST(others_may_not_command)
{
	struct child_user user;
	struct child child;
	char program[512], log[512];
	const char *argv[] = {program, "stop", NULL};

	start_two(NULL);
	ck_assert_msg(geteuid() == 0, "this test needs root");
	ck_assert_int_eq(child_server_user(&user), 0);
	snprintf(program, sizeof(program), "%s/pgleasectl", getenv("PGLEASE_BUILDDIR"));
	snprintf(log, sizeof(log), "%s/refused.log", pglease_test_folder(it_env));
	ck_assert_int_eq(child_start(argv, log, &user, &child), 0);
	ck_assert_int_eq(it_ctl_end(&child), 3);
	await_log("command refused: stop");
	it_acquire(app, &lease);
	it_release(&lease);
}
END_TEST

IT_MAIN("control", a_drained_pool_leaves_the_others_alone,
    wrong_arguments_and_names,
    waiters_are_woken,
    a_resume_ends_a_drain_that_is_waited_for,
    a_drain_outlives_who_asked_for_it,
    pgleasectl_says_by_its_status_how_it_went,
    a_stop_waits_for_the_lease_that_is_out,
    a_second_stop_may_be_sooner,
    sigterm_drains_and_a_second_one_ends_it,
    sigterm_ends_with_the_last_lease,
    sigterm_waits_no_longer_than_it_is_told,
    sigint_ends_it_at_once,
    sigint_ends_a_drain,
    commands_that_make_no_sense,
    others_may_not_command)
