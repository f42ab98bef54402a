/* SPDX-License-Identifier: PostgreSQL */
/* Noticing that the broker has gone, and attaching anew: after that, and after a fork (doc/protocol.md, "When the broker dies"). */
#ifndef PGLEASE_CLIENT_REATTACH_H
#define PGLEASE_CLIENT_REATTACH_H

#include "client_priv.h"

/* A broker whose last tick is older may be gone; a tick is ten times as often. */
#define BEAT_NS UINT64_C(1000000000)

#define REATTACH_NS UINT64_C(50000000) /* between two tries to attach again, while nobody answers */

/* Whether it is time to look at the control connection: the broker's last tick is old, or it has stopped. No system call. */
bool reattach_is_due(const struct pool_state *state, uint64_t now);
/* This process has been forked since the pool was opened in it: client_pool_state attaches first. */
bool reattach_is_ahead(const pglease_pool *pool);
/* Looks, but not more often than every 100 ms. Whether the process is known to be cut off. */
bool reattach_look(const struct pool_state *state, uint64_t now);
/* Looks now: somebody has met what only a broker that is gone explains. True if that is news. */
bool reattach_is_news(const struct pool_state *state);
/* The pool has gone from this state's segment: opens the one that has its name now. 0, or the errors of pglease_pool_open. */
int reattach_moved(pglease_pool *pool, const struct pool_state *state);
/*
 * Under the client's mutex: a process and states that are not cut off, or the error. Each exchange takes so long at most, and no longer
 * than the attachment's timeout_ms.
 */
int reattach(struct pglease *client, uint32_t patience_ms);

#endif
