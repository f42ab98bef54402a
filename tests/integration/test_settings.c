/* SPDX-License-Identifier: PostgreSQL */
/* pgleased -t and --help-config, as programs that people run. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char out[65536];

/* Runs the broker with these arguments; what it writes is in `out`. Returns its exit status. */
static int
run(const char *arguments)
{
	const char *builddir = getenv("PGLEASE_BUILDDIR");
	char command[1024];
	size_t n;
	FILE *f;
	int status;

	snprintf(command, sizeof(command), "'%s/pgleased' %s", builddir != NULL ? builddir : ".", arguments);
	f = popen(command, "r");
	ck_assert_ptr_nonnull(f);
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	status = pclose(f);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static char path[64];

static void
write_file(const char *text)
{
	int fd;

	strcpy(path, "/tmp/test_settings_XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void
has_line(const char *format)
{
	char line[200];

	snprintf(line, sizeof(line), "%s%s", path, format);
	ck_assert_msg(strstr(out, line) != NULL, "no \"%s\" in:\n%s", line, out);
}

START_TEST(all_that_is_wrong_one_line_each)
{
	char arguments[128];
	unsigned lines = 0;

	write_file(
	    "[pglease]\nmax_clients = 5000\ncolour = red\n[pool a]\nmin_connections = 9\nembedded = yes\n"
	    "keepalive = 5\nwhat is this\nusers = nobody-of-this-name\n[pool b]\n[pool a]\n[pool c]\n"
	    "conninfo = host=x sslmode=require password=s3cret\n");
	snprintf(arguments, sizeof(arguments), "-t -c %s 2>&1", path);
	ck_assert_int_eq(run(arguments), 1);
	has_line(":2: max_clients: bad value \"5000\" in [pglease]: allowed: a number from 1 to 4096\n");
	has_line(":3: colour: unknown key \"colour\" in [pglease]: allowed: instance, ");
	has_line(
	    ":7: keepalive: bad value \"5\" in [pool a]: allowed: a number with a unit (us, ms, s, min, h)");
	has_line(":8: neither a section, nor key = value, nor a comment\n");
	has_line(":9: users: bad value \"nobody-of-this-name\" in [pool a]: there is no user "
	         "\"nobody-of-this-name\": "
	         "allowed: ");
	has_line(":10: conninfo: pool b has no upstream: set embedded = yes or conninfo\n");
	has_line(":11: two pools of the name a: rename one of them\n");
	has_line(":13: conninfo: pool c: sslmode=require: an encrypted server connection cannot be leased: "
	         "allowed: "
	         "sslmode=disable");
	for (const char *c = out; *c != '\0'; c++)
		lines += *c == '\n';
	/* Of pool a no more is said: what it would be is not known. */
	ck_assert_msg(lines == 8, "%s", out);
	ck_assert_ptr_null(strstr(out, "s3cret"));
	unlink(path);
}
END_TEST

START_TEST(a_sound_file_is_ok)
{
	char arguments[128];

	write_file("[pool a]\nembedded = yes\n");
	snprintf(arguments, sizeof(arguments), "-t -c %s 2>&1", path);
	ck_assert_int_eq(run(arguments), 0);
	has_line(": ok\n");
	unlink(path);
	ck_assert_int_eq(run(arguments), 1);
	has_line(": cannot be read: No such file or directory\n");
}
END_TEST

START_TEST(help_config_writes_what_it_reads)
{
	ck_assert_int_eq(run("--help-config"), 0);
	ck_assert_ptr_nonnull(strstr(out, "\n  max_lifetime = 1h\n      allowed: a number with a unit"));
	ck_assert_int_eq(run("--help-config=sample"), 0);
	write_file(out);
	{
		char arguments[128];

		snprintf(arguments, sizeof(arguments), "-t -c %s 2>&1", path);
		ck_assert_int_eq(run(arguments), 0);
	}
	unlink(path);
	ck_assert_int_eq(run("--help-config=mdoc"), 0);
	ck_assert_ptr_nonnull(strstr(out, "\n.It Cm max_lifetime\n"));
	ck_assert_int_eq(run("--help-config=xml 2>&1"), 1);
	ck_assert_str_eq(out, "pgleased: bad format \"xml\": allowed: table, sample, mdoc\n");
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("settings");
	TCase *tcase = tcase_create("settings");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, all_that_is_wrong_one_line_each);
	tcase_add_test(tcase, a_sound_file_is_ok);
	tcase_add_test(tcase, help_config_writes_what_it_reads);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
