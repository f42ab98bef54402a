/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the integration tests share: an environment per test, worker processes that are told what to do and say when they have
 * done it, and waiting for an event that shows in the pool's own statistics.
 */
#ifndef PGLEASE_TESTS_IT_H
#define PGLEASE_TESTS_IT_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

#include "child.h"
#include "pglease_test.h"
#include "pglease.h"

extern pglease_test_env *it_env;

/* For tests that leave things on purpose, by hand: set before it_start, what they leave is no leak. */
extern bool it_leaks_on_purpose;

/* One pool `app` with these limits; teardown stops and checks. */
void it_start(unsigned min, unsigned max, const char *extra);
/* The same, with at least one connection, and lines for the instance's section too; NULL: none. */
void it_start_as(const char *instance_extra, const char *pool_extra, unsigned max);
void it_teardown(void);

/* Attached, with the pool `app` open; the test fails if not. */
pglease_pool *it_attach(void);
/* The handle of the last it_attach in this process. */
pglease *it_client(void);
/* Ends that attachment; the end of the test does so too. */
void it_detach(void);

/* Acquires or fails the test. */
PGconn *it_acquire(pglease_pool *pool, pglease_lease *lease);
void it_release(const pglease_lease *lease);
/* Sends a cancel of the query that runs, again and again until one has hit; reads the answer, which says so. */
void it_cancel(PGconn *conn);
/* The first field of a query's result; the test fails on an error. Static buffer, overwritten by the next call. */
const char *it_query(PGconn *conn, const char *sql);

#define it_ok(call) ck_assert_msg((call) == 0, "%s: %s", #call, pglease_error_message())

/* A worker process: runs `body` and exits 0 (or is killed). Worker and test talk in single bytes. */
struct it_worker {
	pid_t pid;
	int socket;
};
typedef void (*it_body)(int socket, const void *arg);
struct it_worker it_worker(it_body body, const void *arg);
void it_say(int socket, char byte);
void it_hear(int socket, char byte); /* waits; fails on anything else */
void it_kill(struct it_worker *worker); /* SIGKILL, and reaps */
void it_join(struct it_worker *worker); /* waits for it to end; fails unless with 0 */

/* Closes this process's control connection, as closefrom() would: the broker fences it. */
void it_cut_off(void);

#define IT_PATIENCE_MS 60000 /* ends a failing test; none that passes waits for it */

/* Looks at the pool's statistics until `condition` holds (pglease_test_await). */
typedef bool (*it_condition)(const pglease_stats *stats, const void *arg);
void it_await(pglease_pool *pool, it_condition condition, const void *arg, const char *what);
void it_await_waiting(pglease_pool *pool, uint32_t n);
void it_await_all_idle(pglease_pool *pool);

/* How many of these times were noted. */
uint64_t it_timed(pglease_pool *pool, enum pglease_time time);

/* A number of the first pool that has this name, as the broker publishes it; waits until it is at least `least`. */
uint64_t it_published(const char *pool, const char *column);
void it_await_published(const char *pool, const char *column, uint64_t least);

/* Until the broker has looked at everything, and published its statistics, so many times more. */
void it_await_ticks(unsigned n);

/* pgleasectl for the environment's instance, in the background; its exit status; and both. NULL: no such argument. */
void it_ctl_start(const char *verb, const char *argument, const char *timeout, struct child *ret_child);
int it_ctl_end(struct child *child);
int it_ctl(const char *verb, const char *argument, const char *timeout);

/* Numbers of a seed of the test's: by PGLEASE_TEST_SEED, else another each time; it is printed, so that a failure can be played again. */
void it_seed_random(void);
uint32_t it_random(void);

/* Descriptors that a process has open; the one that looks at it not counted. */
unsigned it_open_files(pid_t pid);
/* The pids of the pools' backends, as the server has them, in order. */
void it_backends(char buf[static 512]);

#define IT_MAIN(name, ...)                                                                                          \
	int main(void)                                                                                              \
	{                                                                                                           \
		const TTest *const tests[] = {__VA_ARGS__};                                                         \
		Suite *suite = suite_create(name);                                                                  \
		TCase *tcase = tcase_create(name);                                                                  \
		SRunner *runner;                                                                                    \
		int failed;                                                                                         \
                                                                                                                    \
		tcase_set_timeout(tcase, 180);                                                                      \
		tcase_add_checked_fixture(tcase, NULL, it_teardown);                                                \
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
