/* SPDX-License-Identifier: PostgreSQL */
/*
 * The queue of waiters (doc/protocol.md, Q1-Q6): a ring of entries between two ticket counters. It holds no truth:
 * who waits is in the row words, and whoever reads an entry checks it against its row.
 *
 * Why no lap can be mistaken: the entry of ticket t lies where that of t - N lay, and ticket t is only given out when
 * head has passed t - N; an entry that head has passed is PASSED for good (Q6 requires it, and no transition leaves
 * PASSED). So between reading the old entry and taking ticket t nobody changes it, and the swap Q2 can fail for one
 * reason only: somebody passed the hole.
 *
 * Loops are bounded by the size of the ring, so that a scribbled counter cannot hold anyone.
 */
#include "queue.h"

#include "rows.h"

enum kind { HOLE = 0, LIVE = 1, DEAD = 2, PASSED = 3 };

#define TICKET_MASK ((UINT64_C(1) << 22) - 1)
#define WAIT_MASK ((UINT64_C(1) << 24) - 1)

static uint64_t
entry_pack(uint64_t ticket, uint64_t wait, uint32_t row, enum kind kind)
{
	return (ticket & TICKET_MASK) << 42 | (wait & WAIT_MASK) << 18 | (uint64_t)(row & 0xffff) << 2 | kind;
}

static bool
entry_is_of(uint64_t entry, uint64_t ticket)
{
	return entry >> 42 == (ticket & TICKET_MASK);
}

/* The entry is of a later lap than `ticket`: whoever asks has an old head. */
static bool
entry_is_newer(uint64_t entry, uint64_t ticket)
{
	uint64_t ahead = ((entry >> 42) - ticket) & TICKET_MASK;

	return ahead != 0 && ahead < (TICKET_MASK + 1) / 2;
}

static enum kind
entry_kind(uint64_t entry)
{
	return (enum kind)(entry & 3);
}

static uint32_t
entry_row(uint64_t entry)
{
	return (entry >> 2) & 0xffff;
}

static _Atomic uint64_t *
entry_at(struct segment *seg, uint64_t ticket)
{
	return &seg->queue[ticket & seg->queue_mask];
}

/* Whether a LIVE entry's row still waits the wait that the entry names; then *ret_wait is that wait, whole. */
static bool
entry_waits(const struct segment *seg, uint64_t entry, uint64_t *ret_wait)
{
	uint32_t row = entry_row(entry);
	uint64_t w;

	if (row >= seg->nrows)
		return false;
	w = row_load(seg, row);
	if (word_state(w) != ROW_WAITING || (word_seq(w) & WAIT_MASK) != ((entry >> 18) & WAIT_MASK))
		return false;
	*ret_wait = word_seq(w);
	return true;
}

/* Q5 from the entry seen, then Q6. */
static void
pass(struct segment *seg, uint64_t ticket, uint64_t entry)
{
	uint64_t expected = ticket;

	if (entry_is_newer(entry, ticket))
		return;
	if (!entry_is_of(entry, ticket) || entry_kind(entry) != PASSED) {
		uint64_t passed = entry_pack(ticket, 0, WORD_NONE, PASSED);

		if (!atomic_compare_exchange_strong(entry_at(seg, ticket), &entry, passed))
			return; /* it changed: look again */
	}
	atomic_compare_exchange_strong(&seg->header->head, &expected, ticket + 1);
}

bool
queue_oldest(struct segment *seg, uint32_t *ret_row, uint64_t *ret_wait)
{
	/* Once: whoever enqueues later looks for a slot itself. Read again, it could lead a passer after a waiter
	 * between Q1 and Q2 for ever, each taking the other's next step as a reason for one more. */
	uint64_t tail = atomic_load(&seg->header->tail);

	for (uint32_t n = 0; n <= 2 * seg->queue_mask; n++) {
		uint64_t head = atomic_load(&seg->header->head), entry;

		if (tail - head - 1 >= UINT64_MAX / 2) /* head has come to tail, or is past it by now */
			return false;
		entry = atomic_load(entry_at(seg, head));
		if (entry_is_of(entry, head) && entry_kind(entry) == LIVE && entry_waits(seg, entry, ret_wait)) {
			*ret_row = entry_row(entry);
			return true;
		}
		pass(seg, head, entry);
	}
	return false;
}

