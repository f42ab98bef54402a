/* SPDX-License-Identifier: PostgreSQL */
/* See bench.h. */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void
bench_die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
	exit(1);
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void
bench_spread(const char *what, double *values, unsigned n, double scale, const char *unit)
{
	qsort(values, n, sizeof(*values), by_value);
	printf("  %-34s %10.3f %-3s [%.3f .. %.3f]\n", what, values[n / 2] * scale, unit, values[0] * scale,
	    values[n - 1] * scale);
}
