/* SPDX-License-Identifier: PostgreSQL */
/* Thresholds of a pool in this process: when they are looked at. What they are is in pglease.h. */
#ifndef PGLEASE_CLIENT_THRESHOLD_H
#define PGLEASE_CLIENT_THRESHOLD_H

#include "client_priv.h"

void threshold_init(struct threshold_watch *watch);
void threshold_fini(struct threshold_watch *watch);
/* Looks at all of them and tells the callback, unless another thread does. */
void threshold_look(pglease_pool *pool, const struct pool_state *state, uint64_t now);

/* After a release, at `now`: the price of nobody listening is one load. */
static inline void
threshold_maybe_look(pglease_pool *pool, const struct pool_state *state, uint64_t now)
{
	/* Relaxed: both only say whether it is worth going there. */
	if (atomic_load_explicit(&pool->watch.watcher, memory_order_relaxed) != NULL &&
	    now >= atomic_load_explicit(&pool->watch.next_look, memory_order_relaxed))
		threshold_look(pool, state, now);
}

#endif
