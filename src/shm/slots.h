/* SPDX-License-Identifier: PostgreSQL */
/*
 * The one place where slot words change, with slots.c; what every lease does is inline. Each function is one transition of doc/protocol.md, named by its label;
 * each is a single compare-and-swap from the exact word that the caller saw, so a caller with an old word fails
 * harmlessly. True means that the transition happened. `w` is updated to the new word on success and to the word
 * found on failure.
 *
 * Transitions to IDLE only make the slot idle: the caller must run queue_wake() (queue.h) after it. handoff.h
 * bundles the two.
 */
#ifndef PGLEASE_SHM_SLOTS_H
#define PGLEASE_SHM_SLOTS_H

#include <assert.h>
#include <stdbool.h>

#include "segment.h"

static inline uint64_t
slot_load(const struct segment *seg, uint32_t slot)
{
	return atomic_load(&seg->slot[slot].word); /* pairs with every slot_* swap */
}

/*
 * For the functions below alone. Each swap is sequentially consistent and is its own pair: whoever's swap succeeds has acquired what
 * the previous owner published.
 */
static inline bool
slot_swap(struct segment *seg, uint32_t slot, uint64_t *w, uint64_t next)
{
	assert(slot < seg->nslots);
	if (!atomic_compare_exchange_strong(&seg->slot[slot].word, w, next))
		return false;
	*w = next;
	return true;
}

/* S1, S5, S12, S13, S14: the broker takes the word from any of these states. Flags are dropped: look at *w first. */
bool slot_take(struct segment *seg, uint32_t slot, uint64_t *w);
/* S2 */
bool slot_empty(struct segment *seg, uint32_t slot, uint64_t *w);
/* In what follows, `session` is what is in it: 0, SLOT_DIRTY or SLOT_OWED. */
/* S3, from BROKER; S11, from GRANTED; S8, from LEASED. `client` is the one whose traces they are, or WORD_NONE. */
static inline bool
slot_idle(struct segment *seg, uint32_t slot, uint64_t *w, unsigned client, unsigned session)
{
	_Atomic uint64_t *bits = &seg->header->idle_bitmap[slot / 64];
	uint64_t bit = UINT64_C(1) << (slot % 64);
	unsigned state = word_state(*w);

	if (state != SLOT_BROKER && state != SLOT_LEASED && state != SLOT_GRANTED)
		return false;
	if (state != SLOT_BROKER && (word_flags(*w) & (SLOT_CANCELLING | SLOT_RETIRE)) != 0)
		return false;
	if (!slot_swap(seg, slot, w, word_next(*w, SLOT_IDLE, session, client)))
		return false;
	/*
	 * The hint. Word first, then bit; slot_find_idle clears the bit first and then looks at the word again: one
	 * of the two sees the other. Usually the bit is still set (claims do not clear it), and nothing is written.
	 */
	if ((atomic_load(bits) & bit) == 0)
		atomic_fetch_or(bits, bit);
	return true;
}
/* S4, from BROKER; S9, from LEASED. Stores grant_wait first. */
bool slot_grant(struct segment *seg, uint32_t slot, uint64_t *w, unsigned row, uint64_t wait, unsigned session);
/* S6, from IDLE without RETIRE; S7, from GRANTED to this row. `client` is the row's client: DIRTY is dropped if the
 * word names it as the last one. */
static inline bool
slot_lease(struct segment *seg, uint32_t slot, uint64_t *w, unsigned row, unsigned client)
{
	unsigned flags = word_flags(*w);

	switch (word_state(*w)) {
	case SLOT_IDLE:
		if ((flags & SLOT_RETIRE) != 0)
			return false;
		if (word_who(*w) == client)
			flags &= ~SLOT_DIRTY;
		break;
	case SLOT_GRANTED:
		if (word_who(*w) != row)
			return false;
		break;
	default:
		return false;
	}
	return slot_swap(seg, slot, w, word_next(*w, SLOT_LEASED, flags, row));
}
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
