/* SPDX-License-Identifier: PostgreSQL */
#include "warm.h"

#if __has_include(<sys/single_threaded.h>)
#define HAVE_SINGLE_THREADED 1
#include <sys/single_threaded.h> /* glibc 2.32 */
#else
#define HAVE_SINGLE_THREADED 0
#endif

#include "lease.h"
#include "slots.h"
#include "threads.h"

/* IDLE, this client's last, and usable as it is: clean, or with its own traces. */
static bool
is_usable(uint64_t w, unsigned client)
{
	return word_state(w) == SLOT_IDLE && (word_flags(w) & ~SLOT_DIRTY) == 0 && word_who(w) == client;
}

/* Whether what slot and shell know of the holder is right for this lease too: note_holder() has nothing to write. */
static bool
is_noted(const struct pool_state *state, const struct slot *s, const struct shell *shell, const struct thread_row *tr,
    const struct site *site)
{
	return shell->site_known && shell->site.file == site->file &&
	       shell->site.line == site->line && (site->file != NULL || shell->site.caller == site->caller) &&
	       atomic_load_explicit(&s->holder_tid, memory_order_relaxed) ==
		   atomic_load_explicit(&state->seg.row[tr->row].tid, memory_order_relaxed);
}

/* Whether the PGconn is there, and knows the session as it is. In state EVICTING: nobody else touches the shell. */
static bool
is_current(const struct slot *s, const struct shell *shell)
{
	return shell->conn != NULL && !shell->lost &&
	       shell->generation == atomic_load_explicit(&s->generation, memory_order_relaxed) &&
	       shell->session == atomic_load_explicit(&s->session, memory_order_relaxed);
}

/*
 * FREE to EVICTING. As long as the process has no second thread, nobody can come between the look and the store; whoever is made later
 * sees what was stored.
 */
static inline bool
take_shell(struct shell *shell)
{
	uint32_t free = SHELL_FREE;

#if HAVE_SINGLE_THREADED
	if (__libc_single_threaded) {
		if (atomic_load_explicit(&shell->state, memory_order_relaxed) != SHELL_FREE)
			return false;
		atomic_store_explicit(&shell->state, SHELL_EVICTING, memory_order_relaxed);
		return true;
	}
#endif
	return atomic_compare_exchange_strong_explicit(
	    &shell->state, &free, SHELL_EVICTING, memory_order_acquire, memory_order_relaxed);
}

/*
 * The shell is taken before the slot, as an evictor does: a thread that leases the slot meanwhile waits for it. What is read of the
 * slot between `w` and S6 from `w` is stable: it changes only with its owner, and so would the word's sequence.
 */
static bool
take(struct pool_state *state, struct thread_row *tr, const struct site *site, uint64_t now, struct shell **ret_shell,
    uint64_t *ret_seq)
{
	const struct segment_header *h = state->seg.header;
	uint32_t slot = (uint32_t)tr->last_slot, block;
	struct slot *s = &state->seg.slot[slot];
	struct shell *shell = atomic_load_explicit(&state->shell[slot], memory_order_acquire);
	unsigned client = state->process->client;
	uint64_t w = slot_load(&state->seg, slot), idle_since;
	bool dirty = word_flags(w) != 0;

	if (!is_usable(w, client) || !take_shell(shell))
		return false;
	/* Still the slot's: nobody puts another in its place while it is EVICTING. */
	if (shell != atomic_load(&state->shell[slot]))
		goto no;
	idle_since = atomic_load_explicit(&s->idle_since, memory_order_relaxed);
	/* Acquire: before S6. */
	block = atomic_load_explicit(&s->block, memory_order_acquire);
	if (!is_current(s, shell) || !is_noted(state, s, shell, tr, site) || block >= state->seg.nblocks ||
	    clock_since(now, idle_since) >= atomic_load_explicit(&h->bypass_ns, memory_order_relaxed) ||
	    !slot_lease(&state->seg, slot, &w, tr->row, client)) /* S6 */
		goto no;
	/* As in acquire(), make_usable(), note_holder() and count_lease(). */
	atomic_store_explicit(&state->seg.row[tr->row].held, row_token(slot, word_seq(w)), memory_order_relaxed);
	atomic_store_explicit(&shell->sequence, word_seq(w), memory_order_relaxed);
	atomic_store_explicit(&shell->state, SHELL_IN_USE, memory_order_release);
	shell->block = block;
	shell->transaction_at = 0;
	shell->queries_out = 0;
	shell->marked = false;
	shell->off = UINT64_MAX;
	shell->returned = threads_returns(state, tr, now, false);
	shell->dirty_before = dirty;
	shell->leased_at = now > idle_since ? now : idle_since;
	atomic_store_explicit(&s->leased_at, shell->leased_at, memory_order_relaxed);
	if (lease_is_counted(state)) {
		_Atomic uint64_t *counter = state->seg.block[block].counter;

		if (dirty)
			counter_add(&counter[COUNTER_RESETS_SPARED], 1);
		counter_add(&counter[COUNTER_LEASES_IMMEDIATE], 1);
	}
	*ret_shell = shell;
	*ret_seq = word_seq(w);
	return true;
no:
	atomic_store_explicit(&shell->state, SHELL_FREE, memory_order_release);
	return false;
}

bool
warm_acquire(pglease_pool *pool, const struct site *site, pglease_lease *ret_lease, PGconn **ret_conn)
{
	struct pool_state *state = atomic_load_explicit(&pool->state, memory_order_acquire);
	struct thread_row *tr;
	struct shell *shell;
	uint64_t seq;

	if (state == NULL || state->serial != guard_serial())
		return false;
	tr = threads_row_at_hand(state);
	if (tr == NULL || tr->last_slot < 0 || atomic_load(&state->seg.header->state) != SEGMENT_OPEN ||
	    atomic_load_explicit(&state->seg.header->max_leases, memory_order_relaxed) != 0 ||
	    !take(state, tr, site, clock_quick_ns(), &shell, &seq))
		return false;
	*ret_lease = (pglease_lease){.pool = pool,
	    .incarnation = state->lease_of,
	    .sequence = seq,
	    .slot = (uint32_t)tr->last_slot,
	    .row = tr->row};
	*ret_conn = shell->conn;
	return true;
}
