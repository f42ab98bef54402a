/* SPDX-License-Identifier: PostgreSQL */
/*
 * pglease_acquire and pglease_release: a slot by claim.c, its PGconn by shell.c, its session by reset.c, and the
 * counting. The lease is the lock on the slot's statistics: plain stores, to the block that was the slot's when the lease
 * began (a revoked lessee must not count into its successor's).
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "claim.h"
#include "client_priv.h"
#include "handoff.h"
#include "reset.h"
#include "rows.h"
#include "shell.h"
#include "slots.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define FOR_EVER_S UINT64_C(31536000)
/*
 * For the exchanges with broker and server that an acquire needs: it may take as much whatever its time-out, and no
 * exchange with a broker that does not answer holds a slot for longer.
 */
#define EXCHANGE_NS (1000 * NS_PER_MS)

/* Whether lessees count. Relaxed: it never changes. */
static bool
counts(const struct pool_state *state)
{
	return atomic_load_explicit(&state->seg.header->monitoring_off, memory_order_relaxed) == 0;
}

static void
count(const struct pool_state *state, const struct shell *shell, enum slot_counter counter, uint64_t n)
{
	if (counts(state))
		counter_add(&state->seg.block[shell->block].counter[counter], n);
}

static void
count_failure(struct pool_state *state, int code)
{
	enum client_counter c = code == PGLEASE_ETIMEOUT || code == PGLEASE_EUPSTREAM ? COUNTER_TIMEOUTS : COUNTER_FAILURES;

	if (counts(state))
		atomic_fetch_add_explicit(&state->seg.header->client_counter[c], 1, memory_order_relaxed);
}

/* The slot is of no use as it is: S10, and the broker is told. False if the lease had ended. */
static bool
give_to_broker(struct pool_state *state, uint32_t slot, uint64_t *w)
{
	uint64_t seq = word_seq(*w);

	while (word_state(*w) == SLOT_LEASED && word_seq(*w) == seq) {
		if (slot_return(&state->seg, slot, w)) {
			client_ring(state);
			return true;
		}
	}
	return false;
}

/* The slot is given up unused, because the broker cannot be reached or the time is over: nobody touched its session. */
static void
give_back_unused(struct pool_state *state, uint32_t slot, uint64_t *w)
{
	if (handoff_give(&state->seg, slot, w, WORD_NONE, true, clock_ns()) == HANDOFF_BLOCKED)
		give_to_broker(state, slot, w);
}

/* The last part of a path; "" for none. */
static const char *
file_name(const char *path)
{
	const char *slash = path != NULL ? strrchr(path, '/') : NULL;

	return slash != NULL ? slash + 1 : path != NULL ? path : "";
}

/* Who holds it and from where, for the others to see. */
static void
note_holder(struct pool_state *state, const struct thread_row *tr, const struct claim *claim, struct shell *shell,
    uint64_t now, const char *file, int line)
{
	struct slot *s = &state->seg.slot[claim->slot];
	bool mine = word_state(claim->before) == SLOT_IDLE && word_who(claim->before) == state->process->client;

	atomic_store_explicit(&s->leased_at, now, memory_order_relaxed);
	shell->leased_at = now;
	/* Unchanged since this thread's or a sibling's last lease of the slot: nothing to write. */
	if (mine && shell->site_known && shell->site_file == file && shell->site_line == line &&
	    atomic_load_explicit(&s->holder_tid, memory_order_relaxed) ==
		atomic_load_explicit(&state->seg.row[tr->row].tid, memory_order_relaxed))
		return;
	atomic_store_explicit(&s->holder_tid,
	    atomic_load_explicit(&state->seg.row[tr->row].tid, memory_order_relaxed), memory_order_relaxed);
	atomic_store_explicit(&s->site_line, line > 0 ? (uint32_t)line : 0, memory_order_relaxed);
	strncpy(s->site_file, file_name(file), LAYOUT_SITE - 1);
	shell->site_file = file;
	shell->site_line = line;
	shell->site_known = true;
}

static uint64_t
later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t
earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * Makes the leased slot's session usable by this process: shell, peek, reset. 0; PGLEASE_EBROKEN: the slot is useless (S10);
 * any other code: it was not touched.
 */
