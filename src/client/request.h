/* SPDX-License-Identifier: PostgreSQL */
/* Requests: acquires that somebody does not wait for (pglease_acquire_start). */
#ifndef PGLEASE_CLIENT_REQUEST_H
#define PGLEASE_CLIENT_REQUEST_H

#include "client_priv.h"

/*
 * At a detach, before the pool state goes: ends the requests that are pending, and gives back what they got. Their handles
 * stay, and say so.
 */
void request_end_all(struct pool_state *state);

#endif
