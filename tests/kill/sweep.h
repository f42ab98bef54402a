/* SPDX-License-Identifier: PostgreSQL */
/* A worker is killed at each of its instructions. */
#ifndef PGLEASE_TESTS_KILL_SWEEP_H
#define PGLEASE_TESTS_KILL_SWEEP_H

/* All scenarios whose name begins with `only` ("": all); at most `points` instructions of each (0: all). */
void sweep_run(const char *only, unsigned points);

#endif
