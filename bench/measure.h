/* SPDX-License-Identifier: PostgreSQL */
/* What the benchmarks share: a way to give up, order statistics of a few samples, CPU time and memory of other processes. */
#ifndef PGLEASE_BENCH_MEASURE_H
#define PGLEASE_BENCH_MEASURE_H

#include <stdint.h>
#include <sys/types.h>

/* "PROGRAM: what: why" on stderr, and exit 1. */
void measure_die(const char *what, const char *why) __attribute__((noreturn));
/* Sorts the values; the middle one, or the mean of the two in the middle. */
double measure_median(double *values, unsigned n);
/*
 * Between which two of the values the median of what they are a sample of lies, 19 times out of 20, whatever its
 * distribution: by order statistics (the binomial distribution, in its normal approximation). Sorts the values.
 */
void measure_median_interval(double *values, unsigned n, double *ret_low, double *ret_high);
/* The value at quantile q of 64-bit samples, which it sorts. */
uint64_t measure_quantile(uint64_t *values, unsigned n, double q);
/*
 * CPU time used so far by a process and its living children: a server's postmaster and backends, a proxy and its
 * processes. 0 for no process.
 */
uint64_t measure_cpu_ns(pid_t pid);
/* Sum of a field ("Rss:", "Private_Dirty:") of /proc/PID/smaps_rollup, in bytes. */
uint64_t measure_memory(pid_t pid, const char *field);
/* Which of n things is measured i-th in this round: there and back again, so that none always comes after the same one. */
unsigned measure_turn(unsigned round, unsigned i, unsigned n);
/* Sleeps until this time of CLOCK_MONOTONIC. */
void measure_sleep_until(uint64_t ns);

#endif
