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
 * The validation peek: whether the stream is empty and alive. For a session that is this client's own (`own`), bytes may
 * be its notifications, and libpq reads them; anybody else's bytes are doubt.
 */
int reset_peek(PGconn *conn, bool own);
/*
 * DISCARD ALL, raw, on the shell's socket, before its PGconn sees anything: the answer is parsed strictly and bounded in
 * size and time; a ParameterStatus in it must be the slot's baseline. PGLEASE_ETIMEOUT at the deadline (the slot is then the
 * broker's: an answer is owed), PGLEASE_EBROKEN on anything unexpected.
 */
int reset_session(struct pool_state *state, uint32_t slot, PGconn *conn, uint64_t deadline);
/* Whether what the PGconn believes of its session's reported parameters is the slot's baseline. */
bool reset_agrees(const struct pool_state *state, uint32_t slot, const PGconn *conn);
/* Whether the PGconn believes standard_conforming_strings to be on. */
bool reset_conforming(const PGconn *conn);
/* Bits of struct slot.off_baseline for what the shell's PGconn believes. */
uint32_t reset_off_baseline(const struct shell *shell);
/* At release: what the user set on the PGconn is libpq's default again, so that nothing of his is called later. */
void reset_conn(const struct shell *shell);
/*
 * At release: 0 when the session is idle and outside a transaction, after a rollback if need be (*ret_rolled_back), with the
 * PGconn back in blocking mode. PGLEASE_EBROKEN otherwise.
 */
int reset_settle(struct pool_state *state, PGconn *conn, bool *ret_rolled_back);

#endif
