/* SPDX-License-Identifier: PostgreSQL */
/*
 * How a pool is: ok, degraded or down, and why. The rules, which pgleased(8) repeats:
 *
 *   down      closed      the broker has stopped, or given the pool up
 *   down      no_broker   the broker has not looked at the pool for 2 seconds
 *   down      upstream    connects to the server fail, and there is no connection
 *   degraded  connects    connects to the server fail; the connections that there are go on
 *   degraded  draining    no leases are granted: a drain, or a stop
 *   degraded  waiting     a thread has waited for a lease for more than 1 second
 *   degraded  failing     more than 5 % of the acquires of the last minute, at least 20, gave no lease
 *   degraded  paused      no leases are granted: a pause or a kill
 *   degraded  disabled    no leases are granted: it was disabled
 *
 * An instance is as its worst pool. Pure functions; reasons are a set of bits.
 */
#ifndef PGLEASE_SHM_HEALTH_H
#define PGLEASE_SHM_HEALTH_H

#include <stddef.h>
#include <stdint.h>

enum health_level { HEALTH_OK = 0, HEALTH_DEGRADED, HEALTH_DOWN };

/* X(id, level, name, text), the worst first, more or less: saved histories have them as bits, so new ones come last. */
/* clang-format off */
#define HEALTH_REASONS(X) \
	X(CLOSED,    HEALTH_DOWN,     "closed",    "the broker has stopped, or given the pool up") \
	X(NO_BROKER, HEALTH_DOWN,     "no_broker", "the broker has not looked at the pool for 2 seconds") \
	X(UPSTREAM,  HEALTH_DOWN,     "upstream",  "connects to the server fail, and there is no connection") \
	X(CONNECTS,  HEALTH_DEGRADED, "connects",  "connects to the server fail; the connections that there are go on") \
	X(DRAINING,  HEALTH_DEGRADED, "draining",  "no leases are granted: a drain, or a stop") \
	X(WAITING,   HEALTH_DEGRADED, "waiting",   "a thread has waited for a lease for more than 1 second") \
	X(FAILING,   HEALTH_DEGRADED, "failing",   "more than 5 % of the acquires of the last minute gave no lease") \
	X(PAUSED,    HEALTH_DEGRADED, "paused",    "no leases are granted: a pause or a kill") \
	X(DISABLED,  HEALTH_DEGRADED, "disabled",  "no leases are granted: it was disabled")
/* clang-format on */
#define HEALTH_BIT(id, level, name, text) HEALTH_BIT_##id,
enum { HEALTH_REASONS(HEALTH_BIT) HEALTH_NREASONS };
#undef HEALTH_BIT
#define HEALTH_REASON(id, level, name, text) HEALTH_##id = 1u << HEALTH_BIT_##id,
enum health_reason { HEALTH_REASONS(HEALTH_REASON) };
#undef HEALTH_REASON

#define HEALTH_TICK_LIMIT UINT64_C(2000000000) /* ns */
#define HEALTH_WAIT_LIMIT UINT64_C(1000000000) /* ns */
#define HEALTH_FAILURE_SHARE 20u               /* one in so many */
#define HEALTH_FAILURE_SAMPLES 20u
#define HEALTH_TEXT 96 /* bytes of all names, with their zero */

struct health_facts {
	uint32_t state;       /* enum segment_state */
	uint32_t connects_fail; /* 1: the last connect failed */
	uint32_t connections; /* that can be leased or are */
	uint64_t maxwait;     /* ns */
	uint64_t acquires, failures; /* of the last minute; acquires: with those that failed */
};

/* The reasons (enum health_reason) against the pool, but NO_BROKER, which totals_health() finds; 0: ok. */
uint32_t health_judge(const struct health_facts *facts);
enum health_level health_level(uint32_t reasons);
const char *health_level_name(enum health_level level); /* static */
/* The reasons' names, "upstream,waiting"; "" for none. */
void health_names(uint32_t reasons, char buf[static HEALTH_TEXT]);
/* What a state (enum segment_state) alone is a reason for; 0: nothing. */
uint32_t health_of_state(uint32_t state);
/* One reason in words, static; bit: 0 to HEALTH_NREASONS - 1. */
const char *health_reason_text(unsigned bit);

#endif
