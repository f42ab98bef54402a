/* SPDX-License-Identifier: PostgreSQL */
/*
 * Taking a lease (lease.h): a slot by claim.c, its PGconn by shell.c, its session by reset.c, and the counting: plain stores, for
 * the lease is the lock on the slot's statistics.
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "claim.h"
#include "client_priv.h"
#include "handoff.h"
#include "lease.h"
#include "reattach.h"
#include "reset.h"
#include "resets.h"
#include "rows.h"
#include "shell.h"
#include "slots.h"

#define NS_PER_MS UINT64_C(1000000)
/*
 * For the exchanges with broker and server that an acquire needs: it may take as much whatever its time-out, and no
 * exchange with a broker that does not answer holds a slot for longer.
 */
#define EXCHANGE_NS (1000 * NS_PER_MS)
/* Nobody waits for longer for another's reset: then its answer is the broker's, and the caller looks for another slot. */
#define PATIENCE_NS (20 * NS_PER_MS)

void
lease_count_failure(struct pool_state *state, int code)
{
	enum client_counter c = code == PGLEASE_ETIMEOUT || code == PGLEASE_EUPSTREAM ? COUNTER_TIMEOUTS : COUNTER_FAILURES;

	if (lease_is_counted(state))
		atomic_fetch_add_explicit(&state->seg.header->client_counter[c], 1, memory_order_relaxed);
}

int
lease_begin(struct pool_state *state)
{
	uint32_t max = atomic_load_explicit(&state->seg.header->max_leases, memory_order_relaxed);

	if (max == 0 || atomic_fetch_add(&state->nleases, 1) < max)
		return 0;
	atomic_fetch_sub(&state->nleases, 1);
	return error_set(PGLEASE_ELIMIT, "this process holds %u leases of pool %s already (max_leases_per_client)", max,
	    state->seg.header->pool_name);
}

void
lease_over(struct pool_state *state)
{
	if (atomic_load_explicit(&state->seg.header->max_leases, memory_order_relaxed) != 0)
		atomic_fetch_sub(&state->nleases, 1);
}

bool
lease_give_to_broker(struct pool_state *state, uint32_t slot, uint64_t *w, unsigned flags)
{
	uint64_t seq = word_seq(*w);

	while (word_state(*w) == SLOT_LEASED && word_seq(*w) == seq) {
		if (slot_return(&state->seg, slot, w, flags)) {
			client_ring(state);
			return true;
		}
	}
	return false;
}

void
lease_ring_dirty(struct pool_state *state)
{
	if (atomic_exchange(&state->seg.header->reset_watch, 0) != 0)
		client_ring(state);
}

/* The slot is given up unused, because the broker cannot be reached or the time is over: nobody touched its session. */
static void
give_back_unused(struct pool_state *state, struct claim *claim)
{
	if (handoff_give(&state->seg, claim->slot, &claim->w, WORD_NONE, claim->session, clock_ns()) == HANDOFF_BLOCKED)
		lease_give_to_broker(state, claim->slot, &claim->w, claim->session & SLOT_OWED);
	else
		lease_tell_dirty(state, claim->session);
}

/* The last part of a path. */
static const char *
file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* For those who do not go through the macros: "function+0x1f", or the object's file when the function is not exported. */
static void
name_caller(const void *caller, char buf[static LAYOUT_SITE])
{
	Dl_info info;
	const char *name = "?";
	uintptr_t offset = 0;

	/* The return address may be the next function's first byte. */
	if (dladdr((const char *)caller - 1, &info) != 0) {
		name = info.dli_sname != NULL ? info.dli_sname : file_name(info.dli_fname);
		offset = (uintptr_t)caller - (uintptr_t)(info.dli_sname != NULL ? info.dli_saddr : info.dli_fbase);
	}
	snprintf(buf, LAYOUT_SITE, "%.*s+0x%" PRIxPTR, LAYOUT_SITE - 20, name, offset);
}

