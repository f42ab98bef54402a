/* SPDX-License-Identifier: PostgreSQL */
/* The control socket's sessions, for control.c, and for control_handover.c, which hands them over. */
#ifndef PGLEASE_BROKER_CONTROL_PRIV_H
#define PGLEASE_BROKER_CONTROL_PRIV_H

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "control.h"

struct session {
	TAILQ_ENTRY(session) all;
	struct control *control;
	int fd;
	struct event readable;
	uint64_t since;
	uint32_t version; /* of the wire, as far as errors go: the peer's */
	unsigned messages; /* since the last tick */
	bool held; /* too many: not read until the next tick */
	struct client *client; /* NULL: silent, or a tool's */
	uint64_t opened; /* pools that it has: bits */
	bool commanding; /* a tool's: it waits for its command's result */
};

TAILQ_HEAD(session_list, session);

struct control {
	struct control_params params;
	struct listener *listener;
	struct access *admin;
	struct session_list silent, attached; /* silent: oldest first; attached: those of tools too */
	unsigned nsilent;
};

/* Its socket in the loop. False: it cannot be. */
bool session_watch(struct session *session);
/* The client's process is dead, and clients.c knows: only the session is left. */
void session_client_died(void *session);
/* Of a control that has its listener. 0, or -1 with log_refuse(). */
int control_take_over(struct control *control, struct handover *from);

#endif
