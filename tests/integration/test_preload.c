/* SPDX-License-Identifier: PostgreSQL */
/*
 * The preloaded library: a program that knows only libpq (tests/programs/client.c) is run with it, and the pool is looked at for
 * what it did there.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

#define MARK "lock_timeout = 77s\n" /* by which the client knows a session of the pool */

static pglease_pool *pool;

static void
start(unsigned max, const char *extra)
{
	char settings[512];

	snprintf(settings, sizeof(settings), MARK "%s", extra);
	it_start(1, max, settings);
	program_environment();
	ck_assert_int_eq(pglease_test_sql(it_env, "create table kept (i int)", NULL, 0), 0);
	pool = it_attach();
}

static void
scenario(const char *name)
{
	program_ok(true, PROGRAM(program_built("client"), name));
}

/* All that the server has seen besides the pool's own sessions is none; and so many sessions the pool had. */
static void
check_sessions(uint64_t opened)
{
	it_await_all_idle(pool);
	it_await_published("app", "opened", opened);
	ck_assert_uint_eq(it_published("app", "opened"), opened);
}

START_TEST(every_way_to_connect_leases)
{
	pglease_stats stats;

	start(1, "");
	scenario("ways");
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.acquired, 8);
	check_sessions(1);
}
END_TEST

START_TEST(each_connection_is_a_fresh_one)
{
	start(1, "");
	scenario("fresh");
	check_sessions(1);
}
END_TEST

START_TEST(start_up_settings_are_of_one_connection)
{
	start(1, "");
	scenario("settings");
	check_sessions(1);
}
END_TEST

START_TEST(and_of_a_pool_that_resets_nothing)
{
	start(1, "reset = never\n");
	scenario("settings");
	check_sessions(1);
}
END_TEST

START_TEST(it_says_where_it_wanted_to_be_connected)
{
	start(1, "");
	scenario("info");
}
END_TEST

START_TEST(pqreset_gives_another_session)
{
	start(1, "");
	scenario("reset");
	check_sessions(3);
}
END_TEST

START_TEST(its_queries_are_counted_and_timed)
{
	pglease_stats stats;

	start(1, "");
	scenario("timed");
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.queries, 9);
	ck_assert_uint_eq(stats.query_errors, 1);
	ck_assert_uint_eq(stats.query_rows, 10);
	ck_assert_uint_eq(stats.transactions, 5);
}
END_TEST

START_TEST(a_query_is_cancelled)
{
	start(1, "");
	scenario("cancel");
}
END_TEST

START_TEST(an_event_loop_has_more_than_the_pool)
{
	start(2, "");
	for (unsigned i = 0; i < 5; i++)
		scenario("loop");
	check_sessions(2);
}
END_TEST

START_TEST(waits_end_well_or_with_words)
{
	pglease_stats stats;

	start(1, "");
	scenario("waiting");
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.acquired, stats.released + stats.returned);
	ck_assert_uint_eq(stats.timeouts, 2);
}
END_TEST

START_TEST(threads_hand_them_on)
{
	start(3, "");
	scenario("threads");
	check_sessions(3);
}
END_TEST

START_TEST(a_child_harms_no_connection_of_its_parent)
{
	start(2, "");
	scenario("forks");
}
END_TEST

static bool
has_revoked(const pglease_stats *stats, const void *arg)
{
	return stats->revoked == *(const unsigned *)arg && stats->idle >= 1;
}

START_TEST(who_vanishes_harms_nobody)
{
	char rows[16];

	start(1, "");
	for (unsigned i = 1; i <= 5; i++) {
		scenario("vanishes");
		it_await(pool, has_revoked, &i, "the revocation");
	}
	scenario("fresh");
	ck_assert_int_eq(pglease_test_sql(it_env, "select count(*) from kept", rows, sizeof(rows)), 0);
	ck_assert_str_eq(rows, "0");
}
END_TEST

/* The client's answers to a list of conninfos, in order. */
static void
whose(bool leased, const char *expected, const char *const conninfos[])
{
	const char *argv[16] = {program_built("client"), "whose"};

	for (unsigned i = 0; conninfos[i] != NULL; i++)
		argv[2 + i] = conninfos[i];
	program_ok(leased, argv);
	ck_assert_str_eq(program_output(), expected);
}

