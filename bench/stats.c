/* SPDX-License-Identifier: PostgreSQL */
/*
 * What monitoring costs. Readers: pglease_stats_get and pglease_times_get of a pool with 100 slots, all of which have been
 * leased, in nanoseconds. Workers: the same `SELECT 1` lease loop on two instances, with monitoring and without, in turn, in one
 * run; what counts is the median of the rounds' ratios.
 *
 *	stats
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "measure.h"
#include "pglease.h"
#include "segment.h"

#define ROUNDS 31
#define SLOTS 100
#define READS 20000
#define READS_OF_TIMES 200
#define QUERIES 4000

struct side {
	struct fixture *fixture;
	pglease *client;
	pglease_pool *pool;
};

static void
start(struct side *side, unsigned max, const char *extra)
{
	struct fixture_pool pool = {.name = "app", .min = max, .max = max};
	struct fixture_options options = {.pools = &pool, .npools = 1, .extra = extra};

	if (fixture_start(&options, &side->fixture) != 0)
		measure_die("fixture", fixture_error());
	if (pglease_attach(fixture_instance(side->fixture), NULL, &side->client) != 0 ||
	    pglease_pool_open(side->client, "app", &side->pool) != 0)
		measure_die("attach", pglease_error_message());
}

static void
stop(struct side *side)
{
	pglease_detach(side->client);
	if (fixture_stop(side->fixture) != 0)
		measure_die("fixture", fixture_error());
}

static void
use_all(pglease_pool *pool)
{
	static pglease_lease lease[SLOTS];
	PGconn *conn;

	for (unsigned i = 0; i < SLOTS; i++) {
		if (pglease_acquire(pool, 20000, &lease[i], &conn) != 0)
			measure_die("acquire", pglease_error_message());
		PQclear(pglease_exec(conn, "select 1"));
	}
	for (unsigned i = 0; i < SLOTS; i++)
		pglease_release(&lease[i]);
}

static double
read_stats_ns(pglease_pool *pool)
{
	uint64_t begin = clock_ns();
	pglease_stats stats;

	for (unsigned i = 0; i < READS; i++)
		if (pglease_stats_get(pool, &stats) != 0 || stats.total != SLOTS)
			measure_die("pglease_stats_get", pglease_error_message());
	return (double)(clock_ns() - begin) / READS;
}

static double
read_times_ns(pglease_pool *pool)
{
	uint64_t begin = clock_ns();
	pglease_times times;

	for (unsigned i = 0; i < READS_OF_TIMES; i++)
		if (pglease_times_get(pool, PGLEASE_TIME_HOLD, &times) != 0 || times.count != SLOTS)
			measure_die("pglease_times_get", pglease_error_message());
	return (double)(clock_ns() - begin) / READS_OF_TIMES;
}

static void
measure_readers(void)
{
	double stats_ns[ROUNDS], times_ns[ROUNDS];
	struct side side;

	start(&side, SLOTS, NULL);
	use_all(side.pool);
	for (unsigned i = 0; i < ROUNDS; i++) {
		stats_ns[i] = read_stats_ns(side.pool);
		times_ns[i] = read_times_ns(side.pool);
	}
	printf("readers, %d slots in use (%d rounds)\n", SLOTS, ROUNDS);
	measure_print("pglease_stats_get", stats_ns, ROUNDS, 1e-3, "us");
	measure_print("pglease_times_get, one time", times_ns, ROUNDS, 1e-3, "us");
	stop(&side);
}

static double
queries_ns(pglease_pool *pool)
{
	uint64_t begin = clock_ns();

	for (unsigned i = 0; i < QUERIES; i++) {
		pglease_lease lease;
		PGresult *result;
		PGconn *conn;

		if (pglease_acquire(pool, 20000, &lease, &conn) != 0)
			measure_die("acquire", pglease_error_message());
		result = pglease_exec(conn, "select 1");
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			measure_die("query", PQerrorMessage(conn));
		PQclear(result);
		pglease_release(&lease);
	}
	return (double)(clock_ns() - begin) / QUERIES;
}

static void
measure_workers(void)
{
	double on_ns[ROUNDS], off_ns[ROUNDS], ratio[ROUNDS];
	struct side on, off;

	start(&on, 2, "monitoring = yes");
	start(&off, 2, "monitoring = no");
	queries_ns(on.pool);
	queries_ns(off.pool);
	for (unsigned i = 0; i < ROUNDS; i++) {
		/* Each goes first in half of the rounds. */
		if (i % 2 == 0)
			on_ns[i] = queries_ns(on.pool);
		off_ns[i] = queries_ns(off.pool);
		if (i % 2 != 0)
			on_ns[i] = queries_ns(on.pool);
		ratio[i] = off_ns[i] / on_ns[i];
	}
	printf("acquire, SELECT 1, release (%d rounds of %d)\n", ROUNDS, QUERIES);
	measure_print("with monitoring", on_ns, ROUNDS, 1e-3, "us");
	measure_print("without", off_ns, ROUNDS, 1e-3, "us");
	measure_print("throughput with, of that without", ratio, ROUNDS, 1, "");
	stop(&off);
	stop(&on);
}

int
main(void)
{
	measure_readers();
	measure_workers();
	return EXIT_SUCCESS;
}
