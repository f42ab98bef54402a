/* SPDX-License-Identifier: PostgreSQL */
/*
 * The control socket, <socket_dir>/control: where processes attach, get their pools' segments, ring, and where their
 * end is noticed first. One message a packet (wire.h).
 */
#ifndef PGLEASE_BROKER_CONTROL_H
#define PGLEASE_BROKER_CONTROL_H

#include "clients.h"
#include "commands.h"
#include "recorder.h"

struct control;

struct control_params {
	struct event_base *base;
	struct pool **pools;
	unsigned npools, nall; /* with those that are going (pools.h) */
	struct clients *clients;
	struct commands *commands;
	const struct recorder *recorder; /* NULL: there are no histories */
	unsigned max_clients;
	unsigned max_clients_per_user; /* 0: no limit */
	uint64_t instance_id;
	const char *instance, *socket_dir;
	const char *admin_users, *admin_groups; /* who may give commands */
	int passed; /* the listening socket, by a service manager; -1: none */
	struct handover *from; /* NULL: a new socket, without sessions */
};

/* Sends a session its command's result (command_answer). */
bool control_answer(void *session, const struct wire_result *result);
/* 0, or -1 with log_refuse(). */
int control_new(const struct control_params *params, struct control **ret);
/* To the broker that takes this one's place. */
void control_hand_over(struct control *control, struct handover *to);
/* A pool has ended, with this number: so many are left in the list. */
void control_forget_pool(struct control *control, uint32_t index, unsigned nall);
/* Lets go of those that say nothing; lets those that talked too much go on. */
void control_tick(struct control *control, uint64_t now);
/* Closes the socket and all connections; the clients are clients.c's. */
void control_free(struct control *control);

#endif