static int
make_usable(struct pool_state *state, const struct claim *claim, uint64_t now, uint64_t limit, struct shell **ret_shell)
{
	struct slot *s = &state->seg.slot[claim->slot];
	unsigned flags = word_flags(claim->before);
	bool idle = word_state(claim->before) == SLOT_IDLE;
	/* Whose traces may be in the session: nobody's; this process's own; another's. */
	bool clean = idle && (flags & SLOT_DIRTY) == 0;
	bool own = idle ? word_who(claim->before) == state->process->client : (flags & SLOT_DIRTY) == 0;
	bool fresh, reset;
	struct shell *shell;
	uint64_t exchange = earlier(limit, now + EXCHANGE_NS);
	uint64_t idle_for = now - atomic_load_explicit(&s->idle_since, memory_order_relaxed);
	int r = shell_checkout(state, claim->slot, claim->w, exchange, &shell, &fresh);

	if (r != 0)
		return r;
	shell->block = atomic_load_explicit(&s->block, memory_order_relaxed);
	if (shell->block >= state->seg.nblocks) { /* scribbled on */
		shell_discard(state, shell);
		return error_set(PGLEASE_EBROKEN, "the slot's statistics block is not sound");
	}
	/* An own session without the own shell: what the process set in it is unknown to a fresh PGconn. */
	reset = !clean && (!own || fresh);
	if (reset || fresh || idle_for >= atomic_load_explicit(&state->seg.header->bypass_ns, memory_order_relaxed)) {
		count(state, shell, COUNTER_PEEKS, 1);
		r = reset_peek(shell->conn, own && !reset);
	}
	if (r == 0 && reset && !fd_is(PQsocket(shell->conn), &shell->socket_id))
		r = error_set(PGLEASE_EBROKEN, "the application has closed the connection's descriptor");
	if (r == 0 && reset) {
		r = reset_session(state, claim->slot, shell->conn,
		    earlier(limit,
			now + atomic_load_explicit(&state->seg.header->reset_timeout_ns, memory_order_relaxed)));
		if (r == 0) {
			count(state, shell, COUNTER_RESETS, 1);
			atomic_fetch_add_explicit(&s->session, 1, memory_order_relaxed);
		} else {
			r = PGLEASE_EBROKEN; /* also when its answer only is late: the rest is the broker's */
		}
	}
	if (r == 0 && fresh)
		count(state, shell, COUNTER_ADOPTIONS, 1);
	if (r == 0 && shell->session != atomic_load_explicit(&s->session, memory_order_relaxed)) {
		/* Reset since this shell last saw it: what it believes must be the baseline, else it is made anew. */
		if (!reset_agrees(state, claim->slot, shell->conn)) {
			shell_discard(state, shell);
			r = shell_checkout(state, claim->slot, claim->w, exchange, &shell, &fresh);
			if (r != 0)
				return r == PGLEASE_ENOMEM ? PGLEASE_EBROKEN : r;
			shell->block = atomic_load_explicit(&s->block, memory_order_relaxed) % state->seg.nblocks;
			count(state, shell, COUNTER_ADOPTIONS, 1);
		}
		shell->session = atomic_load_explicit(&s->session, memory_order_relaxed);
	}
	if (r != 0) {
		shell_discard(state, shell);
		return r;
	}
	*ret_shell = shell;
	return 0;
}

static void
count_lease(struct pool_state *state, const struct claim *claim, const struct shell *shell, uint64_t waited)
{
	struct slot *s = &state->seg.slot[claim->slot];

	if (!counts(state))
		return;
	counter_add(&s->leases, 1);
	if (!claim->waited) {
		count(state, shell, COUNTER_LEASES_IMMEDIATE, 1);
		return;
	}
	count(state, shell, COUNTER_LEASES_WAITED, 1);
	if (claim->granted)
		count(state, shell, COUNTER_LEASES_GRANTED, 1);
	count(state, shell, COUNTER_WAIT_NS, waited);
	histogram_record(&state->seg.block[shell->block].wait, waited);
}

/*
 * A slot for the thread's row, and its session usable; tries other slots when one turns out broken. The slot's shell, or
 * NULL and *ret_code.
 */
