/* SPDX-License-Identifier: PostgreSQL */
/* What the benchmarks share: rounds of things measured in turn, medians with their spread, and a way to give up. */
#ifndef PGLEASE_BENCH_MEASURE_H
#define PGLEASE_BENCH_MEASURE_H

#define MEASURE_ROUNDS_MAX 64

/* "PROGRAM: what: why" on stderr, and exit 1. */
void measure_die(const char *what, const char *why) __attribute__((noreturn));
/* Prints "what  median unit [min .. max]" of `n` values, each times `scale`; sorts them. */
void measure_print(const char *what, double *values, unsigned n, double scale, const char *unit);

#endif
