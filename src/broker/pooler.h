/* SPDX-License-Identifier: PostgreSQL */
/*
 * Whether a pooler (PgBouncer and its like) stands between the broker and the server, and one whose sessions can be lent. A session that is
 * asked for its backend's pid says that of its BackendKeyData, unless there is a pooler, which makes a key of its own. Then two connections
 * are asked in turn: a pooler in session mode gives each a backend, and always the same; one that gives each transaction another backend
 * shows by the same pid in both, or by another in one of them.
 */
#ifndef PGLEASE_BROKER_POOLER_H
#define PGLEASE_BROKER_POOLER_H

#include "pool.h"

/* What is known of a pool's upstream. */
enum upstream {
	UPSTREAM_UNKNOWN,
	UPSTREAM_DIRECT, /* not asked again until a connect fails */
	UPSTREAM_POOLER, /* in session mode: each connection is asked for its backend */
};

/*
 * Asks the connection that libpq has made for this server; ends with connect_asked(), perhaps before this returns. 0, or -ENOMEM: it has not
 * begun.
 */
int pooler_ask(struct server *server);
/* Stops asking. Accepts a server that is not asked. */
void pooler_stop(struct server *server);

#endif
