/* SPDX-License-Identifier: PostgreSQL */
/* What lease.c, acquire.c and release.c share: the counting of a lease, and its end in the broker's hands. */
#ifndef PGLEASE_CLIENT_LEASE_H
#define PGLEASE_CLIENT_LEASE_H

#include "client_priv.h"

/* Whether lessees count. Relaxed: it never changes. */
static inline bool
lease_is_counted(const struct pool_state *state)
{
	return atomic_load_explicit(&state->seg.header->monitoring_off, memory_order_relaxed) == 0;
}

/*
 * Into the block that was the slot's when the lease began (a revoked lessee must not count into its successor's): the lease
 * is the lock.
 */
static inline void
lease_count(const struct pool_state *state, const struct shell *shell, enum slot_counter counter, uint64_t n)
{
	if (lease_is_counted(state))
		counter_add(&state->seg.block[shell->block].counter[counter], n);
}

/*
 * The end of a lease, RELEASES or RETURNS: with release, so that totals_read(), which loads these with acquire before all else,
 * never sees an end without its beginning.
 */
static inline void
lease_count_end(const struct pool_state *state, const struct shell *shell, enum slot_counter counter)
{
	_Atomic uint64_t *at = &state->seg.block[shell->block].counter[counter];

	if (lease_is_counted(state))
		atomic_store_explicit(at, counter_get(at) + 1, memory_order_release);
}

struct startup;
struct thread_row;

/* When an acquire began, how long it may wait, and from where it was called. */
struct wish {
	uint64_t start, deadline; /* CLOCK_MONOTONIC ns; deadline <= start: it does not wait */
	bool pool_timeout;        /* the pool's acquire_timeout instead of `deadline` */
	bool is_look;             /* only whether there is one: a time-out is not counted, for the wait follows */
	bool has_other_way;       /* when there is no broker the caller goes another way: it waits for none */
	struct site site;
	struct startup *startup;  /* what the session is told first, if it is at its baseline; NULL: nothing */
	const _Atomic bool *cancelled; /* a request's: true when it is to end; NULL: it cannot be cancelled */
};

/* Checks and translates; the deadline's code and message are the public functions'. */
int lease_wish(pglease_pool *pool, int timeout_ms, struct wish *ret);
/*
 * A lease for this row, which holds none. Waits as the wish says. The errors of pglease_acquire; what fails is counted. But of a state
 * whose process is gone: EGONE, it needs the broker; LEASE_AGAIN, it does not, and may get one later: neither is counted.
 */
#define LEASE_AGAIN 1
/* The pool has gone from this state's segment, and may be in another: not counted. No code of the public list. */
#define LEASE_MOVED (-1000000)
int lease_take(pglease_pool *pool, struct pool_state *state, struct thread_row *tr, const struct wish *wish,
    pglease_lease *ret_lease, PGconn **ret_conn);
/* The same, only of a slot that can be used at once: PGLEASE_EAGAIN if there is none, or no broker, without a message. */
int lease_take_ready(pglease_pool *pool, struct pool_state *state, struct thread_row *tr, const struct wish *wish,
    pglease_lease *ret_lease, PGconn **ret_conn);
void lease_count_failure(struct pool_state *state, int code);

/* Whose row it is: one of this state, for this acquire. May be called again, with another state: the row before is not used any more. */
typedef int (*lease_row)(void *context, struct pool_state *state, struct thread_row **ret_row);
/*
 * A lease from whatever state the pool has: attaches again when the broker has gone, and does without one as well as can be
 * (lonely.c). The errors of pglease_acquire; what fails is counted.
 */
int lease_get(pglease_pool *pool, const struct wish *wish, lease_row row, void *context, pglease_lease *ret_lease,
    PGconn **ret_conn);

/* One more lease of this process: 0, or PGLEASE_ELIMIT with the message. Until lease_over. */
int lease_begin(struct pool_state *state);
void lease_over(struct pool_state *state);

/* Whether the lease of this LEASED word goes on: flags may have come. */
static inline bool
lease_is_held(const struct pool_state *state, uint32_t slot, uint64_t w)
{
	uint64_t now = atomic_load(&state->seg.slot[slot].word);

	return word_state(now) == SLOT_LEASED && word_seq(now) == word_seq(w);
}

/*
 * The slot is of no use as it is, or the broker wants it: S10, and the broker is told. `flags`: SLOT_OWED when a reset was
 * sent and nothing of its answer was read, SLOT_RETIRE when the session is in doubt. False if the lease had ended.
 */
bool lease_give_to_broker(struct pool_state *state, uint32_t slot, uint64_t *w, unsigned flags);

/*
 * After a slot was given up with this in its session (S8; S9, for S11 may have taken the grant back): the broker looks
 * for dirty idle sessions, unless it has said that it sleeps. Pairs with dirty.c.
 */
void lease_ring_dirty(struct pool_state *state);
static inline void
lease_tell_dirty(struct pool_state *state, unsigned session)
{
	if (session == SLOT_DIRTY && atomic_load(&state->seg.header->reset_watch) != 0)
		lease_ring_dirty(state);
}

#endif
