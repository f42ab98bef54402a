/* SPDX-License-Identifier: PostgreSQL */
/*
 * What looking at a pool costs: pglease_stats_get and pglease_times_get of a pool with 100 slots, all of which have been
 * leased. What being looked at costs the workers: bench/broker_cpu.
 */
#include "measure.h"
#include "options.h"
#include "report.h"
#include "segment.h"
#include "stand.h"

#define SLOTS 100
#define READS 20000
#define READS_OF_TIMES 200

static const struct report_table_about about = {
    .id = "stats",
    .title = "Statistics of a pool with 100 connections, all used",
    .columns = {{"time", "us", 2, true}},
    .plot = {0, true},
};

static unsigned reads, reads_of_times;

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

	for (unsigned i = 0; i < reads; i++)
		if (pglease_stats_get(pool, &stats) != 0 || stats.total != SLOTS)
			measure_die("pglease_stats_get", pglease_error_message());
	return (double)(clock_ns() - begin) / reads;
}

static double
read_times_ns(pglease_pool *pool)
{
	uint64_t begin = clock_ns();
	pglease_times times;

	for (unsigned i = 0; i < reads_of_times; i++)
		if (pglease_times_get(pool, PGLEASE_TIME_HOLD, &times) != 0 || times.count != SLOTS)
			measure_die("pglease_times_get", pglease_error_message());
	return (double)(clock_ns() - begin) / reads_of_times;
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {.rounds = {31, 15, 1}};
	pglease_test_pool pool_options = {.name = "app", .min = SLOTS, .max = SLOTS};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = &pool_options, .npools = 1);
	struct report_table *table;
	pglease_test_env *env;
	struct options options;
	pglease *client;
	pglease_pool *pool;
	unsigned stats, times;

	options_parse(argc, argv, &sizes, &options);
	reads = options_count(&options, READS);
	reads_of_times = options_count(&options, READS_OF_TIMES);
	report_begin(&options);
	table = report_table(&about);
	stats = report_row(table, "", "counters and gauges (pglease_stats_get)");
	times = report_row(table, "", "percentiles of one time (pglease_times_get)");
	env = stand_start(&env_options);
	stand_attach(env, pool_options.name, &client, &pool);
	use_all(pool);
	for (unsigned i = 0; i < options.rounds; i++) {
		report_sample(table, stats, 0, read_stats_ns(pool) / 1e3);
		report_sample(table, times, 0, read_times_ns(pool) / 1e3);
	}
	report_headline(table, stats, 0, "counters and gauges of a pool of 100", REPORT_AT_MOST, 5);
	report_headline(table, times, 0, "percentiles of a time of a pool of 100", REPORT_AT_MOST, 2000);
	pglease_detach(client);
	stand_stop(env);
	report_finish();
	return 0;
}
