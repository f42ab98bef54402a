/* SPDX-License-Identifier: PostgreSQL */
/* What the measuring programs share: their end when something fails, and how a round's values are told. */
#ifndef PGLEASE_BENCH_H
#define PGLEASE_BENCH_H

void __attribute__((noreturn)) bench_die(const char *what, const char *why);

/* Sorts; prints median [min .. max]. */
void bench_spread(const char *what, double *values, unsigned n, double scale, const char *unit);

#endif
