/* SPDX-License-Identifier: PostgreSQL */
/*
 * Dirty sessions that nobody uses: reset when they have been idle for reset_after, so that nobody has to wait for it. The
 * broker looks about every millisecond while there are any, less often while nobody's is idle for so long, and sleeps while there are
 * none (doc/protocol.md, reset_watch).
 */
#ifndef PGLEASE_BROKER_DIRTY_H
#define PGLEASE_BROKER_DIRTY_H

#include "pool.h"

void dirty_init(struct pool *pool, bool fresh);
void dirty_fini(struct pool *pool);
/* Looks now, and decides when to look again. */
void dirty_look(struct pool *pool, uint64_t now);

#endif
