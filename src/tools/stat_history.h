/* SPDX-License-Identifier: PostgreSQL */
/*
 * The resource `history`: a table of steps, made from the pools' histories when it is asked for, and shown like those that the
 * broker publishes.
 */
#ifndef PGLEASE_TOOLS_STAT_HISTORY_H
#define PGLEASE_TOOLS_STAT_HISTORY_H

#include <stdio.h>

#include "stats.h"

#define STAT_HISTORY_NAME "history"
/* What a table shows without -o. */
#define STAT_HISTORY_USUAL \
	"pool,time,health,total,active,active_max,waiting_max,maxwait,leases_rate,wait_p50,wait_p99,hold_p50,hold_p99," \
	"queries_rate,query_p50,query_p99,timeouts"

struct stat_history_range {
	uint64_t from, to, step; /* ns of CLOCK_REALTIME; step 0: one that fits */
};

/* Its columns, at most STATS_MAX_COLUMNS. */
unsigned stat_history_describe(struct stats_column *ret_columns);
/* Defaults and steps that begin at round times. */
void stat_history_settle(struct stat_history_range *range);
/*
 * Adds the table to a snapshot, whose pools it asks (pool NULL: all of them). A pool without a history is told on `err`, and an
 * unknown one: -ENOENT. -ENODATA when no pool had one; -ENOMEM.
 */
int stat_history_add(struct stats_snapshot *snapshot, const char *pool, const struct stat_history_range *range, FILE *err);

#endif
