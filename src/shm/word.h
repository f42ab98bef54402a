/* SPDX-License-Identifier: PostgreSQL */
/*
 * The 64-bit words that hold the truth: packing and unpacking only. What they mean, who may change them and how is
 * in doc/protocol.md; the changes themselves are in slots.c and rows.c.
 */
#ifndef PGLEASE_SHM_WORD_H
#define PGLEASE_SHM_WORD_H

#include <stdbool.h>
#include <stdint.h>

#define WORD_SEQ_BITS 40
#define WORD_SEQ_MASK ((UINT64_C(1) << WORD_SEQ_BITS) - 1)
#define WORD_NONE 0xffffu /* no row, no client */

/* Slot states. EMPTY is zero so that a fresh segment holds valid words. */
enum slot_state {
	SLOT_EMPTY = 0,
	SLOT_BROKER = 1,
	SLOT_IDLE = 2,
	SLOT_GRANTED = 3,
	SLOT_LEASED = 4,
	SLOT_RETURNED = 5,
	SLOT_NSTATES,
};

/* Slot flags. */
#define SLOT_DIRTY 0x1u
#define SLOT_CANCELLING 0x2u
#define SLOT_RETIRE 0x4u
#define SLOT_OWED 0x8u

/* What a word says is in the session: 0, SLOT_DIRTY, SLOT_OWED, or, GRANTED and from there LEASED: traces of that row's own client. */
#define SLOT_SESSION (SLOT_DIRTY | SLOT_OWED)
#define SLOT_OWN SLOT_SESSION

enum row_state {
	ROW_FREE = 0,
	ROW_OWNED = 1,
	ROW_WAITING = 2,
	ROW_GRANTED = 3,
	ROW_NSTATES,
};

/* One layout for both kinds of word: `who` is a lessee row or a client. */
static inline uint64_t
word_pack(unsigned state, unsigned flags, unsigned who, uint64_t seq)
{
	return (uint64_t)(state & 0xf) << 60 | (uint64_t)(flags & 0xf) << 56 |
	       (uint64_t)(who & 0xffff) << WORD_SEQ_BITS | (seq & WORD_SEQ_MASK);
}

static inline unsigned
word_state(uint64_t w)
{
	return w >> 60;
}

static inline unsigned
word_flags(uint64_t w)
{
	return (w >> 56) & 0xf;
}

static inline unsigned
word_who(uint64_t w)
{
	return (w >> WORD_SEQ_BITS) & 0xffff;
}

static inline uint64_t
word_seq(uint64_t w)
{
	return w & WORD_SEQ_MASK;
}

/* The word that follows `w` when its state changes: sequence + 1 (it wraps). */
static inline uint64_t
word_next(uint64_t w, unsigned state, unsigned flags, unsigned who)
{
	return word_pack(state, flags, who, word_seq(w) + 1);
}

/* The same word with other flags: no change of ownership, no new sequence. */
static inline uint64_t
word_with_flags(uint64_t w, unsigned flags)
{
	return word_pack(word_state(w), flags, word_who(w), word_seq(w));
}

/* What is in the session for whoever comes: nothing, an answer that is owed, or traces. */
static inline unsigned
word_session(uint64_t w)
{
	unsigned session = word_flags(w) & SLOT_SESSION;

	return session == SLOT_OWN ? SLOT_DIRTY : session;
}

const char *slot_state_name(unsigned state);
const char *row_state_name(unsigned state);

#endif
