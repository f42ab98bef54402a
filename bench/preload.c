/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a program that connects for each transaction gets from the preloaded library: pgbench, unmodified, with `select 1`, in
 * turn over connections of its own that it keeps, over fresh ones (-C), over fresh ones that are leases, and over fresh ones
 * to other poolers.
 *
 *	preload [--workers 4,16] [--seconds 2] [--rounds 5] [--only kept,fresh,leased-never,pgbouncer]
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "measure.h"
#include "options.h"
#include "peers.h"
#include "report.h"
#include "stand.h"
#include "upstream.h"

#define SLOTS 20
#define DATABASE "app"
#define RUN_MS 120000

/* A fresh connection is given its settings by the start-up packet, and is as new afterwards. */
static const char plain[] = "select 1;\n", resetting[] = "set application_name to 'pgbench';\nselect 1;\ndiscard all;\n";

enum over { DIRECT, LEASED, PEER };

static const struct kind {
	const char *name, *what;
	enum over over;
	const char *pool; /* LEASED */
	enum peer_kind peer;
	bool connects;
	const char *script;
	unsigned base; /* the kept connections that it is compared with */
} kinds[] = {
    {"kept", "kept", DIRECT, NULL, 0, false, plain, 0},
    {"kept-reset", "kept, with the same settings and resets", DIRECT, NULL, 0, false, resetting, 1},
    {"fresh", "fresh (-C)", DIRECT, NULL, 0, true, plain, 0},
    {"leased-never", "leased (-C), reset = never", LEASED, "never", 0, true, plain, 0},
    {"leased-reset", "leased (-C), reset", LEASED, "reset", 0, true, plain, 1},
    {"pgbouncer", "pgbouncer (-C)", PEER, NULL, PEER_PGBOUNCER, true, plain, 0},
    {"pgpool", "pgpool (-C)", PEER, NULL, PEER_PGPOOL, true, plain, 0},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))
enum { FRESH = 2, NEVER = 3, RESET = 4, PGBOUNCER = 5 };

enum column { TPS, BY_KEPT, BY_FRESH, BY_PGBOUNCER };

static const struct report_table_about about = {
    .id = "preload",
    .title = "pgbench, SELECT 1, a connection for each transaction (-C)",
    .note = "/kept: of connections that are kept; for leases that are reset, of those that send the same settings and DISCARD ALL.",
    .columns = {[TPS] = {"transactions", "1/s", 0, true}, [BY_KEPT] = {"/kept", "", 2, true},
        [BY_FRESH] = {"/fresh", "", 1, true}, [BY_PGBOUNCER] = {"/pgbouncer", "", 2, true}},
    .plot = {TPS, true},
};

static pglease_test_env *env;
static struct peer *peers[PEERS];
static struct options options;

static const char *
choice(unsigned i)
{
	return i < KINDS ? kinds[i].name : NULL;
}

static bool
wanted(unsigned k)
{
	return options_want(&options, kinds[k].name);
}

static const char *
missing(unsigned k)
{
	return kinds[k].over == PEER ? peer_missing(kinds[k].peer) : NULL;
}

static void
write_script(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		measure_die(path, "cannot be written");
}

/* pgbench has failed: its last words, for its log goes with the folder. */
static void __attribute__((noreturn))
fail(const char *log, const char *what)
{
	FILE *f = fopen(log, "re");
	static char line[512];
	char why[1024];

	snprintf(line, sizeof(line), "nothing is said");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		line[strcspn(line, "\n")] = '\0';
	snprintf(why, sizeof(why), "%s: %s", child_error(), line);
	measure_die(what, why);
}

/* What pgbench's report says. */
static double
read_tps(const char *log, const char *what)
{
	FILE *f = fopen(log, "re");
	char line[256];
	double tps = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "tps = %lf", &tps);
	if (f != NULL)
		fclose(f);
	if (tps <= 0)
		measure_die(what, "pgbench says no tps");
	return tps;
}

static double
transactions_per_second(const struct kind *kind, unsigned clients)
{
	char run[512], pgbench[300], script[300], log[300], host[300], number[16], seconds[16];
	const char *argv[24];
	unsigned n = 0;

	if (upstream_bindir(pgbench, sizeof(pgbench) - 10) != 0)
		measure_die("pgbench", child_error());
	strcat(pgbench, "/pgbench");
	snprintf(run, sizeof(run), "%s/pglease-run", getenv("PGLEASE_BUILDDIR"));
	snprintf(script, sizeof(script), "%s/script.sql", pglease_test_folder(env));
	snprintf(log, sizeof(log), "%s/pgbench.log", pglease_test_folder(env));
	snprintf(host, sizeof(host), "%s/pg", pglease_test_folder(env));
	snprintf(number, sizeof(number), "%u", clients);
	/* pgbench counts whole seconds. */
	snprintf(seconds, sizeof(seconds), "%.0f", options.seconds > 1 ? options.seconds : 1);
	write_script(script, kind->script);
	unlink(log);
	setenv("PGHOST", kind->over == PEER ? peer_host(peers[kind->peer]) : host, 1);
	setenv("PGPORT", kind->over == PEER ? peer_port(peers[kind->peer]) : "5432", 1);
	if (kind->over == LEASED)
		for (unsigned i = 0; i < 5; i++)
			argv[n++] = (const char *[]){run, "-p", kind->pool, "-f", "error"}[i];
	for (unsigned i = 0; i < 10; i++)
		argv[n++] = (const char *[]){pgbench, "-n", "-f", script, "-T", seconds, "-c", number, "-j", number}[i];
	if (kind->connects)
		argv[n++] = "-C";
	argv[n] = NULL;
	if (child_run(argv, log, NULL, RUN_MS) != 0)
		fail(log, kind->what);
	return read_tps(log, kind->what);
}