static uint64_t
later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Who holds it and from where, for the others to see. */
static void
note_holder(struct pool_state *state, const struct thread_row *tr, const struct claim *claim, struct shell *shell,
    uint64_t now, const struct site *site)
{
	struct slot *s = &state->seg.slot[claim->slot];
	bool mine = word_state(claim->before) == SLOT_IDLE && word_who(claim->before) == state->process->client;

	/* Not before the lease before it ended, whenever this one was asked for: cancels go by it ("Cancel"). */
	shell->leased_at = later(now, atomic_load_explicit(&s->idle_since, memory_order_relaxed));
	atomic_store_explicit(&s->leased_at, shell->leased_at, memory_order_relaxed);
	/* Unchanged since this thread's or a sibling's last lease of the slot: nothing to write. */
	if (mine && shell->site_known && shell->site.file == site->file && shell->site.line == site->line &&
	    (site->file != NULL || shell->site.caller == site->caller) &&
	    atomic_load_explicit(&s->holder_tid, memory_order_relaxed) ==
		atomic_load_explicit(&state->seg.row[tr->row].tid, memory_order_relaxed))
		return;
	atomic_store_explicit(&s->holder_tid,
	    atomic_load_explicit(&state->seg.row[tr->row].tid, memory_order_relaxed), memory_order_relaxed);
	atomic_store_explicit(
	    &s->site_line, site->file != NULL && site->line > 0 ? (uint32_t)site->line : 0, memory_order_relaxed);
	if (site->file != NULL)
		strncpy(s->site_file, file_name(site->file), LAYOUT_SITE - 1);
	else
		name_caller(site->caller, s->site_file);
	shell->site = *site;
	shell->site_known = true;
}

static uint64_t
earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What the session is to be told, for a lease that begins at the baseline. */
static void
write_startup(const struct pool_state *state, uint32_t slot, struct startup *startup)
{
	startup->size = startup->write(startup, segment_baseline(&state->seg, slot));
	startup->said = startup->size < STARTUP_SQL ? STARTUP_SAID : STARTUP_UNSAID;
	if (startup->said == STARTUP_UNSAID)
		startup->size = 0;
}

/*
 * The session is brought to its baseline: the answer to a reset that was sent already is read, or one is sent and waited
 * for; and what the lessee says then. 0; PGLEASE_EBROKEN: it costs the connection; PGLEASE_ETIMEOUT: the answer is late, and
 * now the broker's to read.
 */
static int
reset(struct pool_state *state, struct claim *claim, const struct shell *shell, uint64_t limit, bool ask,
    const _Atomic bool *cancelled, struct startup *startup)
{
	bool owed = claim->session == SLOT_OWED;
	/* A clean session is only asked. */
	enum reset_kind kind = claim->session == 0 ? RESET_NONE : resets_kind(&state->seg);
	int r = 0;

	claim->session = 0; /* in doubt, if this fails */
	if (!fd_is(PQsocket(shell->conn), &shell->socket_id))
		return error_set(PGLEASE_EBROKEN, "the application has closed the connection's descriptor");
	if (startup != NULL)
		r = reset_send_with(state, claim->slot, shell, owed, kind, ask, startup);
	else if (!owed)
		r = reset_send(state, claim->slot, shell, kind, ask);
	if (r == 0)
		r = reset_read(state, claim->slot, shell, earlier(limit, clock_ns() + PATIENCE_NS), NULL, startup);
	/* Nothing has come yet; and without a broker there is nobody to leave it to. */
	if (r == PGLEASE_ETIMEOUT && (reattach_is_news(state) || process_is_gone(state->process)))
		r = reset_read(state, claim->slot, shell, limit, cancelled, startup);
	if (r == 0 && !owed && kind != RESET_NONE) {
		lease_count(state, shell, COUNTER_RESETS, 1);
		/* The broker could have done it before: dirty.c. */
		atomic_store_explicit(&state->seg.header->reset_wanted_at, clock_quick_ns(), memory_order_relaxed);
	}
	if (r == PGLEASE_ETIMEOUT) {
		claim->session = SLOT_OWED;
		lease_count(state, shell, COUNTER_RESETS_LATE, 1);
	} else if (r != 0) {
		lease_count(state, shell, COUNTER_RESETS_FAILED, 1);
	} else if (startup != NULL) {
		claim->session = SLOT_DIRTY;
		if (startup->told.refused)
			startup->said = STARTUP_REFUSED;
	}
	return r;
}