bool
queue_enter(struct segment *seg, uint32_t row, uint64_t wait, uint64_t since)
{
	struct row *r = &seg->row[row];
	uint64_t ticket = atomic_load_explicit(&r->ticket, memory_order_relaxed); /* the owner's own */

	if (ticket != 0) {
		uint64_t entry = atomic_load(entry_at(seg, ticket));

		if (entry_is_of(entry, ticket) && entry_kind(entry) == DEAD && entry_row(entry) == row &&
		    atomic_compare_exchange_strong(entry_at(seg, ticket), &entry,
			entry_pack(ticket, wait, row, LIVE))) /* Q4 */
			return true;
	}
	for (uint32_t n = 0; n <= seg->queue_mask; n++) {
		uint64_t tail = atomic_load(&seg->header->tail), old, other_wait;
		uint32_t other;

		if (tail - atomic_load(&seg->header->head) > seg->queue_mask) {
			queue_oldest(seg, &other, &other_wait); /* passes what does not wait */
			if (tail - atomic_load(&seg->header->head) > seg->queue_mask)
				break;
		}
		/* Before the entry is LIVE; a granter that reads it later reads this place's. */
		atomic_store_explicit(&r->place_since, since, memory_order_relaxed);
		old = atomic_load(entry_at(seg, tail));
		if (!atomic_compare_exchange_strong(&seg->header->tail, &tail, tail + 1)) /* Q1 */
			continue;
		atomic_store_explicit(&r->ticket, tail, memory_order_relaxed);
		if (atomic_compare_exchange_strong(entry_at(seg, tail), &old, entry_pack(tail, wait, row, LIVE)))
			return true; /* Q2 */
	}
	atomic_store_explicit(&r->ticket, 0, memory_order_relaxed);
	return false;
}

/* The owner's own entry, from LIVE to `kind`. */
static void
entry_end(struct segment *seg, uint32_t row, uint64_t wait, enum kind kind)
{
	uint64_t ticket = atomic_load_explicit(&seg->row[row].ticket, memory_order_relaxed);
	uint64_t live = entry_pack(ticket, wait, row, LIVE);

	if (ticket == 0)
		return;
	if (atomic_compare_exchange_strong(entry_at(seg, ticket), &live,
		entry_pack(ticket, kind == DEAD ? wait : 0, kind == DEAD ? row : WORD_NONE, kind)) &&
	    kind == PASSED)
		atomic_compare_exchange_strong(&seg->header->head, &ticket, ticket + 1); /* Q6 if it is the first */
}

void
queue_leave(struct segment *seg, uint32_t row, uint64_t wait)
{
	entry_end(seg, row, wait, DEAD); /* Q3 */
}

void
queue_served(struct segment *seg, uint32_t row, uint64_t wait)
{
	entry_end(seg, row, wait, PASSED); /* Q5 */
}

static uint32_t
wake(struct segment *seg, uint32_t n, bool force)
{
	uint32_t row, posted = 0;
	uint64_t wait, head, waiting;

	if (!queue_maybe_waiting(seg) || !queue_oldest(seg, &row, &wait))
		return 0;
	head = atomic_load(&seg->header->head);
	waiting = atomic_load(&seg->header->tail) - head;
	if (waiting > (uint64_t)seg->queue_mask + 1)
		waiting = (uint64_t)seg->queue_mask + 1;
	for (uint64_t i = 0; i < waiting && posted < n; i++) {
		uint64_t entry = atomic_load(entry_at(seg, head + i));

		if (entry_is_of(entry, head + i) && entry_kind(entry) == LIVE && entry_waits(seg, entry, &wait) &&
		    row_post(seg, entry_row(entry), force))
			posted++;
	}
	return posted;
}

bool
queue_wake(struct segment *seg)
{
	return wake(seg, 1, false) != 0;
}

void
queue_wake_again(struct segment *seg, uint32_t n)
{
	wake(seg, n, true);
}

void
queue_repost(struct segment *seg)
{
	for (uint32_t row = 0; row < seg->nrows; row++) {
		unsigned state = word_state(row_load(seg, row));

		/* GRANTED without `posted`: the granter died after R4, and S12 may have taken the grant back. */
		if (state == ROW_GRANTED || (state == ROW_WAITING && atomic_load(&seg->row[row].posted) != 0))
			row_post(seg, row, true);
	}
}

uint32_t
queue_count(const struct segment *seg, uint64_t *ret_since)
{
	uint32_t n = 0;
	uint64_t oldest = 0;

	for (uint32_t row = 0; row < seg->nrows; row++) {
		unsigned state = word_state(row_load(seg, row));
		uint64_t since;

		if (state != ROW_WAITING && state != ROW_GRANTED)
			continue;
		since = atomic_load_explicit(&seg->row[row].wait_since, memory_order_relaxed);
		if (n++ == 0 || since < oldest)
			oldest = since;
	}
	if (ret_since != NULL)
		*ret_since = n == 0 ? 0 : oldest;
	return n;
}

uint32_t
queue_length(const struct segment *seg, uint64_t *ret_since)
{
	uint64_t head = atomic_load(&seg->header->head), tail = atomic_load(&seg->header->tail), oldest = 0, wait;
	uint32_t n = 0;

	if (tail - head > (uint64_t)seg->queue_mask + 1) /* scribbled on */
		tail = head;
	for (uint64_t ticket = head; ticket != tail; ticket++) {
		/* Relaxed, and so is what follows: the numbers decide nothing. */
		uint64_t entry =
		    atomic_load_explicit(&seg->queue[ticket & seg->queue_mask], memory_order_relaxed);
		uint64_t since;

		if (!entry_is_of(entry, ticket) || entry_kind(entry) != LIVE || !entry_waits(seg, entry, &wait))
			continue;
		since = atomic_load_explicit(&seg->row[entry_row(entry)].wait_since, memory_order_relaxed);
		if (n++ == 0 || since < oldest)
			oldest = since;
	}
	*ret_since = oldest;
	return n;
}
