/* SPDX-License-Identifier: PostgreSQL */
/*
 * alert_command: a program of the operator's, run when an alert is raised or cleared. Owns its processes, from start to end.
 *
 * No shell and no argument: what there is to say is in its environment (pgleased(8), "ALERTS"), and of the broker's it has
 * nothing else, nor any descriptor. One at a time for each alert of each pool, and ALERT_COMMANDS for all; what turns meanwhile waits, the
 * newest state only. One that has not ended after alert_command_limit is killed, with what it has started. So a stuck one delays
 * the news of its own alert, until then, and nothing else. The broker waits for none.
 */
#ifndef PGLEASE_BROKER_ALERT_COMMAND_H
#define PGLEASE_BROKER_ALERT_COMMAND_H

#include <event2/event.h>

#include "alert.h"

struct alert_command;
struct handover;

#define ALERT_COMMANDS 16u /* at a time; descriptors */

struct alert_command_params {
	struct event_base *base;
	const char *instance, *program; /* they must outlive it; program "": none is run */
	uint64_t limit;                 /* ns */
	struct handover *from; /* NULL: none runs yet */
};

/* What is told. */
struct alert_news {
	char pool_name[LAYOUT_NAME];
	enum alert_id id;
	struct alert alert; /* its state: raised or not */
	uint64_t at;        /* CLOCK_REALTIME ns */
};

/* 0, or -1 with log_refuse(). */
int alert_command_new(const struct alert_command_params *params, struct alert_command **ret);
void alert_command_tell(struct alert_command *command, const struct alert_news *news);
void alert_command_hand_over(struct alert_command *command, struct handover *to);
/* Kills those that run. Accepts NULL. */
void alert_command_free(struct alert_command *command);

#endif
