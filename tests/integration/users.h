/* SPDX-License-Identifier: PostgreSQL */
/* Doing things as other users, with real numbers that belong to nobody: for tests that run as root. */
#ifndef PGLEASE_TESTS_USERS_H
#define PGLEASE_TESTS_USERS_H

#include <sys/types.h>

#define ALICE 54321
#define BOB 54322
#define CREW 54331 /* a group */
#define OTHERS 54332

struct who {
	uid_t uid;
	gid_t gid, extra; /* extra 0: none */
};

/* The test fails without it; it is not skipped. */
void users_need_root(void);
/* This process is that user from now on. */
void users_become(const struct who *who);
/* What `deed` returns, 0 or above -256, when this user does it, in a process of his. */
typedef int (*users_deed)(const void *argument);
int users_as(struct who who, users_deed deed, const void *argument);

#endif
