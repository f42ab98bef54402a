/* SPDX-License-Identifier: PostgreSQL */
/* See interval.h. */
#include "interval.h"

#include <math.h>

/* The 97.5 % quantile of Student's t: a table up to 30 degrees of freedom, then the first terms of its expansion. */
static double
t_975(double freedom)
{
	static const double table[] = {0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179,
	    2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
	    2.045, 2.042};
	const double z = 1.959964;

	if (freedom < 1)
		return table[1];
	if (freedom < 31)
		return table[(unsigned)freedom]; /* rounded down: rather too wide */
	return z + (z * z * z + z) / (4 * freedom);
}

static void
moments(const double *x, const double *y, unsigned n, double *ret_mean, double *ret_variance)
{
	double mean = 0, squares = 0;

	for (unsigned i = 0; i < n; i++)
		mean += (log(x[i]) - (y != NULL ? log(y[i]) : 0)) / n;
	for (unsigned i = 0; i < n; i++) {
		double d = log(x[i]) - (y != NULL ? log(y[i]) : 0) - mean;

		squares += d * d;
	}
	*ret_mean = mean;
	*ret_variance = squares / (n - 1);
}

static pglease_test_interval
around(double mean, double half)
{
	return (pglease_test_interval){.value = exp(mean), .low = exp(mean - half), .high = exp(mean + half)};
}

pglease_test_interval
interval_of_pairs(const double *x, const double *y, unsigned n)
{
	double mean, variance;

	moments(x, y, n, &mean, &variance);
	return around(mean, t_975(n - 1) * sqrt(variance / n));
}

pglease_test_interval
interval_of(const double *x, unsigned n)
{
	return interval_of_pairs(x, NULL, n);
}

pglease_test_interval
interval_of_two(const double *x, unsigned n, const double *y, unsigned m)
{
	double mean_x, mean_y, a, b, freedom;

	moments(x, NULL, n, &mean_x, &a);
	moments(y, NULL, m, &mean_y, &b);
	a /= n;
	b /= m;
	/* Welch and Satterthwaite */
	freedom = a + b > 0 ? (a + b) * (a + b) / (a * a / (n - 1) + b * b / (m - 1)) : n + m - 2;
	return around(mean_x - mean_y, t_975(freedom) * sqrt(a + b));
}
