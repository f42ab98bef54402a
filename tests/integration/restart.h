/* SPDX-License-Identifier: PostgreSQL */
/*
 * A broker whose program can be exchanged: what the tests of restarts share. It is started by a path in a folder of the test's
 * own, which leads to the real program until something else is put there.
 */
#ifndef PGLEASE_TESTS_RESTART_H
#define PGLEASE_TESTS_RESTART_H

#include "it.h"

/* To be called before the environment is made. */
void restart_prepare(void);
/* The real program is there again. */
void restart_real(void);
/*
 * A script is there instead: `agreement` is what it does when it is asked whether it can take the broker's place, `take_over` when it
 * does; in both, "$real" is the real program, which `exec -a "$0" "$real" "$@"` runs. NULL: that.
 */
void restart_script(const char *agreement, const char *take_over);
/* Nothing is there. */
void restart_nothing(void);
/* A file that scripts may wait for: "$go". */
void restart_go(void);
const char *restart_path(void);

/* The configuration file as the kit has made it, but for this line, in the place of its key's, or at the end. NULL: as it was made. */
void restart_set(const char *line);
/* As it was made, but with these lines at the end of the instance's section; and with these sections in the place of its pools'. NULL: its own. */
void restart_configure(const char *instance, const char *pools);

/* pgleasectl has said this, at its last run or one before. */
void restart_said(const char *text);
/* pgleasectl restart: it succeeds. */
void restart_now(void);
/* It is refused, with this in the broker's log, and the broker goes on. */
void restart_refused(const char *why);
/* What the log says, once; fails the test if it does not. */
void restart_await_log(const char *text);

#endif
