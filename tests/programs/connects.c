/* SPDX-License-Identifier: PostgreSQL */
/* Connects as the environment says, and finishes, N times: what test_counts counts system calls of, with the library preloaded. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

int
main(int argc, char **argv)
{
	unsigned long n = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;

	for (unsigned long i = 0; i < n; i++) {
		PGconn *conn = PQconnectdb("application_name=counted");

		if (PQstatus(conn) != CONNECTION_OK) {
			fputs(PQerrorMessage(conn), stderr);
			return 1;
		}
		PQfinish(conn);
	}
	return n == 0;
}
