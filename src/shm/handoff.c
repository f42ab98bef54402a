/* SPDX-License-Identifier: PostgreSQL */
/*
 * Giving a slot up, taking a grant, and repairing what somebody left half done. The orders of steps here are those of
 * doc/protocol.md; each step is one transition in slots.c, rows.c or queue.c.
 */
#include "handoff.h"

#include "queue.h"
#include "rows.h"
#include "slots.h"

/* Slots are being kept if the last one was within so long; noted so often. */
#define KEPT_NS UINT64_C(10000000)
#define KEPT_NOTE_NS UINT64_C(2000000)

/* Whether the releaser's turn at the slot is not over; who does not return at once has none. */
static bool
in_turn(const struct segment *seg, uint32_t slot, uint64_t now, bool returns)
{
	const struct slot *s = &seg->slot[slot];
	const struct segment_header *h = seg->header;

	return returns && atomic_load_explicit(&s->turn_leases, memory_order_relaxed) + 1 <
			      atomic_load_explicit(&h->turn_leases, memory_order_relaxed) &&
	       clock_since(now, atomic_load_explicit(&s->turn_at, memory_order_relaxed)) <
		   atomic_load_explicit(&h->turn_ns, memory_order_relaxed);
}

/* A turn begins. */
static void
begin_turn(struct segment *seg, uint32_t slot, uint64_t now)
{
	atomic_store_explicit(&seg->slot[slot].turn_at, now, memory_order_relaxed);
	atomic_store_explicit(&seg->slot[slot].turn_leases, 0, memory_order_relaxed);
}

/* The oldest waiter, if it is due a grant: it has waited for long enough, or it is its turn. */
static bool
due(struct segment *seg, uint64_t now, bool returns, uint32_t *ret_row, uint64_t *ret_wait)
{
	uint64_t since;

	if (!queue_oldest(seg, ret_row, ret_wait))
		return false;
	since = atomic_load_explicit(&seg->row[*ret_row].place_since, memory_order_relaxed);
	return returns || (now >= since && now - since >= atomic_load_explicit(
							      &seg->header->grant_after_ns, memory_order_relaxed));
}

unsigned
handoff_next_client(struct segment *seg, uint32_t slot, uint64_t now, bool returns)
{
	uint32_t row;
	uint64_t wait;

	if (!queue_maybe_waiting(seg) || in_turn(seg, slot, now, returns))
		return WORD_NONE;
	return due(seg, now, returns, &row, &wait) ? word_who(row_load(seg, row)) : WORD_NONE;
}

/* Whether a waiter has the watch. */
static bool
is_watched(const struct segment *seg)
{
	uint64_t token = atomic_load(&seg->header->watcher);
	uint32_t row = (uint32_t)(token >> WORD_SEQ_BITS) - 1;
	uint64_t w;

	if (row >= seg->nrows)
		return false;
	w = row_load(seg, row);
	return word_state(w) == ROW_WAITING && word_seq(w) == (token & WORD_SEQ_MASK);
}

/* Now and then, for the line is everybody's. Without it there would be no watch, and each slot that is kept would wake somebody. */
static void
note_kept(struct segment *seg, uint64_t now)
{
	_Atomic uint64_t *at = &seg->header->kept_at;

	if (clock_since(now, atomic_load_explicit(at, memory_order_relaxed)) > KEPT_NOTE_NS)
		atomic_store_explicit(at, now, memory_order_relaxed);
}

/* Relaxed, as note_kept() stores it: a guess. One that is wrong costs a wake-up, or a waiter's timer. */
bool
handoff_is_keeping(const struct segment *seg, uint64_t now)
{
	return clock_since(now, atomic_load_explicit(&seg->header->kept_at, memory_order_relaxed)) < KEPT_NS;
}

bool
handoff_watch(struct segment *seg, uint32_t row, uint64_t wait, bool wanted)
{
	_Atomic uint64_t *watcher = &seg->header->watcher;
	uint64_t token = row_token(row, wait), seen = token;

	if (atomic_load(watcher) == token)
		return wanted || !atomic_compare_exchange_strong(watcher, &seen, 0);
	if (!wanted || is_watched(seg))
		return false;
	/* Two may do so at the same time; both look, and one is found. */
	atomic_store(watcher, token);
	return true;
}

/* S9/S4 and R4 to the oldest waiter if it is due a grant. HANDOFF_IDLE: none is, the caller goes on. */
static enum handoff_result
grant_oldest(struct segment *seg, uint32_t slot, uint64_t *w, unsigned client, unsigned session, uint64_t now,
    bool returns)
{
	uint32_t row;
	uint64_t wait;

	if (!due(seg, now, returns, &row, &wait))
		return HANDOFF_IDLE;
	begin_turn(seg, slot, now);
	/* If the row has another owner by now, its wait has another number, and the grant is stale at birth. */
	if (session == SLOT_DIRTY && word_who(row_load(seg, row)) == client)
		session = SLOT_OWN;
	atomic_store_explicit(&seg->row[row].hint_slot, slot, memory_order_relaxed);
	if (!slot_grant(seg, slot, w, row, wait, session)) /* S9, S4 */
		return HANDOFF_LOST;
	if (row_grant(seg, row, wait)) { /* R4 */
		queue_served(seg, row, wait);
		row_post(seg, row, false);
		return HANDOFF_GRANTED;
	}
	/* The waiter gave up, served itself, died, or another granter was faster: back with it, S11. */
	if (slot_idle(seg, slot, w, WORD_NONE, word_session(*w)))
		queue_wake(seg);
	return HANDOFF_GRANTED;
}

enum handoff_result
handoff_give(struct segment *seg, uint32_t slot, uint64_t *w, unsigned client, unsigned session, uint64_t now)
{
	return handoff_release(seg, slot, w, client, session, now, false);
}

