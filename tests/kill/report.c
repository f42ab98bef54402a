/* SPDX-License-Identifier: PostgreSQL */
/* See report.h. */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

jmp_buf report_end;

static unsigned number, failed;
static char counts[512], at[256], reason[1024];

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

bool
report_run(const char *name, void (*scenario)(const void *arg), const void *arg)
{
	double start = seconds();
	bool good;

	number++;
	counts[0] = at[0] = '\0';
	if (setjmp(report_end) == 0) {
		scenario(arg);
		printf("ok %u - %s: %s (%.1f s)\n", number, name, counts, seconds() - start);
		good = true;
	} else {
		failed++;
		printf("not ok %u - %s\n# %s: %s\n", number, name, at, reason);
		good = false;
	}
	fflush(stdout);
	return good;
}

void
report_counts(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(counts, sizeof(counts), format, args);
	va_end(args);
}

void
report_at(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(at, sizeof(at), format, args);
	va_end(args);
}

void
report_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	longjmp(report_end, 1);
}

int
report_finish(void)
{
	printf("1..%u\n", number);
	return failed == 0 && number != 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
