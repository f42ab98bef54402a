/* SPDX-License-Identifier: PostgreSQL */
/*
 * Confidence intervals of 95 % for geometric means, from the logarithms of independent observations: Student's t
 * ("Student", The Probable Error of a Mean, Biometrika 1908) for one sample and for pairs; Welch's (The generalization of
 * `Student's' problem, Biometrika 1947) for two samples. Why intervals, and why of means over rounds: Georges, Buytaert,
 * Eeckhout, Statistically rigorous Java performance evaluation, OOPSLA 2007.
 */
#ifndef PGLEASE_TESTKIT_INTERVAL_H
#define PGLEASE_TESTKIT_INTERVAL_H

#include <stdbool.h>

#include "pglease_test.h"

/* The geometric mean of n >= 2 positive numbers. */
pglease_test_interval interval_of(const double *x, unsigned n);
/* Of the quotients x[i] / y[i]. */
pglease_test_interval interval_of_pairs(const double *x, const double *y, unsigned n);
/* Of the quotient of two geometric means. */
pglease_test_interval interval_of_two(const double *x, unsigned n, const double *y, unsigned m);

#endif
