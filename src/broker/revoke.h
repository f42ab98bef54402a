/* SPDX-License-Identifier: PostgreSQL */
/* Taking back what a client that is gone has, from all pools: the steps of "Clients and death" in doc/protocol.md. */
#ifndef PGLEASE_BROKER_REVOKE_H
#define PGLEASE_BROKER_REVOKE_H

#include "clients.h"

/*
 * Step 1, for the dead and the detached. `dead`: the process certainly runs no more. `cause`: COUNTER_REVOKED_DEATH or
 * _DETACH. Returns the number of leases revoked.
 */
unsigned revoke_leases(
    struct pool **pools, unsigned npools, struct client *client, bool dead, enum broker_counter cause);
/* Steps 3 and 5, which is all that can follow while a detached process may still be running. */
void revoke_recover(struct pool **pools, unsigned npools);
/* Steps 2 to 5, when the process is dead, or when no row word names it (a clean detach). Then its index is free. */
void revoke_rows(struct pool **pools, unsigned npools, const struct client *client);
/* Whether a row word names it. */
bool revoke_has_rows(struct pool **pools, unsigned npools, const struct client *client);

/*
 * S13 of a slot's lease from a process that is attached; `pid` 0: whoever it is. Returns the number of leases revoked: 1 or 0.
 */
unsigned revoke_slot(struct server *server, const struct clients *clients, pid_t pid, enum broker_counter cause);
/* S13 of one lease whose row belongs to nobody (`client` NULL) or to this client. False when the word changed. */
bool revoke_lease(
    struct server *server, uint64_t w, struct client *client, bool dead, enum broker_counter cause);

#endif
