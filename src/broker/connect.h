/* SPDX-License-Identifier: PostgreSQL */
/* Opening a server connection: libpq's connect state machine in the loop, with a deadline. */
#ifndef PGLEASE_BROKER_CONNECT_H
#define PGLEASE_BROKER_CONNECT_H

#include "pool.h"

/*
 * Begins; ends with server_connected() or server_connect_failed(), the latter perhaps before this returns.
 */
void connect_start(struct server *server);
/* The connection that has been made can be lent (NULL), or why not; "": libpq has the words. */
void connect_asked(struct server *server, const char *error);
/* Stops watching: the connection is to be closed. */
void connect_stop(struct server *server);

#endif
