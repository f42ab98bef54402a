/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the pool costs beside the queries: the broker's CPU time for 100,000 queries, against PgBouncer's; and what monitoring
 * costs the workers: the same loop of leases by one process, on two brokers in front of one PostgreSQL, one of which counts
 * nothing, in turn, in many short rounds.
 *
 *	broker_cpu [--workers 4,16] [--seconds 3] [--rounds 5] [--only cpu,monitoring]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "load.h"
#include "measure.h"
#include "options.h"
#include "peers.h"
#include "report.h"
#include "segment.h"
#include "stand.h"

#define SLOTS 10
#define PAIR_SLOTS 4    /* of the pools with and without monitoring; each is used in turn */
#define PAIRS 1000      /* short rounds in each round */
#define QUERIES 300     /* in each, on each side */

enum cpu_column { POOLER, WORKERS, SERVER, RATE };
enum monitoring_column { ON, OFF, RATIO, LOW, HIGH };

static const struct report_table_about cpu_about = {
    .id = "broker-cpu",
    .title = "CPU time for 100,000 SELECT 1, 10 connections",
    .columns = {[POOLER] = {"broker or proxy", "s", 4, true}, [WORKERS] = {"workers", "s", 2, false},
        [SERVER] = {"PostgreSQL", "s", 2, false}, [RATE] = {"queries", "1/s", 0, false}},
    .plot = {POOLER, true},
}, monitoring_about = {
    .id = "monitoring",
    .title = "Acquire, SELECT 1, release by one process, with monitoring and without",
    .note = "Each round is the median of many short ones, each side first in half of them. Between low and high lies the median "
	    "of what all short rounds are a sample of, 19 times out of 20.",
    .columns = {[ON] = {"with", "us", 2, false}, [OFF] = {"without", "us", 2, false}, [RATIO] = {"with/without", "", 4, true},
        [LOW] = {"low", "", 4, false}, [HIGH] = {"high", "", 4, false}},
    .plot = {RATIO, false},
};

static struct options options;

static const char *
choice(unsigned i)
{
	static const char *const names[] = {"cpu", "monitoring", NULL};

	return names[i];
}

static void
measure_cpu(struct report_table *table, unsigned row, const struct load *load)
{
	struct load_result r;

	load_run(load, &r);
	/* Microseconds for one query are tenths of seconds for 100,000. */
	report_sample(table, row, POOLER, r.watched_us[0] / 10);
	report_sample(table, row, WORKERS, r.worker_us / 10);
	report_sample(table, row, SERVER, r.watched_us[1] / 10);
	report_sample(table, row, RATE, r.per_second);
}

static void
compare_cpu(void)
{
	static const pglease_test_pool pool = {.name = "app", .min = SLOTS, .max = SLOTS};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = &pool, .npools = 1);
	struct report_table *table = report_table(&cpu_about);
	pglease_test_env *env = stand_start(&env_options);
	const char *missing = peer_missing(PEER_PGBOUNCER);
	struct peer *peer = missing == NULL ? peer_start(PEER_PGBOUNCER, env, SLOTS, 1000) : NULL;

	for (unsigned i = 0; options.workers[i] != 0; i++) {
		struct load leased = {.pool = pool.name, .slots = SLOTS, .workers = options.workers[i], .seconds = options.seconds,
		    .watched = {pglease_test_broker_pid(env), pglease_test_server_pid(env)}};
		struct load proxied = leased;
		unsigned leased_row, proxied_row;
		char text[48];

		snprintf(text, sizeof(text), "%u workers", options.workers[i]);
		leased_row = report_row(table, text, "leased");
		proxied_row = report_row(table, text, "pgbouncer");
		report_row_note(table, proxied_row, missing);
		if (peer != NULL) {
			proxied.pool = NULL;
			proxied.conninfo = peer_conninfo(peer);
			proxied.watched[0] = peer_pid(peer);
		}
		for (unsigned round = 0; round < options.rounds; round++) {
			measure_cpu(table, leased_row, &leased);
			if (peer != NULL)
				measure_cpu(table, proxied_row, &proxied);
		}
		snprintf(text, sizeof(text), "broker's CPU for 100,000 queries, %u workers", options.workers[i]);
		report_brief(table, leased_row, POOLER, text, REPORT_AT_MOST, 0.02);
	}
	peer_stop(peer);
	stand_stop(env);
}

/* One of the two brokers, and its pool's connections but one: the loop gets that one. */
struct side {
	pglease_test_env *env;
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease[PAIR_SLOTS];
	unsigned nleases;
};

