/* SPDX-License-Identifier: PostgreSQL */
/*
 * Worker processes under valgrind, on a broker that is not: what the library does with memory from attachment
 * to detachment, in processes that wait for each other's connections. (Debian 12's valgrind does not know
 * pidfd_open, so broker and guardian cannot run under it.)
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "child.h"
#include "pglease_test.h"

/* The log as a test's message: where valgrind says what it found. */
static const char *
contents(const char *path)
{
	static char text[8192];
	FILE *file = fopen(path, "re");
	size_t n = 0;

	if (file != NULL) {
		n = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
	}
	text[n] = '\0';
	return text;
}

START_TEST(test_workers)
{
	static const pglease_test_pool pools[] = {{.name = "app", .max = 2}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 1);
	static const char *const pgbench[] = {"-i", "-q", NULL};
	const char *builddir = getenv("PGLEASE_BUILDDIR"), *srcdir = getenv("PGLEASE_SRCDIR");
	char valgrind[512], tpcb[512], log[512];
	const char *argv[] = {valgrind, tpcb, "-p", "app", "-w", "4", "-t", "25", NULL};
	pglease_test_env *env;
	int r;

	ck_assert_ptr_nonnull(builddir);
	ck_assert_ptr_nonnull(srcdir);
	ck_assert_msg(pglease_test_env_new(&options, &env) == 0, "%s", pglease_test_error_message());
	ck_assert_msg(pglease_test_program(env, "pgbench", pgbench) == 0, "%s", pglease_test_error_message());
	snprintf(valgrind, sizeof(valgrind), "%s/scripts/valgrind", srcdir);
	snprintf(tpcb, sizeof(tpcb), "%s/tpcb", builddir);
	snprintf(log, sizeof(log), "%s/workers.log", pglease_test_folder(env));
	r = child_run(argv, log, NULL, 300000);
	ck_assert_msg(r == 0, "%s\n%s", pglease_test_error_message(), contents(log));
	ck_assert_msg(pglease_test_env_free(env) == 0, "%s", pglease_test_error_message());
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("memcheck");
	TCase *tcase = tcase_create("workers");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 400);
	tcase_add_test(tcase, test_workers);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
