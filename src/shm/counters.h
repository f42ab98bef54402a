/* SPDX-License-Identifier: PostgreSQL */
/*
 * The one table of counters: code, stats segment, pgleasestat and documentation follow from it.
 *
 * Three kinds, by writer:
 *   SLOT_COUNTERS    written by the slot's lessee alone, under its lease, into the slot's statistics block
 *   CLIENT_COUNTERS  what happens without a lease: atomic adds by any client, on the pool's own lines
 *   BROKER_COUNTERS  written by the broker alone
 * All are monotonic. A reader adds up: a torn total is impossible (64-bit loads), a stale one is a moment old.
 */
#ifndef PGLEASE_SHM_COUNTERS_H
#define PGLEASE_SHM_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* clang-format off */
#define SLOT_COUNTERS(X) \
	X(LEASES_IMMEDIATE, "leases_immediate", "leases granted without waiting") \
	X(LEASES_WAITED,    "leases_waited",    "leases granted after waiting") \
	X(LEASES_GRANTED,   "leases_granted",   "leases taken from a grant (part of leases_waited)") \
	X(RELEASES,         "releases",         "leases released clean") \
	X(RETURNS,          "returns",          "leases released to the broker: broken, in doubt or wanted back") \
	X(ADOPTIONS,        "adoptions",        "shells made") \
	X(RESETS,           "resets",           "sessions that a lessee reset and waited for") \
	X(RESETS_PIPELINED, "resets_pipelined", "resets sent at release, ahead of the next lessee, who reads the answer") \
	X(RESETS_LATE,      "resets_late",      "answers to resets that did not come in time, and were left to the broker") \
	X(RESETS_SPARED,    "resets_spared",    "leases of a session that the same process had left dirty") \
	X(ROLLBACKS,        "rollbacks",        "transactions rolled back at release") \
	X(PEEKS,            "peeks",            "validations of a slot that had been idle for long") \
	X(STATEMENTS_PREPARED,"statements_prepared","statements prepared by pglease_exec_cached") \
	X(STATEMENTS_REUSED,"statements_reused","executions of a statement that was prepared already") \
	X(STATEMENTS_EVICTED,"statements_evicted","statements deallocated to make room for another") \
	X(WAIT_NS,          "wait_ns",          "total time waited for leases, nanoseconds") \
	X(HOLD_NS,          "hold_ns",          "total time leases were held, nanoseconds")

#define CLIENT_COUNTERS(X) \
	X(TIMEOUTS,         "timeouts",         "acquires that ended at their deadline") \
	X(FAILURES,         "failures",         "acquires that failed otherwise") \
	X(HANDOVERS,        "handovers",        "releases that granted the slot to a waiter (part of releases)")

#define BROKER_COUNTERS(X) \
	X(OPENED,           "opened",           "server connections opened") \
	X(OPEN_FAILED,      "open_failed",      "attempts to open a server connection that failed") \
	X(CLOSED_IDLE,      "closed_idle",      "connections closed: idle for longer than idle_timeout") \
	X(CLOSED_LIFETIME,  "closed_lifetime",  "connections closed: older than max_lifetime") \
	X(CLOSED_BROKEN,    "closed_broken",    "connections closed: returned broken or in doubt") \
	X(CLOSED_UPSTREAM,  "closed_upstream",  "connections closed by the server") \
	X(CLOSED_UNPOOLED,  "closed_unpooled",  "connections closed: they had their lease, and pooling is off") \
	X(CLOSED_RENEWED,   "closed_renewed",   "connections closed: their lessee asked for another (PQreset)") \
	X(CLOSED_ADMIN,     "closed_admin",     "connections closed: drain or stop") \
	X(REVOKED_DEATH,    "revoked_death",    "leases revoked: the client died") \
	X(REVOKED_DETACH,   "revoked_detach",   "leases revoked: the client's control connection ended") \
	X(REVOKED_LIMIT,    "revoked_limit",    "leases revoked: held for longer than lease_limit") \
	X(REVOKED_ADMIN,    "revoked_admin",    "leases revoked: by command") \
	X(BROKER_RESETS,    "broker_resets",    "sessions reset by the broker, those of resets_late included") \
	X(KEEPALIVES,       "keepalives",       "idle connections tried and found alive") \
	X(BROKER_GRANTS,    "broker_grants",    "slots granted to a waiter by the broker") \
	X(GRANTS_REPAIRED,  "grants_repaired",  "grants completed or taken back for a granter that died") \
	X(CANCELS,          "cancels",          "cancel requests forwarded") \
	X(CANCELS_REFUSED,  "cancels_refused",  "cancel requests refused: unknown key or lease ended") \
	X(LEAKS,            "leaks",            "leases held for longer than leak_threshold, and reported") \
	X(ADOPTIONS_SERVED, "adoptions_served", "descriptors handed out") \
	X(ADOPTIONS_REFUSED,"adoptions_refused","descriptors refused: not the lessee")
/* clang-format on */

#define COUNTER_ENUM(id, name, help) COUNTER_##id,
enum slot_counter { SLOT_COUNTERS(COUNTER_ENUM) SLOT_NCOUNTERS };
enum client_counter { CLIENT_COUNTERS(COUNTER_ENUM) CLIENT_NCOUNTERS };
enum broker_counter { BROKER_COUNTERS(COUNTER_ENUM) BROKER_NCOUNTERS };
#undef COUNTER_ENUM

struct counter_info {
	const char *name;
	const char *help;
};

extern const struct counter_info slot_counter_info[SLOT_NCOUNTERS];
extern const struct counter_info client_counter_info[CLIENT_NCOUNTERS];
extern const struct counter_info broker_counter_info[BROKER_NCOUNTERS];

/*
 * Single-writer add: load and store, no read-modify-write. Relaxed: the number orders nothing; the slot word's swap
 * passes the right to write from lessee to lessee.
 */
static inline void
counter_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

static inline uint64_t
counter_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit((_Atomic uint64_t *)counter, memory_order_relaxed);
}

#endif
