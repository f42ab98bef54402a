/* SPDX-License-Identifier: PostgreSQL */
/*
 * What statements that stay prepared are worth: the same query by pglease_exec_cached, by PQprepare and
 * PQexecPrepared each time (of the unnamed statement, which need not be deallocated), and by PQexecParams; in
 * turn, on one leased connection, in one run, several rounds; what counts is the median of the rounds'
 * ratios. And what the look-up costs by itself, as the ratio to PQexecPrepared of a statement that is known
 * to be there.
 *
 *	statements [INSTANCE POOL]
 *
 * Without arguments, on a PostgreSQL and a broker of its own. Makes temporary tables.
 */
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "measure.h"
#include "pglease.h"
#include "segment.h"

#define ROUNDS 11
#define CALLS 1500

/* One parameter each. */
static const struct {
	const char *what, *sql;
} queries[] = {
    {"SELECT of one value", "select $1::int"},
    {"one row by its key", "select name from customer where id = $1::int"},
    {"three tables joined", "select c.name, o.placed, sum(i.price) from customer c join orders o on o.customer = c.id "
			    "join item i on i.orders = o.id where c.id = $1::int and o.placed > 0 group by 1, 2 order by 2"},
};

static const char tables[] =
    "create temp table customer as select id, 'c' || id as name from generate_series(1, 100) id;"
    "create temp table orders as select id, id % 100 + 1 as customer, id as placed from generate_series(1, 300) id;"
    "create temp table item as select id % 300 + 1 as orders, id as price from generate_series(1, 900) id;"
    "create unique index on customer (id); create index on orders (customer); create unique index on orders (id);"
    "create index on item (orders); analyze customer; analyze orders; analyze item";

static void
check(PGresult *result, ExecStatusType expected)
{
	if (PQresultStatus(result) != expected)
		measure_die("query", PQresultErrorMessage(result));
	PQclear(result);
}

static void
by_cache(PGconn *conn, const char *sql, const char *const *value)
{
	check(pglease_exec_cached(conn, sql, 1, NULL, value, NULL, NULL, 0), PGRES_TUPLES_OK);
}

static void
by_preparing(PGconn *conn, const char *sql, const char *const *value)
{
	check(PQprepare(conn, "", sql, 1, NULL), PGRES_COMMAND_OK);
	check(PQexecPrepared(conn, "", 1, value, NULL, NULL, 0), PGRES_TUPLES_OK);
}

static void
by_params(PGconn *conn, const char *sql, const char *const *value)
{
	check(PQexecParams(conn, sql, 1, NULL, value, NULL, NULL, 0), PGRES_TUPLES_OK);
}

static void
by_name(PGconn *conn, const char *sql, const char *const *value)
{
	check(PQexecPrepared(conn, "kept", 1, value, NULL, NULL, 0), PGRES_TUPLES_OK);
}

enum way { CACHE, NAME, PARAMS, PREPARING, NWAYS };
static void (*const ways[NWAYS])(PGconn *conn, const char *sql, const char *const *value) = {
    [CACHE] = by_cache, [NAME] = by_name, [PARAMS] = by_params, [PREPARING] = by_preparing};
static const char *const way_names[NWAYS] = {
    [CACHE] = "pglease_exec_cached",
    [NAME] = "PQexecPrepared alone",
    [PARAMS] = "PQexecParams",
    [PREPARING] = "prepared each time",
};

static double
time_ns(PGconn *conn, enum way way, const char *sql)
{
	uint64_t start = clock_ns();

	for (int i = 0; i < CALLS; i++) {
		char number[16];
		const char *value = number;

		snprintf(number, sizeof(number), "%d", i % 100 + 1);
		ways[way](conn, sql, &value);
	}
	return (double)(clock_ns() - start) / CALLS;
}

static void
compare(PGconn *conn, const char *what, const char *sql)
{
	double ns[NWAYS][ROUNDS], ratio[NWAYS][ROUNDS];

	check(PQprepare(conn, "kept", sql, 1, NULL), PGRES_COMMAND_OK);
	for (unsigned way = 0; way < NWAYS; way++) /* warm */
		time_ns(conn, way, sql);
	for (unsigned round = 0; round < ROUNDS; round++) {
		/* Another one begins each round. */
		for (unsigned i = 0; i < NWAYS; i++) {
			unsigned way = (i + round) % NWAYS;

			ns[way][round] = time_ns(conn, way, sql);
		}
		for (unsigned way = 0; way < NWAYS; way++)
			ratio[way][round] = ns[way][round] / ns[CACHE][round];
	}
	check(PQexec(conn, "deallocate kept"), PGRES_COMMAND_OK);
	printf("%s (%d rounds of %d)\n", what, ROUNDS, CALLS);
	for (unsigned way = 0; way < NWAYS; way++)
		measure_print(way_names[way], ns[way], ROUNDS, 1e-3, "us");
	for (unsigned way = CACHE + 1; way < NWAYS; way++) {
		char label[64];

		snprintf(label, sizeof(label), "%s / cached", way_names[way]);
		measure_print(label, ratio[way], ROUNDS, 1, "");
	}
}

static void
measure(const char *instance, const char *pool_name)
{
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	if (pglease_attach(instance, NULL, &client) != 0 || pglease_pool_open(client, pool_name, &pool) != 0)
		measure_die("attach", pglease_error_message());
	if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0)
		measure_die("acquire", pglease_error_message());
	check(PQexec(conn, tables), PGRES_COMMAND_OK);
	for (unsigned i = 0; i < sizeof(queries) / sizeof(queries[0]); i++)
		compare(conn, queries[i].what, queries[i].sql);
	if (pglease_release(&lease) != 0)
		measure_die("release", pglease_error_message());
	pglease_detach(client);
}

int
main(int argc, char **argv)
{
	static const struct fixture_pool pool = {.name = "app", .max = 2};
	struct fixture_options options = {.pools = &pool, .npools = 1};
	struct fixture *fixture;

	if (argc != 1 && argc != 3) {
		fprintf(stderr, "usage: statements [INSTANCE POOL]\n");
		return 1;
	}
	if (argc == 3) {
		measure(argv[1], argv[2]);
		return 0;
	}
	if (fixture_start(&options, &fixture) != 0)
		measure_die("fixture", fixture_error());
	measure(fixture_instance(fixture), pool.name);
	if (fixture_stop(fixture) != 0)
		measure_die("fixture", fixture_error());
	return 0;
}
