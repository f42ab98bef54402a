/* SPDX-License-Identifier: PostgreSQL */
/* Running pgleasestat within a test program, with what it writes kept. */
#ifndef PGLEASE_TESTS_STAT_PROGRAM_H
#define PGLEASE_TESTS_STAT_PROGRAM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stat_run.h"

static char *out, *err; /* of the last run */

/* Runs the tool with these arguments, split at spaces; its exit status. */
static inline int
run(const char *arguments)
{
	char copy[256], name[] = "pgleasestat", *argv[32] = {name}, *save = NULL;
	int argc = 1, status;
	size_t size;
	FILE *to, *to_err;

	free(out);
	free(err);
	to = open_memstream(&out, &size);
	to_err = open_memstream(&err, &size);
	snprintf(copy, sizeof(copy), "%s", arguments);
	for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	status = stat_run(argc, argv, to, to_err);
	fclose(to);
	fclose(to_err);
	return status;
}

static inline void
run_forget(void)
{
	free(out);
	free(err);
	out = err = NULL;
}

#endif
