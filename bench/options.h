/* SPDX-License-Identifier: PostgreSQL */
/*
 * The command line that all benchmarks share: how large a run, which of the things measured, where the JSON goes. Each
 * program says its defaults for the three sizes.
 */
#ifndef PGLEASE_BENCH_OPTIONS_H
#define PGLEASE_BENCH_OPTIONS_H

#include <stdbool.h>

/* full: what is published; quick: the whole suite within five minutes; smoke: that the programs work, no more. */
enum options_size { OPTIONS_FULL, OPTIONS_QUICK, OPTIONS_SMOKE, OPTIONS_SIZES };

#define OPTIONS_WORKERS_MAX 8

/* A number for each size. */
struct options_sizes {
	unsigned rounds[OPTIONS_SIZES];
	double seconds[OPTIONS_SIZES]; /* of each measurement; 0: the program counts instead */
	unsigned workers[OPTIONS_SIZES][OPTIONS_WORKERS_MAX]; /* ends with 0 */
	const char *(*choice)(unsigned i); /* the names that --only takes, NULL after the last; NULL: none */
};

struct options {
	enum options_size size;
	unsigned rounds;
	double seconds;
	unsigned workers[OPTIONS_WORKERS_MAX + 1]; /* ends with 0 */
	const char *only, *json;
};

/* Exits with a usage message where the arguments are wrong. */
void options_parse(int argc, char **argv, const struct options_sizes *sizes, struct options *ret_options);
/* Whether --only leaves this one in. */
bool options_want(const struct options *options, const char *name);
/* `full` repetitions, or a tenth, or a hundredth, by size; at least 1. */
unsigned options_count(const struct options *options, unsigned full);

#endif
