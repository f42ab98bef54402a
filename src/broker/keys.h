/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the broker remembers of each client's shells of a connection: the key that it minted for their cancel requests,
 * and the attempt for which it last handed out the descriptor (doc/protocol.md, "Renewal").
 */
#ifndef PGLEASE_BROKER_KEYS_H
#define PGLEASE_BROKER_KEYS_H

#include "pool.h"

/* The client's cancel key for this connection, minted at first; 0 or -ENOMEM. */
int keys_mint(struct server *server, uint64_t incarnation, uint32_t *ret_key);
/* The incarnation that a key (not 0) was minted for, or 0. */
uint64_t keys_owner(const struct server *server, uint32_t key);
/* The descriptor was handed out to the client, whose key was minted, for this attempt. */
void keys_adopted(struct server *server, uint64_t incarnation, uint64_t attempt);
/* Whether that is the last one for which it was. */
bool keys_was_adopted(const struct server *server, uint64_t incarnation, uint64_t attempt);
void keys_forget(struct server *server, uint64_t incarnation);
/* The connection ends, and its lessee gets another: all is forgotten but this client's attempt. */
void keys_keep_attempt(struct server *server, uint64_t incarnation);
/* The connection ends. */
void keys_free(struct server *server);

#endif
