/* SPDX-License-Identifier: PostgreSQL */
/* Of takeover.c, its course, and takeover_list.c, its list. */
#ifndef PGLEASE_BROKER_TAKEOVER_PRIV_H
#define PGLEASE_BROKER_TAKEOVER_PRIV_H

#include "takeover.h"

enum job_state { JOB_WAITS, JOB_RUNS, JOB_IS_DONE };

/* A backend's pid, and a time (CLOCK_MONOTONIC) after which whoever has it is another. */
struct old {
	uint32_t pid;
	uint64_t until;
};

/* Of one pool. */
struct job {
	struct pool *pool; /* NULL: done with */
	_Atomic uint32_t state; /* RUNS: the rest is the thread's, but for `pool` and `due` */
	uint64_t due;
	unsigned tries;
	unsigned nolds;
	unsigned nfree; /* the first of them: nobody has a lease of these, nor can get one, so they are ended first, and at once */
	struct old *olds;
	char *keywords[TARGET_KEYWORDS + 2], *values[TARGET_KEYWORDS + 2];
	int ended; /* negative: it did not come to that, and `why` says why */
	char why[256];
};

struct takeover {
	struct sockdir *sockdir;
	struct pool *const *pools;
	unsigned npools; /* with those that are going */
	unsigned nlines; /* of the list, as it is in the folder; 0: it is empty */
	bool fails; /* the list cannot be written: that has been said */
	struct job job[LAYOUT_MAX_POOLS];
	unsigned njobs;
	uint32_t *clients; /* pids of the processes that were attached */
	unsigned nclients;
	uint64_t look_at;
	bool can_tell; /* whether they live: their pids are of our namespace */
	uint64_t began;
	pid_t broker;  /* the old one */
};

/* The pool's sessions in the list that was left, for the job. False: out of memory. */
bool takeover_list_take(struct takeover *takeover, struct job *job);
/* Finds out which of them nobody can lease any more, by what the service manager has stored. */
void takeover_stored_take(struct job *job);
/* Whether it has sessions of more than one broker before. */
bool takeover_list_is_older(const struct takeover *takeover);
/* Writes the list anew: what is left to be ended, and the present sessions of all pools. */
void takeover_list_write(struct takeover *takeover);

#endif
