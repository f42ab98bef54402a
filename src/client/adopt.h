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
 * The shell whose PGconn this is, if it is of a lease that goes on as far as this process knows; NULL for any other PGconn, and
 * for NULL.
 */
struct shell *adopt_leased_shell(const PGconn *conn);

/* Waits for `events` (POLLIN, POLLOUT) on `fd` until `deadline`. 1: ready; 0: deadline; -errno. */
int wait_fd(int fd, short events, uint64_t deadline);

#endif
