/* SPDX-License-Identifier: PostgreSQL */
/*
 * A test without a framework: the code under test leases a connection, and the environment says whether it gave it back.
 *
 *	cc test_sum.c $(pkg-config --cflags --libs pglease-test) && ./a.out
 */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <pglease_test.h>

/* The code under test. */
static int
sum(pglease_pool *pool, int from, int to)
{
	char a[16], b[16];
	const char *values[] = {a, b};
	pglease_lease lease;
	PGresult *result;
	PGconn *conn;
	int answer;

	if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn))
		return -1;
	snprintf(a, sizeof(a), "%d", from);
	snprintf(b, sizeof(b), "%d", to);
	result = pglease_exec_cached(
	    conn, "select sum(i) from generate_series($1::int, $2::int) i", 2, NULL, values, NULL, NULL, 0);
	answer = PQntuples(result) == 1 ? atoi(PQgetvalue(result, 0, 0)) : -1;
	PQclear(result);
	return pglease_release(&lease) ? -1 : answer;
}

int
main(void)
{
	pglease_test_env *env;
	pglease_pool *pool;

	if (pglease_test_env_new(NULL, &env) || pglease_test_pool_open(env, "app", &pool)) {
		fprintf(stderr, "%s\n", pglease_test_error_message());
		return 1;
	}
	assert(sum(pool, 1, 10) == 55);
	assert(sum(pool, 3, 3) == 3);
	/* Fails, and says where, if a lease, a descriptor, memory ... was not given back. */
	if (pglease_test_env_free(env)) {
		fprintf(stderr, "%s\n", pglease_test_error_message());
		return 1;
	}
	return 0;
}
