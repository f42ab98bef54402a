/* SPDX-License-Identifier: PostgreSQL */
/* What server.c and renew.c share. */
#ifndef PGLEASE_BROKER_SERVER_PRIV_H
#define PGLEASE_BROKER_SERVER_PRIV_H

#include "server.h"

/* The one place where a server's state changes; asserts that it may. */
void server_set_state(struct server *server, enum server_state to);
/* Closes the connection, or stops making one, for all who hold its descriptor. State and word stay. */
void server_drop(struct server *server);
/* Asks the server, in a thread, to cancel what runs on a connection that ends. 0, or as cancels_submit. */
int server_cancel_what_runs(struct server *server);
/* There is another connection: its generation, and what the slot says of it. 0 or -errno. */
int server_publish(struct server *server);

#endif
