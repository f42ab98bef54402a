/* SPDX-License-Identifier: PostgreSQL */
/* A program with the library of another layout: leases once, and says how that went: a code, and what came of it. */
#include <stdio.h>

#include "pglease.h"

int
main(void)
{
	pglease *client = NULL;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	int r = pglease_attach(NULL, NULL, &client);

	if (r == 0)
		r = pglease_pool_open(client, "app", &pool);
	if (r == 0)
		r = pglease_acquire(pool, 20000, &lease, &conn);
	if (r == 0) {
		PGresult *result = PQexec(conn, "select 7");

		printf("0: %s\n", PQntuples(result) == 1 ? PQgetvalue(result, 0, 0) : PQerrorMessage(conn));
		PQclear(result);
		r = pglease_release(&lease);
	}
	if (r != 0)
		printf("%d: %s\n", r, pglease_error_message());
	pglease_detach(client);
	return 0;
}
