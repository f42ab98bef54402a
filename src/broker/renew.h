/* SPDX-License-Identifier: PostgreSQL */
/*
 * Another connection for a lease that goes on: what PQreset leads to (doc/protocol.md, "Renewal"). Who may ask for it is
 * adopt.c's matter.
 */
#ifndef PGLEASE_BROKER_RENEW_H
#define PGLEASE_BROKER_RENEW_H

#include "pool.h"

/*
 * LENT, RENEWING, VOID -> RENEWING, for the client whose lease `w` is. Ends with `told`, once, perhaps before this
 * returns: then the server is LENT, or there is no other connection for the reason told. One that is under way already goes
 * on for the new request, and its own is told that it is over.
 */
void renew_start(struct server *server, uint64_t w, uint64_t incarnation, renewal_told told, void *context);
/* RENEWING -> VOID: who asked has gone, and is not told. */
void renew_abandon(struct server *server);

/* For server.c: how the connect of one that is RENEWING ended. */
void renew_connected(struct server *server);
void renew_failed(struct server *server, const char *sqlstate, const char *error);
/* For server.c: it was RENEWING, and the broker has taken the slot. */
void renew_over(struct server *server);

#endif
