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
 * Reads what the last broker of this name has published, before its place is taken, and what it has left in the folder. NULL: nothing is left of it, it has stopped, or
 * nothing is known (monitoring = no; out of memory).
 */
struct takeover *takeover_new(const char *instance, struct sockdir *sockdir, struct pool *const *pools, unsigned npools);
/* To the program that takes this one's place, with the times when it is due, and from it: 0, or -1 with log_refuse(). */
void takeover_hand_over(struct takeover *takeover, struct handover *to);
int takeover_take_over(struct handover *from, struct sockdir *sockdir, struct pool *const *pools, unsigned npools,
    struct takeover **ret);
/* No thread of it speaks to a server. */
bool takeover_is_quiet(const struct takeover *takeover);
/* Ends what is due, or, if it does not begin that now, notes what has been done; NULL: nothing. Never blocks. */
void takeover_tick(struct takeover *takeover, uint64_t now, bool begins);
/* Waits at most so long for a thread that speaks to a server. Before the pools go. */
void takeover_free(struct takeover *takeover, unsigned wait_ms);

#endif
