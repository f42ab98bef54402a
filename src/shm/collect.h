/* SPDX-License-Identifier: PostgreSQL */
/*
 * A pool's rows of the stats segment, made from its lease segment: the publisher's, and those that the library exports. The
 * texts and indices found there may have been scribbled over: they are made printable, and none is believed.
 */
#ifndef PGLEASE_SHM_COLLECT_H
#define PGLEASE_SHM_COLLECT_H

#include "alert.h"
#include "health.h"
#include "stats.h"

struct collect_names {
	char pool[LAYOUT_NAME], database[LAYOUT_NAME], user[LAYOUT_NAME];
};

/*
 * The histograms are big: each is added up at most once a second, and only after something was recorded. What was made of
 * them then. Zeroed: nothing yet.
 */
struct collect_times {
	struct {
		uint64_t seen;      /* observations when the histogram was last added up */
		bool settling;      /* perhaps before all of them were in it: it is added up once more */
		uint64_t summed_at; /* then; CLOCK_MONOTONIC ns; 0: never */
		struct stats_quantiles quantiles;
		struct stats_histogram_row row;
	} time[STATS_NTIMES];
	struct histogram_sum sum;
};

void collect_names(const struct segment *seg, struct collect_names *ret);
/* All of the pool's row but what only the broker knows, which is none, and one row for each time; `now`: CLOCK_MONOTONIC ns. */
void collect_pool(const struct segment *seg, const struct collect_names *names, uint64_t now,
    struct collect_times *times, struct stats_pool_row *ret_pool, struct stats_histogram_row ret_histogram[STATS_NTIMES]);
/* A row for each alert; `real`: CLOCK_REALTIME ns of `now`. One that is being written to, or was written over, is off. */
void collect_alerts(const struct segment *seg, const struct collect_names *names, uint64_t now, uint64_t real,
    struct stats_alert_row ret[ALERT_N]);
/* Columns "health" and "reasons" from a set of reasons, of which unknown ones are left out. */
void collect_health(uint32_t reasons, char ret_health[static 16], char ret_names[static HEALTH_TEXT]);

#endif
