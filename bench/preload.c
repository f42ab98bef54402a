/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a program that connects for each transaction gets from the preloaded library: pgbench, unmodified, with
 * `select 1`, in turn over connections of its own that it keeps, over fresh ones (-C), and over fresh ones that are leases.
 *
 *	preload [CLIENTS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "fixture.h"
#include "measure.h"
#include "upstream.h"

#define ROUNDS 5
#define RUN_MS 60000

static struct fixture *fixture;
static char folder[256];

struct kind {
	const char *what;
	const char *pool; /* NULL: direct */
	bool connects;
	const char *script;
	unsigned base; /* what it is compared with */
};

/* A fresh connection is given its settings by the start-up packet, and is as new afterwards. */
static const char plain[] = "select 1;\n", resetting[] = "set application_name to 'pgbench';\nselect 1;\ndiscard all;\n";

static const struct kind kinds[] = {
    {"kept", NULL, false, plain, 0},
    {"kept, with the same settings and resets", NULL, false, resetting, 0},
    {"fresh (-C)", NULL, true, plain, 0},
    {"leased (-C), reset = never", "never", true, plain, 0},
    {"leased (-C), reset", "reset", true, plain, 1},
};
#define FRESH 2
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static double
transactions_per_second(const struct kind *kind, const char *clients)
{
	const char *build = getenv("PGLEASE_BUILDDIR");
	char run[512], pgbench[300], script[300], log[300], line[256];
	const char *argv[20];
	unsigned n = 0;
	double tps = 0;
	FILE *f;

	if (upstream_bindir(pgbench, sizeof(pgbench) - 10) != 0)
		measure_die("pgbench", child_error());
	strcat(pgbench, "/pgbench");
	snprintf(run, sizeof(run), "%s/pglease-run", build != NULL ? build : ".");
	snprintf(script, sizeof(script), "%s/script.sql", folder);
	snprintf(log, sizeof(log), "%s/pgbench.log", folder);
	f = fopen(script, "we");
	if (f == NULL || fputs(kind->script, f) < 0 || fclose(f) != 0)
		measure_die(script, "cannot be written");
	unlink(log);
	if (kind->pool != NULL) {
		argv[n++] = run;
		argv[n++] = "-p";
		argv[n++] = kind->pool;
		argv[n++] = "-f";
		argv[n++] = "error";
	}
	argv[n++] = pgbench;
	argv[n++] = "-n";
	argv[n++] = "-f";
	argv[n++] = script;
	argv[n++] = "-T";
	argv[n++] = "2";
	argv[n++] = "-c";
	argv[n++] = clients;
	argv[n++] = "-j";
	argv[n++] = clients;
	if (kind->connects)
		argv[n++] = "-C";
	argv[n] = NULL;
	if (child_run(argv, log, NULL, RUN_MS) != 0)
		measure_die(kind->what, child_error());
	f = fopen(log, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "tps = %lf", &tps);
	if (f != NULL)
		fclose(f);
	if (tps <= 0)
		measure_die(kind->what, "pgbench says no tps");
	return tps;
}

int
main(int argc, char **argv)
{
	static double tps[KINDS][ROUNDS], ratio[KINDS][ROUNDS], beside_fresh[KINDS][ROUNDS];
	const char *clients = argc > 1 ? argv[1] : "4";
	unsigned max = (unsigned)strtoul(clients, NULL, 10);
	const struct fixture_pool pools[] = {
	    {.name = "never", .min = max, .max = max, .extra = "reset = never\n"},
	    {.name = "reset", .min = max, .max = max},
	};
	struct fixture_options options = {.pools = pools, .npools = 2};
	char host[300], what[80];

	if (fixture_start(&options, &fixture) != 0)
		measure_die("fixture", fixture_error());
	snprintf(folder, sizeof(folder), "%s", fixture_folder(fixture));
	snprintf(host, sizeof(host), "%s/pg", folder);
	setenv("PGHOST", host, 1);
	setenv("PGUSER", "postgres", 1);
	setenv("PGDATABASE", "postgres", 1);
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned k = 0; k < KINDS; k++)
			tps[k][i] = transactions_per_second(&kinds[k], clients);
		for (unsigned k = 0; k < KINDS; k++) {
			ratio[k][i] = tps[k][i] / tps[kinds[k].base][i];
			beside_fresh[k][i] = tps[k][i] / tps[FRESH][i];
		}
	}
	printf("pgbench, select 1, %s clients: thousand transactions per second (%d rounds)\n", clients, ROUNDS);
	for (unsigned k = 0; k < KINDS; k++) {
		measure_print(kinds[k].what, tps[k], ROUNDS, 1e-3, "k/s");
		snprintf(what, sizeof(what), "    times \"%s\"", kinds[kinds[k].base].what);
		if (k != 0)
			measure_print(what, ratio[k], ROUNDS, 1, "");
		if (kinds[k].pool != NULL)
			measure_print("    times \"fresh (-C)\"", beside_fresh[k], ROUNDS, 1, "");
	}
	if (fixture_stop(fixture) != 0)
		measure_die("fixture", fixture_error());
	return 0;
}
