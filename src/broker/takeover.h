/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a broker that was killed has left on the servers: its sessions live on in processes that have their descriptors. Those
 * that are still there after a pool's takeover_limit are ended through the server (doc/protocol.md, "When the broker dies").
 */
#ifndef PGLEASE_BROKER_TAKEOVER_H
#define PGLEASE_BROKER_TAKEOVER_H

#include "pool.h"
#include "sockdir.h"

struct takeover;

/*
 * Reads what the last broker of this name has published, before its place is taken, and what it has left in the folder. NULL: nothing is left of it, it has stopped, or
 * nothing is known (monitoring = no; out of memory).
 */
struct takeover *takeover_new(const char *instance, struct sockdir *sockdir, struct pool *const *pools, unsigned npools);
/* Ends what is due; NULL: nothing. Never blocks. */
void takeover_tick(struct takeover *takeover, uint64_t now);
/* Waits at most so long for a thread that speaks to a server. Before the pools go. */
void takeover_free(struct takeover *takeover, unsigned wait_ms);

#endif
