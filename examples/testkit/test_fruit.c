/* SPDX-License-Identifier: PostgreSQL */
/*
 * A test with Check: each test in a process and an environment of its own, which begins with the same tables; and what the
 * code does when the server goes away.
 *
 *	cc test_fruit.c $(pkg-config --cflags --libs pglease-test check) && ./a.out
 */
#include <check.h>
#include <stdlib.h>

#include <pglease_test.h>

static pglease_test_env *env;
static pglease_pool *pool;

/* The code under test: 0, or -1. */
static int
add_fruit(const char *name)
{
	pglease_lease lease;
	PGresult *result;
	PGconn *conn;
	int good;

	if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn))
		return -1;
	result = pglease_exec_params(conn, "insert into fruit values ($1)", 1, NULL, &name, NULL, NULL, 0);
	good = PQresultStatus(result) == PGRES_COMMAND_OK;
	PQclear(result);
	pglease_release(&lease);
	return good ? 0 : -1;
}

static void
setup(void)
{
	static const pglease_test_pool pools[] = {{.name = "app", .max = 2, .extra = "acquire_timeout = 20s"}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(
	    .pools = pools, .npools = 1, .setup = "create table fruit (name text unique)");

	if (pglease_test_env_new(&options, &env) || pglease_test_pool_open(env, "app", &pool))
		ck_abort_msg("%s", pglease_test_error_message());
}

static void
teardown(void)
{
	if (pglease_test_env_free(env))
		ck_abort_msg("%s", pglease_test_error_message());
}

START_TEST(fruit_is_added_once)
{
	ck_assert_int_eq(add_fruit("apple"), 0);
	ck_assert_int_eq(add_fruit("apple"), -1);
}
END_TEST

START_TEST(the_server_goes_away_and_comes_back)
{
	ck_assert_int_eq(pglease_test_kill(env, PGLEASE_TEST_SERVER, 0), 0);
	ck_assert_int_eq(add_fruit("pear"), -1);
	ck_assert_int_eq(pglease_test_server_start(env), 0);
	while (add_fruit("pear")) /* the pool connects again */
		;
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("fruit");
	TCase *tcase = tcase_create("fruit");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, fruit_is_added_once);
	tcase_add_test(tcase, the_server_goes_away_and_comes_back);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
