/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a query costs over a leased connection, against the same over a connection that the worker keeps: no more workers than
 * connections; three kinds of transactions, sent in three ways.
 *
 *	queries [--workers 1,4,16] [--seconds 1] [--rounds 9] [--only select-1,select-only,tpcb]
 */
#include <math.h>
#include <stdio.h>

#include "load.h"
#include "measure.h"
#include "options.h"
#include "report.h"
#include "stand.h"

#define SLOTS 16
#define KINDS (WORK_QUERIES * WORK_PROTOCOLS)

enum column { DIRECT, LEASED, RATIO, P50, P99 };

static const struct report_table_about about = {
    .id = "queries",
    .title = "Transactions over leased connections (16 in the pool), against connections that workers keep",
    .note = "p50, p99: time of a leased transaction, with acquire and release, by the direct one's.",
    .columns = {[DIRECT] = {"direct", "1/s", 0, false}, [LEASED] = {"leased", "1/s", 0, false},
        [RATIO] = {"leased/direct", "", 3, true}, [P50] = {"p50", "", 2, false}, [P99] = {"p99", "", 2, false}},
    .plot = {RATIO, false},
}, summary_about = {
    .id = "queries-summary",
    .title = "Throughput of leased transactions, of direct ones: all kinds above",
    .columns = {{"mean", "", 3, true}, {"least median", "", 3, false}},
    .plot = {0, false},
};

static pglease_test_env *env;
static struct options options;
static unsigned scale;

static const char *
choice(unsigned i)
{
	static const char *const names[] = {"select-1", "select-only", "tpcb", NULL};

	return names[i];
}

/*
 * The pool's sessions are new at each measurement, as the direct connections are: one that has served the kinds before is larger, and
 * slower at the one after.
 */
static void
renew_sessions(void)
{
	if (pglease_test_broker_stop(env) != 0 || pglease_test_broker_start(env) != 0)
		measure_die("broker", pglease_test_error_message());
}

static void
measure(struct report_table *table, unsigned row, unsigned workers, const struct work *work, unsigned round)
{
	struct load_result result[2];

	for (unsigned i = 0; i < 2; i++) {
		bool leased = measure_turn(round, i, 2) == LEASED;
		struct load load = {.pool = leased ? "app" : NULL, .conninfo = pglease_test_conninfo(env), .slots = SLOTS,
		    .work = *work, .workers = workers, .seconds = options.seconds};

		load.work.shared = leased;
		if (leased)
			renew_sessions();
		load_run(&load, &result[leased]);
	}
	report_sample(table, row, DIRECT, result[DIRECT].per_second);
	report_sample(table, row, LEASED, result[LEASED].per_second);
	report_sample(table, row, RATIO, result[LEASED].per_second / result[DIRECT].per_second);
	report_sample(table, row, P50, result[LEASED].p50_us / result[DIRECT].p50_us);
	report_sample(table, row, P99, result[LEASED].p99_us / result[DIRECT].p99_us);
}

static void
compare(struct report_table *table, struct report_table *summary, unsigned workers)
{
	struct work work[KINDS];
	unsigned row[KINDS], n = 0, total;
	char text[32], what[96];
	double least = INFINITY;

	snprintf(text, sizeof(text), workers == 1 ? "%u worker" : "%u workers", workers);
	total = report_row(summary, "", text);
	for (unsigned i = 0; i < KINDS; i++) {
		struct work w = {.query = i / WORK_PROTOCOLS, .protocol = i % WORK_PROTOCOLS, .scale = scale};

		if (!options_want(&options, choice(w.query)))
			continue;
		snprintf(what, sizeof(what), "%s, %s", work_query_name(w.query), work_protocol_name(w.protocol));
		row[n] = report_row(table, text, what);
		work[n++] = w;
	}
	for (unsigned round = 0; round < options.rounds; round++) {
		double sum = 0;

		for (unsigned i = 0; i < n; i++) {
			measure(table, row[i], workers, &work[i], round);
			sum += log(report_last(table, row[i], RATIO));
		}
		report_sample(summary, total, 0, exp(sum / n));
	}
	for (unsigned i = 0; i < n; i++)
		least = fmin(least, report_median(table, row[i], RATIO));
	report_sample(summary, total, 1, least);
	snprintf(what, sizeof(what), "leased transactions, of direct ones: %s", text);
	if (options.only == NULL)
		(workers == 4 ? report_brief : report_headline)(summary, total, 0, what, REPORT_AT_LEAST, 0.97);
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {
	    .rounds = {9, 2, 1},
	    .seconds = {1, 0.2, 0.05},
	    .workers = {{1, 4, 16}, {1, 4, 16}, {2}},
	    .choice = choice,
	};
	static const unsigned scales[OPTIONS_SIZES] = {16, 4, 1};
	pglease_test_pool pool = {.name = "app", .min = SLOTS, .max = SLOTS};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = &pool, .npools = 1);
	struct report_table *table, *summary;

	options_parse(argc, argv, &sizes, &options);
	scale = scales[options.size];
	report_begin(&options);
	table = report_table(&about);
	summary = report_table(&summary_about);
	env = stand_start(&env_options);
	stand_tables(env, scale);
	for (unsigned i = 0; options.workers[i] != 0; i++) {
		if (options.workers[i] > SLOTS)
			measure_die("--workers", "not more than the pool has connections: that is bench/saturation");
		compare(table, summary, options.workers[i]);
	}
	stand_stop(env);
	report_finish();
	return 0;
}
