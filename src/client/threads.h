/* SPDX-License-Identifier: PostgreSQL */
/*
 * Lessee rows of threads: each thread keeps the rows that it claimed, one per lease it holds at the same time, and gives
 * them back when it ends. A lease that a thread still holds when it ends goes back to the broker (S10).
 */
#ifndef PGLEASE_CLIENT_THREADS_H
#define PGLEASE_CLIENT_THREADS_H

#include "client_priv.h"

struct thread_row {
	struct thread_row *next;
	struct pool_state *state; /* may be gone: only compared, until `id` is seen to be registered */
	uint64_t id;              /* state->id */
	uint32_t row;
	uint32_t returns; /* how many acquires in a row came at once after a release (threads_returns) */
	int last_slot; /* affinity; the slot it holds when it holds one; -1: none yet */
	/* Of rows that no thread has (loose.h); else false. */
	_Atomic bool taken;
	_Atomic bool cancelled; /* the wait is to end: checked after each rescan, before the sleep; a post follows its store */
};

/* Sooner than a waiter that is woken is there: about what it takes to wake a process. */
#define THREADS_RETURN_NS 30000
/* Once is chance: a worker that returned so often in a row will again. */
#define THREADS_RETURNS 3
/*
 * An acquire of the row's thread began then: whether it, and those before it, came so soon after the row's last release. `passed`: the
 * slot lay idle, left by another process: that one was woken, had it and was done with it in that time, so it is not what the thread
 * would have kept. Relaxed: a guess to go by.
 */
static inline bool
threads_returns(const struct pool_state *state, struct thread_row *tr, uint64_t start, bool passed)
{
	uint64_t released = atomic_load_explicit(&state->seg.row[tr->row].released_at, memory_order_relaxed);

	tr->returns = !passed && clock_since(start, released) < THREADS_RETURN_NS ? tr->returns + 1 : 0;
	return tr->returns >= THREADS_RETURNS;
}

/* Registers a pool state, so that threads that end know whether it still is there. */
void threads_register(struct pool_state *state);
/* Forgets it; rows are not freed here (detach tells the broker, which frees them). */
void threads_unregister(struct pool_state *state);
/* A row of the calling thread that holds no lease, claimed if need be (R1). Errors: ENOROWS, ENOMEM. */
int threads_row(struct pool_state *state, struct thread_row **ret_row);
/* The calling thread's; threads.c's alone. */
extern _Thread_local struct thread_row *threads_own;

/* Whether it is a row of this pool, and holds no lease: written by this thread at acquire, and by whoever releases. */
static inline bool
threads_is_free(const struct thread_row *tr, const struct pool_state *state)
{
	return tr->state == state && tr->id == state->id &&
	       atomic_load_explicit(&state->seg.row[tr->row].held, memory_order_acquire) == 0;
}

/* The same without claiming one: of the thread's first pool, and only if it holds no lease there. NULL otherwise. */
static inline struct thread_row *
threads_row_at_hand(const struct pool_state *state)
{
	struct thread_row *tr = threads_own;

	return tr != NULL && threads_is_free(tr, state) ? tr : NULL;
}
/* R1: a row of the process's, which is in no list. Errors: ENOROWS, ENOMEM. */
int threads_claim(struct pool_state *state, struct thread_row **ret_row);

#endif
