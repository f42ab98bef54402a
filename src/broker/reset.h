/* SPDX-License-Identifier: PostgreSQL */
/*
 * Bringing a server session back to its baseline, by the broker. Strict: any answer but the
 * expected one is a failure, and the connection is then replaced.
 */
#ifndef PGLEASE_BROKER_RESET_H
#define PGLEASE_BROKER_RESET_H

#include "pool.h"

/* Begins; ends with server_was_reset(), perhaps before this returns. */
void reset_start(struct server *server);
void reset_stop(struct server *server);

#endif
