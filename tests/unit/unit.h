/* SPDX-License-Identifier: PostgreSQL */
/* What every unit test program needs: a segment to play with, and a main. Check runs in fork mode; TAP by environment. */
#ifndef PGLEASE_TESTS_UNIT_H
#define PGLEASE_TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>
#include <unistd.h>

#include "segment.h"

static inline struct segment
unit_segment(uint32_t nslots, uint32_t nrows)
{
	struct segment_params params = {
	    .instance_name = "unit",
	    .pool_name = "app",
	    .user = "u",
	    .dbname = "d",
	    .instance_id = 7,
	    .nslots = nslots,
	    .nrows = nrows,
	    .nclients = 8,
	};
	struct segment seg;
	int fd;

	ck_assert_int_eq(segment_create(&params, &seg, &fd), 0);
	close(fd);
	atomic_store(&seg.header->grant_after_ns, 1000000);
	atomic_store(&seg.header->turn_ns, 400000);
	atomic_store(&seg.header->turn_leases, 4);
	atomic_store(&seg.header->max_connections, nslots);
	return seg;
}

/* Defines main() for one suite of one case. */
#define UNIT_MAIN(name, ...)                                                                                        \
	int main(void)                                                                                              \
	{                                                                                                           \
		const TTest *const tests[] = {__VA_ARGS__};                                                         \
		Suite *suite = suite_create(name);                                                                  \
		TCase *tcase = tcase_create(name);                                                                  \
		SRunner *runner;                                                                                    \
		int failed;                                                                                         \
                                                                                                                    \
		tcase_set_timeout(tcase, 120);                                                                      \
		for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)                                       \
			tcase_add_test(tcase, tests[i]);                                                            \
		suite_add_tcase(suite, tcase);                                                                      \
		runner = srunner_create(suite);                                                                     \
		srunner_run_all(runner, CK_ENV);                                                                    \
		failed = srunner_ntests_failed(runner);                                                             \
		srunner_free(runner);                                                                               \
		return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                                                   \
	}

#endif
