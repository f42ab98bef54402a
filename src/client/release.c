/* SPDX-License-Identifier: PostgreSQL */
/*
 * pglease_release: what is left in the session, who is to reset it and when (doc/protocol.md, "The session between two
 * leases"), the counting, and the slot given up.
 */
#include "client_priv.h"
#include "former.h"
#include "handoff.h"
#include "lease.h"
#include "queue.h"
#include "reattach.h"
#include "reset.h"
#include "resets.h"
#include "shell.h"
#include "slots.h"
#include "threshold.h"
#include "timing.h"

/* Relaxed: it never changes. */
static bool
is_pooled(const struct pool_state *state)
{
	return atomic_load_explicit(&state->seg.header->pooling_off, memory_order_relaxed) == 0;
}

/* The policy `never` puts back only what the next lessee's PGconn would be wrong about. */
static int
put_back_parameters(struct pool_state *state, uint32_t slot, const struct shell *shell, uint64_t *off)
{
	int r = reset_run(state, shell->conn, "SET SESSION AUTHORIZATION DEFAULT; RESET ALL");

	if (r == 0 && (*off = reset_off_baseline(state, slot, shell, true)) != 0)
		r = PGLEASE_EBROKEN;
	return r;
}

/* Whether there is something in the session for a reset to undo: with the policy `never`, a LISTEN or SET. */
static bool
leaves_traces(const struct pool_state *state, const struct shell *shell, enum pglease_session said)
{
	if (shell->dirty_before)
		return true;
	if (said == PGLEASE_SESSION_USED &&
	    atomic_load_explicit(&state->seg.header->reset_policy, memory_order_relaxed) == RESET_NEVER)
		return shell->marked;
	return said != PGLEASE_SESSION_CLEAN;
}

/*
 * What the session holds when the slot is given up: *ret_session, for the word. Sends a reset ahead (D1) when the next
 * lessee is known to be another, or somebody wants it so. PGLEASE_EBROKEN: it is in doubt.
 */
static int
leave(struct pool_state *state, uint32_t slot, struct shell *shell, enum pglease_session said, uint64_t now,
    unsigned *ret_session)
{
	struct segment *seg = &state->seg;
	uint32_t policy = atomic_load_explicit(&seg->header->reset_policy, memory_order_relaxed);
	unsigned next = handoff_next_client(seg, slot, now, shell->returned);
	bool dirty = leaves_traces(state, shell, said);
	bool at_once = said == PGLEASE_SESSION_DIRTY || (policy == RESET_ALWAYS && dirty) ||
		       (dirty && next != WORD_NONE && next != state->process->client);
	/* What an earlier release has noted must not be forgotten by one that looks at less. Relaxed: written under the lease. */
	bool noted = atomic_load_explicit(&seg->slot[slot].off_baseline, memory_order_relaxed) != 0;
	bool whole = at_once || noted || clock_since(now, shell->compared_at) >= RESET_CHECK_NS;
	uint64_t off = reset_off_baseline(state, slot, shell, whole);
	enum reset_kind kind = resets_kind(seg);
	int r;

	shell->off = whole ? off : UINT64_MAX;
	if (whole) {
		shell->compared_at = now;
		shell->touched = true; /* for shell_checkin() */
	} else if (atomic_load_explicit(&seg->slot[slot].unverified, memory_order_relaxed) == 0)
		atomic_store_explicit(&seg->slot[slot].unverified, 1, memory_order_relaxed);
	if (off != 0 && policy == RESET_NEVER && said != PGLEASE_SESSION_DIRTY &&
	    (r = put_back_parameters(state, slot, shell, &off)) != 0)
		return r;
	atomic_store_explicit(&seg->slot[slot].off_baseline, off, memory_order_relaxed);
	if (!dirty && off == 0) {
		*ret_session = 0;
		return 0;
	}
	if (!at_once) {
		*ret_session = SLOT_DIRTY;
		return 0;
	}
	/* Who says that a session is dirty means more than its LISTENs. */
	if (kind == RESET_UNLISTEN && said == PGLEASE_SESSION_DIRTY)
		kind = RESET_FULL;
	if (!fd_is(PQsocket(shell->conn), &shell->socket_id))
		return PGLEASE_EBROKEN;
	r = reset_send(state, slot, shell, kind, reset_is_unverified(state, slot, now));
	if (r == 0) {
		lease_count(state, shell, COUNTER_RESETS_PIPELINED, 1);
		*ret_session = SLOT_OWED;
	}
	return r;
}

