/* SPDX-License-Identifier: PostgreSQL */
/* The environment itself: what it starts serves, and nothing of it survives, also when the test or the broker dies. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pglease_test.h"

#define OK(call) ck_assert_msg((call) == 0, "%s", pglease_test_error_message())

static void
assert_gone(const char *folder, const char *instance)
{
	char name[64];

	snprintf(name, sizeof(name), "/pglease.%s", instance);
	ck_assert_msg(access(folder, F_OK) != 0, "%s is left", folder);
	ck_assert_int_eq(shm_open(name, O_RDONLY, 0), -1);
	ck_assert_int_eq(errno, ENOENT);
}

START_TEST(test_start_and_stop)
{
	static const pglease_test_pool pools[] = {{.name = "one", .max = 2}, {.name = "two", .max = 3, .min = 2}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2);
	static const char *const pgbench[] = {"-i", "-q", NULL};
	char folder[256], instance[64], value[32];
	pglease_test_env *env;

	OK(pglease_test_env_new(&options, &env));
	snprintf(folder, sizeof(folder), "%s", pglease_test_folder(env));
	snprintf(instance, sizeof(instance), "%s", pglease_test_instance(env));
	ck_assert_int_gt(pglease_test_broker_pid(env), 0);
	ck_assert_int_eq(access(pglease_test_socket_dir(env), F_OK), 0);
	OK(pglease_test_program(env, "pgbench", pgbench));
	OK(pglease_test_sql(env, "SELECT count(*) FROM pgbench_accounts", value, sizeof(value)));
	ck_assert_str_eq(value, "100000");
	ck_assert_int_ne(pglease_test_sql(env, "SELECT nonsense", value, sizeof(value)), 0);

	/* The server and the broker can go and come. */
	OK(pglease_test_broker_stop(env));
	OK(pglease_test_server_stop(env));
	ck_assert_ptr_null(pglease_test_connect(env));
	OK(pglease_test_server_start(env));
	OK(pglease_test_broker_start(env));
	OK(pglease_test_env_free(env));
	assert_gone(folder, instance);
}
END_TEST

START_TEST(test_two_at_once)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS_INIT;
	pglease_test_env *one, *two;

	OK(pglease_test_env_new(&options, &one));
	OK(pglease_test_env_new(&options, &two));
	ck_assert_str_ne(pglease_test_instance(one), pglease_test_instance(two));
	OK(pglease_test_env_free(one));
	OK(pglease_test_sql(two, "SELECT 1", NULL, 0));
	OK(pglease_test_env_free(two));
}
END_TEST

/* What is set for somebody else's server reaches neither this one nor the broker nor the kit's own connections. */
START_TEST(test_foreign_environment)
{
	static const char *const foreign[][2] = {{"PGHOSTADDR", "127.0.0.1"}, {"PGPORT", "5433"}, {"PGOPTIONS", "-c nonsense=1"},
	    {"PGTARGETSESSIONATTRS", "standby"}, {"PGSERVICE", "nowhere"}, {"PGREQUIREAUTH", "scram-sha-256"}};
	static const char *const pgbench[] = {"-i", "-q", NULL};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.setup = "create table set_up (i int)");
	const pglease_test_leak *leak;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	char value[64];
	unsigned n = 0;
	pglease_test_env *env;

	setenv("PGLEASE_TEST_INITDB", "1", 1); /* the setup is executed, not cloned */
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
		setenv(foreign[i][0], foreign[i][1], 1);
	OK(pglease_test_env_new(&options, &env));
	OK(pglease_test_sql(env, "select count(*) from set_up", value, sizeof(value)));
	ck_assert_str_eq(value, "0");
	OK(pglease_test_program(env, "pgbench", pgbench));
	OK(pglease_test_report(env, &leak, &n));
	ck_assert_str_eq(pglease_test_report_unseen(env), "");
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
		ck_assert_str_eq(getenv(foreign[i][0]), foreign[i][1]);
	/* And for who connects by the environment. */
	OK(pglease_test_environment(env));
	ck_assert_ptr_null(getenv("PGHOSTADDR"));
	OK(pglease_test_pool_open(env, "app", &pool));
	ck_assert_msg(pglease_acquire(pool, 20000, &lease, &conn) == 0, "%s", pglease_error_message());
	ck_assert_int_eq(pglease_release(&lease), 0);
	OK(pglease_test_env_free(env));
	ck_assert_str_eq(getenv("PGHOSTADDR"), "127.0.0.1");
}
END_TEST

