/* SPDX-License-Identifier: PostgreSQL */
/*
 * Alerts: the one table of what a pool is watched for. The settings alert_* (settings.c), the library's thresholds (pglease.h), the
 * broker's judgement (alert_watch.h), metrics, tools and their manuals follow from it. And where the broker's last judgement is
 * found: in the lease segment, where the library's callers read it without a system call.
 *
 * An alert is raised when its value reaches its limit, and cleared when the value is below four fifths of it; both for
 * some time (alert_watch.h).
 */
#ifndef PGLEASE_SHM_ALERT_H
#define PGLEASE_SHM_ALERT_H

#include <stdbool.h>

#include "segment.h"

#define ALERT_DAY (UINT64_C(86400) * 1000000000)    /* ns */
#define ALERT_QUARTER (UINT64_C(900) * 1000000000)  /* as far as histograms tell times apart (histogram.h) */

/*
 * X(id, name, unit, initial, most, text, more): the setting's default and largest value; what is compared with it, as is told
 * beside a number; and what the manual says besides.
 */
/* clang-format off */
#define ALERTS(X) \
	X(CONNECTION_TIME, connection_time, DURATION, "5s", ALERT_QUARTER, \
	    "half of the connects to the server took that long", \
	    "Connects that end at connect_timeout count as long as that; at least three.") \
	X(FAILURE_RATE, failure_rate, SHARE, "0.05", 1000000, \
	    "share of the acquires that gave no lease", \
	    "Of at least 20 acquires, and three that failed.") \
	X(MEMORY_USAGE, memory_usage, SIZE, "100MB", UINT64_C(1) << 44, \
	    "the broker's resident memory", \
	    "It is the same in all pools of an instance: 0 in all but one of them has it told once.") \
	X(WAIT_TIME, wait_time, DURATION, "1s", ALERT_QUARTER, \
	    "one in twenty leases was waited for that long", \
	    "Of at least 20 leases, and three of them.") \
	X(MAXWAIT, maxwait, DURATION, "1s", ALERT_DAY, \
	    "age of the oldest waiter", \
	    "The greatest within a second.") \
	X(POOL_USAGE, pool_usage, SHARE, "0", 1000000, \
	    "leased connections, of max_connections, on average", \
	    "A pool that is used to the full serves all the same: see alert_maxwait.") \
	X(QUERY_TIME_P99, query_time_p99, DURATION, "0", ALERT_QUARTER, \
	    "one in a hundred queries took that long", \
	    "Of at least 20 queries by the library's own calls, and three of them.") \
	X(LEAKS, leaks, COUNT, "1", LAYOUT_MAX_SLOTS, \
	    "leases held for longer than leak_threshold, now", \
	    "With leak_detection = no there are none.") \
	X(UPSTREAM_DOWN, upstream_down, DURATION, "5s", ALERT_DAY, \
	    "for so long every connect to the server has failed", \
	    "Counted from the first connect that failed to the last.") \
	X(HEALTH, health, COUNT, "0", 2, \
	    "the pool's health: 1 degraded, 2 down", \
	    "1: when the pool is degraded or down; 2: when it is down (pgleased(8), HEALTH).")
/* clang-format on */
#define ALERT_ENUM(id, name, unit, initial, most, text, more) ALERT_##id,
enum alert_id { ALERTS(ALERT_ENUM) ALERT_N };
#undef ALERT_ENUM
static_assert((int)ALERT_N <= LAYOUT_MAX_ALERTS, "alerts fit the header");

/* Of values and limits: nanoseconds, millionths, bytes, a number. */
enum alert_unit { ALERT_DURATION, ALERT_SHARE, ALERT_SIZE, ALERT_COUNT };

enum alert_state { ALERT_OFF, ALERT_OK, ALERT_RAISED };

#define ALERT_NONE UINT64_MAX /* no value: too little has happened; no limit: it is off */

struct alert {
	enum alert_state state;
	uint64_t value, limit;
	uint64_t since; /* of the state; CLOCK_MONOTONIC ns; 0: not known */
	uint64_t count; /* how often it was raised */
};

/* All of these for ids below ALERT_N; static texts. */
const char *alert_name(enum alert_id id);
const char *alert_text(enum alert_id id);
enum alert_unit alert_unit(enum alert_id id);
const char *alert_unit_name(enum alert_id id); /* of the base unit: "seconds", "ratio", "bytes", "count" */
const char *alert_state_name(enum alert_state state);

/* In base units (seconds, a share from 0 to 1, bytes, a number), in millionths of it; ALERT_NONE stays that. */
uint64_t alert_millionths(enum alert_id id, uint64_t value);
/* "1.5 s", "0.31", "104.9 MB", "2", "unknown": for messages. */
#define ALERT_VALUE 32
void alert_show(enum alert_id id, uint64_t value, char buf[static ALERT_VALUE]);

/* The broker's, and nobody else's. */
void alert_publish(struct segment *seg, enum alert_id id, const struct alert *alert);
/*
 * False when no whole row is found within a bounded number of tries: the broker died while it wrote, or a client has written
 * there. What clients write costs wrong numbers of their own pool's.
 */
bool alert_read(const struct segment *seg, enum alert_id id, struct alert *ret);

#endif