static inline void
count_release(const struct pool_state *state, const struct shell *shell, uint64_t now)
{
	uint64_t held = now - shell->leased_at;
	struct stats_block *block = &state->seg.block[shell->block];

	if (!lease_is_counted(state))
		return;
	lease_count_end(state, shell, COUNTER_RELEASES);
	counter_add(&block->counter[COUNTER_HOLD_NS], held);
	histogram_record(&block->hold, held);
}

/* The slot goes back sound (after D1: D2): S8 or S9, or S10 when the broker wants it. False if the lease had ended. */
static bool
give_sound(struct pool_state *state, const pglease_lease *lease, uint64_t *w, unsigned session, uint64_t now, bool returns)
{
	enum handoff_result r;

	if (!is_pooled(state)) {
		atomic_store_explicit(&state->seg.slot[lease->slot].clean, 1, memory_order_relaxed);
		return lease_give_to_broker(state, lease->slot, w, 0);
	}
	/* Whose the session was last, dirty or not; after a reset was sent, nobody's. */
	r = handoff_release(&state->seg, lease->slot, w, session == SLOT_OWED ? WORD_NONE : state->process->client, session,
	    now, returns);
	switch (r) {
	case HANDOFF_GRANTED:
		if (lease_is_counted(state))
			atomic_fetch_add_explicit(
			    &state->seg.header->client_counter[COUNTER_HANDOVERS], 1, memory_order_relaxed);
		lease_tell_dirty(state, session);
		return true;
	case HANDOFF_IDLE:
		lease_tell_dirty(state, session);
		return true;
	case HANDOFF_BLOCKED:
		return lease_give_to_broker(state, lease->slot, w, session & SLOT_OWED);
	case HANDOFF_LOST:
		break;
	}
	return false;
}

/* A revoked lease's row is free for another, and its shell goes, unless that has been done before. */
static void
end_lost(struct pool_state *state, const pglease_lease *lease)
{
	uint64_t token = row_token(lease->slot, lease->sequence);

	if (!atomic_compare_exchange_strong(&state->seg.row[lease->row].held, &token, 0))
		return;
	lease_over(state);
	shell_lost(state, lease->slot, lease->sequence);
}

/* The row holds no lease any more: it is its thread's for the next. */
static void
leave_row(struct pool_state *state, uint32_t row, uint64_t now)
{
	struct row *r = &state->seg.row[row];

	atomic_store_explicit(&r->released_at, now, memory_order_relaxed);
	atomic_store_explicit(&r->held, 0, memory_order_release);
}

/* Gives up the slot of a lease whose shell and row are free already. */
static int
give_up(struct pool_state *state, const pglease_lease *lease, uint64_t *w, unsigned session, uint64_t now, bool returns)
{
	if (!give_sound(state, lease, w, session, now, returns)) {
		shell_lost(state, lease->slot, lease->sequence);
		return error_set(PGLEASE_ESTALE, "the lease of slot %u was revoked", lease->slot);
	}
	/*
	 * Whom this has woken may have had the processor first. That is not the time that the worker takes to come back (threads_returns).
	 * The row may be another's by now: it is a guess, of whoever's.
	 */
	atomic_store_explicit(&state->seg.row[lease->row].released_at, clock_quick_ns(), memory_order_relaxed);
	threshold_maybe_look(lease->pool, state, now);
	return 0;
}

