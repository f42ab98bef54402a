/* SPDX-License-Identifier: PostgreSQL */
/*
 * More workers than server connections: what a saturated pool does, against as many direct connections as the pool has, and
 * against other poolers with the same numbers of clients and connections.
 *
 *	saturation [--workers 16,64,200] [--seconds 2] [--rounds 5] [--only direct,leased-never,pgbouncer]
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "load.h"
#include "measure.h"
#include "options.h"
#include "peers.h"
#include "report.h"
#include "stand.h"

#define SLOTS 10
#define MAX_WORKERS 1000
#define FIRST_SECONDS 0.3

enum over { DIRECT, LEASED, PEER };

/* What is measured. A pool is one more line: its settings are all that it needs. */
static const struct variant {
	const char *name;
	enum over over;
	const char *settings; /* LEASED: of the pool */
	bool clean;           /* LEASED: released as clean */
	enum peer_kind peer;  /* PEER */
} variants[] = {
    {"direct", DIRECT, NULL, false, 0},
    {"pgbouncer", PEER, NULL, false, PEER_PGBOUNCER},
    {"leased-never", LEASED, "reset = never\n", false, 0},
    {"leased-clean", LEASED, "reset = never\n", true, 0},
    {"leased-fair", LEASED, "reset = never\nturn_leases = 1\n", false, 0},
    {"leased-handover", LEASED, "reset = handover\n", false, 0},
    {"pgpool", PEER, NULL, false, PEER_PGPOOL},
};
#define VARIANTS (sizeof(variants) / sizeof(variants[0]))
#define DIRECT_ROW 0
#define PGBOUNCER_ROW 1
#define HEADLINE_ROW 2
#define BRIEF_WORKERS 64

static const char *
choice(unsigned i)
{
	return i < VARIANTS ? variants[i].name : NULL;
}

enum column { PER_SECOND, BY_DIRECT, BY_PGBOUNCER, P50, P50_BY_PGBOUNCER, P99, P99_BY_PGBOUNCER, MAX, SLOWEST, SWITCHES, POOL_US,
	SERVER_US };

static const struct report_table_about about = {
    .id = "saturation",
    .title = "SELECT 1 over 10 server connections, with more workers than connections (direct: 10 workers)",
    .note = "Time of a transaction with acquire and release. Slowest: the slowest worker's transactions, of the mean "
	    "worker's. Switches: context switches of the workers. Pooler: CPU time of broker or proxy.",
    .columns =
        {
            [PER_SECOND] = {"transactions", "1/s", 0, true},
            [BY_DIRECT] = {"/direct", "", 2, true},
            [BY_PGBOUNCER] = {"/pgbouncer", "", 2, true},
            [P50] = {"p50", "us", 0, false},
            [P50_BY_PGBOUNCER] = {"p50/pgbouncer", "", 2, false},
            [P99] = {"p99", "us", 0, false},
            [P99_BY_PGBOUNCER] = {"p99/pgbouncer", "", 2, false},
            [MAX] = {"max", "ms", 1, false},
            [SLOWEST] = {"slowest", "", 2, false},
            [SWITCHES] = {"switches", "", 2, false},
            [POOL_US] = {"pooler", "us", 2, false},
            [SERVER_US] = {"server", "us", 1, false},
        },
    .plot = {BY_DIRECT, false},
};

static pglease_test_env *env;
static struct peer *peers[PEERS];
static struct options options;

/* Why this variant cannot be measured here, or NULL. */
static const char *
missing(const struct variant *v)
{
	if (v->over != PEER)
		return NULL;
	return peer_missing(v->peer) != NULL ? peer_missing(v->peer) : peer_only_sessions(v->peer);
}

static struct load_result
run(const struct variant *v, unsigned workers, double seconds)
{
	struct load load = {
	    .pool = v->over == LEASED ? v->name : NULL,
	    .slots = SLOTS,
	    .clean = v->clean,
	    .conninfo = v->over == DIRECT ? pglease_test_conninfo(env) : v->over == PEER ? peer_conninfo(peers[v->peer]) : NULL,
	    .workers = v->over == DIRECT ? SLOTS : workers,
	    .seconds = seconds,
	    .watched = {v->over == LEASED ? pglease_test_broker_pid(env) : v->over == PEER ? peer_pid(peers[v->peer]) : 0,
	        pglease_test_server_pid(env)},
	};
	struct load_result r;

	load_run(&load, &r);
	return r;
}

