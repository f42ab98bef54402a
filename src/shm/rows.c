/* SPDX-License-Identifier: PostgreSQL */
/*
 * Transitions of row words (doc/protocol.md, R1-R7) and the post. This file alone swaps row words.
 */
#include "rows.h"

#include <assert.h>

static bool
swap(struct segment *seg, uint32_t row, uint64_t *w, uint64_t next)
{
	assert(row < seg->nrows);
	if (!atomic_compare_exchange_strong(&seg->row[row].word, w, next))
		return false;
	*w = next;
	return true;
}

int
row_claim(struct segment *seg, unsigned client, uint32_t start, uint64_t *ret_w)
{
	for (uint32_t n = 0; n < seg->nrows; n++) {
		uint32_t row = (start + n) % seg->nrows;
		uint64_t w = row_load(seg, row);

		if (word_state(w) == ROW_FREE && swap(seg, row, &w, word_next(w, ROW_OWNED, 0, client))) { /* R1 */
			*ret_w = w;
			return (int)row;
		}
	}
	return -1;
}

bool
row_wait(struct segment *seg, uint32_t row, uint64_t *w, uint64_t now)
{
	if (word_state(*w) != ROW_OWNED)
		return false;
	/* Read by granters that have seen WAITING; published by the swap. */
	atomic_store_explicit(&seg->row[row].wait_since, now, memory_order_relaxed);
	return swap(seg, row, w, word_next(*w, ROW_WAITING, 0, word_who(*w))); /* R2 */
}

bool
row_own(struct segment *seg, uint32_t row, uint64_t *w)
{
	if (word_state(*w) != ROW_WAITING && word_state(*w) != ROW_GRANTED)
		return false;
	return swap(seg, row, w, word_next(*w, ROW_OWNED, 0, word_who(*w))); /* R3, R5 */
}

bool
row_grant(struct segment *seg, uint32_t row, uint64_t wait)
{
	uint64_t w = row_load(seg, row);

	if (word_state(w) != ROW_WAITING || word_seq(w) != wait)
		return false;
	return swap(seg, row, &w, word_pack(ROW_GRANTED, 0, word_who(w), wait)); /* R4 */
}

bool
row_free(struct segment *seg, uint32_t row, uint64_t *w)
{
	if (word_state(*w) == ROW_FREE)
		return false;
	return swap(seg, row, w, word_next(*w, ROW_FREE, 0, WORD_NONE)); /* R6, R7 */
}

bool
row_grant_is_stale(const struct segment *seg, uint32_t row, uint64_t wait)
{
	uint64_t w = row_load(seg, row);

	return word_seq(w) != wait || (word_state(w) != ROW_WAITING && word_state(w) != ROW_GRANTED);
}

bool
row_post(struct segment *seg, uint32_t row, bool force)
{
	/* The exchange pairs with the owner's store of 0 before its rescan: a post that comes after that store
	 * is not swallowed. */
	if (atomic_exchange(&seg->row[row].posted, 1) != 0 && !force)
		return false;
	sem_post(&seg->row[row].sem);
	return true;
}