START_TEST(only_what_matches_is_taken)
{
	char path[512];
	FILE *f;

	start(2, "");
	ck_assert_int_eq(pglease_test_sql(it_env, "create role other superuser login", NULL, 0), 0);
	whose(true, "leased\ndirect\ndirect\nbad\ndirect\nleased\n",
	    PROGRAM("", "dbname=template1", "user=other", "sslmode=prefer replication=database", "target_session_attrs=read-write",
		"user=postgres dbname=postgres sslmode=prefer"));
	whose(false, "direct\n", PROGRAM(""));
	/* What a service says is known where the environment names it. */
	snprintf(path, sizeof(path), "%s/services", pglease_test_folder(it_env));
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "[reports]\nuser=postgres\ndbname=template1\n[same]\nuser=postgres\ndbname=postgres\n");
	ck_assert_int_eq(fclose(f), 0);
	setenv("PGSERVICEFILE", path, 1);
	whose(true, "direct\ndirect\nleased\n", PROGRAM("service=reports", "service=same", ""));
	setenv("PGSERVICE", "same", 1);
	whose(true, "leased\nleased\n", PROGRAM("", "service=same"));
	unsetenv("PGSERVICE");
	unsetenv("PGSERVICEFILE");
	/* Another host, where nobody is, and the words of libpq about that. */
	setenv("CLIENT_SAYS_WHY", "", 1);
	ck_assert_int_eq(program_run(true, PROGRAM(program_built("client"), "whose", "host=/nowhere")), 0);
	ck_assert_ptr_nonnull(strstr(program_output(), "\"/nowhere/.s.PGSQL.5432\" failed: No such file"));
	ck_assert_ptr_null(strstr(program_output(), "pglease"));
}
END_TEST

START_TEST(a_pool_says_what_matches)
{
	start(2, "match_dbname = app, shop\nmatch_user = *\nmatch_host = db.example:6000, /tmp/x\n");
	whose(true, "direct\nleased\nleased\nleased\n",
	    PROGRAM("", "host=db.example port=6000 dbname=shop user=who", "host=/tmp/x dbname=app",
		"hostaddr=10.0.0.1 host=/tmp/x dbname=app user=x port=5432 hostaddr=''"));
	whose(true, "bad\n", PROGRAM("host=/tmp/x dbname=app port=6000"));
}
END_TEST

START_TEST(a_pool_that_is_named_takes_all)
{
	start(2, "");
	setenv("PGLEASE_POOL", "app", 1);
	whose(true, "leased\nleased\n", PROGRAM("host=/nowhere dbname=none user=nobody", ""));
	setenv("PGLEASE_PRELOAD", "off", 1);
	whose(true, "direct\n", PROGRAM(""));
	unsetenv("PGLEASE_PRELOAD");
	setenv("PGLEASE_PRELOAD_SKIP", "psql,client", 1);
	whose(true, "direct\n", PROGRAM(""));
}
END_TEST

START_TEST(without_a_broker)
{
	start(1, "");
	ck_assert_int_eq(pglease_test_broker_stop(it_env), 0);
	unsetenv("PGLEASE_FALLBACK");
	ck_assert_int_eq(program_run(true, PROGRAM(program_built("client"), "whose", "", "")), 0);
	ck_assert_ptr_nonnull(strstr(program_output(), "direct\ndirect\n"));
	ck_assert_ptr_nonnull(strstr(program_output(), "connecting directly"));
	/* Once. */
	ck_assert_ptr_null(strstr(strstr(program_output(), "connecting directly") + 1, "connecting directly"));
	setenv("PGLEASE_FALLBACK", "error", 1);
	setenv("CLIENT_SAYS_WHY", "", 1);
	ck_assert_int_eq(program_run(true, PROGRAM(program_built("client"), "whose", "")), 0);
	ck_assert_ptr_nonnull(strstr(program_output(), "bad\n"));
	ck_assert_ptr_nonnull(strstr(program_output(), "no broker of instance"));
	ck_assert_int_eq(pglease_test_broker_start(it_env), 0);
	whose(true, "leased\n", PROGRAM(""));
}
END_TEST