static struct shell *
acquire(struct pool_state *state, struct thread_row *tr, uint64_t start, uint64_t deadline, const char *file, int line,
    struct claim *claim, int *ret_code)
{
	struct row *row = &state->seg.row[tr->row];
	struct shell *shell = NULL;
	uint64_t now = start, limit = later(deadline, start + EXCHANGE_NS);

	for (;;) {
		*claim = (struct claim){.slot = 0};
		if (!claim_idle(state, tr, deadline <= start, claim)) {
			*ret_code = deadline <= start ? claim_timeout(state, start, now)
						      : claim_wait(state, tr, start, deadline, claim);
			if (*ret_code != 0)
				return NULL;
			now = clock_ns();
		}
		tr->last_slot = (int)claim->slot;
		/* From here to the release the row holds; pairs with the load in threads_row. */
		atomic_store_explicit(&row->held, 1, memory_order_relaxed);
		*ret_code = make_usable(state, claim, now, limit, &shell);
		if (*ret_code == 0 && shell != NULL) {
			note_holder(state, tr, claim, shell, now, file, line);
			count_lease(state, claim, shell, now - start);
			return shell;
		}
		atomic_store_explicit(&row->held, 0, memory_order_release);
		if (*ret_code != PGLEASE_EBROKEN) {
			give_back_unused(state, claim->slot, &claim->w);
			return NULL;
		}
		give_to_broker(state, claim->slot, &claim->w);
		now = clock_ns();
		if (now >= (deadline > start ? deadline : limit)) {
			*ret_code = claim_timeout(state, start, now);
			return NULL;
		}
	}
}

static int
acquire_by(pglease_pool *pool, uint64_t start, uint64_t deadline, bool pool_timeout, pglease_lease *ret_lease,
    PGconn **ret_conn, const char *file, int line)
{
	struct pool_state *state;
	struct thread_row *tr;
	struct claim claim;
	struct shell *shell;
	int r;

	r = client_pool_state(pool, &state);
	if (r != 0)
		return r;
	if (pool_timeout)
		deadline = start + atomic_load_explicit(&state->seg.header->acquire_timeout_ns, memory_order_relaxed);
	if ((r = claim_open(state)) != 0 || (r = threads_row(state, &tr)) != 0 ||
	    (shell = acquire(state, tr, start, deadline, file, line, &claim, &r)) == NULL) {
		count_failure(state, r);
		return r;
	}
	*ret_lease = (pglease_lease){
	    .pool = pool,
	    .incarnation = state->process->incarnation,
	    .sequence = word_seq(claim.w),
	    .slot = claim.slot,
	    .row = tr->row,
	};
	*ret_conn = shell->conn;
	return 0;
}

