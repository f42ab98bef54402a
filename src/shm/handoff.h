/* SPDX-License-Identifier: PostgreSQL */
/*
 * What several transitions make together: giving a slot up so that nobody who waits is forgotten. Used by releasers
 * and by the broker alike: there is one wake path.
 */
#ifndef PGLEASE_SHM_HANDOFF_H
#define PGLEASE_SHM_HANDOFF_H

#include <stdbool.h>

#include "segment.h"

enum handoff_result {
	HANDOFF_LOST,    /* the word was no longer the caller's: nothing happened; *w is the word found */
	HANDOFF_IDLE,    /* the slot is idle; a waiter was woken if there was one */
	HANDOFF_GRANTED, /* the slot was granted to the oldest waiter */
	HANDOFF_BLOCKED, /* LEASED with CANCELLING or RETIRE: the caller must return the slot (S10) */
};

/*
 * Gives up a slot that the caller owns: LEASED by its row (S8, S9), BROKER (S3, S4) or a GRANTED one (S11): to the
 * oldest waiter if it has waited longer than grant_after, else to IDLE and the wake path. `session` is what is in it: 0,
 * SLOT_OWED, or SLOT_DIRTY: the traces of `client` (WORD_NONE: of whom nobody knows). Stores idle_since.
 */
enum handoff_result handoff_give(struct segment *seg, uint32_t slot, uint64_t *w, unsigned client, unsigned session,
    uint64_t now);

/*
 * The same by a lessee that `returns`: it can be expected to lease again sooner than a waiter is awake. As long as its turn
 * lasts, the slot is left idle for it and nobody is woken, if a waiter is on watch; after that the oldest waiter
 * is granted the slot, however short it has waited.
 */
enum handoff_result handoff_release(struct segment *seg, uint32_t slot, uint64_t *w, unsigned client, unsigned session,
    uint64_t now, bool returns);

/*
 * The same by the lessee of a word without flags when nobody waits: S8 and the wake path, or nothing happens, and handoff_release() says
 * what is to be done.
 */
bool handoff_release_alone(struct segment *seg, uint32_t slot, uint64_t w, unsigned client, unsigned session, uint64_t now);

/* Whether slots are being kept: the last one was a moment ago. */
bool handoff_is_keeping(const struct segment *seg, uint64_t now);
/*
 * Whether the row's wait has the watch (doc/protocol.md, "Turns"): if it is wanted and no waiter has it, it takes it; if not, it gives
 * it up. Before the waiter's rescan.
 */
bool handoff_watch(struct segment *seg, uint32_t row, uint64_t wait, bool wanted);

/* The client of the waiter that handoff_release would grant the slot to, or WORD_NONE. Another may be due a moment later. */
unsigned handoff_next_client(struct segment *seg, uint32_t slot, uint64_t now, bool returns);

/*
 * A grant that was seen on a GRANTED word: completes it (R4 and post) if the row still waits for it, takes it back
 * (S11 and the wake path) if it is stale. True if anything was repaired. Used by the broker after deaths and at ticks;
 * safe for anyone at any time.
 */
bool handoff_repair(struct segment *seg, uint32_t slot, uint64_t now);

/* The grant to (row, wait), taken (S7). Returns the slot, or -1 if there is none. *ret_w: the LEASED word. */
int handoff_take_grant(struct segment *seg, uint32_t row, uint64_t wait, unsigned client, uint64_t *ret_w);

/*
 * What the broker does for a pool after a death, when the dead client's LEASED slots and rows are swept ("Clients and
 * death", steps 3 and 5): repairs every grant, posts again, wakes for every idle slot. Returns the grants repaired.
 */
uint32_t handoff_recover(struct segment *seg, uint64_t now);

/*
 * Wakes waiters for every idle slot there is: after a death, at a tick. Bounded by the number of slots.
 */
void handoff_wake_all(struct segment *seg);

#endif