START_TEST(test_broker_that_fails)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.extra = "nonsense = 1");
	pglease_test_env *env = NULL;

	ck_assert_int_ne(pglease_test_env_new(&options, &env), 0);
	ck_assert_msg(strstr(pglease_test_error_message(), "nonsense") != NULL, "%s", pglease_test_error_message()); /* its own words */
	ck_assert_ptr_null(env);
}
END_TEST

/* The broker's own PostgreSQL loses its parent; the environment ends it. */
START_TEST(test_broker_killed)
{
	static const pglease_test_pool pools[] = {{.name = "own", .embedded = true}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 1, .no_server = true);
	char folder[256], instance[64];
	pglease_test_env *env;

	OK(pglease_test_env_new(&options, &env));
	snprintf(folder, sizeof(folder), "%s", pglease_test_folder(env));
	snprintf(instance, sizeof(instance), "%s", pglease_test_instance(env));
	OK(pglease_test_broker_kill(env));
	ck_assert_int_eq(pglease_test_broker_pid(env), 0);
	OK(pglease_test_env_free(env));
	assert_gone(folder, instance);
}
END_TEST

static pid_t
start_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGTERM, SIG_DFL); /* Check's ends the whole group */
		for (;;)
			pause();
	}
	ck_assert_int_gt(pid, 0);
	return pid;
}

START_TEST(test_watched_processes_come_and_go)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.no_server = 1, .no_broker = 1, .no_leak_check = 1);
	pglease_test_env *env;
	pid_t one, two;
	int status;

	OK(pglease_test_env_new(&options, &env));
	one = start_sleeper();
	two = start_sleeper();
	for (unsigned i = 0; i < 64; i++)
		OK(pglease_test_watch(env, one, SIGTERM));
	ck_assert_int_eq(pglease_test_watch(env, two, SIGTERM), -ENOSPC);
	kill(one, SIGKILL);
	ck_assert_int_eq(waitpid(one, &status, 0), one);
	OK(pglease_test_watch(env, two, SIGTERM));
	ck_assert_int_eq(pglease_test_watch(env, 0, SIGTERM), -EINVAL);
	OK(pglease_test_env_free(env));
	ck_assert_int_eq(waitpid(two, &status, 0), two);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}
END_TEST

/* What the dying test tells. */
struct names {
	char folder[256], instance[64];
	pid_t broker, server;
};

START_TEST(test_crash)
{
	struct names names;
	int told[2], lives[2], status;
	char byte;
	pid_t pid;

	/* Its orphans become ours, so that their end can be awaited. */
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	ck_assert_int_eq(pipe(told), 0);
	ck_assert_int_eq(pipe(lives), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		pglease_test_options options = PGLEASE_TEST_OPTIONS_INIT;
		pglease_test_env *env;

		/* The guardian inherits stdout, so the end of this pipe is the guardian's end. */
		dup2(lives[1], STDOUT_FILENO);
		close(lives[0]);
		close(lives[1]);
		close(told[0]);
		if (pglease_test_env_new(&options, &env))
			_exit(1);
		snprintf(names.folder, sizeof(names.folder), "%s", pglease_test_folder(env));
		snprintf(names.instance, sizeof(names.instance), "%s", pglease_test_instance(env));
		names.broker = pglease_test_broker_pid(env);
		names.server = pglease_test_server_pid(env);
		if (write(told[1], &names, sizeof(names)) != sizeof(names))
			_exit(1);
		raise(SIGKILL);
	}
	close(lives[1]);
	close(told[1]);
	ck_assert_int_eq(read(told[0], &names, sizeof(names)), (ssize_t)sizeof(names));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(read(lives[0], &byte, 1), 0);
	ck_assert_int_eq(waitpid(names.broker, &status, 0), names.broker);
	ck_assert_int_eq(status, 0); /* it was asked to stop, and did */
	ck_assert_int_eq(waitpid(names.server, &status, 0), names.server);
	assert_gone(names.folder, names.instance);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("testkit");
	TCase *tcase = tcase_create("testkit");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, test_start_and_stop);
	tcase_add_test(tcase, test_two_at_once);
	tcase_add_test(tcase, test_foreign_environment);
	tcase_add_test(tcase, test_broker_that_fails);
	tcase_add_test(tcase, test_broker_killed);
	tcase_add_test(tcase, test_watched_processes_come_and_go);
	tcase_add_test(tcase, test_crash);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