static int
check_arguments(pglease_pool *pool, const pglease_lease *ret_lease, PGconn *const *ret_conn)
{
	if (pool == NULL)
		return error_set(PGLEASE_EINVAL, "pool is NULL");
	if (ret_lease == NULL || ret_conn == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", ret_lease == NULL ? "ret_lease" : "ret_conn");
	return 0;
}

int
pglease_acquire_at(pglease_pool *pool, int timeout_ms, pglease_lease *ret_lease, PGconn **ret_conn, const char *file,
    int line)
{
	uint64_t start;
	int r = check_arguments(pool, ret_lease, ret_conn);

	if (r != 0)
		return r;
	if (timeout_ms < PGLEASE_TIMEOUT_POOL)
		return error_set(PGLEASE_EINVAL, "timeout_ms is %d: give milliseconds, or PGLEASE_TIMEOUT_POOL (-1)",
		    timeout_ms);
	start = clock_ns();
	return acquire_by(pool, start, start + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * NS_PER_MS,
	    timeout_ms == PGLEASE_TIMEOUT_POOL, ret_lease, ret_conn, file, line);
}

int
pglease_acquire_until_at(pglease_pool *pool, const struct timespec *deadline, pglease_lease *ret_lease,
    PGconn **ret_conn, const char *file, int line)
{
	uint64_t start, until;
	int r = check_arguments(pool, ret_lease, ret_conn);

	if (r != 0)
		return r;
	if (deadline == NULL || deadline->tv_nsec < 0 || deadline->tv_nsec >= 1000000000)
		return error_set(PGLEASE_EINVAL, "deadline is %s", deadline == NULL ? "NULL" : "not a valid timespec");
	start = clock_ns();
	/* A year or more from now is for ever. */
	if (deadline->tv_sec < 0)
		until = 0;
	else if ((uint64_t)deadline->tv_sec > start / NS_PER_S + FOR_EVER_S)
		until = start + FOR_EVER_S * NS_PER_S;
	else
		until = (uint64_t)deadline->tv_sec * NS_PER_S + (uint64_t)deadline->tv_nsec;
	return acquire_by(pool, start, until > start ? until : start, false, ret_lease, ret_conn, file, line);
}

/* The slot goes back clean: S8 or S9; or S10 when the broker wants it. False if the lease had ended. */
static bool
give_clean(struct pool_state *state, const pglease_lease *lease, uint64_t *w, const struct shell *shell, uint64_t now)
{
	uint64_t held = now - shell->leased_at;
	struct stats_block *block = &state->seg.block[shell->block];
	enum handoff_result r;

	/* Counted before the swap, while the lease is the lock. */
	if (counts(state)) {
		counter_add(&block->counter[COUNTER_RELEASES], 1);
		counter_add(&block->counter[COUNTER_HOLD_NS], held);
		histogram_record(&block->hold, held);
	}
	/* Relaxed: it never changes. */
	if (atomic_load_explicit(&state->seg.header->pooling_off, memory_order_relaxed) != 0) {
		atomic_store_explicit(&state->seg.slot[lease->slot].clean, 1, memory_order_relaxed);
		return give_to_broker(state, lease->slot, w);
	}
	r = handoff_give(&state->seg, lease->slot, w, state->process->client, true, now);
	if (r == HANDOFF_GRANTED && counts(state))
		atomic_fetch_add_explicit(
		    &state->seg.header->client_counter[COUNTER_HANDOVERS], 1, memory_order_relaxed);
	if (r == HANDOFF_BLOCKED)
		give_to_broker(state, lease->slot, w);
	return r != HANDOFF_LOST;
}

int
pglease_release(const pglease_lease *lease)
{
	struct pool_state *state;
	struct shell *shell;
	bool rolled_back = false, clean;
	uint64_t w, now;

	if (lease == NULL || lease->pool == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", lease == NULL ? "lease" : "the lease's pool");
	state = atomic_load_explicit(&lease->pool->state, memory_order_acquire);
	/* The serial first: in a child the rest may be gone. */
	if (state == NULL)
		return error_set(PGLEASE_EINVAL, "the lease's attachment has ended (pglease_detach)");
	if (state->serial != guard_serial() || lease->incarnation != state->process->incarnation)
		return error_set(PGLEASE_EFORKED, "the lease belongs to another process or attachment");
	if (lease->slot >= state->seg.nslots || lease->row >= state->seg.nrows)
		return error_set(PGLEASE_EINVAL, "not a lease of this pool");
	w = slot_load(&state->seg, lease->slot);
	shell = &state->shell[lease->slot];
	if (word_state(w) != SLOT_LEASED || word_who(w) != lease->row || word_seq(w) != lease->sequence)
		return error_set(PGLEASE_ESTALE, "the lease of slot %u has ended: released before, or revoked",
		    lease->slot);

	clean = shell->conn != NULL && !shell->lost && reset_settle(state, shell->conn, &rolled_back) == 0;
	now = clock_ns();
	if (rolled_back)
		count(state, shell, COUNTER_ROLLBACKS, 1);
	/* Before the slot is given up: nothing of row or shell may be touched after it. */
	if (!clean) {
		count(state, shell, COUNTER_RETURNS, 1);
		shell_discard(state, shell);
		atomic_store_explicit(&state->seg.row[lease->row].held, 0, memory_order_release);
		give_to_broker(state, lease->slot, &w);
		return 0;
	}
	reset_conn(shell);
	atomic_store_explicit(&state->seg.slot[lease->slot].off_baseline,
	    reset_off_baseline(shell), memory_order_relaxed);
	shell_checkin(state, shell, now);
	atomic_store_explicit(&state->seg.row[lease->row].held, 0, memory_order_release);
	if (!give_clean(state, lease, &w, shell, now))
		return error_set(PGLEASE_ESTALE, "the lease of slot %u was revoked", lease->slot);
	return 0;
}