/* Whether libpq is idle, in the mode that every lease begins with, and knows the parameters that escaping depends on. */
static bool
is_at_rest(const struct shell *shell)
{
	PGconn *conn = shell->conn;

	return PQtransactionStatus(conn) == PQTRANS_IDLE && PQpipelineStatus(conn) == PQ_PIPELINE_OFF &&
	       !PQisnonblocking(conn);
}

/*
 * The common release, in one straight line: the session keeps this client's traces, or has none; nothing is to be looked at more
 * closely, and nobody waits. False: nothing happened, and the long way is to be gone.
 */
static __attribute__((noinline)) bool
release_warm(const pglease_lease *lease, enum pglease_session said, int *ret_code)
{
	struct pool_state *state = atomic_load_explicit(&lease->pool->state, memory_order_acquire);
	const struct segment_header *h;
	struct shell *shell;
	struct slot *s;
	unsigned session;
	uint64_t w, now;
	bool dirty, returns;

	if (state == NULL || state->serial != guard_serial() || lease->incarnation != state->lease_of ||
	    lease->slot >= state->seg.nslots || lease->row >= state->seg.nrows)
		return false;
	h = state->seg.header;
	s = &state->seg.slot[lease->slot];
	w = slot_load(&state->seg, lease->slot);
	shell = shell_of_lease(state, lease->slot, lease->sequence);
	/* No flag, either: neither CANCELLING nor RETIRE. */
	if (shell == NULL || w != word_pack(SLOT_LEASED, 0, lease->row, lease->sequence) || shell->conn == NULL ||
	    shell->lost || !is_at_rest(shell))
		return false;
	dirty = leaves_traces(state, shell, said);
	now = clock_quick_ns();
	if (now < shell->leased_at) /* clock.h */
		now = shell->leased_at;
	if ((unsigned)said > PGLEASE_SESSION_CLEAN || !is_pooled(state) || queue_maybe_waiting(&state->seg) ||
	    (dirty && atomic_load_explicit(&h->reset_policy, memory_order_relaxed) == RESET_ALWAYS) ||
	    atomic_load_explicit(&h->max_leases, memory_order_relaxed) != 0 ||
	    atomic_load_explicit(&s->off_baseline, memory_order_relaxed) != 0 ||
	    atomic_load_explicit(&s->unverified, memory_order_relaxed) == 0 ||
	    now - shell->compared_at >= RESET_CHECK_NS || /* in its future, too */
	    reset_is_escaping_off(shell) || !(shell_is_surely_kept(state, shell) || shell_is_kept(state, shell)))
		return false;
	reset_conn(shell);
	timing_release(state, shell, now);
	count_release(state, shell, now);
	returns = shell->returned;
	session = dirty ? SLOT_DIRTY : 0;
	shell_keep(shell, now);
	leave_row(state, lease->row, now);
	*ret_code = 0;
	if (!handoff_release_alone(&state->seg, lease->slot, w, state->process->client, session, now)) {
		*ret_code = give_up(state, lease, &w, session, now, returns);
		return true;
	}
	lease_tell_dirty(state, session);
	threshold_maybe_look(lease->pool, state, now);
	return true;
}

/* The pool is going, and the broker that would end the session is gone: its lessee does. */
static bool
is_left_alone(const struct pool_state *state)
{
	return atomic_load(&state->seg.header->state) == SEGMENT_GOING && reattach_look(state, clock_quick_ns());
}

/*
 * The lease is of a state whose segment nobody owns: its session ends with it, and the word stays. So it is the row that tells whether
 * it has ended before.
 */
static int
end_ownerless(struct pool_state *state, const pglease_lease *lease, struct shell *shell)
{
	uint64_t token = row_token(lease->slot, lease->sequence);

	if (!atomic_compare_exchange_strong(&state->seg.row[lease->row].held, &token, 0))
		return error_set(PGLEASE_ESTALE, "the lease of slot %u has ended: released before", lease->slot);
	shell_discard(state, shell);
	lease_over(state);
	return 0;
}

