/* SPDX-License-Identifier: PostgreSQL */
/* The fixture itself: what it starts serves, and nothing of it survives, also when the test or the broker dies. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

#define OK(call) ck_assert_msg((call) == 0, "%s", fixture_error())

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
	static const struct fixture_pool pools[] = {{.name = "one", .max = 2}, {.name = "two", .max = 3, .min = 2}};
	struct fixture_options options = {.pools = pools, .npools = 2};
	static const char *const pgbench[] = {"-i", "-q", NULL};
	char folder[256], instance[64], value[32];
	struct fixture *fixture;

	OK(fixture_start(&options, &fixture));
	snprintf(folder, sizeof(folder), "%s", fixture_folder(fixture));
	snprintf(instance, sizeof(instance), "%s", fixture_instance(fixture));
	ck_assert_int_gt(fixture_broker_pid(fixture), 0);
	ck_assert_int_eq(access(fixture_socket_dir(fixture), F_OK), 0);
	OK(fixture_run(fixture, "pgbench", pgbench));
	OK(fixture_sql(fixture, "SELECT count(*) FROM pgbench_accounts", value, sizeof(value)));
	ck_assert_str_eq(value, "100000");
	ck_assert_int_ne(fixture_sql(fixture, "SELECT nonsense", value, sizeof(value)), 0);

	/* The server and the broker can go and come. */
	OK(fixture_broker_stop(fixture));
	OK(fixture_server_stop(fixture));
	ck_assert_ptr_null(fixture_connect(fixture));
	OK(fixture_server_start(fixture));
	OK(fixture_broker_start(fixture));
	OK(fixture_stop(fixture));
	assert_gone(folder, instance);
}
END_TEST

START_TEST(test_two_at_once)
{
	struct fixture_options options = {0};
	struct fixture *one, *two;

	OK(fixture_start(&options, &one));
	OK(fixture_start(&options, &two));
	ck_assert_str_ne(fixture_instance(one), fixture_instance(two));
	OK(fixture_stop(one));
	OK(fixture_sql(two, "SELECT 1", NULL, 0));
	OK(fixture_stop(two));
}
END_TEST

START_TEST(test_broker_that_fails)
{
	struct fixture_options options = {.extra = "nonsense = 1"};
	struct fixture *fixture = NULL;

	ck_assert_int_ne(fixture_start(&options, &fixture), 0);
	ck_assert_msg(strstr(fixture_error(), "nonsense") != NULL, "%s", fixture_error()); /* its own words */
	ck_assert_ptr_null(fixture);
}
END_TEST

/* The broker's own PostgreSQL loses its parent; the fixture ends it. */
START_TEST(test_broker_killed)
{
	static const struct fixture_pool pools[] = {{.name = "own", .embedded = true}};
	struct fixture_options options = {.pools = pools, .npools = 1, .no_server = true};
	char folder[256], instance[64];
	struct fixture *fixture;

	OK(fixture_start(&options, &fixture));
	snprintf(folder, sizeof(folder), "%s", fixture_folder(fixture));
	snprintf(instance, sizeof(instance), "%s", fixture_instance(fixture));
	OK(fixture_broker_kill(fixture));
	ck_assert_int_eq(fixture_broker_pid(fixture), 0);
	OK(fixture_stop(fixture));
	assert_gone(folder, instance);
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
		struct fixture_options options = {0};
		struct fixture *fixture;

		/* The guardian inherits stdout, so the end of this pipe is the guardian's end. */
		dup2(lives[1], STDOUT_FILENO);
		close(lives[0]);
		close(lives[1]);
		close(told[0]);
		if (fixture_start(&options, &fixture))
			_exit(1);
		snprintf(names.folder, sizeof(names.folder), "%s", fixture_folder(fixture));
		snprintf(names.instance, sizeof(names.instance), "%s", fixture_instance(fixture));
		names.broker = fixture_broker_pid(fixture);
		names.server = fixture_server_pid(fixture);
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
	tcase_add_test(tcase, test_broker_that_fails);
	tcase_add_test(tcase, test_broker_killed);
	tcase_add_test(tcase, test_crash);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
