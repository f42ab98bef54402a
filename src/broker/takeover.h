/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a broker that was killed has left on the servers: its sessions live on in processes that have their descriptors. Those
 * that are still there after a pool's takeover_limit are ended through the server (doc/protocol.md, "When the broker dies").
 */
#ifndef PGLEASE_BROKER_TAKEOVER_H
#define PGLEASE_BROKER_TAKEOVER_H

#include "pool.h"
#include "sockdir.h"

struct handover;
struct takeover;

/*
 * Reads what the last broker has left in the folder, if it was killed, and what it has published, before its place is taken. The pools'
 * array is the caller's, and lives as long; from `npools` to `nall` it has those that are going (pools.h), whose sessions are noted, too. NULL: out of memory.
 */
struct takeover *takeover_new(const char *instance, struct sockdir *sockdir, struct pool *const *pools, unsigned npools);
/* Notes a connection for the next broker: before anybody can have a lease of it. Accepts NULL. */
void takeover_note(struct takeover *takeover, const struct server *server);
/* To the program that takes this one's place, with the times when it is due, and from it: 0, or -1 with log_refuse(). */
void takeover_hand_over(struct takeover *takeover, struct handover *to);
int takeover_take_over(struct handover *from, struct sockdir *sockdir, struct pool *const *pools, unsigned npools, unsigned nall,
    struct takeover **ret);
/* A pool that was going has ended: so many are left in the array. */
void takeover_forget_pool(struct takeover *takeover, unsigned nall);
/* No thread of it speaks to a server. */
bool takeover_is_quiet(const struct takeover *takeover);
/* Ends what is due, or, if it does not begin that now, notes what has been done. Never blocks. */
void takeover_tick(struct takeover *takeover, uint64_t now, bool begins);
/* Waits at most so long for a thread that speaks to a server. Before the pools go. Accepts NULL. */
void takeover_free(struct takeover *takeover, unsigned wait_ms);

#endif
