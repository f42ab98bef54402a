/* SPDX-License-Identifier: PostgreSQL */
/* What the tests of a broker's death share: the broker killed and started, and its sessions on the server. */
#ifndef PGLEASE_TESTS_SURVIVE_H
#define PGLEASE_TESTS_SURVIVE_H

#include "it.h"

void survive_kill(void);
void survive_start(void);
void survive_stop(void);

/* Remembers the sessions that the pools have now; and waits until none of those remembered is left, or this many are. */
void survive_note_sessions(void);
void survive_await_sessions(unsigned left);

/* Leases until the session is none of those remembered; queries in each. */
void survive_await_new(pglease_pool *pool);
/* Whether the lease's session is one of those remembered. */
bool survive_is_old(const PGconn *conn);

/* Waits until the request is done, and finishes it. */
int survive_finish(pglease_request *request, pglease_lease *ret_lease, PGconn **ret_conn);

#endif
