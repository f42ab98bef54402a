/* SPDX-License-Identifier: PostgreSQL */
/*
 * A pool's states of earlier attachments of this process, or of segments that a reload has replaced: what is left in them, and how it
 * ends (doc/protocol.md, "When the broker dies", "Pools that come and go"). A former state's memory stays until the detach, for threads may be in it; its segment's does not.
 */
#ifndef PGLEASE_CLIENT_FORMER_H
#define PGLEASE_CLIENT_FORMER_H

#include "client_priv.h"

/* The pool gets another state than this one: under the client's mutex, before it is published. */
void former_add(pglease_pool *pool, struct pool_state *state);
/* What a pool is to know when its broker is not there. */
void former_note(pglease_pool *pool, const struct pool_state *state);
/* In a child: those inherited. */
void former_forget(pglease_pool *pool);
/* The state, former or present, of this process that a lease is of, as its `incarnation` says (pool_state.lease_of); NULL: none. */
struct pool_state *former_find(const pglease_pool *pool, uint64_t lease_of);
/* Of a former one: the broker of its segment is dead, and nobody owns what is in it. */
bool former_is_ownerless(const pglease_pool *pool, const struct pool_state *state);
/* The pool has been taken out, and has no other state: what is idle in this one is closed. Under the client's mutex. */
void former_let_go(struct pool_state *state);
/* Ends what is idle, closes what is others', gives memory back. */
void former_sweep(pglease_pool *pool);
/* The same, if there is anything, and not more often than every 100 ms. */
void former_look(pglease_pool *pool, uint64_t now);
/* At a detach: nobody else uses the pool. */
void former_close(pglease_pool *pool);

#endif
