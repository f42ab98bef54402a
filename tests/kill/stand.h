/* SPDX-License-Identifier: PostgreSQL */
/* The broker stands still at its steps, and others go on. */
#ifndef PGLEASE_TESTS_KILL_STAND_H
#define PGLEASE_TESTS_KILL_STAND_H

#include "pairs.h"

/* All whose name begins with `only`; at most `points` steps of each (0: all). */
void stand_run(const char *only, unsigned points);

/* What the broker is asked for: to fence the victim; to cancel its lease. Both return at once. */
void stand_revoke(const struct pair_place *place);
void stand_cancel(const struct pair_place *place);

#endif