enum handoff_result
handoff_release(struct segment *seg, uint32_t slot, uint64_t *w, unsigned client, unsigned session, uint64_t now,
    bool returns)
{
	uint64_t seq = word_seq(*w);
	unsigned state = word_state(*w);

	if (state == SLOT_GRANTED) { /* S11: not the caller's to write in, nor to grant */
		if (!slot_idle(seg, slot, w, WORD_NONE, word_session(*w)))
			return HANDOFF_LOST;
		queue_wake(seg);
		return HANDOFF_IDLE;
	}
	atomic_store_explicit(&seg->slot[slot].idle_since, now, memory_order_relaxed);
	for (;;) {
		enum handoff_result r = HANDOFF_IDLE;
		bool kept = false;

		if (word_state(*w) == SLOT_LEASED && (word_flags(*w) & (SLOT_CANCELLING | SLOT_RETIRE)) != 0)
			return HANDOFF_BLOCKED;
		if (!queue_maybe_waiting(seg))
			begin_turn(seg, slot, now);
		else if ((kept = in_turn(seg, slot, now, returns)))
			atomic_store_explicit(&seg->slot[slot].turn_leases,
			    atomic_load_explicit(&seg->slot[slot].turn_leases, memory_order_relaxed) + 1, memory_order_relaxed);
		else
			r = grant_oldest(seg, slot, w, client, session, now, returns);
		if (r == HANDOFF_GRANTED)
			return r;
		if (r == HANDOFF_IDLE && slot_idle(seg, slot, w, client, session)) { /* S3, S8 */
			/* S8, then the look for a watcher: it looks for idle slots after its R3 or R5. */
			if (!kept || !is_watched(seg))
				queue_wake(seg);
			if (kept)
				note_kept(seg, now);
			return r;
		}
		/*
		 * A swap failed: flags came (same sequence and state: look again), or the slot is not the caller's any
		 * more, be it by somebody who scribbles.
		 */
		if (word_seq(*w) != seq || word_state(*w) != state)
			return HANDOFF_LOST;
	}
}

bool
handoff_release_alone(struct segment *seg, uint32_t slot, uint64_t w, unsigned client, unsigned session, uint64_t now)
{
	if (word_state(w) != SLOT_LEASED || word_flags(w) != 0 || queue_maybe_waiting(seg))
		return false;
	atomic_store_explicit(&seg->slot[slot].idle_since, now, memory_order_relaxed);
	begin_turn(seg, slot, now);
	if (!slot_idle(seg, slot, &w, client, session)) /* S8 */
		return false;
	/* S8, then the look at the queue, both sequentially consistent: who has entered it meanwhile is woken, or looks. */
	if (queue_maybe_waiting(seg))
		queue_wake(seg);
	return true;
}

bool
handoff_repair(struct segment *seg, uint32_t slot, uint64_t now)
{
	uint64_t w = slot_load(seg, slot);
	uint64_t wait = atomic_load_explicit(&seg->slot[slot].grant_wait, memory_order_relaxed);
	uint32_t row = word_who(w);

	/* grant_wait belongs to w if w is still there: its writer owns the word. */
	if (word_state(w) != SLOT_GRANTED || slot_load(seg, slot) != w)
		return false;
	if (row < seg->nrows) {
		bool granted = row_grant(seg, row, wait); /* R4 for a granter that died before it */

		/* Asked after R4: a grant that is stale stays so, one that is not has its R4 by now. */
		if (!row_grant_is_stale(seg, row, wait)) {
			row_post(seg, row, true);
			return granted;
		}
	}
	return handoff_give(seg, slot, &w, WORD_NONE, word_session(w), now) == HANDOFF_IDLE; /* S11 */
}

static bool
take(struct segment *seg, uint32_t slot, uint32_t row, uint64_t wait, unsigned client, uint64_t *ret_w)
{
	uint64_t w = slot_load(seg, slot);

	if (word_state(w) != SLOT_GRANTED || word_who(w) != row ||
	    atomic_load_explicit(&seg->slot[slot].grant_wait, memory_order_relaxed) != wait)
		return false;
	/* A flag (RETIRE) may come between: the grant is the row's all the same, as long as the sequence stands. */
	for (uint64_t seq = word_seq(w); word_state(w) == SLOT_GRANTED && word_seq(w) == seq;) {
		if (slot_lease(seg, slot, &w, row, client)) { /* S7 */
			*ret_w = w;
			return true;
		}
	}
	return false;
}

int
handoff_take_grant(struct segment *seg, uint32_t row, uint64_t wait, unsigned client, uint64_t *ret_w)
{
	uint32_t hint = atomic_load_explicit(&seg->row[row].hint_slot, memory_order_relaxed);

	if (hint < seg->nslots && take(seg, hint, row, wait, client, ret_w))
		return (int)hint;
	for (uint32_t slot = 0; slot < seg->nslots; slot++)
		if (take(seg, slot, row, wait, client, ret_w))
			return (int)slot;
	return -1;
}

void
handoff_wake_all(struct segment *seg)
{
	uint32_t idle = 0;

	if (!queue_maybe_waiting(seg))
		return;
	for (uint32_t slot = 0; slot < seg->nslots; slot++)
		idle += word_state(slot_load(seg, slot)) == SLOT_IDLE;
	if (idle != 0)
		queue_wake_again(seg, idle);
}

uint32_t
handoff_recover(struct segment *seg, uint64_t now)
{
	uint32_t repaired = 0;

	for (uint32_t slot = 0; slot < seg->nslots; slot++)
		repaired += handoff_repair(seg, slot, now);
	queue_repost(seg);
	handoff_wake_all(seg);
	return repaired;
}
