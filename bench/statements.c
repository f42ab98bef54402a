/* SPDX-License-Identifier: PostgreSQL */
/*
 * What statements that stay prepared are worth: the same query by pglease_exec_cached, by PQprepare and
 * PQexecPrepared each time (of the unnamed statement, which need not be deallocated), and by PQexecParams; in
 * turn, on one leased connection, in one run, several rounds; what counts is the median of the rounds'
 * ratios. And what the look-up costs by itself, as the ratio to PQexecPrepared of a statement that is known
 * to be there.
 */
#include <stdio.h>
#include <string.h>

#include "measure.h"
#include "options.h"
#include "report.h"
#include "segment.h"
#include "stand.h"

#define CALLS 1500

static const struct report_table_about about = {
    .id = "statements",
    .title = "A query with one parameter on a leased connection, by how it is prepared",
    .columns = {{"time", "us", 1, true}, {"/pglease_exec_cached", "", 2, true}},
    .plot = {1, false},
};

static unsigned calls;

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
by_cache(PGconn *conn, const char *sql, const char *const *value)
{
	stand_check(pglease_exec_cached(conn, sql, 1, NULL, value, NULL, NULL, 0), PGRES_TUPLES_OK);
}

static void
by_preparing(PGconn *conn, const char *sql, const char *const *value)
{
	stand_check(PQprepare(conn, "", sql, 1, NULL), PGRES_COMMAND_OK);
	stand_check(PQexecPrepared(conn, "", 1, value, NULL, NULL, 0), PGRES_TUPLES_OK);
}

static void
by_params(PGconn *conn, const char *sql, const char *const *value)
{
	stand_check(PQexecParams(conn, sql, 1, NULL, value, NULL, NULL, 0), PGRES_TUPLES_OK);
}

static void
by_name(PGconn *conn, const char *sql, const char *const *value)
{
	stand_check(PQexecPrepared(conn, "kept", 1, value, NULL, NULL, 0), PGRES_TUPLES_OK);
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

	for (unsigned i = 0; i < calls; i++) {
		char number[16];
		const char *value = number;

		snprintf(number, sizeof(number), "%u", i % 100 + 1);
		ways[way](conn, sql, &value);
	}
	return (double)(clock_ns() - start) / calls;
}

static void
compare(struct report_table *table, PGconn *conn, const char *what, const char *sql, unsigned rounds)
{
	unsigned row[NWAYS];

	stand_check(PQprepare(conn, "kept", sql, 1, NULL), PGRES_COMMAND_OK);
	for (unsigned way = 0; way < NWAYS; way++) {
		row[way] = report_row(table, what, way_names[way]);
		time_ns(conn, way, sql); /* warm */
	}
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < NWAYS; i++) {
			unsigned way = measure_turn(round, i, NWAYS);

			report_sample(table, row[way], 0, time_ns(conn, way, sql) / 1e3);
		}
		for (unsigned way = CACHE + 1; way < NWAYS; way++)
			report_ratio(table, row[way], 1, 0, row[CACHE]);
	}
	stand_check(PQexec(conn, "deallocate kept"), PGRES_COMMAND_OK);
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {.rounds = {11, 5, 1}};
	static const pglease_test_pool pool_options = {.name = "app", .max = 2};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = &pool_options, .npools = 1);
	struct report_table *table;
	pglease_test_env *env;
	struct options options;
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	options_parse(argc, argv, &sizes, &options);
	calls = options_count(&options, CALLS);
	report_begin(&options);
	table = report_table(&about);
	env = stand_start(&env_options);
	stand_attach(env, pool_options.name, &client, &pool);
	if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0)
		measure_die("acquire", pglease_error_message());
	stand_check(PQexec(conn, tables), PGRES_COMMAND_OK);
	for (unsigned i = 0; i < sizeof(queries) / sizeof(queries[0]); i++)
		compare(table, conn, queries[i].what, queries[i].sql, options.rounds);
	if (pglease_release(&lease) != 0)
		measure_die("release", pglease_error_message());
	pglease_detach(client);
	stand_stop(env);
	report_finish();
	return 0;
}
