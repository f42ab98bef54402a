/* SPDX-License-Identifier: PostgreSQL */
/*
 * The lease path and the wait path (doc/protocol.md): the orders of R2, Q1, rescan, sleep, S6/S7, R3/R5 are law.
 */
#include "claim.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "handoff.h"
#include "lease.h"
#include "queue.h"
#include "reattach.h"
#include "reset.h"
#include "rows.h"
#include "shell.h"
#include "slots.h"

/* A sleeping waiter looks again after this long, doubled up to the second: only for wake-ups lost by a death. */
#define SLICE_NS UINT64_C(100000000)
#define SLICE_MAX_NS UINT64_C(1000000000)
/* The one that has the watch looks for idle slots so often; and every so many times as the others do. */
#define WATCH_NS UINT64_C(1000000)
#define WATCH_LOOKS 100

static int
gone(const struct pool_state *state)
{
	return error_set(PGLEASE_EGONE, "the broker of %s has gone or has detached this process",
	    state->seg.header->instance_name);
}

int
claim_open(const struct pool_state *state)
{
	/* Not relaxed: a waiter looks at it after its R2, and the broker posts who waits after its store. */
	switch (atomic_load(&state->seg.header->state)) {
	case SEGMENT_OPEN:
		return 0;
	case SEGMENT_DRAINING:
		if (process_is_gone(state->process)) /* nobody resumes it */
			return gone(state);
		return error_set(PGLEASE_EDRAINING, "pool %s is draining: it grants no new leases",
		    state->seg.header->pool_name);
	case SEGMENT_PAUSED: /* until it is resumed, or the deadline */
		return process_is_gone(state->process) ? gone(state) : 0;
	case SEGMENT_DISABLED:
		if (process_is_gone(state->process))
			return gone(state);
		return error_set(PGLEASE_EDRAINING, "pool %s is disabled: it grants no new leases until it is enabled",
		    state->seg.header->pool_name);
	case SEGMENT_GOING:
		return process_is_gone(state->process) ? gone(state) : LEASE_MOVED;
	default:
		return error_set(PGLEASE_EGONE, "the broker of %s has stopped", state->seg.header->instance_name);
	}
}

static int
refused(const struct pool_state *state, uint64_t since, uint64_t now)
{
	const struct segment_header *h = state->seg.header;

	return error_set(PGLEASE_EUPSTREAM, "no connection in pool %s within %.3g s: the server refuses: %.*s", h->pool_name,
	    (double)(now - since) / 1e9, (int)sizeof(h->upstream_error) - 1, h->upstream_error);
}

/* Whether a waiter is not to wait for the upstream's return. Pairs with maintain_pool(), which stores, then posts. */
static bool
fails_fast(const struct segment *seg)
{
	return atomic_load_explicit(&seg->header->fail_fast, memory_order_relaxed) != 0 &&
	       atomic_load(&seg->header->upstream_down) != 0;
}

bool
claim_idle(struct pool_state *state, struct thread_row *tr, bool thorough, struct claim *ret)
{
	struct segment *seg = &state->seg;
	uint32_t start = tr->last_slot >= 0 ? (uint32_t)tr->last_slot : state->process->client % seg->nslots;

	/* Every failed swap means that somebody else got on; as many as there are slots is enough of a try. */
	for (uint32_t n = 0; n <= seg->nslots; n++) {
		uint64_t w;
		int slot = slot_find_idle(seg, tr->last_slot, start, thorough, &w);

		if (slot < 0)
			return false;
		ret->before = w;
		if (slot_lease(seg, (uint32_t)slot, &w, tr->row, state->process->client)) { /* S6 */
			ret->slot = (uint32_t)slot;
			ret->w = w;
			return true;
		}
	}
	return false;
}

/* Whether the slot's session can be used as it is, by a PGconn that is there. A racy look: the lessee looks again. */
static bool
is_ready(const struct pool_state *state, uint32_t slot, uint64_t w, uint64_t now)
{
	unsigned session = word_session(w);

	return word_state(w) == SLOT_IDLE &&
	       (word_who(w) == state->process->client ? session != SLOT_OWED
						      : session == 0 && !reset_is_unverified(state, slot, now)) &&
	       atomic_load(&atomic_load(&state->shell[slot])->state) == SHELL_FREE;
}

bool
claim_ready(struct pool_state *state, struct thread_row *tr, uint64_t now, struct claim *ret)
{
	struct segment *seg = &state->seg;
	uint32_t start = tr->last_slot >= 0 ? (uint32_t)tr->last_slot : state->process->client % seg->nslots;

	for (uint32_t i = 0; i < seg->nslots; i++) {
		uint32_t slot = (start + i) % seg->nslots;
		uint64_t w = slot_load(seg, slot);

		if (!is_ready(state, slot, w, now))
			continue;
		ret->before = w;
		if (slot_lease(seg, slot, &w, tr->row, state->process->client)) { /* S6 */
			ret->slot = slot;
			ret->w = w;
			return true;
		}
	}
	return false;
}