/*
 * The session was reset since this shell last saw it: what it believes must be the baseline and what was told since. It is told, or
 * made anew.
 */
static int
agree(struct pool_state *state, const struct claim *claim, uint64_t exchange, const struct resets_told *told,
    struct shell **shell)
{
	/* Not the slot's present one: if the lease is revoked meanwhile, that is the next lessee's. */
	uint32_t block = (*shell)->block;
	bool fresh;
	int r;

	if (reset_tell(state, claim->slot, *shell, told) == 0)
		return 0;
	shell_discard(state, *shell);
	r = shell_checkout(state, claim->slot, claim->w, exchange, shell, &fresh);
	if (r != 0) {
		*shell = NULL;
		return r == PGLEASE_ENOMEM ? PGLEASE_EBROKEN : r;
	}
	(*shell)->block = block;
	lease_count(state, *shell, COUNTER_ADOPTIONS, 1);
	return reset_tell(state, claim->slot, *shell, told);
}

/*
 * Makes the leased slot's session usable by this process: shell, peek, reset. 0; PGLEASE_EBROKEN: the slot is the broker's
 * now (S10; claim->session says what is in it); any other code: it was not touched.
 */
static int
make_usable(struct pool_state *state, struct claim *claim, uint64_t now, uint64_t limit, const _Atomic bool *cancelled,
    struct startup *startup, struct shell **ret_shell)
{
	struct slot *s = &state->seg.slot[claim->slot];
	bool owed = claim->session == SLOT_OWED;
	/* Whose traces may be in the session: nobody's; this process's own; another's. */
	bool clean = claim->session == 0;
	bool own = word_state(claim->before) == SLOT_IDLE
		       ? word_who(claim->before) == state->process->client
		       : (word_flags(claim->before) & SLOT_SESSION) == SLOT_OWN;
	bool fresh, needs_reset, ask;
	struct shell *shell;
	uint64_t exchange = earlier(limit, now + EXCHANGE_NS);
	uint64_t idle_for = clock_since(now, atomic_load_explicit(&s->idle_since, memory_order_relaxed));
	int r = shell_checkout(state, claim->slot, claim->w, exchange, &shell, &fresh);

	if (r != 0)
		return r;
	/* Acquire: before the look at the word that follows. */
	shell->block = atomic_load_explicit(&s->block, memory_order_acquire);
	if (shell->block >= state->seg.nblocks) { /* scribbled on */
		shell_discard(state, shell);
		return error_set(PGLEASE_EBROKEN, "the slot's statistics block is not sound");
	}
	shell->transaction_at = 0;
	shell->queries_out = 0;
	shell->marked = false;
	/* Revoked already, and then the block may be the next lessee's: nothing more may be counted into it. */
	if (!lease_is_held(state, claim->slot, claim->w)) {
		shell_discard(state, shell);
		return error_set(PGLEASE_EBROKEN, "the lease was revoked");
	}
	/* An own session without the own shell: what the process set in it is unknown to a fresh PGconn. */
	ask = !owed && !(own && !fresh) && reset_is_unverified(state, claim->slot, now);
	needs_reset = owed || ask || (!clean && (!own || fresh));
	if (!owed && (needs_reset || fresh ||
			 idle_for >= atomic_load_explicit(&state->seg.header->bypass_ns, memory_order_relaxed))) {
		lease_count(state, shell, COUNTER_PEEKS, 1);
		r = reset_peek(shell->conn, own && !needs_reset);
		shell->off = UINT64_MAX; /* it may have been told something */
	}
	if (startup != NULL) {
		startup->said = STARTUP_UNSAID;
		startup->size = 0;
		/* In a session that this process had last, the PGconn knows what is set already. */
		if (r == 0 && (needs_reset || (clean && !own)))
			write_startup(state, claim->slot, startup);
		if (startup->size == 0)
			startup = NULL;
	}
	if (r == 0 && (needs_reset || startup != NULL))
		r = reset(state, claim, shell, limit, ask, cancelled, startup);
	if (r == PGLEASE_ETIMEOUT) {
		shell_checkin(state, shell, now);
		return PGLEASE_EBROKEN;
	}
	if (r == 0 && fresh)
		lease_count(state, shell, COUNTER_ADOPTIONS, 1);
	if (r == 0 && (shell->session != atomic_load_explicit(&s->session, memory_order_relaxed) || startup != NULL))
		r = agree(state, claim, exchange, startup != NULL ? &startup->told : NULL, &shell);
	if (r != 0) {
		if (shell != NULL)
			shell_discard(state, shell);
		return r;
	}
	shell->session = atomic_load_explicit(&s->session, memory_order_relaxed);
	shell->off = UINT64_MAX; /* from here on the session is the application's */
	shell->marked = startup != NULL;
	shell->dirty_before = !clean && !needs_reset;
	if (shell->dirty_before)
		lease_count(state, shell, COUNTER_RESETS_SPARED, 1);
	*ret_shell = shell;
	return 0;
}

