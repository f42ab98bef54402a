/* SPDX-License-Identifier: PostgreSQL */
/*
 * Shells: this process's PGconns whose sockets are the slots' server connections. Making one (adoption), keeping a bounded
 * number, and disposing of one without ending the server's session.
 */
#ifndef PGLEASE_CLIENT_SHELL_H
#define PGLEASE_CLIENT_SHELL_H

#include "client_priv.h"

/*
 * The slot's shell, IN_USE, for the lessee of `slot` with lease word `w` (LEASED). Adopts if there is none for this
 * generation: *ret_fresh. On failure there is none: PGLEASE_EGONE (broker not there), EBROKEN (it refused: the lease
 * is revoked, or the connection is being replaced), ETIMEOUT, ENOMEM, EPROTOCOL, ESYSTEM.
 */
int shell_checkout(struct pool_state *state, uint32_t slot, uint64_t w, uint64_t deadline, struct shell **ret_shell,
    bool *ret_fresh);
/*
 * Another PGconn, adopted for the same lease, in the place of the shell's, which is disposed of. It is not kept beyond the lease.
 * ENOMEM: the shell is as before.
 */
int shell_replace(struct pool_state *state, uint32_t slot, struct shell *shell, PGconn *conn);
/* Before the slot is given up: the shell is kept for the next lease, within the bound. */
void shell_checkin(struct pool_state *state, struct shell *shell, uint64_t now);
/* Whether that is so without another's being disposed of; and what is left to do then. */
bool shell_is_kept(const struct pool_state *state, const struct shell *shell);
static inline void
shell_keep(struct shell *shell, uint64_t now)
{
	shell->touched = false;
	atomic_store_explicit(&shell->used, now, memory_order_relaxed);
	/* Release: whoever takes it next sees it as it was left. */
	atomic_store_explicit(&shell->state, SHELL_FREE, memory_order_release);
}
/* Whether it certainly is, at a glance: no event procedure can have come, and the bound is kept (shell_is_kept). */
static inline bool
shell_is_surely_kept(const struct pool_state *state, const struct shell *shell)
{
	return !shell->touched && !shell->registered &&
	       atomic_load_explicit(&state->nshells, memory_order_relaxed) <= state->max_shells;
}
/* The same as shell_checkin, but the shell is of no further use. When the broker has gone, its session is ended. */
void shell_discard(struct pool_state *state, struct shell *shell);

/*
 * For when there is no broker (doc/protocol.md, "When the broker dies"). The slot's shell, if it is idle and the present connection's,
 * is kept from others until shell_unhold.
 */
bool shell_hold(struct pool_state *state, uint32_t slot);
void shell_unhold(struct pool_state *state, uint32_t slot);
/* Whether there is one for a slot that is idle or may become so. As far as a racy look tells. */
bool shell_is_any(const struct pool_state *state);
/*
 * An idle one goes; with its session, if the slot is idle and can be claimed by this row (S6; -1: not). False if the slot's is in use.
 */
bool shell_expire(struct pool_state *state, uint32_t slot, int row);
/* Whether one of a revoked lease is still in use. */
bool shell_has_orphans(const struct pool_state *state);
/* Ends the sessions of the leases held: at a detach. */
void shell_end_all(struct pool_state *state);

/* The shell that is IN_USE for this lease of the slot; NULL when the lease was revoked and the slot has another. */
static inline struct shell *
shell_of_lease(struct pool_state *state, uint32_t slot, uint64_t sequence)
{
	struct shell *shell = atomic_load(&state->shell[slot]);

	return atomic_load_explicit(&shell->sequence, memory_order_relaxed) == sequence ? shell : NULL;
}
/* The caller's lease was revoked, and it has noticed: disposes of its shell, if it still has it. */
void shell_lost(struct pool_state *state, uint32_t slot, uint64_t sequence);
/* An empty one for each slot. 0 or ENOMEM, with the message. */
int shell_make_all(struct pool_state *state);
/* Frees their memory, after shell_discard_all or in vain; but of what a child inherited in use. */
void shell_free_all(struct pool_state *state);
/* Disposes of all: at a detach, those of leases still held too; or of what a child `inherited`. */
void shell_discard_all(struct pool_state *state, bool inherited);

#endif