static void
headlines(struct report_table *table, const unsigned row[KINDS], unsigned clients)
{
	char what[96];

	snprintf(what, sizeof(what), "pgbench -C, %u clients: leased, of kept connections", clients);
	report_headline(table, row[NEVER], BY_KEPT, what, REPORT_AT_LEAST, 0.9);
	snprintf(what, sizeof(what), "pgbench -C, %u clients: leased with resets, of kept with resets", clients);
	report_headline(table, row[RESET], BY_KEPT, what, REPORT_AT_LEAST, 0.9);
	if (clients == 4) {
		report_brief(table, row[NEVER], BY_FRESH, "pgbench -C, 4 clients: leased, of fresh connections", REPORT_AT_LEAST,
		    100);
		report_headline(table, row[RESET], BY_FRESH, "pgbench -C, 4 clients: leased with resets, of fresh connections",
		    REPORT_AT_LEAST, 100);
	}
	snprintf(what, sizeof(what), "pgbench -C, %u clients: leased, of PgBouncer", clients);
	(clients == 16 ? report_brief : report_headline)(table, row[NEVER], BY_PGBOUNCER, what, REPORT_AT_LEAST, 2);
	snprintf(what, sizeof(what), "pgbench -C, %u clients: leased with resets, of PgBouncer", clients);
	(clients == 16 ? report_brief : report_headline)(table, row[RESET], BY_PGBOUNCER, what, REPORT_AT_LEAST, 2);
}

static void
compare(struct report_table *table, unsigned clients)
{
	unsigned row[KINDS];
	char group[32];

	snprintf(group, sizeof(group), "%u clients", clients);
	for (unsigned k = 0; k < KINDS; k++)
		if (wanted(k)) {
			row[k] = report_row(table, group, kinds[k].what);
			report_row_note(table, row[k], missing(k));
		}
	for (unsigned round = 0; round < options.rounds; round++) {
		for (unsigned i = 0; i < KINDS; i++) {
			unsigned k = measure_turn(round, i, KINDS);

			if (wanted(k) && missing(k) == NULL)
				report_sample(table, row[k], TPS, transactions_per_second(&kinds[k], clients));
		}
		for (unsigned k = 0; k < KINDS; k++) {
			if (!wanted(k))
				continue;
			if (wanted(kinds[k].base))
				report_ratio(table, row[k], BY_KEPT, TPS, row[kinds[k].base]);
			if (wanted(FRESH))
				report_ratio(table, row[k], BY_FRESH, TPS, row[FRESH]);
			if (wanted(PGBOUNCER))
				report_ratio(table, row[k], BY_PGBOUNCER, TPS, row[PGBOUNCER]);
		}
	}
	if (options.only == NULL)
		headlines(table, row, clients);
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {
	    .rounds = {7, 2, 1},
	    .seconds = {3, 1, 1},
	    .workers = {{4, 16}, {4, 16}, {2}},
	    .choice = choice,
	};
	static const pglease_test_pool pools[] = {
	    {.name = "never", .min = SLOTS, .max = SLOTS, .extra = "reset = never\n"},
	    {.name = "reset", .min = SLOTS, .max = SLOTS},
	};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = pools, .npools = 2);
	struct report_table *table;

	options_parse(argc, argv, &sizes, &options);
	report_begin(&options);
	table = report_table(&about);
	env = stand_start(&env_options);
	setenv("PGUSER", "postgres", 1);
	/* pgpool keeps no connection to the database `postgres`. */
	if (pglease_test_sql(env, "create database " DATABASE, (char[8]){0}, 8) != 0)
		measure_die("create database", pglease_test_error_message());
	setenv("PGDATABASE", DATABASE, 1);
	for (unsigned k = 0; k < KINDS; k++)
		if (kinds[k].over == PEER && wanted(k) && missing(k) == NULL)
			peers[kinds[k].peer] = peer_start(kinds[k].peer, env, SLOTS, SLOTS);
	for (unsigned i = 0; options.workers[i] != 0; i++) {
		if (options.workers[i] > SLOTS)
			measure_die("--workers", "not more than the pools have connections");
		compare(table, options.workers[i]);
	}
	for (unsigned i = 0; i < PEERS; i++)
		peer_stop(peers[i]);
	stand_stop(env);
	report_finish();
	return 0;
}