static void
count_lease(struct pool_state *state, const struct claim *claim, const struct shell *shell, uint64_t waited)
{
	if (!lease_is_counted(state))
		return;
	if (!claim->waited) {
		lease_count(state, shell, COUNTER_LEASES_IMMEDIATE, 1);
		return;
	}
	lease_count(state, shell, COUNTER_LEASES_WAITED, 1);
	if (claim->granted)
		lease_count(state, shell, COUNTER_LEASES_GRANTED, 1);
	lease_count(state, shell, COUNTER_WAIT_NS, waited);
	histogram_record(&state->seg.block[shell->block].wait, waited);
}

/* Whether the broker has a slot with a connection in its hands. */
static bool
is_being_reset(const struct segment *seg)
{
	for (uint32_t i = 0; i < seg->nslots; i++)
		if (word_state(slot_load(seg, i)) == SLOT_BROKER &&
		    atomic_load_explicit(&seg->slot[i].server_pid, memory_order_relaxed) != 0)
			return true;
	return false;
}

/* What a failure means to one that is cut off, and may have PGconns for slots that others hold. */
static int
without_broker(const struct pool_state *state, int code)
{
	return code == PGLEASE_EGONE && process_is_gone(state->process) && shell_is_any(state) ? LEASE_AGAIN : code;
}

/*
 * A slot for the thread's row, and its session usable; tries other slots when one turns out broken. The slot's shell, or
 * NULL and *ret_code.
 */
static struct shell *
acquire(struct pool_state *state, struct thread_row *tr, const struct wish *wish, uint64_t deadline, struct claim *claim,
    int *ret_code)
{
	uint64_t start = wish->start;
	struct row *row = &state->seg.row[tr->row];
	struct shell *shell = NULL;
	uint64_t now = start, limit = later(deadline, start + EXCHANGE_NS);

	for (;;) {
		*claim = (struct claim){.slot = 0};
		if (process_is_gone(state->process) ? !claim_kept(state, tr, claim)
						   : !claim_idle(state, tr, deadline <= start, claim)) {
			/* The broker's resets are short exchanges, too. */
			uint64_t until = deadline <= start && is_being_reset(&state->seg) ? now + PATIENCE_NS : deadline;

			if (process_is_gone(state->process) && !shell_is_any(state)) {
				*ret_code = PGLEASE_EGONE;
				return NULL;
			}
			if (lease_is_counted(state))
				totals_note_peak(&state->seg);
			*ret_code = without_broker(state, until <= now ? claim_timeout(state, start, now)
								       : claim_wait(state, tr, start, until, claim));
			if (*ret_code != 0)
				return NULL;
			now = clock_ns();
		}
		tr->last_slot = (int)claim->slot;
		claim->session = word_session(claim->before);
		/* From here to the release the row holds; pairs with the load in threads_row. */
		atomic_store_explicit(&row->held, row_token(claim->slot, word_seq(claim->w)), memory_order_relaxed);
		*ret_code = make_usable(state, claim, now, limit, wish->cancelled, wish->startup, &shell);
		if (*ret_code == 0 && shell != NULL) {
			shell->returned = threads_returns(state, tr, start,
			    word_state(claim->before) == SLOT_IDLE && word_who(claim->before) != WORD_NONE &&
				word_who(claim->before) != state->process->client);
			note_holder(state, tr, claim, shell, now, &wish->site);
			count_lease(state, claim, shell, clock_since(now, start));
			return shell;
		}
		atomic_store_explicit(&row->held, 0, memory_order_release);
		if (*ret_code != PGLEASE_EBROKEN) {
			give_back_unused(state, claim);
			*ret_code = without_broker(state, *ret_code);
			return NULL;
		}
		lease_give_to_broker(state, claim->slot, &claim->w, claim->session == SLOT_OWED ? SLOT_OWED : SLOT_RETIRE);
		/* Perhaps it is broken only for that: another one would be, too. */
		if (wish->cancelled != NULL && atomic_load(wish->cancelled)) {
			*ret_code = error_set(PGLEASE_EAGAIN, "the request was cancelled");
			return NULL;
		}
		now = clock_ns();
		if (now >= (deadline > start ? deadline : limit)) {
			*ret_code = without_broker(state, claim_timeout(state, start, now));
			return NULL;
		}
	}
}

