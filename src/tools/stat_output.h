/* SPDX-License-Identifier: PostgreSQL */
/*
 * How pgleasestat shows a snapshot. Pure: from a snapshot and options to text on a stream; nothing here looks
 * at the instance, the terminal or the clock.
 */
#ifndef PGLEASE_TOOLS_STAT_OUTPUT_H
#define PGLEASE_TOOLS_STAT_OUTPUT_H

#include <stdio.h>

#include "stat_options.h"
#include "stats.h"

/*
 * Shows the chosen resources. Returns 0; -EINVAL when a column does not exist and -ENOENT when the ID does
 * not (both after one line on `err`, with nothing on `out`); -ENOMEM.
 */
int stat_output_show(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out, FILE *err);

/* The columns of the chosen resources: as the instance publishes them, or, without one (NULL), as this
 * version would. */
int stat_output_list_columns(
    const struct stats_snapshot *snapshot, const struct stat_options *options, FILE *out);

/* "812ns", "12.3us", "4.56ms", "1.23s", "3m12s", "5h03m", "2d04h"; "0" for none. */
void stat_output_duration(uint64_t ns, char *buf, size_t size);
/* Seconds with all nine decimals. */
void stat_output_seconds(uint64_t ns, char *buf, size_t size);

#endif
