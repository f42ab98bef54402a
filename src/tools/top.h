/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat --top: an instance on a terminal's screen, until a key or a signal ends it. */
#ifndef PGLEASE_TOOLS_TOP_H
#define PGLEASE_TOOLS_TOP_H

#include <stdio.h>

#include "stat_options.h"

/* 0; -ENOTTY when there is no terminal, or one that cannot do it, after a line on `err`. The terminal is as it was. */
int top_run(const struct stat_options *options, FILE *err);

#endif
