/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat's command line. */
#ifndef PGLEASE_TOOLS_STAT_OPTIONS_H
#define PGLEASE_TOOLS_STAT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "stats.h"

enum stat_format { STAT_TABLE = 0, STAT_RAW, STAT_JSON, STAT_CSV, STAT_PROMETHEUS };
/* Which columns: those of one aspect, as in ipcs(1). */
enum stat_aspect { STAT_USUAL = 0, STAT_TIMES, STAT_PIDS, STAT_OWNERS, STAT_LIMITS, STAT_SUMMARY, STAT_NASPECTS };
/* The tables of stats.h, and what the tool makes itself. */
enum stat_resource { STAT_HISTORY = STATS_NTABLES, STAT_NRESOURCES };
enum stat_action { STAT_SHOW = 0, STAT_LIST, STAT_CHECK, STAT_TOP, STAT_LIST_COLUMNS, STAT_HELP, STAT_VERSION };

struct stat_options {
	enum stat_action action;
	enum stat_format format;
	enum stat_aspect aspect;
	bool resource[STAT_NRESOURCES]; /* at least one */
	bool noheadings;
	bool exact; /* numbers as they are, also in tables */
	uint64_t interval_ns; /* 0: once */
	const char *instance; /* a sound name */
	bool instance_given; /* by -n or the environment */
	const char *id; /* NULL: all rows; otherwise exactly one resource is chosen */
	const char *since, *until; /* of the history: sound for time_text_parse; NULL: an hour ago, now */
	uint64_t step_ns; /* of the history; 0: one that fits */
	const char *columns; /* NULL: the usual ones; otherwise exactly one resource is chosen */
};

/* Strings point into argv. Returns 0, or -EINVAL after one line of explanation on `err`. */
int stat_options_parse(int argc, char **argv, FILE *err, struct stat_options *ret_options);
void stat_options_usage(FILE *out);
/* By the index in resource[]; its table's name. */
const char *stat_resource_name(unsigned resource);

#endif