static void
make_lease(pglease_pool *pool, const struct pool_state *state, const struct thread_row *tr, const struct claim *claim,
    pglease_lease *ret)
{
	*ret = (pglease_lease){
	    .pool = pool,
	    .incarnation = state->lease_of,
	    .sequence = word_seq(claim->w),
	    .slot = claim->slot,
	    .row = tr->row,
	};
}

int
lease_take(pglease_pool *pool, struct pool_state *state, struct thread_row *tr, const struct wish *wish,
    pglease_lease *ret_lease, PGconn **ret_conn)
{
	uint64_t deadline = wish->deadline;
	struct claim claim;
	struct shell *shell;
	int r;

	if (wish->pool_timeout)
		deadline = wish->start + atomic_load_explicit(&state->seg.header->acquire_timeout_ns, memory_order_relaxed);
	if ((r = claim_open(state)) != 0 || (r = lease_begin(state)) != 0) {
		if (r != PGLEASE_EGONE && r != LEASE_MOVED)
			lease_count_failure(state, r);
		return r;
	}
	shell = acquire(state, tr, wish, deadline, &claim, &r);
	if (shell == NULL) {
		lease_over(state);
		/* EAGAIN: cancelled. */
		if (r != PGLEASE_EAGAIN && r != PGLEASE_EGONE && r != LEASE_AGAIN && r != LEASE_MOVED &&
		    !(wish->is_look && r == PGLEASE_ETIMEOUT))
			lease_count_failure(state, r);
		return r;
	}
	make_lease(pool, state, tr, &claim, ret_lease);
	*ret_conn = shell->conn;
	return 0;
}

int
lease_take_ready(pglease_pool *pool, struct pool_state *state, struct thread_row *tr, const struct wish *wish,
    pglease_lease *ret_lease, PGconn **ret_conn)
{
	struct row *row = &state->seg.row[tr->row];
	struct claim claim = {.slot = 0};
	struct shell *shell = NULL;
	int r;

	if ((r = claim_open(state)) != 0 || (r = lease_begin(state)) != 0) {
		if (r == PGLEASE_EGONE || r == LEASE_MOVED)
			return PGLEASE_EAGAIN;
		lease_count_failure(state, r);
		return r;
	}
	if (!claim_ready(state, tr, wish->start, &claim))
		goto none;
	tr->last_slot = (int)claim.slot;
	claim.session = word_session(claim.before);
	/* As in acquire(). */
	atomic_store_explicit(&row->held, row_token(claim.slot, word_seq(claim.w)), memory_order_relaxed);
	/* No time for an exchange: what needs one fails. */
	r = make_usable(state, &claim, wish->start, wish->start, NULL, NULL, &shell);
	if (r == 0 && shell != NULL) {
		shell->returned = false;
		note_holder(state, tr, &claim, shell, wish->start, &wish->site);
		count_lease(state, &claim, shell, 0);
		make_lease(pool, state, tr, &claim, ret_lease);
		*ret_conn = shell->conn;
		return 0;
	}
	atomic_store_explicit(&row->held, 0, memory_order_release);
	if (r != PGLEASE_EBROKEN)
		give_back_unused(state, &claim);
	else
		lease_give_to_broker(state, claim.slot, &claim.w, claim.session == SLOT_OWED ? SLOT_OWED : SLOT_RETIRE);
none:
	lease_over(state);
	return PGLEASE_EAGAIN;
}

/* The thread keeps its rows (threads.c). */
