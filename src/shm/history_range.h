/* SPDX-License-Identifier: PostgreSQL */
/*
 * Questions to a history: what happened between two moments of the wall clock, step by step.
 *
 * Each row stands for the time since the row before it, and counts for the step in which the middle of that time lies. The second's
 * rows are used as far as they reach back, before them the minutes'; both rings' rows of one moment have one serial, so that no
 * moment counts twice and none is lost at the seam. A row's counters are compared with those of the row before; a broker's first row
 * with 0; a counter that went back within one broker counts as unchanged. The oldest row of a ring, and a row whose
 * predecessor is gone, is only compared with. Steps without a row are left out: gaps stay gaps.
 *
 * Order: rows come in the order in which they were written, and never go back in time. A row's moment is its place on CLOCK_BOOTTIME,
 * put on the wall clock by the newest row of its broker; one that would lie before a row of an earlier broker has that row's moment.
 *
 * Rows outside of the range are not looked at, but for those by which its ends are found: some tens for each broker whose rows there
 * are; and those that were moved because the clock was set back.
 *
 * Pure, but for the view's bytes; no memory is taken, no system call made.
 */
#ifndef PGLEASE_SHM_HISTORY_RANGE_H
#define PGLEASE_SHM_HISTORY_RANGE_H

#include "history.h"

struct history_step {
	uint64_t from, to; /* CLOCK_REALTIME ns: of the step */
	uint64_t covered;  /* ns of it that were recorded; rows of a minute may cover more than a shorter step has */
	uint32_t rows, starts; /* rows, and starts of a broker among them */
	/* Counters: increases. Gauges: of the step's last row; maxwait: the greatest. */
	struct pool_totals totals;
	uint32_t active_max, waiting_max;
	double total_mean, active_mean, waiting_mean; /* over the time covered */
	uint32_t health;      /* enum health_reason: those there were */
	/* What processes used in it, and the memory that they had at its end; STATS_NO_U64: unknown. */
#define HISTORY_STEP_MEMBER(name, unit, help) uint64_t name;
	HISTORY_USE_COLUMNS(HISTORY_STEP_MEMBER)
	HISTORY_MEMORY_COLUMNS(HISTORY_STEP_MEMBER)
#undef HISTORY_STEP_MEMBER
	struct stats_quantiles time[STATS_NTIMES];
};

struct history_range {
	uint64_t from, to; /* rows of from <= moment < to */
	uint64_t step;     /* 0: all is one step; else steps begin at from, from + step ... */
};

/* Anything but 0 ends the walk and is returned. */
typedef int (*history_step_handler)(void *context, const struct history_step *step);

int history_range_walk(
    const struct history_view *view, const struct history_range *range, history_step_handler handler, void *context);

#endif
