/* SPDX-License-Identifier: PostgreSQL */
/* What the benchmarks share. */
#include "measure.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void
measure_die(const char *what, const char *why)
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

double
measure_median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), by_value);
	return (values[n / 2] + values[(n - 1) / 2]) / 2;
}

void
measure_median_interval(double *values, unsigned n, double *ret_low, double *ret_high)
{
	double reach = 0.98 * sqrt(n);
	unsigned low = reach < n / 2.0 ? (unsigned)(n / 2.0 - reach) : 0;

	qsort(values, n, sizeof(*values), by_value);
	*ret_low = values[low];
	*ret_high = values[n - 1 - low];
}

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t
measure_quantile(uint64_t *values, unsigned n, double q)
{
	unsigned i = (unsigned)(q * n);

	qsort(values, n, sizeof(*values), by_number);
	return values[i < n ? i : n - 1];
}

static uint64_t
own_cpu_ns(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	/* It may have ended since it was listed. */
	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) != 0)
		return 0;
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

uint64_t
measure_cpu_ns(pid_t pid)
{
	uint64_t sum = 0;
	char path[64];
	FILE *f;
	int child;

	if (pid == 0)
		return 0;
	sum = own_cpu_ns(pid);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "re");
	while (f != NULL && fscanf(f, "%d", &child) == 1)
		sum += own_cpu_ns(child);
	if (f != NULL)
		fclose(f);
	return sum;
}

uint64_t
measure_memory(pid_t pid, const char *field)
{
	unsigned long kib = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		measure_die(path, strerror(errno));
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, strlen(field)) == 0)
			kib += strtoul(line + strlen(field), NULL, 10);
	fclose(f);
	return (uint64_t)kib * 1024;
}

unsigned
measure_turn(unsigned round, unsigned i, unsigned n)
{
	return round % 2 == 0 ? i : n - 1 - i;
}

void
measure_sleep_until(uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}
