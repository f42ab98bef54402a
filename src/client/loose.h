/* SPDX-License-Identifier: PostgreSQL */
/*
 * Lessee rows that belong to no thread: of requests (request.c), and of leases that may go from thread to thread. Such a
 * row is a lease's until its release, which any thread may do, and no thread's end ends it. The pool state keeps them.
 */
#ifndef PGLEASE_CLIENT_LOOSE_H
#define PGLEASE_CLIENT_LOOSE_H

#include "lease.h"
#include "threads.h"

/* A row that holds no lease, for the caller alone until loose_put. Errors: ENOROWS, ENOMEM. */
int loose_get(struct pool_state *state, struct thread_row **ret_row);
/* It may hold a lease now: then it is nobody else's until that has ended. */
void loose_put(struct thread_row *tr);
/*
 * The calling thread is the one that the row's waits, and the lease of `slot` that it may hold (negative: none), are said to be of:
 * for messages and monitors only.
 */
void loose_name(struct thread_row *tr, int slot);
/* pglease_acquire, but of a lease that is no thread's. */
int loose_acquire(pglease_pool *pool, const struct wish *wish, pglease_lease *ret_lease, PGconn **ret_conn);
/* Frees their memory, when no thread uses the state any more. */
void loose_free_all(struct pool_state *state);

#endif
