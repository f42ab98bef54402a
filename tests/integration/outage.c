/* SPDX-License-Identifier: PostgreSQL */
/* See outage.h. */
#include "outage.h"

#include <string.h>

void
outage_assert_serves(pglease_pool *pool)
{
	pglease_lease lease;
	PGconn *conn;

	it_ok(pglease_acquire(pool, IT_PATIENCE_MS, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
}

void
outage_assert_lost(PGconn *conn, const char *words)
{
	PGresult *result = PQexec(conn, "select 1");

	ck_assert_int_eq(PQresultStatus(result), PGRES_FATAL_ERROR);
	PQclear(result);
	ck_assert_msg(strstr(PQerrorMessage(conn), words) != NULL, "no \"%s\" in: %s", words, PQerrorMessage(conn));
	/* libpq may have failed to write, and not read the end yet. */
	while (PQstatus(conn) == CONNECTION_OK)
		PQclear(PQexec(conn, "select 1"));
}

bool
outage_has_tried(const pglease_stats *stats, const void *arg)
{
	(void)arg;
	return stats->idle == 0 && stats->leased == 0 && stats->open_failed > 0;
}

void
outage_wait_and_be_told(int socket, const void *arg)
{
	pglease_pool *mine = it_attach();
	pglease_lease lease;
	PGconn *conn;
	int r;

	(void)arg;
	it_say(socket, 'a');
	r = pglease_acquire(mine, OUTAGE_HOUR_MS, &lease, &conn);
	it_say(socket, r == PGLEASE_EUPSTREAM && strstr(pglease_error_message(), "the server refuses: ") != NULL ? 'u' : '?');
}
