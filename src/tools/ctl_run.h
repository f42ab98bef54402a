/* SPDX-License-Identifier: PostgreSQL */
/* pgleasectl as a whole, for main() and for tests. */
#ifndef PGLEASE_TOOLS_CTL_RUN_H
#define PGLEASE_TOOLS_CTL_RUN_H

#include <stdio.h>

/* Returns the exit status (pgleasectl(1)). */
int ctl_run(int argc, char **argv, FILE *out, FILE *err);

#endif
