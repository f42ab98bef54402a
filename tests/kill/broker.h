/* SPDX-License-Identifier: PostgreSQL */
/* The broker is killed, or stands still, at its steps. */
#ifndef PGLEASE_TESTS_KILL_BROKER_H
#define PGLEASE_TESTS_KILL_BROKER_H

/* All services whose name, after "broker: ", begins with `only`; at most `points` steps of each (0: all). */
void broker_run(const char *only, unsigned points);

#endif
