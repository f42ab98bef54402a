/* SPDX-License-Identifier: PostgreSQL */
/*
 * A long run of many workers while everything around them dies. soak.c makes the trouble and judges; worker.c works, and
 * looks in each row that it gets for its own nonce, and in each session for traces of others.
 */
#ifndef PGLEASE_TESTS_SOAK_H
#define PGLEASE_TESTS_SOAK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pglease_test.h"

#define SOAK_WORKERS 12
#define SOAK_MESSAGE 512

/* What is counted: in shared memory, by workers and director. */
#define SOAK_COUNTS(X) \
	X(LEASES, "leases") \
	X(QUERIES, "queries whose row was right") \
	X(COMMITS, "transactions committed") \
	X(ABANDONED, "transactions left open") \
	X(DIRTIED, "sessions left dirty") \
	X(CANCELLED, "queries cancelled") \
	X(RESETS, "PQresets") \
	X(FINISHED, "PQfinishes of leased connections") \
	X(COPIES, "COPYs left in progress") \
	X(EXITS, "processes that ended with a lease") \
	X(THREADS, "threads that ended with a lease") \
	X(FORKS, "forked children that leased") \
	X(LOST, "leases whose connection was lost") \
	X(REVOKED, "releases of a lease that had been revoked") \
	X(REFUSED, "acquires that were told why not") \
	X(KILLS, "workers killed") \
	X(STOPS, "workers stopped for a while") \
	X(TERMINATIONS, "backends terminated") \
	X(DRAINS, "drains") \
	X(SERVER_RESTARTS, "restarts of the server") \
	X(SERVER_CRASHES, "crashes of the server") \
	X(BROKER_KILLS, "brokers killed")
enum soak_count {
#define SOAK_ENUM(id, text) SOAK_##id,
	SOAK_COUNTS(SOAK_ENUM)
#undef SOAK_ENUM
	SOAK_NCOUNTS
};

struct soak {
	_Atomic bool end;         /* workers are to go */
	_Atomic uint64_t last_id; /* of workers: never used again */
	_Atomic uint64_t count[SOAK_NCOUNTS];
	_Atomic bool failed; /* `message` says with what; the first one's */
	char message[SOAK_MESSAGE];
};
extern struct soak *soak;

static inline void
soak_count(enum soak_count count)
{
	atomic_fetch_add_explicit(&soak->count[count], 1, memory_order_relaxed);
}

/* Ends the process, and the soak; the first one's reason is told. */
void __attribute__((noreturn, format(printf, 1, 2))) soak_fail(const char *format, ...);

/* A number below n; `state` is the caller's. */
uint64_t soak_random(uint64_t *state, uint64_t n);

/* In a process of its own, until soak->end. */
void __attribute__((noreturn)) worker_run(uint64_t seed);

#endif
