/* SPDX-License-Identifier: PostgreSQL */
/* The log: one line per event, and not more of a kind than a disk can bear. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

static char path[64];
static int before;

/* What is logged goes to a file. */
static void
setup(void)
{
	int fd;

	strcpy(path, "/tmp/test_log_XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	before = dup(STDERR_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
	log_setup(LOG_LEVEL_INFO, false);
}

static void
teardown(void)
{
	dup2(before, STDERR_FILENO);
	close(before);
	unlink(path);
}

/* Lines that have this; *ret_left_out: how many were left out before them. */
static unsigned
count(const char *text, unsigned *ret_left_out)
{
	FILE *f = fopen(path, "re");
	char line[2048];
	unsigned n = 0, left_out = 0, last = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		const char *message = strstr(line, ": ");

		ck_assert_ptr_nonnull(message);
		if (strstr(message, text) != NULL) {
			n++;
			left_out += last;
		}
		last = 0;
		(void)sscanf(message, ": %u lines like the next one were left out", &last);
	}
	fclose(f);
	if (ret_left_out != NULL)
		*ret_left_out = left_out;
	return n;
}

START_TEST(an_event_is_a_line)
{
	log_warning("a server's words: %s", "one\ntwo\r\n\tthree\n");
	ck_assert_uint_eq(count("a server's words: one two", NULL), 1);
	ck_assert_uint_eq(count("three", NULL), 1);
	log_debug("not wanted");
	ck_assert_uint_eq(count("not wanted", NULL), 0);
}
END_TEST

static void
often(const char *what)
{
	log_info("often: %s", what);
}

START_TEST(many_of_a_kind)
{
	unsigned said = 0, left_out, written;

	for (; said < 20 * LOG_MOST; said++)
		often("again");
	written = count("often: ", &left_out);
	ck_assert_uint_ge(written, LOG_MOST);
	ck_assert_uint_lt(written, said / 2);
	/* Another kind has its own count. */
	log_info("seldom: %s", "this");
	ck_assert_uint_eq(count("seldom: ", NULL), 1);
	/* A second later it may go on, and says what was left out: together it is all. */
	for (;; said++) {
		often("again");
		if (count("often: ", &left_out) > written)
			break;
	}
	ck_assert_uint_gt(left_out, 0);
	ck_assert_uint_eq(count("often: ", &left_out) + left_out, said + 1);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("log");
	TCase *tcase = tcase_create("log");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, an_event_is_a_line);
	tcase_add_test(tcase, many_of_a_kind);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
