/* SPDX-License-Identifier: PostgreSQL */
/*
 * A PGconn that a program has before there is a lease for it: its PQconnectStart found no connection idle. PQsocket is there
 * from the beginning, and readable when it is time for PQconnectPoll.
 *
 * It dials the broker, as every shell does, and so is one in the end, with its cancel requests going where they should. In
 * between its socket is one end of a pair, whose other end is ours: there it says its start-up packet, and there it is
 * told what the broker has answered to the same packet with the slot that was leased, or why there is none.
 *
 * libpq's manual warns that the socket may be another after each PQconnectPoll. Here it is another open file by the same number
 * once the lease is there: an event loop that keeps to the manual registers it anew.
 */
#ifndef PGLEASE_PRELOAD_PLACEHOLDER_H
#define PGLEASE_PRELOAD_PLACEHOLDER_H

#include "lease.h"
#include "library.h"
#include "pglease.h"
#include "pools.h"

struct placeholder;

/* 0, or the errors of pglease_acquire_start. */
int placeholder_start(
    struct library *lib, const struct pool_use *use, const struct wish *wish, struct placeholder **ret, PGconn **ret_conn);
/*
 * PGRES_POLLING_OK: *ret_lease has it, and the PGconn is its own; PGRES_POLLING_FAILED: the PGconn says why. Either way
 * the placeholder is freed. Otherwise it goes on.
 */
PostgresPollingStatusType placeholder_poll(struct placeholder *placeholder, pglease_lease *ret_lease);
/* Gives up. The PGconn is the caller's to finish. */
void placeholder_free(struct placeholder *placeholder);

#endif
