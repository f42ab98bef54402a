/* SPDX-License-Identifier: PostgreSQL */
/*
 * One attachment of one process: made, its pools opened, closed. What handles there are is client.c's matter, and when a
 * process attaches anew reattach.c's. All of it under the client's mutex, if others know the client.
 */
#ifndef PGLEASE_CLIENT_ATTACH_H
#define PGLEASE_CLIENT_ATTACH_H

#include "client_priv.h"

/* Each exchange takes client->patience_ms at most. The errors of pglease_attach. */
int attach_process(struct pglease *client, struct process **ret_process);
/* The errors of pglease_pool_open. */
int attach_pool(struct pglease *client, const char *name, struct process *process, struct pool_state **ret_state);
/* /dev/null for a client that has none, or whose application has closed it. 0, or ESYSTEM. */
int attach_dead_fd(struct pglease *client);
/* Lets go of what this process has of a pool; or, in a child, of what it inherited. */
void attach_abandon(struct pool_state *state);
/* The same, and frees it. */
void attach_close(struct pool_state *state);

#endif
