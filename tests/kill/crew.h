/* SPDX-License-Identifier: PostgreSQL */
/*
 * Two workers that live through a whole scenario: HOLDER has what the victim waits for, NEXT is the one who
 * must not be forgotten. Each lease of theirs checks that the session is its own: the answer is its query's,
 * and nothing of another's is in it. Each leaves traces.
 */
#ifndef PGLEASE_TESTS_KILL_CREW_H
#define PGLEASE_TESTS_KILL_CREW_H

#include <stdbool.h>
#include <stdint.h>

#include "view.h"

enum crew { HOLDER, NEXT, NCREW };

/* What a session must not have from another: a setting with this name. */
#define CREW_SETTING "kill.traces"

/* They attach, with these pools open. */
void crew_start(const char *const pools[], unsigned npools);
/* They end. Accepts that there are none. */
void crew_stop(void);

/* Begins to acquire; returns at once. */
void crew_acquire(enum crew who, unsigned pool);
/*
 * It has the lease (waits for that, long), and its session is its own, and the server's backend none of
 * these.
 */
void crew_expect(enum crew who, const struct view_held *not_of);
/* The broker may be dead: then it is told so (PGLEASE_ENOBROKER), and false is returned. */
bool crew_expect_or_gone(enum crew who);
/* Whether it has answered what it was told last. */
bool crew_has_answered(enum crew who);
/* Begins a release; crew_done waits for its end. */
void crew_release(enum crew who);
void crew_done(enum crew who);
/* The session of its lease is as it has left it. */
void crew_verify(enum crew who);
/* Acquires, checks and releases. */
void crew_lease(enum crew who, unsigned pool, const struct view_held *not_of);

#endif