static void
start_side(struct side *side, const char *conninfo, const char *monitoring)
{
	pglease_test_pool pool = {.name = "app", .min = PAIR_SLOTS, .max = PAIR_SLOTS, .conninfo = conninfo};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1,
	    .pools = &pool, .npools = 1, .extra = monitoring, .no_server = conninfo != NULL);

	side->env = stand_start(&env_options);
	stand_attach(side->env, pool.name, &side->client, &side->pool);
	for (; side->nleases < PAIR_SLOTS; side->nleases++) {
		PGconn *conn;

		if (pglease_acquire(side->pool, PGLEASE_TIMEOUT_POOL, &side->lease[side->nleases], &conn) != 0)
			measure_die("acquire", pglease_error_message());
	}
}

static double
queries_us(struct side *side, unsigned slot, bool timed, unsigned queries)
{
	PGconn *conn;
	uint64_t begin;

	if (pglease_release(&side->lease[slot]) != 0)
		measure_die("release", pglease_error_message());
	begin = clock_ns();
	for (unsigned i = 0; i < queries; i++) {
		pglease_lease lease;

		if (pglease_acquire(side->pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0)
			measure_die("acquire", pglease_error_message());
		stand_check(timed ? pglease_exec(conn, "SELECT 1") : PQexec(conn, "SELECT 1"), PGRES_TUPLES_OK);
		pglease_release(&lease);
	}
	begin = clock_ns() - begin;
	if (pglease_acquire(side->pool, PGLEASE_TIMEOUT_POOL, &side->lease[slot], &conn) != 0)
		measure_die("acquire", pglease_error_message());
	return (double)begin / 1e3 / queries;
}

/* `n` short rounds, whose ratios go to ratio[], and whose medians are one sample. */
static void
measure_monitoring(struct report_table *table, unsigned row, struct side side[2], bool timed, double ratio[], unsigned n)
{
	unsigned queries = options.size == OPTIONS_SMOKE ? 10 : QUERIES;
	double us[2][PAIRS], sorted[PAIRS];

	for (unsigned i = 0; i < n; i++) {
		for (unsigned turn = 0; turn < 2; turn++) {
			unsigned which = measure_turn(i / PAIR_SLOTS, turn, 2);

			us[which][i] = queries_us(&side[which], i % PAIR_SLOTS, timed, queries);
		}
		sorted[i] = ratio[i] = us[ON][i] / us[OFF][i];
	}
	report_sample(table, row, ON, measure_median(us[ON], n));
	report_sample(table, row, OFF, measure_median(us[OFF], n));
	report_sample(table, row, RATIO, measure_median(sorted, n));
}

static void
compare_monitoring(void)
{
	struct report_table *table = report_table(&monitoring_about);
	unsigned pairs = options_count(&options, PAIRS), n = pairs * options.rounds;
	double *ratio = calloc(n, sizeof(*ratio)), low, high;
	struct side side[2] = {{.nleases = 0}, {.nleases = 0}};

	if (ratio == NULL)
		measure_die("monitoring", "out of memory");
	start_side(&side[ON], NULL, "monitoring = yes");
	start_side(&side[OFF], pglease_test_conninfo(side[ON].env), "monitoring = no");
	for (unsigned timed = 0; timed < 2; timed++) {
		unsigned row = report_row(table, "", timed ? "pglease_exec" : "PQexec");

		for (unsigned round = 0; round < options.rounds; round++)
			measure_monitoring(table, row, side, timed, ratio + round * pairs, pairs);
		measure_median_interval(ratio, n, &low, &high);
		report_sample(table, row, LOW, low);
		report_sample(table, row, HIGH, high);
		if (timed)
			report_headline(table, row, RATIO, "time of a lease with a timed query, with monitoring, of that without",
			    REPORT_AT_MOST, 1.01);
		else
			report_brief(
			    table, row, RATIO, "time of a lease with a query, with monitoring, of that without", REPORT_AT_MOST, 1.01);
	}
	for (unsigned i = 2; i-- > 0;) {
		pglease_detach(side[i].client);
		stand_stop(side[i].env);
	}
	free(ratio);
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {
	    .rounds = {7, 3, 1}, .seconds = {3, 0.7, 0.1}, .workers = {{4, 16}, {4, 16}, {2}}, .choice = choice};

	options_parse(argc, argv, &sizes, &options);
	report_begin(&options);
	if (options_want(&options, "cpu"))
		compare_cpu();
	if (options_want(&options, "monitoring"))
		compare_monitoring();
	report_finish();
	return 0;
}
