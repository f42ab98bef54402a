/* SPDX-License-Identifier: PostgreSQL */
/* Former states. Who releases a lease of one is release.c's matter, and its thread's end threads.c's. */
#include "former.h"

#include "attach.h"
#include "rows.h"
#include "shell.h"
#include "slots.h"

#define SWEEP_NS UINT64_C(100000000)

void
former_note(pglease_pool *pool, const struct pool_state *state)
{
	const struct segment_header *h = state->seg.header;

	atomic_store_explicit(&pool->acquire_timeout_ns,
	    atomic_load_explicit(&h->acquire_timeout_ns, memory_order_relaxed), memory_order_relaxed);
	atomic_store_explicit(
	    &pool->broker_down, atomic_load_explicit(&h->broker_down, memory_order_relaxed), memory_order_relaxed);
}

void
former_add(pglease_pool *pool, struct pool_state *state)
{
	atomic_store(&state->dead_fd, pool->client->dead_fd);
	state->next_former = atomic_load(&pool->former);
	/* Release, as all here: who sees the state or the flag sees the rest. */
	atomic_store(&pool->former, state);
	atomic_store(&state->former, true);
	atomic_store_explicit(&pool->sweep_at, 0, memory_order_relaxed);
	atomic_store(&pool->is_unswept, true);
}

void
former_look(pglease_pool *pool, uint64_t now)
{
	/* Relaxed: it is looked at again soon. */
	if (atomic_load_explicit(&pool->is_unswept, memory_order_relaxed) &&
	    now >= atomic_load_explicit(&pool->sweep_at, memory_order_relaxed))
		former_sweep(pool);
}

void
former_forget(pglease_pool *pool)
{
	struct pool_state *state = atomic_load(&pool->former);

	atomic_store(&pool->former, NULL);
	atomic_store(&pool->is_unswept, false);
	for (; state != NULL; state = state->next_former)
		attach_abandon(state);
}

struct pool_state *
former_find(const pglease_pool *pool, uint64_t lease_of)
{
	/* The present one first: one that becomes a former one meanwhile is added there before it goes from here. */
	struct pool_state *state = atomic_load(&pool->state);

	/* The serial first: in a child the rest may be gone. */
	if (state == NULL || state->serial != guard_serial())
		return NULL;
	if (state->lease_of == lease_of)
		return state;
	for (state = atomic_load(&pool->former); state != NULL; state = state->next_former)
		if (state->lease_of == lease_of)
			return state;
	return NULL;
}

bool
former_is_ownerless(const pglease_pool *pool, const struct pool_state *state)
{
	/* The client's process is another one before its states are former ones. */
	return state->process->instance_id != atomic_load(&pool->client->process)->instance_id;
}

void
former_let_go(struct pool_state *state)
{
	for (uint32_t slot = 0; slot < state->nslots; slot++)
		shell_expire(state, slot, -1);
}

/* The row that claims idle slots; -1: there is none to be had, and sessions are left to whoever closes them last. */
static int
sweep_row(struct pool_state *state, bool is_ownerless)
{
	uint64_t w;

	if (!is_ownerless)
		return -1;
	if (state->sweep_row < 0)
		state->sweep_row = row_claim(&state->seg, state->process->client, 0, &w); /* R1 */
	return state->sweep_row;
}

/* Whether threads of this process wait in it; they are told to look. */
static bool
is_waited_in(struct pool_state *state)
{
	bool any = false;

	for (uint32_t row = 0; row < state->seg.nrows; row++) {
		uint64_t w = row_load(&state->seg, row);

		if (word_who(w) == state->process->client && (word_state(w) == ROW_WAITING || word_state(w) == ROW_GRANTED)) {
			row_post(&state->seg, row, true);
			any = true;
		}
	}
	return any;
}

/*
 * Whether a thread of this process holds a slot in it, perhaps without a shell yet. Where a broker lives it must find its word when it
 * gives the slot up, or that stays LEASED; and no other is claimed any more, for that broker has let none stay IDLE.
 */
static bool
is_leased_in(const struct pool_state *state)
{
	for (uint32_t slot = 0; slot < state->seg.nslots; slot++) {
		uint64_t w = slot_load(&state->seg, slot);

		if ((word_state(w) == SLOT_LEASED || word_state(w) == SLOT_GRANTED) && word_who(w) < state->seg.nrows &&
		    word_who(row_load(&state->seg, word_who(w))) == state->process->client)
			return true;
	}
	return false;
}

/* True when nothing is left in it. */
static bool
sweep(struct pool_state *state, bool is_ownerless)
{
	bool is_empty = true;

	for (uint32_t slot = 0; slot < state->nslots; slot++)
		if (!shell_expire(state, slot, sweep_row(state, is_ownerless)))
			is_empty = false;
	if (is_waited_in(state) || !is_empty || (!is_ownerless && is_leased_in(state)) || shell_has_orphans(state))
		return false;
	/* The broker counts them as ours until then, and a detach would not be a clean one. */
	if (!is_ownerless)
		rows_free_all(&state->seg, state->process->client);
	segment_blank(&state->seg);
	history_blank(&state->past);
	return true;
}

void
former_sweep(pglease_pool *pool)
{
	uint64_t other = atomic_load(&pool->sweeping), serial = guard_serial();
	bool is_left = false;

	/* One at a time; a child takes over from a thread that is not there. */
	if (other == serial || !atomic_compare_exchange_strong(&pool->sweeping, &other, serial))
		return;
	atomic_store(&pool->is_unswept, false);
	atomic_store_explicit(&pool->sweep_at, clock_ns() + SWEEP_NS, memory_order_relaxed);
	for (struct pool_state *state = atomic_load(&pool->former); state != NULL; state = state->next_former) {
		if (atomic_load(&state->swept))
			continue;
		if (sweep(state, former_is_ownerless(pool, state)))
			atomic_store(&state->swept, true);
		else
			is_left = true;
	}
	if (is_left)
		atomic_store(&pool->is_unswept, true);
	atomic_store(&pool->sweeping, 0);
}

void
former_close(pglease_pool *pool)
{
	struct pool_state *state = atomic_load(&pool->former), *next;

	former_sweep(pool);
	atomic_store(&pool->former, NULL);
	for (; state != NULL; state = next) {
		next = state->next_former;
		shell_end_all(state);
		attach_close(state);
	}
}
