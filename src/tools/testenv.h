/* SPDX-License-Identifier: PostgreSQL */
/* pglease-testenv(1): runs a command inside an environment of libpglease-test, and tells what it left behind. */
#ifndef PGLEASE_TOOLS_TESTENV_H
#define PGLEASE_TOOLS_TESTENV_H

#include <stdbool.h>
#include <stdio.h>

#include "pglease_test.h"

enum {
	TESTENV_USAGE = 1,
	TESTENV_LEAKS = 121,
	TESTENV_TIMEOUT = 124, /* as timeout(1) */
	TESTENV_FAILED = 125,  /* no environment, no report */
	TESTENV_CANNOT = 126,  /* as env(1) and the shells */
	TESTENV_NOT_FOUND = 127,
};

#define TESTENV_MAX_POOLS 16

struct testenv_options {
	pglease_test_pool pool[TESTENV_MAX_POOLS];
	unsigned npools;
	char *names;     /* of the pools */
	char *extra;     /* lines of [pglease] and each pool's section, or NULL */
	char *pool_extra;
	char *setup;     /* SQL, or NULL */
	bool json, quiet;
	const char *output; /* file for the report; NULL: standard error */
	unsigned timeout_s; /* 0: none */
	char **command;
};

/* -1: go on; else the exit status. */
int testenv_options_read(int argc, char **argv, FILE *out, FILE *err, struct testenv_options *ret);
void testenv_options_fini(struct testenv_options *options);

/* Waits for all that have ended, but for the command and the environment's own; nobody has to have ended. */
void testenv_strays_reap(pid_t command);
/* Ends them all, and whatever they leave in turn. */
void testenv_strays_end(void);

int testenv(int argc, char **argv, FILE *out, FILE *err);

#endif
