/* SPDX-License-Identifier: PostgreSQL */
/*
 * The adoption socket, <socket_dir>/.s.PGSQL.5432: plays a PostgreSQL server to libpq until the shell is made, then
 * hands out the server connection's descriptor. Cancel requests come here too, because a shell's address is this one.
 */
#ifndef PGLEASE_BROKER_ADOPT_H
#define PGLEASE_BROKER_ADOPT_H

#include "clients.h"

struct adopt;

struct adopt_params {
	const struct pool_context *context;
	struct pool **pools;
	unsigned npools;
	struct clients *clients;
	const char *socket_dir;
	struct handover *from; /* NULL: a new socket, without handshakes */
};

/* 0, or -1 with log_refuse(). */
int adopt_new(const struct adopt_params *params, struct adopt **ret);
/*
 * Gives up the connects of renewals (H3): their handshakes begin again with adopt_go_on(). Then they can be handed over; while the
 * pools' context is quiet, start-up packets for renewals and cancels are not served.
 */
void adopt_hold(struct adopt *adopt);
void adopt_hand_over(struct adopt *adopt, struct handover *to);
/* Serves what was held, after a handover or none. */
void adopt_go_on(struct adopt *adopt);
/* A pool has ended: so many are left in the list. */
void adopt_forget_pool(struct adopt *adopt, unsigned npools);
/* Lets go of those that take too long. */
void adopt_tick(struct adopt *adopt, uint64_t now);
void adopt_free(struct adopt *adopt);

#endif
