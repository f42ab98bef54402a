/* SPDX-License-Identifier: PostgreSQL */
/*
 * Transitions of row words (doc/protocol.md, R1-R7) and the post. This file alone swaps row words.
 */
#include "rows.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

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

void
rows_free_all(struct segment *seg, unsigned client)
{
	for (uint32_t row = 0; row < seg->nrows; row++) {
		uint64_t w = row_load(seg, row);

		if (word_state(w) == ROW_OWNED && word_who(w) == client)
			row_free(seg, row, &w); /* R6 */
	}
}

bool
row_grant_is_stale(const struct segment *seg, uint32_t row, uint64_t wait)
{
	uint64_t w = row_load(seg, row);

	return word_seq(w) != wait || (word_state(w) != ROW_WAITING && word_state(w) != ROW_GRANTED);
}

/*
 * sem_post of glibc on 64 bits (value in the low half of a word, number of sleepers in the high half), but for two
 * things: glibc takes the futex's kind from the semaphore and aborts when the kernel refuses it, so whoever can write
 * to the segment could abort the broker. Here the kind is fixed (shared between processes), and a refusal is a post
 * that nobody hears.
 */
static void
post(sem_t *sem)
{
	_Atomic uint64_t *word = (_Atomic uint64_t *)(void *)sem;
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);

	do {
		if ((uint32_t)w >= (uint32_t)SEM_VALUE_MAX)
			return;
	} while (!atomic_compare_exchange_weak(word, &w, w + 1)); /* pairs with the waiter's decrement */
	if (w >> 32 != 0)
		syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0); /* the value's half comes first: little endian */
}

bool
row_post(struct segment *seg, uint32_t row, bool force)
{
	/* The exchange pairs with the owner's store of 0 before its rescan: a post that comes after that store
	 * is not swallowed. */
	if (atomic_exchange(&seg->row[row].posted, 1) != 0 && !force)
		return false;
	post(&seg->row[row].sem);
	return true;
}
