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
	X(RESETS_FULL,      "resets_full",      "resets whose answer a lessee has read: DISCARD ALL") \
	X(RESETS_LIGHT,     "resets_light",     "... all of that but plans, statements and sequence caches") \
	X(RESETS_SQL,       "resets_sql",       "... the operator's own statements") \
	X(RESETS_UNLISTEN,  "resets_unlisten",  "... UNLISTEN only") \
	X(RESETS_FAILED,    "resets_failed",    "resets of a lessee's that cost the connection") \
	X(RESETS_LATE,      "resets_late",      "answers to resets that did not come in time, and were left to the broker") \
	X(RESETS_SPARED,    "resets_spared",    "leases of a session that the same process had left dirty") \
	X(ROLLBACKS,        "rollbacks",        "transactions rolled back at release") \
	X(PEEKS,            "peeks",            "validations of a slot that had been idle for long") \
	X(STATEMENTS_PREPARED,"statements_prepared","statements prepared by pglease_exec_cached") \
	X(STATEMENTS_REUSED,"statements_reused","executions of a statement that was prepared already") \
	X(STATEMENTS_EVICTED,"statements_evicted","statements deallocated to make room for another") \
	X(QUERIES,          "queries",          "queries made by the library's own calls") \
	X(QUERY_ERRORS,     "query_errors",     "... that the server or libpq refused") \
	X(QUERY_ROWS,       "query_rows",       "rows that those queries returned or changed") \
	X(QUERY_NS,         "query_ns",         "total time of those queries, nanoseconds") \
	X(TRANSACTIONS,     "transactions",     "transactions ended, single queries included") \
	X(TRANSACTION_NS,   "transaction_ns",   "total time of those transactions, nanoseconds") \
	X(WAIT_NS,          "wait_ns",          "total time waited for leases, nanoseconds") \
	X(HOLD_NS,          "hold_ns",          "total time leases were held, nanoseconds")

#define CLIENT_COUNTERS(X) \
	X(TIMEOUTS,         "timeouts",         "acquires that ended at their deadline") \
	X(FAILURES,         "failures",         "acquires that failed otherwise") \
	X(HANDOVERS,        "handovers",        "releases that granted the slot to a waiter (part of releases)")

#define BROKER_COUNTERS(X) \
	X(OPENED,           "opened",           "server connections opened") \
	X(CONNECT_NS,       "connect_ns",       "total time of the connects that made the opened connections, nanoseconds") \
	X(OPEN_FAILED,      "open_failed",      "attempts to open a server connection that failed") \
	X(OPEN_FAILED_08,   "open_failed_08",   "... with SQLSTATE class 08, or none: not reached, timed out") \
	X(OPEN_FAILED_28,   "open_failed_28",   "... with class 28, invalid authorization") \
	X(OPEN_FAILED_3D,   "open_failed_3d",   "... with class 3D, no such database") \
	X(OPEN_FAILED_53,   "open_failed_53",   "... with class 53, too many connections or other resources") \
	X(OPEN_FAILED_57,   "open_failed_57",   "... with class 57, shutting down, starting up or in recovery") \
	X(OPEN_FAILED_OTHER,"open_failed_other","... with any other class") \
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
	X(BROKER_RESETS_FULL,    "broker_resets_full",    "... of them by DISCARD ALL") \
	X(BROKER_RESETS_LIGHT,   "broker_resets_light",   "... of them all but plans, statements and sequence caches") \
	X(BROKER_RESETS_SQL,     "broker_resets_sql",     "... of them by the operator's own statements") \
	X(BROKER_RESETS_UNLISTEN,"broker_resets_unlisten","... of them by UNLISTEN only") \
	X(BROKER_RESETS_FAILED,  "broker_resets_failed",  "resets by the broker that cost the connection") \
	X(KEEPALIVES,       "keepalives",       "idle connections tried and found alive") \
	X(BROKER_GRANTS,    "broker_grants",    "slots granted to a waiter by the broker") \
	X(GRANTS_REPAIRED,  "grants_repaired",  "grants completed or taken back for a granter that died") \
	X(CANCELS,          "cancels",          "cancel requests forwarded") \
	X(CANCELS_REFUSED,  "cancels_refused",  "cancel requests refused: unknown key or lease ended") \
	X(TAKEOVER_ENDED,   "takeover_ended",   "sessions of a broker that was killed, ended by this one") \
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

/* What was computed from counters, which a client may have written over: without its fraction, and the nearest that there is. */
static inline uint64_t
counter_whole(double n)
{
	return n >= 0x1p64 ? UINT64_MAX : n > 0 ? (uint64_t)n : 0;
}

#endif
