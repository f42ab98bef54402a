/* SPDX-License-Identifier: PostgreSQL */
/* What the modules of the benchmark share. */
#ifndef PGLEASE_TESTKIT_BENCHMARK_PRIV_H
#define PGLEASE_TESTKIT_BENCHMARK_PRIV_H

#include "histogram.h"
#include "pglease_test.h"

#define BENCHMARK_MAX_VARIANTS 16
#define BENCHMARK_MAX_ROUNDS 10000

struct measured {
	const pglease_test_variant *variant; /* while it runs */
	char *name;
	double *rate; /* of each round */
	struct histogram_sum times;
	uint64_t operations, ns, cpu, server_cpu;
	double memory, round_trips, leaks;
	unsigned batch;
	pglease_test_measurement result;
};

struct pglease_test_results {
	unsigned n, rounds;
	struct measured measured[BENCHMARK_MAX_VARIANTS];
	pglease_test_change change[BENCHMARK_MAX_VARIANTS];
};

#endif
