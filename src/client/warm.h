/* SPDX-License-Identifier: PostgreSQL */
/*
 * The common lease: of the slot that the thread had last, with nothing to be done. The same steps as lease.c's, in one straight
 * line; at the first doubt it has changed nothing, and lease.c does it.
 */
#ifndef PGLEASE_CLIENT_WARM_H
#define PGLEASE_CLIENT_WARM_H

#include "client_priv.h"

/* True: leased. False: nothing happened. The arguments have been checked. */
bool warm_acquire(pglease_pool *pool, const struct site *site, pglease_lease *ret_lease, PGconn **ret_conn);

#endif
