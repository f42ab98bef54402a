/* SPDX-License-Identifier: PostgreSQL */
/*
 * pgleasestat --list: the instances on this host, found by the names of their stats segments in /dev/shm; also those that
 * may not be read, and those whose broker is gone.
 */
#ifndef PGLEASE_TOOLS_STAT_LIST_H
#define PGLEASE_TOOLS_STAT_LIST_H

#include <stdio.h>

#include "stat_options.h"

/* A line for each. 0, or -errno when they cannot be looked for or shown. */
int stat_list(const struct stat_options *options, FILE *out);
/* Their names as "a, b", or "" when there are none; cut to the size. */
void stat_list_names(char *buf, size_t size);

#endif
