/* SPDX-License-Identifier: PostgreSQL */
/*
 * Running pgleased until it ends by itself: for what it refuses, with the words that it says then. A broker that serves
 * is the environment's matter (it.h).
 */
#ifndef PGLEASE_TESTS_RUN_H
#define PGLEASE_TESTS_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

struct run_how {
	bool unprivileged; /* not as root, also when the test is */
	rlim_t files; /* limit of open files; 0: as it is */
	const char *shm; /* mount options of a tmpfs of its own at /dev/shm; NULL: the system's */
};

struct run {
	int status; /* exit status; -1: a signal ended it */
	unsigned lines;
	char text[4096]; /* all that it wrote to stderr */
	char last[2048]; /* the last line of it, without its end */
};

/* Runs `pgleased args...` (NULL-terminated) to its end; `how` may be NULL. */
void run_broker(const char *const args[], const struct run_how *how, struct run *ret);
/* It refuses to start: status 1, and the last line begins with "pgleased: " and has all these words (NULL: none). */
void run_refused(
    const char *const args[], const struct run_how *how, const char *a, const char *b, const char *c);

/*
 * From here on this process, and what it starts, has a /dev/shm of its own, with these mount options; false, with errno: this needs
 * root. It goes with them.
 */
bool run_mount_shm(const char *options);

/* An environment without a server and a broker, if there is none yet: its folder, which goes with it. */
const char *run_folder(void);
/* A file in it. Returns its path (static, good until the next call). */
const char *run_file(const char *name, const char *text, size_t size);

#endif
