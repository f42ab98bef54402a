/* SPDX-License-Identifier: PostgreSQL */
/*
 * The table `history`: steps, made from the pools' histories when they are asked for, and shown like the tables that the broker
 * publishes. For pgleasestat and the broker's HTTP.
 */
#ifndef PGLEASE_EXPORT_HISTORY_TABLE_H
#define PGLEASE_EXPORT_HISTORY_TABLE_H

#include "history.h"
#include "stats.h"
#include "text.h"

#define HISTORY_TABLE_NAME "history"
/* What a table shows without -o. */
#define HISTORY_TABLE_USUAL \
	"pool,time,health,total,active,active_max,waiting_max,maxwait,leases_rate,wait_p50,wait_p99,hold_p50,hold_p99," \
	"queries_rate,query_p50,query_p99,timeouts"

struct history_table_range {
	uint64_t from, to, step; /* ns of CLOCK_REALTIME; step 0: one that fits */
};

/* Its columns, at most STATS_MAX_COLUMNS. */
unsigned history_table_describe(struct stats_column *ret_columns);
/* Defaults and steps that begin at round times. */
void history_table_settle(struct history_table_range *range);
/* How a pool's history is come by: as history_open(), which is done for NULL. */
struct history_table_source {
	int (*open)(const void *context, const char *pool, struct history_bytes *ret_bytes, struct history_view *ret_view);
	const void *context;
};

/*
 * Adds the table to a snapshot, whose pools it asks (pool NULL: all of them). What there is to say about pools without a history, or
 * an unknown one, is added to `notes`, a line each. 0; -ENOENT: no such pool; -ENODATA: no pool had a history; -ENOMEM.
 */
int history_table_add(struct stats_snapshot *snapshot, const char *pool, const struct history_table_range *range,
    const struct history_table_source *source, struct text *notes);

#endif
