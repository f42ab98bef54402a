/* SPDX-License-Identifier: PostgreSQL */
/*
 * A process that outlives a test that crashes, and then ends exactly what the test told it of and removes its
 * folder and segment.
 */
#ifndef PGLEASE_TESTKIT_GUARDIAN_H
#define PGLEASE_TESTKIT_GUARDIAN_H

#include <sys/types.h>

struct guardian {
	pid_t pid;
	int sock; /* to it */
};

/* From now on the death of this process removes `folder`, and stats segment and histories of `instance`. */
int guardian_start(const char *folder, const char *instance, struct guardian *ret);
/* The test started a process: `sig` asks it to end. The last one told of is ended first. Returns when it is
 * noted. -ENOSPC: 64 that live are watched already. */
int guardian_watch(const struct guardian *guardian, pid_t pid, int sig);
/* The test is over: the guardian does its work now, and ends; returns when it has. */
void guardian_clean_up(struct guardian *guardian);

#endif
