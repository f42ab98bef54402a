/* SPDX-License-Identifier: PostgreSQL */
/* Opening a server connection: libpq's connect state machine in the loop, with a deadline. */
#ifndef PGLEASE_BROKER_CONNECT_H
#define PGLEASE_BROKER_CONNECT_H

#include "pool.h"

/*
 * Begins; ends with server_connected() or server_connect_failed(), the latter perhaps before this returns.
 */
void connect_start(struct server *server);
/* Stops watching: the connection is to be closed. */
void connect_stop(struct server *server);

#endif
