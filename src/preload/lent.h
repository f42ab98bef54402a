/* SPDX-License-Identifier: PostgreSQL */
/*
 * The PGconns that a program has of us: leased ones, those that are still to be (an asynchronous connect), and those that only
 * say why there is none. Every other PGconn is libpq's alone.
 */
#ifndef PGLEASE_PRELOAD_LENT_H
#define PGLEASE_PRELOAD_LENT_H

#include "placeholder.h"
#include "pools.h"

enum lent_state {
	LENT_READY,
	LENT_PENDING,   /* asynchronous: there is no lease yet */
	LENT_SETTING,   /* asynchronous: the start-up settings were sent */
	LENT_RESETTING, /* PQresetStart */
	LENT_REFUSED,   /* no lease: the PGconn has the reason */
};

/*
 * Never freed, only used again, for lent_find looks at the one that its thread had last without a lock: `conn` tells whose it is.
 */
struct lent {
	struct lent *next;
	PGconn *_Atomic conn; /* NULL: nobody's */
	struct library *lib; /* that made it */
	struct wanted *wanted;
	struct pool_use use;
	pglease_lease lease;
	struct placeholder *placeholder; /* PENDING */
	enum lent_state state;
};

/* A copy of the pointer; it stays the table's. NULL: the PGconn is none of ours. */
struct lent *lent_find(const PGconn *conn);

/*
 * A lease instead of a connection. The PGconn, which may say that it failed; or NULL: connect directly. Takes over `wanted`.
 * `started`: asynchronously, as PQconnectStart.
 */
PGconn *lent_connect(struct library *lib, struct wanted *wanted, bool started);
PostgresPollingStatusType lent_poll(struct lent *lent);
/* PQfinish: of one that was found. */
void lent_finish(struct lent *lent);
void lent_reset(struct lent *lent);
int lent_reset_start(struct lent *lent);
PostgresPollingStatusType lent_reset_poll(struct lent *lent);
/* PQPING_OK when the pool has connections; PQPING_NO_ATTEMPT: ask the server. */
PGPing lent_ping(struct library *lib, struct wanted *wanted);

#endif