bool
claim_kept(struct pool_state *state, struct thread_row *tr, struct claim *ret)
{
	struct segment *seg = &state->seg;
	uint32_t start = tr->last_slot >= 0 ? (uint32_t)tr->last_slot : state->process->client % seg->nslots;

	for (uint32_t i = 0; i < seg->nslots; i++) {
		uint32_t slot = (start + i) % seg->nslots;
		uint64_t w = slot_load(seg, slot);
		bool taken;

		if (word_state(w) != SLOT_IDLE || !shell_hold(state, slot))
			continue;
		ret->before = w;
		taken = slot_lease(seg, slot, &w, tr->row, state->process->client); /* S6 */
		shell_unhold(state, slot);
		if (taken) {
			ret->slot = slot;
			ret->w = w;
			return true;
		}
	}
	return false;
}

/* Leave, then pass it on: a post that this waiter may have swallowed is given to the next if a slot is idle. */
static void
pass_on(struct segment *seg)
{
	uint64_t w;

	if (queue_maybe_waiting(seg) && slot_find_idle(seg, -1, 0, true, &w) >= 0)
		queue_wake(seg);
}

/* A slot that the row was granted and does not need: S8, S9 or S10. */
static void
give_on(struct pool_state *state, uint32_t slot, uint64_t w)
{
	unsigned session = word_session(w);

	if (handoff_give(&state->seg, slot, &w, WORD_NONE, session, clock_ns()) == HANDOFF_BLOCKED)
		lease_give_to_broker(state, slot, &w, session & SLOT_OWED); /* S10: the broker wants it */
	else
		lease_tell_dirty(state, session);
}

/* `slot` was granted to the row's wait and is its own now (S7): the wait is over. */
static void
accept_grant(struct pool_state *state, struct thread_row *tr, uint64_t wait, uint64_t *row_w, uint32_t slot,
    struct claim *ret)
{
	uint64_t w;

	if (!row_own(&state->seg, tr->row, row_w)) /* R5; or R3, unless somebody completed the grant just now: R5 */
		row_own(&state->seg, tr->row, row_w);
	queue_served(&state->seg, tr->row, wait);
	/* A second grant to the same wait is stale from R5 on, and its granter may not know. */
	for (int other; (other = handoff_take_grant(&state->seg, tr->row, wait, state->process->client, &w)) >= 0;)
		give_on(state, (uint32_t)other, w);
	ret->slot = slot;
	/* What it was swapped from: GRANTED with the same flags, one sequence number before. */
	ret->before = word_pack(SLOT_GRANTED, word_flags(ret->w), tr->row, word_seq(ret->w) - 1);
	ret->granted = true;
}

/* GRANTED(wait) was seen in the row: takes it. False if it has been taken back: the row is OWNED again. */
static bool
take_granted(struct pool_state *state, struct thread_row *tr, uint64_t wait, uint64_t *row_w, struct claim *ret)
{
	int slot = handoff_take_grant(&state->seg, tr->row, wait, state->process->client, &ret->w); /* S7 */

	if (slot >= 0) {
		accept_grant(state, tr, wait, row_w, (uint32_t)slot, ret);
		return true;
	}
	row_own(&state->seg, tr->row, row_w); /* R5 */
	queue_served(&state->seg, tr->row, wait);
	return false;
}

/* A grant that the row was not told of: its granter died, or is, between S9 and R4. */
static bool
take_untold(struct pool_state *state, struct thread_row *tr, uint64_t wait, uint64_t *row_w, struct claim *ret)
{
	int slot = handoff_take_grant(&state->seg, tr->row, wait, state->process->client, &ret->w); /* S7 */

	if (slot >= 0)
		accept_grant(state, tr, wait, row_w, (uint32_t)slot, ret);
	return slot >= 0;
}

/* S6 while WAITING, then R3; a grant that came in between is given on: the row never holds two. */
static bool
claim_waiting(struct pool_state *state, struct thread_row *tr, uint64_t wait, uint64_t *row_w, struct claim *ret)
{
	struct segment *seg = &state->seg;
	struct claim extra;

	if (process_is_gone(state->process) ? !claim_kept(state, tr, ret) : !claim_idle(state, tr, true, ret))
		return false;
	if (row_own(seg, tr->row, row_w)) { /* R3 */
		queue_served(seg, tr->row, wait);
		return true;
	}
	if (take_granted(state, tr, wait, row_w, &extra))
		give_on(state, extra.slot, extra.w);
	return true;
}

