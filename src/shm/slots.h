/* SPDX-License-Identifier: PostgreSQL */
/*
 * The one place where slot words change. Each function is one transition of doc/protocol.md, named by its label;
 * each is a single compare-and-swap from the exact word that the caller saw, so a caller with an old word fails
 * harmlessly. True means that the transition happened. `w` is updated to the new word on success and to the word
 * found on failure.
 *
 * Transitions to IDLE only make the slot idle: the caller must run queue_wake() (queue.h) after it. handoff.h
 * bundles the two.
 */
#ifndef PGLEASE_SHM_SLOTS_H
#define PGLEASE_SHM_SLOTS_H

#include <stdbool.h>

#include "segment.h"

static inline uint64_t
slot_load(const struct segment *seg, uint32_t slot)
{
	return atomic_load(&seg->slot[slot].word); /* pairs with every slot_* swap */
}

/* S1, S5, S12, S13, S14: the broker takes the word from any of these states. Flags are dropped: look at *w first. */
bool slot_take(struct segment *seg, uint32_t slot, uint64_t *w);
/* S2 */
bool slot_empty(struct segment *seg, uint32_t slot, uint64_t *w);
/* In what follows, `session` is what is in it: 0, SLOT_DIRTY or SLOT_OWED. */
/* S3, from BROKER; S11, from GRANTED; S8, from LEASED. `client` is the one whose traces they are, or WORD_NONE. */
bool slot_idle(struct segment *seg, uint32_t slot, uint64_t *w, unsigned client, unsigned session);
/* S4, from BROKER; S9, from LEASED. Stores grant_wait first. */
bool slot_grant(struct segment *seg, uint32_t slot, uint64_t *w, unsigned row, uint64_t wait, unsigned session);
/* S6, from IDLE without RETIRE; S7, from GRANTED to this row. `client` is the row's client: DIRTY is dropped if the
 * word names it as the last one. */
bool slot_lease(struct segment *seg, uint32_t slot, uint64_t *w, unsigned row, unsigned client);
/* S10; `flags`: SLOT_OWED, SLOT_RETIRE for a session in doubt, or 0. */
bool slot_return(struct segment *seg, uint32_t slot, uint64_t *w, unsigned flags);
/* F1, F2 */
bool slot_set_flags(struct segment *seg, uint32_t slot, uint64_t *w, unsigned set, unsigned clear);
/* F3 */
bool slot_forget_client(struct segment *seg, uint32_t slot, uint64_t *w);

#define SLOT_SITE (LAYOUT_SITE + 16)
/* Where its lease was acquired, printable: "file.c:12", or "function+0x1f"; "" when nobody knows. Racy text. */
void slot_site(const struct segment *seg, uint32_t slot, char buf[static SLOT_SITE]);

/* Leases counted in a statistics block; none when there is no such block. */
static inline uint64_t
block_leases(const struct segment *seg, uint32_t block)
{
	return block >= seg->nblocks ? 0
				     : counter_get(&seg->block[block].counter[COUNTER_LEASES_IMMEDIATE]) +
					   counter_get(&seg->block[block].counter[COUNTER_LEASES_WAITED]);
}

/* Leases of the slot, of all generations. For the broker's eyes: it alone changes a slot's block. */
static inline uint64_t
slot_leases(const struct segment *seg, uint32_t slot)
{
	const struct slot *s = &seg->slot[slot];

	return atomic_load_explicit(&s->leases_before, memory_order_relaxed) +
	       block_leases(seg, atomic_load_explicit(&s->block, memory_order_relaxed));
}

/*
 * An IDLE slot's index, or -1. Looks at `prefer` first (pass -1 for none), then by the bitmap, from `start` on, then,
 * if `thorough`, at every word. *ret_w is the word seen.
 */
int slot_find_idle(struct segment *seg, int prefer, uint32_t start, bool thorough, uint64_t *ret_w);

#endif