/* Its broker is killed twice, and started again, as tests/programs/client.c asks for it. */
static void
survive(const char *fallback)
{
	char path[512], log[512];
	const char *argv[] = {program_built("pglease-run"), "--", program_built("client"), "survives", NULL};
	struct child child;
	int from, to, status;

	start(1, "reset_after = 1h\n"); /* the broker has no connection in its hands when it is killed */
	it_await_all_idle(pool);
	pglease_detach(it_client());
	setenv("PGLEASE_FALLBACK", fallback, 1);
	snprintf(log, sizeof(log), "%s/program.log", pglease_test_folder(it_env));
	snprintf(path, sizeof(path), "%s/from", pglease_test_folder(it_env));
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	from = open(path, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/to", pglease_test_folder(it_env));
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	to = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_msg(child_start(argv, log, NULL, &child) == 0, "%s", child_error());
	for (const char *step = "ksks"; *step != '\0'; step++) {
		struct pollfd p = {.fd = from, .events = POLLIN};
		char byte;

		if (poll(&p, 1, 30000) != 1 || read(from, &byte, 1) != 1 || byte != *step) {
			child_signal(&child, SIGKILL);
			ck_abort_msg("the program does not come to '%s': see %s", step, log);
		}
		ck_assert_int_eq(*step == 'k' ? pglease_test_broker_kill(it_env) : pglease_test_broker_start(it_env), 0);
		ck_assert_int_eq(write(to, step, 1), 1);
	}
	ck_assert_msg(child_wait(&child, 60000, &status) == 0, "%s", child_error());
	ck_assert_int_eq(status, 0);
	close(from);
	close(to);
	pool = it_attach();
}

START_TEST(the_broker_is_killed)
{
	survive("error");
}
END_TEST

START_TEST(the_broker_is_killed_and_there_is_another_way)
{
	survive("direct");
}
END_TEST

/* An extension of a language, and one with another libpq: a copy by another name. */
START_TEST(a_libpq_of_an_extension_and_a_second_one)
{
	static const char copy[] =
	    "cd \"$1\" && sed 's/libpq\\.so\\.5/libpx.so.5/g' \"$2\" >module2.so && "
	    "sed 's/libpq\\.so\\.5/libpx.so.5/g' \"$(ldd \"$2\" | sed -n 's/.*libpq.so.5 => \\([^ ]*\\) .*/\\1/p')\" >libpx.so.5";
	char second[512];

	start(1, "");
	program_ok(false, PROGRAM("/bin/sh", "-c", copy, "sh", pglease_test_folder(it_env), program_built(".libs/pqmodule.so")));
	snprintf(second, sizeof(second), "%s/module2.so", pglease_test_folder(it_env));
	setenv("LD_LIBRARY_PATH", pglease_test_folder(it_env), 1);
	program_ok(true, PROGRAM(program_built("loader"), program_built(".libs/pqmodule.so"), second));
	unsetenv("LD_LIBRARY_PATH");
	ck_assert_str_eq(program_output(), "77s\n77s\n77s\n77s\n77s\n77s\n");
	check_sessions(1);
}
END_TEST

START_TEST(settings_behind_a_late_reset_are_nobodys)
{
	pglease_stats stats;

	start(2, "reset_timeout = 10min\n");
	scenario("late");
	check_sessions(2);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.resets_late, 1);
}
END_TEST

START_TEST(an_event_procedure_ends_with_its_connection)
{
	start(1, "");
	scenario("registers");
	check_sessions(1);
}
END_TEST

START_TEST(callbacks_may_end_and_reset_other_connections)
{
	start(2, "");
	scenario("nested");
	check_sessions(4);
}
END_TEST

START_TEST(pglease_run_is_the_command)
{
	start(1, "");
	ck_assert_int_eq(program_run(true, PROGRAM("/bin/sh", "-c", "exit 3")), 3);
	ck_assert_int_eq(program_run(true, PROGRAM("/nowhere/none")), 127);
	ck_assert_int_eq(program_run(false, PROGRAM(program_built("pglease-run"))), 1);
	ck_assert_int_eq(program_run(false, PROGRAM(program_built("pglease-run"), "-f", "maybe", "true")), 1);
	ck_assert_int_eq(program_run(false, PROGRAM(program_built("pglease-run"), "-h")), 0);
	program_ok(false, PROGRAM(program_built("pglease-run"), "-n", "this", "-p", "that", "-f", "direct", "/bin/sh", "-c",
			      "echo $PGLEASE_INSTANCE $PGLEASE_POOL $PGLEASE_FALLBACK"));
	ck_assert_str_eq(program_output(), "this that direct\n");
}
END_TEST

IT_MAIN("preload", every_way_to_connect_leases, each_connection_is_a_fresh_one, start_up_settings_are_of_one_connection,
    and_of_a_pool_that_resets_nothing, it_says_where_it_wanted_to_be_connected, pqreset_gives_another_session,
    its_queries_are_counted_and_timed, a_query_is_cancelled, an_event_loop_has_more_than_the_pool, waits_end_well_or_with_words, threads_hand_them_on,
    a_child_harms_no_connection_of_its_parent, who_vanishes_harms_nobody, only_what_matches_is_taken,
    a_pool_says_what_matches, a_pool_that_is_named_takes_all, without_a_broker,
    the_broker_is_killed, the_broker_is_killed_and_there_is_another_way,
    a_libpq_of_an_extension_and_a_second_one, settings_behind_a_late_reset_are_nobodys,
    an_event_procedure_ends_with_its_connection, callbacks_may_end_and_reset_other_connections, pglease_run_is_the_command)