/* Gives up: R3. True if there is a grant after all. */
static bool
give_up(struct pool_state *state, struct thread_row *tr, uint64_t wait, uint64_t *row_w, struct claim *ret)
{
	struct segment *seg = &state->seg;
	int slot;

	if (!row_own(seg, tr->row, row_w)) /* R3 failed: GRANTED */
		return take_granted(state, tr, wait, row_w, ret);
	queue_leave(seg, tr->row, wait);
	/* A granter between S9 and R4. */
	slot = handoff_take_grant(seg, tr->row, wait, state->process->client, &ret->w);
	if (slot < 0)
		return false;
	ret->slot = (uint32_t)slot;
	ret->before = word_pack(SLOT_GRANTED, word_flags(ret->w), tr->row, word_seq(ret->w) - 1);
	ret->granted = true;
	return true;
}

/* Whether waiting could make the pool grow: the broker is told so once a wait and at each slice. */
static bool
may_grow(const struct segment *seg)
{
	uint32_t max = atomic_load_explicit(&seg->header->max_connections, memory_order_relaxed);

	for (uint32_t slot = 0; slot < seg->nslots && slot < max; slot++)
		if (word_state(slot_load(seg, slot)) == SLOT_EMPTY)
			return true;
	return false;
}

static struct timespec
timespec_of(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

/* One wait, from R2 to R3 or R5. 1: a slot; 0: the grant was taken back, wait anew; or a negative code. */
static int
wait_once(struct pool_state *state, struct thread_row *tr, uint64_t since, uint64_t deadline, struct claim *ret)
{
	struct segment *seg = &state->seg;
	struct row *row = &seg->row[tr->row];
	bool lonely = process_is_gone(state->process);
	uint64_t row_w = row_load(seg, tr->row), wait, slice = lonely ? CLAIM_LONELY_NS : SLICE_NS;
	bool ring = true, cut_off = false, queued, watches;
	unsigned looks = 0;

	if (!row_wait(seg, tr->row, &row_w, since)) /* R2 */
		return gone(state);
	wait = word_seq(row_w);
	queued = queue_enter(seg, tr->row, wait, since);

	for (;;) {
		uint64_t now, until;
		struct timespec ts;
		int r;

		/* Before the rescan: a post that comes from now on is not swallowed. Pairs with row_post's exchange. */
		atomic_store(&row->posted, 0);
		/*
		 * The watch's timer costs more than the wake-ups that it spares, where slots are seldom kept; and who has no broker
		 * cannot take what it would find, unless it has the PGconn.
		 */
		watches = handoff_watch(seg, tr->row, wait,
		    !process_is_gone(state->process) && handoff_is_keeping(seg, clock_quick_ns()));
		row_w = row_load(seg, tr->row);
		if (word_state(row_w) == ROW_GRANTED && word_seq(row_w) == wait)
			return take_granted(state, tr, wait, &row_w, ret);
		if (word_state(row_w) != ROW_WAITING || word_seq(row_w) != wait)
			return gone(state);
		if (claim_waiting(state, tr, wait, &row_w, ret))
			return 1;
		now = clock_ns();
		r = cut_off || atomic_load(&state->former) ? gone(state) : claim_open(state);
		if (r == 0 && !lonely && fails_fast(seg))
			r = refused(state, since, now);
		/* Whoever cancels stores, then posts: pairs with the loads here and the clearing of `posted` above. */
		if (r != 0 || now >= deadline || atomic_load(&tr->cancelled)) {
			if (give_up(state, tr, wait, &row_w, ret))
				return 1;
			if (r == 0 && atomic_load(&tr->cancelled))
				return error_set(PGLEASE_EAGAIN, "the request was cancelled");
			return r != 0 ? r : claim_timeout(state, since, now);
		}
		if (ring && may_grow(seg))
			client_ring(state);
		until = watches && slice > WATCH_NS ? now + WATCH_NS : now + slice;
		if (until > deadline)
			until = deadline;
		if (!queued) {
			/* The ring was full: enqueue, look, sleep. */
			queued = queue_enter(seg, tr->row, wait, since);
			if (queued)
				continue;
		}
		ts = timespec_of(until);
		do
			r = sem_clockwait(&row->sem, CLOCK_MONOTONIC, &ts);
		while (r != 0 && errno == EINTR);
		/* Woken: look at once. Slice over: look closer, and next time sleep longer. */
		ring = r != 0 && (!watches || ++looks % (lonely ? CLAIM_LONELY_NS / WATCH_NS : WATCH_LOOKS) == 0);
		if (r == 0)
			continue;
		if (take_untold(state, tr, wait, &row_w, ret))
			return 1;
		if (!ring)
			continue;
		cut_off = lonely || reattach_is_news(state) || process_is_gone(state->process);
		if (slice < SLICE_MAX_NS)
			slice *= 2;
	}
}

int
claim_wait(struct pool_state *state, struct thread_row *tr, uint64_t since, uint64_t deadline, struct claim *ret)
{
	int r;

	do
		r = wait_once(state, tr, since, deadline, ret);
	while (r == 0);
	pass_on(&state->seg);
	if (r < 0)
		return r;
	ret->waited = true;
	return 0;
}

/* The longest holder, as far as a racy look tells: for the message only. */
static void
longest_holder(const struct segment *seg, uint64_t now, char *buf, size_t size)
{
	uint64_t oldest = 0;
	int found = -1;
	unsigned row, client;
	char site[SLOT_SITE], who[40] = "a process of another PID namespace";
	uint32_t pid;

	for (uint32_t i = 0; i < seg->nslots; i++) {
		uint64_t at = atomic_load_explicit(&seg->slot[i].leased_at, memory_order_relaxed);

		if (word_state(slot_load(seg, i)) == SLOT_LEASED && (found < 0 || at < oldest)) {
			found = (int)i;
			oldest = at;
		}
	}
	*buf = '\0';
	if (found < 0 || now < oldest)
		return;
	row = word_who(slot_load(seg, (uint32_t)found));
	client = row < seg->nrows ? word_who(row_load(seg, row)) : WORD_NONE;
	if (client >= seg->nclients)
		return;
	slot_site(seg, (uint32_t)found, site);
	pid = atomic_load_explicit(&seg->client[client].pid, memory_order_relaxed);
	if (pid != 0)
		snprintf(who, sizeof(who), "pid %u", pid);
	snprintf(buf, size, "; longest held %.1f s by %s (%s)", (double)(now - oldest) / 1e9, who, site[0] != '\0' ? site : "?");
}

/* Whether a thread of this client waits, as far as a racy look tells. */
static bool
thread_waits(const struct segment *seg, unsigned client, uint32_t tid)
{
	for (uint32_t row = 0; row < seg->nrows; row++) {
		uint64_t w = row_load(seg, row);

		if (word_state(w) == ROW_WAITING && word_who(w) == client &&
		    atomic_load_explicit(&seg->row[row].tid, memory_order_relaxed) == tid)
			return true;
	}
	return false;
}

/* Whether all leases are held by threads that wait for another one; the caller has just waited. For the message only. */
static bool
is_deadlock(const struct pool_state *state)
{
	const struct segment *seg = &state->seg;
	bool any = false;

	for (uint32_t i = 0; i < seg->nslots; i++) {
		uint64_t w = slot_load(seg, i);
		uint32_t row = word_who(w), tid;
		unsigned client;

		if (word_state(w) == SLOT_IDLE || word_state(w) == SLOT_GRANTED)
			return false;
		if (word_state(w) != SLOT_LEASED || row >= seg->nrows)
			continue;
		client = word_who(row_load(seg, row));
		tid = atomic_load_explicit(&seg->row[row].tid, memory_order_relaxed);
		if (!(client == state->process->client && tid == (uint32_t)gettid()) && !thread_waits(seg, client, tid))
			return false;
		any = true;
	}
	return any;
}

int
claim_timeout(struct pool_state *state, uint64_t since, uint64_t now)
{
	const struct segment *seg = &state->seg;
	const struct segment_header *h = seg->header;
	uint32_t leased = 0, connected = 0, max = atomic_load_explicit(&h->max_connections, memory_order_relaxed);
	char holder[160];

	for (uint32_t i = 0; i < seg->nslots; i++) {
		unsigned s = word_state(slot_load(seg, i));

		leased += s == SLOT_LEASED || s == SLOT_GRANTED;
		connected += s != SLOT_EMPTY && s != SLOT_BROKER;
	}
	/* Nobody replaces connections any more. */
	if (reattach_is_news(state) || process_is_gone(state->process))
		return gone(state);
	if (connected == 0 && atomic_load_explicit(&h->upstream_down, memory_order_relaxed) != 0)
		return refused(state, since, now);
	if (atomic_load_explicit(&h->state, memory_order_relaxed) == SEGMENT_PAUSED)
		return error_set(PGLEASE_ETIMEOUT, "pool %s is paused: no connection within %.3g s (pgleasectl resume ends it)",
		    h->pool_name, (double)(now - since) / 1e9);
	longest_holder(seg, now, holder, sizeof(holder));
	return error_set(PGLEASE_ETIMEOUT, "no connection free in pool %s within %.3g s: %u of %u leased, %u waiting%s%s",
	    h->pool_name, (double)(now - since) / 1e9, leased, max, queue_count(seg, NULL), holder,
	    is_deadlock(state)
		? "; a deadlock: every lease is held by a thread that waits for another (max_leases_per_client = 1 forbids it)"
		: "");
}