static void
measure(struct report_table *table, unsigned row, const struct variant *v, unsigned workers)
{
	struct load_result r = run(v, workers, options.seconds);

	report_sample(table, row, PER_SECOND, r.per_second);
	report_sample(table, row, P50, r.p50_us);
	report_sample(table, row, P99, r.p99_us);
	report_sample(table, row, MAX, r.max_us / 1e3);
	report_sample(table, row, SLOWEST, r.slowest);
	report_sample(table, row, SWITCHES, r.switches);
	report_sample(table, row, POOL_US, r.watched_us[0]);
	report_sample(table, row, SERVER_US, r.watched_us[1]);
}

static void
headlines(struct report_table *table, unsigned never, unsigned workers)
{
	static const struct {
		unsigned column;
		const char *what;
		enum report_aim aim;
		double number;
		bool brief; /* for one number of workers */
	} lines[] = {
	    {BY_DIRECT, "throughput, of 10 direct connections'", REPORT_AT_LEAST, 0.9, true},
	    {BY_PGBOUNCER, "throughput, of PgBouncer's", REPORT_AT_LEAST, 1.5, true},
	    {P50_BY_PGBOUNCER, "median, of PgBouncer's", REPORT_AT_MOST, 1, false},
	    {P99_BY_PGBOUNCER, "99th percentile, of PgBouncer's", REPORT_AT_MOST, 2, false},
	};
	char what[96];

	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(what, sizeof(what), "%u workers on 10 connections: %s", workers, lines[i].what);
		(lines[i].brief && workers == BRIEF_WORKERS ? report_brief : report_headline)(
		    table, never, lines[i].column, what, lines[i].aim, lines[i].number);
	}
}

static void
compare(struct report_table *table, unsigned workers)
{
	unsigned row[VARIANTS];
	char group[48];

	snprintf(group, sizeof(group), "%u workers", workers);
	for (unsigned i = 0; i < VARIANTS; i++) {
		if (!options_want(&options, variants[i].name))
			continue;
		row[i] = report_row(table, group, variants[i].name);
		report_row_note(table, row[i], missing(&variants[i]));
	}
	/* Pools open their connections when they are wanted: not in the first round. */
	for (unsigned i = 0; i < VARIANTS; i++)
		if (options_want(&options, variants[i].name) && missing(&variants[i]) == NULL)
			run(&variants[i], workers, FIRST_SECONDS);
	for (unsigned round = 0; round < options.rounds; round++) {
		for (unsigned n = 0; n < VARIANTS; n++) {
			unsigned i = measure_turn(round, n, VARIANTS);

			if (options_want(&options, variants[i].name) && missing(&variants[i]) == NULL)
				measure(table, row[i], &variants[i], workers);
		}
		for (unsigned i = 0; i < VARIANTS; i++) {
			if (!options_want(&options, variants[i].name) || missing(&variants[i]) != NULL)
				continue;
			if (options_want(&options, variants[DIRECT_ROW].name))
				report_ratio(table, row[i], BY_DIRECT, PER_SECOND, row[DIRECT_ROW]);
			if (options_want(&options, variants[PGBOUNCER_ROW].name) && missing(&variants[PGBOUNCER_ROW]) == NULL) {
				report_ratio(table, row[i], BY_PGBOUNCER, PER_SECOND, row[PGBOUNCER_ROW]);
				report_ratio(table, row[i], P50_BY_PGBOUNCER, P50, row[PGBOUNCER_ROW]);
				report_ratio(table, row[i], P99_BY_PGBOUNCER, P99, row[PGBOUNCER_ROW]);
			}
		}
	}
	if (options.only == NULL)
		headlines(table, row[HEADLINE_ROW], workers);
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {
	    .rounds = {7, 3, 1},
	    .seconds = {3, 0.5, 0.1},
	    .workers = {{16, 64, 200}, {16, 64, 200}, {16}},
	    .choice = choice,
	};
	pglease_test_pool pools[VARIANTS];
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = pools, .extra = "max_clients = 1024\n");
	struct report_table *table;

	options_parse(argc, argv, &sizes, &options);
	for (unsigned i = 0; i < VARIANTS; i++)
		if (variants[i].over == LEASED && options_want(&options, variants[i].name))
			pools[env_options.npools++] = (pglease_test_pool){
			    .name = variants[i].name, .min = SLOTS, .max = SLOTS, .extra = variants[i].settings};
	env = stand_start(&env_options);
	report_begin(&options);
	table = report_table(&about);
	for (unsigned i = 0; i < VARIANTS; i++)
		if (variants[i].over == PEER && options_want(&options, variants[i].name) && missing(&variants[i]) == NULL)
			peers[variants[i].peer] = peer_start(variants[i].peer, env, SLOTS, MAX_WORKERS);
	for (unsigned i = 0; options.workers[i] != 0; i++)
		compare(table, options.workers[i]);
	for (unsigned i = 0; i < PEERS; i++)
		peer_stop(peers[i]);
	report_finish();
	stand_stop(env);
	return 0;
}
