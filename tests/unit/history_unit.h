/* SPDX-License-Identifier: PostgreSQL */
/* What the tests of the history's objects and files share: a folder and an instance of their own, rows, and views. */
#ifndef PGLEASE_TESTS_HISTORY_UNIT_H
#define PGLEASE_TESTS_HISTORY_UNIT_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "history.h"
#include "unit.h"

#define SECOND UINT64_C(1000000000)
#define NOW (UINT64_C(1800000000) * SECOND)

static char instance[48], name[PATHS_MAX], folder[64], file[96];
static char why[HISTORY_WHY];

/* Also what a test that failed has left. */
static inline void
remove_all(void)
{
	shm_unlink(name);
	unlink(file);
	rmdir(file);
	rmdir(folder);
}

static inline void
setup(void)
{
	remove_all();
	ck_assert_int_eq(mkdir(folder, 0700), 0);
}

static inline void
teardown(void)
{
	shm_unlink(name);
	unlink(file);
	ck_assert_int_eq(rmdir(folder), 0); /* nothing else was left in it */
}

static inline int
try_writer(uint32_t seconds, struct history_writer **ret)
{
	struct history_params params = {
	    .instance = instance, .pool = "app", .seconds = seconds, .mode = 0640, .file = file, .now = NOW};

	return history_writer_new(&params, ret, why);
}

static inline struct history_writer *
new_writer(uint32_t seconds)
{
	struct history_writer *writer = NULL;

	ck_assert_int_eq(try_writer(seconds, &writer), 0);
	return writer;
}

/* Every 32-bit word of a row follows from its serial: no half of one can be taken for a whole. */
static inline void
make_row(struct history_row *row, uint64_t serial)
{
	uint32_t words[sizeof(*row) / 4];

	for (size_t i = 0; i < sizeof(words) / 4; i++)
		words[i] = (uint32_t)(serial * 2654435761u + i);
	memcpy(row, words, sizeof(*row));
	row->number = 0;
	row->serial = serial;
	row->time = NOW - (1000000 - serial) * SECOND;
	row->mono = serial * SECOND;
	row->interval = SECOND;
	row->instance = 7;
	row->first = serial == 1;
}

static inline void
append(struct history_writer *writer, enum history_ring ring, uint64_t serial)
{
	struct history_row row;

	make_row(&row, serial);
	ck_assert_int_eq(history_writer_append(writer, ring, &row), 0);
}

static inline void
check_row(const struct history_row *row, uint64_t k, uint64_t serial)
{
	struct history_row expected;

	make_row(&expected, serial);
	expected.number = k + 1;
	ck_assert_uint_eq(row->number, k + 1);
	ck_assert_uint_eq(row->serial, serial);
	ck_assert_int_eq(memcmp(row, &expected, sizeof(expected)), 0);
}

/* Row k of a ring has serial k + shift. */
static inline void
check_ring(const struct history_view *view, enum history_ring ring, uint64_t first, uint64_t end, uint64_t shift)
{
	struct history_row row;
	uint64_t is_first, is_end;

	history_view_range(view, ring, &is_first, &is_end);
	ck_assert_uint_eq(is_first, first);
	ck_assert_uint_eq(is_end, end);
	for (uint64_t k = first; k < end; k++) {
		ck_assert(history_view_row(view, ring, k, sizeof(row), &row));
		check_row(&row, k, k + shift);
		ck_assert(history_view_row(view, ring, k, HISTORY_PLACE_SIZE, &row));
		ck_assert_uint_eq(row.serial, k + shift);
	}
	ck_assert(!history_view_row(view, ring, end, sizeof(row), &row));
	if (first > 0)
		ck_assert(!history_view_row(view, ring, first - 1, sizeof(row), &row));
}

static inline void
open_view(struct history_bytes *bytes, struct history_view *view)
{
	ck_assert_int_eq(history_open(instance, "app", bytes, view), 0);
}

/* A broker that appends so many rows and is killed. */
static inline void
die_after(uint32_t seconds, uint64_t rows, uint64_t minutes)
{
	pid_t pid = check_fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct history_writer *writer = new_writer(seconds);

		for (uint64_t serial = 1; serial <= rows; serial++) {
			append(writer, HISTORY_SECONDS, serial);
			if (serial <= minutes)
				append(writer, HISTORY_MINUTES, serial);
		}
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

/* The suite's test that runs once for each of 0 to n - 1. */
struct history_loop {
	const TTest *test;
	int n;
};

static inline int
history_main(const char *suite_name, const TTest *const *const tests[], size_t ntests, const struct history_loop *loop)
{
	Suite *suite = suite_create(suite_name);
	TCase *tcase = tcase_create(suite_name);
	SRunner *runner;
	int failed;

	snprintf(instance, sizeof(instance), "unit-%.20s-%d", suite_name, (int)getpid());
	snprintf(folder, sizeof(folder), "/tmp/%s", instance);
	snprintf(file, sizeof(file), "%s/history.app", folder);
	if (paths_history_name(instance, "app", name, sizeof(name)) != 0)
		return EXIT_FAILURE;
	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	for (size_t i = 0; i < ntests; i++)
		tcase_add_test(tcase, *tests[i]);
	tcase_add_loop_test(tcase, loop->test, 0, loop->n);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	remove_all();
	return failed != 0;
}

#endif
