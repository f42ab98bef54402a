/* SPDX-License-Identifier: PostgreSQL */
/* Requests: acquires that somebody does not wait for (pglease_acquire_start). */
#ifndef PGLEASE_CLIENT_REQUEST_H
#define PGLEASE_CLIENT_REQUEST_H

#include "client_priv.h"

#include "lease.h"

/*
 * pglease_acquire_start, with a socket of the caller's in place of a descriptor to wait for: REQUEST_RING bytes are
 * written to it when the request is done, unless it is when this returns.
 */
#define REQUEST_RING 8
int request_start(pglease_pool *pool, const struct wish *wish, int ring_fd, pglease_request **ret_request);
/*
 * At a detach, before the pool goes: ends the requests that are pending, and gives back what they got. Their handles
 * stay, and say so.
 */
void request_end_all(struct pglease_pool *pool);

#endif
