/* SPDX-License-Identifier: PostgreSQL */
/* Running programs. */
#include "program.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_MS 150000

static char output[65536];

void
program_environment(void)
{
	char host[512];

	snprintf(host, sizeof(host), "%s/pg", pglease_test_folder(it_env));
	ck_assert_int_eq(setenv("PGHOST", host, 1), 0);
	ck_assert_int_eq(setenv("PGUSER", "postgres", 1), 0);
	ck_assert_int_eq(setenv("PGDATABASE", "postgres", 1), 0);
	ck_assert_int_eq(setenv("PGCLIENTENCODING", "UTF8", 1), 0);
	ck_assert_int_eq(setenv("PGLEASE_FALLBACK", "error", 1), 0);
	ck_assert_int_eq(setenv("PGLEASE_RUN", program_built("pglease-run"), 1), 0);
	ck_assert_int_eq(setenv("PGLEASE_WORK", pglease_test_folder(it_env), 1), 0);
}

static const char *
path_in(const char *variable, const char *name)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];
	const char *folder = getenv(variable);

	snprintf(path, sizeof(paths[0]), "%s/%s", folder != NULL ? folder : ".", name);
	return path;
}

const char *
program_built(const char *name)
{
	return path_in("PGLEASE_BUILDDIR", name);
}

const char *
program_source(const char *name)
{
	return path_in("PGLEASE_SRCDIR", name);
}

static void
read_output(const char *path)
{
	FILE *f = fopen(path, "re");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(output, 1, sizeof(output) - 1, f);
	output[n] = '\0';
	fclose(f);
}

int
program_run(bool leased, const char *const argv[])
{
	const char *all[32] = {program_built("pglease-run"), "--"};
	char log[512];
	struct child child;
	unsigned n = leased ? 2 : 0;
	int status;

	for (unsigned i = 0; argv[i] != NULL; i++) {
		ck_assert_uint_lt(n, 31);
		all[n++] = argv[i];
	}
	all[n] = NULL;
	snprintf(log, sizeof(log), "%s/program.log", pglease_test_folder(it_env));
	unlink(log);
	ck_assert_msg(child_start(all, log, NULL, &child) == 0, "%s", child_error());
	if (child_wait(&child, RUN_MS, &status) != 0) {
		child_signal(&child, SIGKILL);
		read_output(log);
		ck_abort_msg("%s: %s: %s", argv[0], child_error(), output);
	}
	read_output(log);
	ck_assert_msg(WIFEXITED(status), "%s ended by a signal (%x): %s", argv[0], status, output);
	return WEXITSTATUS(status);
}

const char *
program_output(void)
{
	return output;
}

void
program_ok(bool leased, const char *const argv[])
{
	int status = program_run(leased, argv);

	ck_assert_msg(status == 0, "%s %s ended with %d: %s", argv[0], argv[1] != NULL ? argv[1] : "", status, output);
}
