/* SPDX-License-Identifier: PostgreSQL */
/*
 * Transitions of slot words (doc/protocol.md, S1-S14, F1-F3) but for those of each lease, which are in slots.h, and the search for
 * an idle one.
 */
#include "slots.h"

#include <stdio.h>

bool
slot_take(struct segment *seg, uint32_t slot, uint64_t *w)
{
	if (word_state(*w) == SLOT_BROKER)
		return false;
	return slot_swap(seg, slot, w, word_next(*w, SLOT_BROKER, 0, WORD_NONE));
}

bool
slot_empty(struct segment *seg, uint32_t slot, uint64_t *w)
{
	if (word_state(*w) != SLOT_BROKER)
		return false;
	return slot_swap(seg, slot, w, word_next(*w, SLOT_EMPTY, 0, WORD_NONE));
}

bool
slot_grant(struct segment *seg, uint32_t slot, uint64_t *w, unsigned row, uint64_t wait, unsigned session)
{
	unsigned state = word_state(*w);

	if (state != SLOT_BROKER && state != SLOT_LEASED)
		return false;
	if (state == SLOT_LEASED && (word_flags(*w) & (SLOT_CANCELLING | SLOT_RETIRE)) != 0)
		return false;
	/* Before the swap, as the word's owner; published by it. */
	atomic_store_explicit(&seg->slot[slot].grant_wait, wait, memory_order_relaxed);
	return slot_swap(seg, slot, w, word_next(*w, SLOT_GRANTED, session, row));
}

bool
slot_return(struct segment *seg, uint32_t slot, uint64_t *w, unsigned flags)
{
	if (word_state(*w) != SLOT_LEASED)
		return false;
	return slot_swap(seg, slot, w, word_next(*w, SLOT_RETURNED, (word_flags(*w) & SLOT_CANCELLING) | flags, WORD_NONE));
}

bool
slot_set_flags(struct segment *seg, uint32_t slot, uint64_t *w, unsigned set, unsigned clear)
{
	return slot_swap(seg, slot, w, word_with_flags(*w, (word_flags(*w) | set) & ~clear));
}

bool
slot_forget_client(struct segment *seg, uint32_t slot, uint64_t *w)
{
	if (word_state(*w) != SLOT_IDLE)
		return false;
	return slot_swap(seg, slot, w,
	    word_pack(SLOT_IDLE, (word_flags(*w) & ~SLOT_SESSION) | word_session(*w), WORD_NONE, word_seq(*w)));
}

static bool
is_idle(const struct segment *seg, uint32_t slot, uint64_t *ret_w)
{
	uint64_t w = slot_load(seg, slot);

	if (word_state(w) != SLOT_IDLE || (word_flags(w) & SLOT_RETIRE) != 0)
		return false;
	*ret_w = w;
	return true;
}

/* A bit that was set for a slot that is not idle: cleared, unless the slot became idle meanwhile. */
static void
clear_hint(struct segment *seg, uint32_t slot)
{
	_Atomic uint64_t *bits = &seg->header->idle_bitmap[slot / 64];
	uint64_t bit = UINT64_C(1) << (slot % 64);

	atomic_fetch_and(bits, ~bit);
	if (word_state(slot_load(seg, slot)) == SLOT_IDLE)
		atomic_fetch_or(bits, bit);
}

int
slot_find_idle(struct segment *seg, int prefer, uint32_t start, bool thorough, uint64_t *ret_w)
{
	uint32_t words = (seg->nslots + 63) / 64;

	if (prefer >= 0 && (uint32_t)prefer < seg->nslots && is_idle(seg, (uint32_t)prefer, ret_w))
		return prefer;
	if (start >= seg->nslots)
		start = 0;
	/* One lap: the first word from `start` on, the others, the first word's beginning. */
	for (uint32_t n = 0; n <= words; n++) {
		uint32_t i = (start / 64 + n) % words;
		uint64_t bits = atomic_load(&seg->header->idle_bitmap[i]);

		if (n == 0)
			bits &= ~UINT64_C(0) << (start % 64);
		else if (n == words)
			bits &= ~(~UINT64_C(0) << (start % 64));
		for (; bits != 0; bits &= bits - 1) {
			uint32_t slot = i * 64 + (uint32_t)__builtin_ctzll(bits);

			if (slot >= seg->nslots)
				break;
			if (is_idle(seg, slot, ret_w))
				return (int)slot;
			clear_hint(seg, slot);
		}
	}
	if (thorough)
		for (uint32_t slot = 0; slot < seg->nslots; slot++)
			if (is_idle(seg, slot, ret_w))
				return (int)slot;
	return -1;
}

void
slot_site(const struct segment *seg, uint32_t slot, char buf[static SLOT_SITE])
{
	const struct slot *s = &seg->slot[slot];
	uint32_t line = atomic_load_explicit(&s->site_line, memory_order_relaxed);
	size_t n = 0;

	for (; n < LAYOUT_SITE - 1 && s->site_file[n] != '\0'; n++)
		buf[n] = s->site_file[n] >= ' ' && s->site_file[n] < 0x7f ? s->site_file[n] : '?';
	buf[n] = '\0';
	if (n != 0 && line != 0)
		snprintf(buf + n, SLOT_SITE - n, ":%u", line);
}