static __attribute__((noinline)) int
release_any(const pglease_lease *lease, enum pglease_session said)
{
	struct pool_state *state;
	struct shell *shell;
	bool rolled_back = false, sound, returns;
	unsigned session = 0;
	uint64_t w, now;
	int r;

	if (lease == NULL || lease->pool == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", lease == NULL ? "lease" : "the lease's pool");
	if (said < PGLEASE_SESSION_USED || said > PGLEASE_SESSION_BROKEN)
		return error_set(PGLEASE_EINVAL, "session is %d: give a value of enum pglease_session", (int)said);
	if (atomic_load(&lease->pool->state) == NULL)
		return error_set(PGLEASE_EINVAL, "the lease's attachment has ended (pglease_detach)");
	state = former_find(lease->pool, lease->incarnation);
	if (state == NULL)
		return error_set(PGLEASE_EFORKED, "the lease belongs to another process or attachment");
	if (lease->slot >= state->seg.nslots || lease->row >= state->seg.nrows)
		return error_set(PGLEASE_EINVAL, "not a lease of this pool");
	w = slot_load(&state->seg, lease->slot);
	shell = shell_of_lease(state, lease->slot, lease->sequence);
	if (word_state(w) != SLOT_LEASED || word_who(w) != lease->row || word_seq(w) != lease->sequence || shell == NULL) {
		end_lost(state, lease);
		/* Revoked: perhaps because the broker has let go of this process, and then what it claims next would be, too. */
		(void)reattach_is_news(state);
		return error_set(PGLEASE_ESTALE, "the lease of slot %u has ended: released before, or revoked",
		    lease->slot);
	}

	if (atomic_load(&state->former) && former_is_ownerless(lease->pool, state))
		return end_ownerless(state, lease, shell);
	sound = said != PGLEASE_SESSION_BROKEN && shell->conn != NULL && !shell->lost && !is_left_alone(state) &&
		reset_settle(state, shell->conn, &rolled_back) == 0;
	now = clock_quick_ns();
	if (now < shell->leased_at) /* clock.h */
		now = shell->leased_at;
	if (rolled_back)
		lease_count(state, shell, COUNTER_ROLLBACKS, 1);
	if (sound) {
		reset_conn(shell);
		/* A connection that serves one lease is not reset, but closed: by the broker, if there is one. */
		sound = is_pooled(state) ? leave(state, lease->slot, shell, said, now, &session) == 0
					 : !process_is_gone(state->process);
	}
	/* Before the slot is given up: nothing of row or shell may be touched after it. */
	if (!sound) {
		timing_release(state, shell, now);
		lease_count_end(state, shell, COUNTER_RETURNS);
		shell_discard(state, shell);
		atomic_store_explicit(&state->seg.row[lease->row].held, 0, memory_order_release);
		lease_over(state);
		lease_give_to_broker(state, lease->slot, &w, SLOT_RETIRE);
		return 0;
	}
	timing_release(state, shell, now);
	/* Counted before the swap, while the lease is the lock; and before `held`, after which the block may be another's. */
	count_release(state, shell, now);
	returns = shell->returned;
	/* Who always finds its last slot idle hears of it here. Whoever leases it next goes the long way: the warm one is for noted sites. */
	if (reattach_is_due(state, now) && reattach_look(state, now))
		shell->site_known = false;
	shell_checkin(state, shell, now);
	leave_row(state, lease->row, now);
	lease_over(state);
	r = give_up(state, lease, &w, session, now, returns);
	former_look(lease->pool, now);
	return r;
}

int
pglease_release_as(const pglease_lease *lease, enum pglease_session said)
{
	int r;

	return lease != NULL && lease->pool != NULL && release_warm(lease, said, &r) ? r : release_any(lease, said);
}

int
pglease_release(const pglease_lease *lease)
{
	int r;

	return lease != NULL && lease->pool != NULL && release_warm(lease, PGLEASE_SESSION_USED, &r)
		   ? r
		   : release_any(lease, PGLEASE_SESSION_USED);
}
