/* SPDX-License-Identifier: PostgreSQL */
/*
 * Timing of queries and transactions; see timing.h.
 *
 * A transaction begins with the call before which the session was idle, and ends with the one after which it is: so a
 * single query is one. What the application does by libpq itself in between is part of it, and not seen otherwise.
 */
#include "timing.h"

#include <stdlib.h>

#include "adopt.h"
#include "lease.h"

struct timing
timing_begin(PGconn *conn)
{
	struct timing t = {.shell = adopt_leased_shell(conn)};

	if (t.shell == NULL || !lease_is_counted(t.shell->owner)) {
		t.shell = NULL;
		return t;
	}
	t.start = clock_quick_ns();
	if (t.shell->transaction_at == 0 || PQtransactionStatus(conn) == PQTRANS_IDLE)
		t.shell->transaction_at = t.start;
	return t;
}

static bool
is_error(const PGresult *result)
{
	switch (PQresultStatus(result)) { /* of NULL: PGRES_FATAL_ERROR */
	case PGRES_BAD_RESPONSE:
	case PGRES_FATAL_ERROR:
	case PGRES_PIPELINE_ABORTED:
		return true;
	default:
		return false;
	}
}

/* Returned or changed. */
static uint64_t
rows_of(const PGresult *result)
{
	const char *changed;

	switch (PQresultStatus(result)) {
	case PGRES_TUPLES_OK:
	case PGRES_SINGLE_TUPLE:
		return (uint64_t)PQntuples(result);
	case PGRES_COMMAND_OK:
		changed = PQcmdTuples((PGresult *)result); /* not const before libpq 17, but only read */
		return strtoull(changed, NULL, 10);
	default:
		return 0;
	}
}

static void
count_transaction(const struct pool_state *state, struct shell *shell, uint64_t now)
{
	uint64_t ns = clock_since(now, shell->transaction_at);

	shell->transaction_at = 0;
	lease_count(state, shell, COUNTER_TRANSACTIONS, 1);
	lease_count(state, shell, COUNTER_TRANSACTION_NS, ns);
	histogram_record(&state->seg.block[shell->block].transaction, ns);
}

static void
count_query(struct shell *shell, uint64_t start)
{
	const struct pool_state *state = shell->owner;
	uint64_t now = clock_quick_ns(), ns = clock_since(now, start);

	lease_count(state, shell, COUNTER_QUERIES, 1);
	lease_count(state, shell, COUNTER_QUERY_NS, ns);
	histogram_record(&state->seg.block[shell->block].query, ns);
	if (shell->transaction_at != 0 && PQtransactionStatus(shell->conn) == PQTRANS_IDLE)
		count_transaction(state, shell, now);
}

static void
count_result(const struct shell *shell, const PGresult *result)
{
	if (is_error(result))
		lease_count(shell->owner, shell, COUNTER_QUERY_ERRORS, 1);
	else
		lease_count(shell->owner, shell, COUNTER_QUERY_ROWS, rows_of(result));
}

void
timing_end(const struct timing *timing, const PGresult *result)
{
	if (timing->shell == NULL)
		return;
	count_result(timing->shell, result);
	count_query(timing->shell, timing->start);
}

void
timing_sent(const struct timing *timing)
{
	struct shell *shell = timing->shell;

	if (shell == NULL)
		return;
	/* Without a pipeline there is one at a time; one whose results were taken past us is forgotten. */
	if (PQpipelineStatus(shell->conn) == PQ_PIPELINE_OFF)
		shell->queries_out = 0;
	if (shell->queries_out++ == 0)
		shell->query_at = timing->start;
}

void
timing_got(PGconn *conn, const PGresult *result)
{
	struct shell *shell = adopt_leased_shell(conn);

	if (shell == NULL || shell->queries_out == 0 || !lease_is_counted(shell->owner))
		return;
	if (result != NULL) {
		if (PQresultStatus(result) != PGRES_PIPELINE_SYNC)
			count_result(shell, result);
		return;
	}
	count_query(shell, shell->query_at);
	/* The next of a pipeline counts from here: before, the server was busy with this one. */
	if (--shell->queries_out != 0)
		shell->query_at = clock_quick_ns();
}

void
timing_abandon(const struct pool_state *state, struct shell *shell, uint64_t now)
{
	count_transaction(state, shell, now);
}
