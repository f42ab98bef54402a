/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat as a whole, but for main(). */
#ifndef PGLEASE_TOOLS_STAT_RUN_H
#define PGLEASE_TOOLS_STAT_RUN_H

#include <stdio.h>

/* Does what the command line says. Returns the exit status; does not close the streams. */
int stat_run(int argc, char **argv, FILE *out, FILE *err);

#endif
