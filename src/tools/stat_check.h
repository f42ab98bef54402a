/* SPDX-License-Identifier: PostgreSQL */
/*
 * pgleasestat --check: a snapshot as one line for monitoring systems, in the format of the Monitoring Plugins (Nagios, Icinga,
 * check_mk ...): "PGLEASE OK - text | performance data". The rules of health are the broker's (health.h); to them comes that a
 * broker which is gone, or has published nothing for 2 seconds, is down.
 */
#ifndef PGLEASE_TOOLS_STAT_CHECK_H
#define PGLEASE_TOOLS_STAT_CHECK_H

#include <stdio.h>

#include "stats.h"

enum check_status { CHECK_OK = 0, CHECK_WARNING, CHECK_CRITICAL, CHECK_UNKNOWN };

/* Writes the line. `pool`: only this one; NULL: all. */
enum check_status stat_check(const struct stats_snapshot *snapshot, const char *pool, FILE *out);
/* The line when there is no snapshot, in the words of `why`. */
enum check_status stat_check_unknown(const char *why, FILE *out);

#endif
