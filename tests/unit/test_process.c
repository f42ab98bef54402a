/* SPDX-License-Identifier: PostgreSQL */
/* Children whose end is awaited. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "process.h"
#include "unit.h"

#define PATIENCE_MS 60000

static struct process
start(const char *word)
{
	const char *const argv[] = {"/bin/sh", "-c", word, NULL};
	struct process_params params = {.argv = argv, .folder = "/", .output = STDERR_FILENO};
	struct process process = {0};

	ck_assert_int_eq(process_start(&params, &process), 0);
	return process;
}

START_TEST(its_status_is_told)
{
	struct process process = start("exit 7");
	int status = 0;

	ck_assert(process_wait(&process, PATIENCE_MS, &status));
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 7);
	ck_assert_int_eq(process.pid, 0);
	process = start("exec sleep 60");
	ck_assert(!process_wait(&process, 0, &status));
	ck_assert_int_eq(kill(process.pid, SIGKILL), 0);
	ck_assert(process_wait(&process, PATIENCE_MS, &status));
	ck_assert(WIFSIGNALED(status));
}
END_TEST

/* It has ended all the same, and not well, for all that is known. */
START_TEST(a_status_that_the_kernel_has_thrown_away)
{
	struct process process;
	int status = 0;

	signal(SIGCHLD, SIG_IGN);
	process = start("exec sleep 60"); /* it is there until it is known */
	ck_assert_int_eq(kill(process.pid, SIGKILL), 0);
	ck_assert(process_wait(&process, PATIENCE_MS, &status));
	ck_assert_int_eq(process.pid, 0);
	ck_assert(WIFEXITED(status));
	ck_assert_int_ne(WEXITSTATUS(status), 0);
}
END_TEST

UNIT_MAIN("process", its_status_is_told, a_status_that_the_kernel_has_thrown_away)
