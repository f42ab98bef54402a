/* SPDX-License-Identifier: PostgreSQL */
/*
 * The one place where row words change: the R transitions of doc/protocol.md. Conventions as in slots.h.
 */
#ifndef PGLEASE_SHM_ROWS_H
#define PGLEASE_SHM_ROWS_H

#include <stdbool.h>

#include "segment.h"

static inline uint64_t
row_load(const struct segment *seg, uint32_t row)
{
	return atomic_load(&seg->row[row].word); /* pairs with every row_* swap */
}

/* R1: claims a free row for a client, trying from `start` on. Returns the row or -1 when all are in use. */
int row_claim(struct segment *seg, unsigned client, uint32_t start, uint64_t *ret_w);
/* R2: sets wait_since first. The wait is word_seq(*w) afterwards. */
bool row_wait(struct segment *seg, uint32_t row, uint64_t *w, uint64_t now);
/* R3 from WAITING, R5 from GRANTED */
bool row_own(struct segment *seg, uint32_t row, uint64_t *w);
/* R4: from WAITING with exactly this wait */
bool row_grant(struct segment *seg, uint32_t row, uint64_t wait);
/* R6, from OWNED; R7 from any state */
bool row_free(struct segment *seg, uint32_t row, uint64_t *w);
/* R6, of all that this client has OWNED. */
void rows_free_all(struct segment *seg, unsigned client);

/* Whether a grant to (row, wait) is stale: the row is neither WAITING nor GRANTED with that wait. */
bool row_grant_is_stale(const struct segment *seg, uint32_t row, uint64_t wait);

/*
 * Posts the row's semaphore unless a post is pending already; `force` posts in any case (repairs: whoever set `posted`
 * may have died before its sem_post). True if it posted.
 */
bool row_post(struct segment *seg, uint32_t row, bool force);

#endif
