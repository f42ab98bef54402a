/* SPDX-License-Identifier: PostgreSQL */
/*
 * A pool's statistics, added up from its lease segment: what the library's callers, the stats segment, the history and the
 * broker's own judgement (health.h) all start from. Reads only, takes no lock, makes no system call, believes no index that it
 * finds, and takes a bounded time whatever the writers do or do not do any more.
 *
 * Totals agree with each other as far as they are derived from one another (total is the sum of the states; acquired that
 * of immediate and waited), and ends of leases are read before their beginnings: releases and returns never exceed leases.
 */
#ifndef PGLEASE_SHM_TOTALS_H
#define PGLEASE_SHM_TOTALS_H

#include "segment.h"

/* The one list of what is timed: X(id, name, help). */
/* clang-format off */
#define STATS_TIMES(X) \
	X(WAIT,        wait,        "wait for a lease; none counts as 0") \
	X(HOLD,        hold,        "time that a lease was held until its clean release") \
	X(CONNECT,     connect,     "time that opening a server connection took") \
	X(QUERY,       query,       "time of a query made by the library's own calls") \
	X(TRANSACTION, transaction, "time of a transaction, single queries included")
/* clang-format on */
#define STATS_TIME_ENUM(id, name, help) TIME_##id,
enum stats_time { STATS_TIMES(STATS_TIME_ENUM) STATS_NTIMES };
#undef STATS_TIME_ENUM

extern const struct counter_info stats_time_info[STATS_NTIMES];

struct pool_totals {
	uint64_t slot[SLOT_NCOUNTERS];
	uint64_t client[CLIENT_NCOUNTERS];
	uint64_t broker[BROKER_NCOUNTERS];
	uint32_t state; /* enum segment_state */
	uint32_t down;  /* 1: connects fail */
	uint32_t max, total, idle, leased, granted, busy;
	uint32_t waiting, clients, peak;
	uint64_t maxwait; /* age of the oldest waiter; ns */
	uint64_t rate[STATS_NRATES];
};

/* Counters and gauges at `now` (CLOCK_MONOTONIC ns). */
void totals_read(const struct segment *seg, uint64_t now, struct pool_totals *ret);
/* One histogram over all slots; wait includes the leases that did not wait, as 0. */
void totals_times(const struct segment *seg, enum stats_time time, struct histogram_sum *ret);

/*
 * Raises the pool's peak to the slots that are leased or granted now: the broker's at its ticks, and that of a thread that found
 * no idle slot, which is when a peak is. Free once the peak has come to max_connections.
 */
void totals_note_peak(struct segment *seg);

/*
 * The pool's health now, as reasons (health.h): what the broker has found at its last tick, or, if that is too long ago, that it is
 * not there. No answer before the first tick is no reason.
 */
uint32_t totals_health(const struct segment *seg, uint64_t now);

static inline uint64_t
totals_acquired(const struct pool_totals *t)
{
	return t->slot[COUNTER_LEASES_IMMEDIATE] + t->slot[COUNTER_LEASES_WAITED];
}

/* Connections closed, for whatever cause; leases revoked. */
uint64_t totals_closed(const struct pool_totals *t);
uint64_t totals_revoked(const struct pool_totals *t);
/* The share of the leases that did not wait; 1 when there was none. */
double totals_efficiency(const struct pool_totals *t);
/* Observations of a time, their sum and mean in ns, as counted. */
uint64_t totals_time_count(const struct pool_totals *t, enum stats_time time);
uint64_t totals_time_sum(const struct pool_totals *t, enum stats_time time);
uint64_t totals_time_mean(const struct pool_totals *t, enum stats_time time);

#endif
