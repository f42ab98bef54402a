/* SPDX-License-Identifier: PostgreSQL */
/*
 * The queue of waiters: hints in arrival order (doc/protocol.md, "The queue of waiters", transitions Q1-Q6).
 * Lock-free; everyone helps everyone; nobody can be blocked by the dead.
 */
#ifndef PGLEASE_SHM_QUEUE_H
#define PGLEASE_SHM_QUEUE_H

#include <stdbool.h>

#include "segment.h"

/* The gate: false when nobody waits, at the cost of two loads. */
static inline bool
queue_maybe_waiting(const struct segment *seg)
{
	return atomic_load(&seg->header->head) != atomic_load(&seg->header->tail);
}

/* Whether a waiter that comes now stays outside; a place that is passed makes room. */
static inline bool
queue_is_full(const struct segment *seg)
{
	uint64_t head = atomic_load(&seg->header->head); /* first: it never overtakes the tail that is read after it */

	return atomic_load(&seg->header->tail) - head > seg->queue_mask;
}

/* Q1+Q2 or Q4, after R2. A new place counts from `since` (CLOCK_MONOTONIC ns). False if the ring is full: the waiter
 * stays unqueued and tries again at its next rescan. */
bool queue_enter(struct segment *seg, uint32_t row, uint64_t wait, uint64_t since);
/* Q3: gives up, keeping the place. */
void queue_leave(struct segment *seg, uint32_t row, uint64_t wait);
/* Q5: was served: the place is used up. */
void queue_served(struct segment *seg, uint32_t row, uint64_t wait);
/* Moves head past what is not waiting (Q5, Q6) and gives the oldest waiter. False if there is none. */
bool queue_oldest(struct segment *seg, uint32_t *ret_row, uint64_t *ret_wait);
/* The wake path: posts the oldest waiter that has no post pending. True if one was posted. */
bool queue_wake(struct segment *seg);
/* Posts the `n` oldest waiters, whether posts are pending or not: repairs. */
void queue_wake_again(struct segment *seg, uint32_t n);
/* Posts every row that is granted, and those that wait with `posted` set: who was to post them may have died. */
void queue_repost(struct segment *seg);
/* Number of waiting and granted rows, by a scan of the rows: for decisions and messages. *ret_since: the oldest's, or 0. */
uint32_t queue_count(const struct segment *seg, uint64_t *ret_since);
/*
 * The same by a walk of the ring, which costs nothing when nobody waits: for statistics. Who found the ring full, or is between
 * R2 and Q2, is not seen. Writes nothing.
 */
uint32_t queue_length(const struct segment *seg, uint64_t *ret_since);

#endif
