/* SPDX-License-Identifier: PostgreSQL */
/*
 * A session at its baseline: looking at what a lessee finds, resetting what another left, and settling what this one
 * leaves. Any doubt costs the connection, never the next lessee: these functions only say so (PGLEASE_EBROKEN); the
 * caller returns the slot to the broker.
 */
#ifndef PGLEASE_CLIENT_RESET_H
#define PGLEASE_CLIENT_RESET_H

#include "client_priv.h"

/*
 * How long a parameter that the server has changed may go unnoticed on a session in use (doc/design.md): what a PGconn
 * believes is compared with the baseline, and the server asked for it when somebody may not have told what it heard, at
 * most this often. What escaping depends on is compared at each release.
 */
#define RESET_CHECK_NS UINT64_C(100000000)

/*
 * The validation peek: whether the stream is empty and alive. For a session that is this client's own (`own`), bytes may
 * be its notifications, and libpq reads them; anybody else's bytes are doubt.
 */
int reset_peek(PGconn *conn, bool own);
/*
 * D1: the reset, and a question after the parameters of the baseline if `ask`, raw, on the shell's socket; its PGconn knows
 * nothing of it. The session must be idle outside a transaction, its stream empty but for what the server says of itself.
 * PGLEASE_EBROKEN when it was not taken whole.
 */
int reset_send(
    struct pool_state *state, uint32_t slot, const struct shell *shell, enum reset_kind kind, bool ask);
/* Whether it is time to ask the server for its parameters, too. */
bool reset_is_unverified(const struct pool_state *state, uint32_t slot, uint64_t now);
/*
 * D3 and D4: the answer to what was sent last to this session, before any PGconn sees the socket. PGLEASE_ETIMEOUT: nothing
 * of it has come by the deadline; PGLEASE_EBROKEN: anything unexpected.
 */
int reset_read(struct pool_state *state, uint32_t slot, const struct shell *shell, uint64_t deadline);
/* Statements without results, through libpq, within the pool's reset_timeout. PGLEASE_EBROKEN when one fails. */
int reset_run(const struct pool_state *state, PGconn *conn, const char *sql);
/* After an adoption: what reset_off_baseline compares with. */
void reset_remember(const struct pool_state *state, uint32_t slot, struct shell *shell);
/*
 * For struct slot.off_baseline: the parameters that the shell's PGconn believes to be off the slot's baseline. `whole`: all
 * that are reported; else only those that escaping depends on.
 */
uint64_t reset_off_baseline(const struct pool_state *state, uint32_t slot, const struct shell *shell, bool whole);
/*
 * Tells the PGconn the baseline's value of every parameter that it believes to be another, as the server would have, had its
 * PGconn read the answer to the reset. 0, or PGLEASE_EBROKEN: it believes what it did.
 */
int reset_tell(const struct pool_state *state, uint32_t slot, const struct shell *shell);
/* At release: what the user set on the PGconn is libpq's default again, so that nothing of his is called later. */
void reset_conn(const struct shell *shell);
/*
 * At release: 0 when the session is idle and outside a transaction, after a rollback if need be (*ret_rolled_back), with the
 * PGconn back in blocking mode. PGLEASE_EBROKEN otherwise.
 */
int reset_settle(struct pool_state *state, PGconn *conn, bool *ret_rolled_back);

#endif
