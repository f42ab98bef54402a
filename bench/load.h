/* SPDX-License-Identifier: PostgreSQL */
/*
 * A load of worker processes, each of which does transactions one after the other for a time: each over a connection leased
 * for it, or all over one that it keeps (direct, or to a proxy). They start together; what they do while caches and
 * connections warm is not counted.
 */
#ifndef PGLEASE_BENCH_LOAD_H
#define PGLEASE_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "histogram.h"
#include "work.h"

#define LOAD_WATCHED 2

struct load {
	const char *pool;     /* leased, from the instance that the environment names; NULL: */
	const char *conninfo; /* ... kept, a connection for each worker */
	unsigned slots;       /* leased: connections of the pool */
	bool clean;           /* leased: released as clean, so that nothing is reset whatever the pool's policy */
	struct work work;
	unsigned workers;
	double seconds;
	pid_t watched[LOAD_WATCHED]; /* whose CPU time is measured, with their children's; 0: nobody's */
};

struct load_result {
	double per_second;
	double p50_us, p99_us, max_us; /* of the time of a transaction, with acquire and release where it is leased */
	double slowest;                /* the slowest worker's part of what the mean worker did */
	double switches;               /* context switches of the workers, by transaction ... */
	double worker_us;              /* ... their CPU time ... */
	double watched_us[LOAD_WATCHED]; /* ... and that of the watched */
};

/* Gives up (measure_die) when a worker fails. */
void load_run(const struct load *load, struct load_result *ret_result);

#endif
