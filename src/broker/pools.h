/* SPDX-License-Identifier: PostgreSQL */
/*
 * Which pools an instance has: those of its configuration, and behind them those that are going, because a reload has taken them out
 * or made them anew (doc/protocol.md, "Pools that come and go"). What a pool does is pool.c's matter.
 */
#ifndef PGLEASE_BROKER_POOLS_H
#define PGLEASE_BROKER_POOLS_H

#include "pool.h"

struct instance;

/*
 * A number that follows from what a pool's segment is made by: the settings that change so (SETTING_REMAKES), and the user and the
 * database that its clients have been told. Before there are threads, as target_init(); afterwards it is the pool's `remade_by`.
 */
uint64_t pools_made_by(const struct pool_settings *settings_of);

/* Makes all, or takes them over; none serves yet. 0, or -1 with log_refuse(). */
int pools_start(struct instance *instance, struct handover *from);
void pools_hand_over(struct instance *instance, struct handover *to);
/* All parts are there: those that are new serve, and those that have to go begin to. What that comes to is told. */
void pools_serve(struct instance *instance);
/* Ends leases that are over their time, and pools that have no connection left. Not from within anything of a pool's own. */
void pools_tick(struct instance *instance, uint64_t now);

#endif
