/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a service manager keeps of a broker that was killed: the next one ends at once the old sessions that nobody has leased, while
 * processes live that could have, and no other.
 */
#include "it.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager.h"

#define STORED "segment.app"

static void
begin(const char *instance_extra)
{
	/* Without the store they would be there for an hour: this process lives. */
	static const pglease_test_pool pool = {.name = "app", .min = 2, .max = 2, .extra = "takeover_limit = 1h"};
	const pglease_test_options options =
	    PGLEASE_TEST_OPTIONS(.pools = &pool, .npools = 1, .no_broker = true, .extra = instance_extra);

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	manager_start();
}

static int
is_gone(void *context)
{
	const char *pid = context;
	char sql[128], buf[16];

	snprintf(sql, sizeof(sql), "select count(*) from pg_stat_activity where pid = %s", pid);
	ck_assert_msg(pglease_test_sql(it_env, sql, buf, sizeof(buf)) == 0, "%s", pglease_test_error_message());
	return strcmp(buf, "0") == 0;
}

/* The process notices at some lease that it has another broker. */
static pglease_pool *used;

static int
is_gone_with_use(void *context)
{
	pglease_lease lease;

	it_acquire(used, &lease);
	(void)!pglease_release(&lease);
	return is_gone(context);
}

static pid_t
killed_and_started_again(pid_t broker)
{
	ck_assert_int_eq(kill(broker, SIGKILL), 0);
	manager_reap(broker);
	ck_assert_uint_eq(manager_stored(STORED), 1);
	broker = manager_broker();
	manager_hears("READY=1");
	/* Its own, in the place of the old one. */
	ck_assert_uint_eq(manager_stored(STORED), 1);
	return broker;
}

static void
idle_ones_are_ended(const char *instance_extra)
{
	pglease_lease kept, given;
	pglease_pool *pool;
	PGconn *conn, *other;
	char leased[32], idle[32];
	pid_t broker;
	int status;

	begin(instance_extra);
	broker = manager_broker();
	manager_hears("READY=1");
	ck_assert_uint_eq(manager_stored(STORED), 1);
	pool = used = it_attach();
	conn = it_acquire(pool, &kept);
	other = it_acquire(pool, &given);
	snprintf(leased, sizeof(leased), "%s", it_query(conn, "select pg_backend_pid()"));
	snprintf(idle, sizeof(idle), "%s", it_query(other, "select pg_backend_pid()"));
	it_release(&given);
	broker = killed_and_started_again(broker);
	/* This process does nothing with the library: it is not it who ends the session. */
	ck_assert_msg(pglease_test_await(is_gone, idle, IT_PATIENCE_MS) == 0, "%s is still there", idle);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), leased);
	/* Once more, without a change: who was left is still to be ended, and still leased. */
	broker = killed_and_started_again(broker);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), leased);
	/* The end of a lease of the old broker's ends its session, as ever; a new one is of the new broker's. */
	(void)!pglease_release(&kept);
	ck_assert_msg(pglease_test_await(is_gone_with_use, leased, IT_PATIENCE_MS) == 0, "%s is still there", leased);
	it_detach();
	/* A broker that stops leaves nothing. */
	ck_assert_int_eq(kill(broker, SIGTERM), 0);
	status = manager_reap(broker);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x: %s", status, manager_log());
	manager_hears("STOPPING=1");
	manager_hears("FDSTOREREMOVE=1");
	ck_assert_uint_eq(manager_stored(STORED), 0);
	manager_end();
}

START_TEST(sessions_that_nobody_has_leased)
{
	idle_ones_are_ended(NULL);
}
END_TEST

/* Nothing of it depends on what is published. */
START_TEST(without_statistics)
{
	idle_ones_are_ended("monitoring = no");
}
END_TEST

/* Of a pool that is no more, of another version, or of nobody: it is of no use, and no reason not to start. */
START_TEST(what_is_of_no_use)
{
	pid_t broker;
	int pipe_fds[2];

	begin(NULL);
	ck_assert_int_eq(pipe(pipe_fds), 0);
	manager_pass(pipe_fds[0], STORED);
	manager_pass(pipe_fds[1], "segment.another");
	broker = manager_broker();
	manager_hears("FDSTOREREMOVE=1\nFDNAME=segment.another");
	manager_hears("READY=1");
	ck_assert_int_eq(kill(broker, SIGTERM), 0);
	ck_assert_int_eq(manager_reap(broker), 0);
	manager_end();
}
END_TEST

IT_MAIN("store", sessions_that_nobody_has_leased, without_statistics, what_is_of_no_use)
