/* SPDX-License-Identifier: PostgreSQL */
/*
 * killer PART POINTS [PART POINTS ...] [NAME]: parts of the harness, one after the other, at most POINTS
 * points of each kind in a scenario (0: all), of the scenarios whose names begin with NAME.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"
#include "pairs.h"
#include "report.h"
#include "scenarios.h"
#include "stand.h"
#include "sweep.h"

static const struct {
	const char *name;
	void (*run)(const char *only, unsigned points);
} parts[] = {
    {"sweep", sweep_run},
    {"pairs", pairs_run},
    {"stand", stand_run},
    {"broker", broker_run},
};
#define NPARTS (sizeof(parts) / sizeof(parts[0]))

static bool
is_number(const char *text)
{
	return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* The part of that name, or NPARTS. */
static size_t
find(const char *name)
{
	size_t i = 0;

	while (i < NPARTS && strcmp(name, parts[i].name) != 0)
		i++;
	return i;
}

int
main(int argc, char **argv)
{
	const char *name = argc % 2 == 0 ? argv[argc - 1] : "";
	bool stopped;

	for (int i = 1; i + 1 < argc; i += 2)
		if (find(argv[i]) == NPARTS || !is_number(argv[i + 1]))
			argc = 0;
	if (argc < 3) {
		fprintf(stderr, "usage: killer sweep|pairs|stand|broker POINTS [PART POINTS ...] [NAME]\n");
		return 2;
	}
	/* Symbols are resolved at the start: a call leads to its function, never to the linker. */
	if (getenv("LD_BIND_NOW") == NULL) {
		setenv("LD_BIND_NOW", "1", 1);
		execv("/proc/self/exe", argv);
		perror("killer: exec");
		return 2;
	}
	/* For this program only: a library with a planted bug (run.sh). */
	unsetenv("LD_PRELOAD");
	for (int i = 1; i + 1 < argc; i += 2)
		parts[find(argv[i])].run(name, (unsigned)atoi(argv[i + 1]));
	stopped = stage_stop();
	return report_finish() == EXIT_SUCCESS && stopped ? EXIT_SUCCESS : EXIT_FAILURE;
}
