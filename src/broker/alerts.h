/* SPDX-License-Identifier: PostgreSQL */
/*
 * The pools' alerts: gathers once a second what is judged (alert_watch.h), writes the judgement into the lease segments (alert.h), from
 * where all readers have it, and tells of changes: the log, and alert_command.
 */
#ifndef PGLEASE_BROKER_ALERTS_H
#define PGLEASE_BROKER_ALERTS_H

#include <event2/event.h>

#include "pool.h"

struct alerts;
struct handover;

struct alerts_params {
	struct event_base *base;
	const struct instance_settings *settings; /* they must outlive it, as the pools must */
	struct pool *const *pools;
	unsigned npools;
	struct handover *from; /* NULL: nothing is raised */
};

/* 0, or -1 with log_refuse(). */
int alerts_new(const struct alerts_params *params, struct alerts **ret);
/* At each tick, after the pulses; memory: the broker's, in bytes, 0: unknown. */
void alerts_tick(struct alerts *alerts, uint64_t now, uint64_t memory);
void alerts_hand_over(struct alerts *alerts, struct handover *to);
void alerts_free(struct alerts *alerts); /* accepts NULL */

#endif
