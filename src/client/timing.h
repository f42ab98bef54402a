/* SPDX-License-Identifier: PostgreSQL */
/*
 * Timing of the library's own calls (exec.c, statements.c): queries and transactions, counted into the block of the lease
 * whose PGconn it is. The lease is the lock, as for all that a lessee counts. Any other PGconn is not timed.
 */
#ifndef PGLEASE_CLIENT_TIMING_H
#define PGLEASE_CLIENT_TIMING_H

#include "client_priv.h"

struct timing {
	struct shell *shell; /* NULL: not counted */
	uint64_t start;
};

/* A call that returns when its query is done. */
struct timing timing_begin(PGconn *conn);
void timing_end(const struct timing *timing, const PGresult *result);

/* One that was sent (with success), whose results come by and by: `result` is what PQgetResult gave, NULL too. */
void timing_sent(const struct timing *timing);
void timing_got(PGconn *conn, const PGresult *result);

/* At the release, while the lease is the lock: a transaction that was open has ended, by roll-back. */
void timing_abandon(const struct pool_state *state, struct shell *shell, uint64_t now);
static inline void
timing_release(const struct pool_state *state, struct shell *shell, uint64_t now)
{
	if (shell->transaction_at != 0)
		timing_abandon(state, shell, now);
	shell->queries_out = 0;
}

#endif
