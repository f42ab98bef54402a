/* SPDX-License-Identifier: PostgreSQL */
/* Adoption: a PGconn of ours on the slot's own server connection. See doc/design.md. */
#ifndef PGLEASE_CLIENT_ADOPT_H
#define PGLEASE_CLIENT_ADOPT_H

#include "client_priv.h"

/*
 * For the lessee of `slot` (lease word `w`): a start-up handshake with the broker, then the server socket moved under the
 * new PGconn. `shell` is told its connection and what that believes of its session; also when the user calls PQreset on it
 * (another connection) or PQfinish (lost). Errors as shell_checkout.
 */
int adopt(struct pool_state *state, uint32_t slot, uint64_t generation, uint64_t w, uint64_t deadline,
    struct shell *shell);

/*
 * The parts of an adoption, for one whose PGconn is there before the lease: a claim (of WIRE_SLOT_OF_ATTEMPT, as long as its slot is
 * not known) with an attempt of its own; a PGconn that dials the broker with it; the descriptor, asked for on `sock` after the
 * handshake and moved under the PGconn; and the PGconn made the shell's.
 */
#define ADOPT_CLAIM 256
uint64_t adopt_attempt(struct pool_state *state);
void adopt_claim(const struct pool_state *state, uint32_t slot, uint64_t generation, uint64_t sequence, uint64_t attempt,
    char ret[ADOPT_CLAIM]);
int adopt_dial(const struct pool_state *state, uint32_t slot, const char *claim, PGconn **ret_conn);
int adopt_take(const struct pool_state *state, int sock, PGconn *conn, uint64_t deadline);
int adopt_own(struct pool_state *state, uint32_t slot, struct shell *shell, PGconn *conn);

/*
 * The shell whose PGconn this is, if it is of a lease that goes on as far as this process knows; NULL for any other PGconn, and
 * for NULL.
 */
struct shell *adopt_leased_shell(const PGconn *conn);

/* Waits for `events` (POLLIN, POLLOUT) on `fd` until `deadline`. 1: ready; 0: deadline; -errno. */
int wait_fd(int fd, short events, uint64_t deadline);

#endif
