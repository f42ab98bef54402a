/* SPDX-License-Identifier: PostgreSQL */
/* An extension as languages have them: loaded with RTLD_LOCAL, linked with a libpq that the program does not have. */
#include <stdio.h>
#include <string.h>

#include <libpq-fe.h>

int module_run(char *ret_answer, size_t size);

/* The server's pid of a connection of its own, and that it is leased; 0, or -1 with the error. */
int __attribute__((visibility("default"))) module_run(char *ret_answer, size_t size)
{
	PGconn *conn = PQconnectdb("");
	PGresult *result;
	int r = -1;

	if (PQstatus(conn) == CONNECTION_OK) {
		result = PQexec(conn, "show lock_timeout");
		if (PQresultStatus(result) == PGRES_TUPLES_OK) {
			snprintf(ret_answer, size, "%s", PQgetvalue(result, 0, 0));
			r = 0;
		}
		PQclear(result);
	}
	if (r != 0)
		snprintf(ret_answer, size, "%s", PQerrorMessage(conn));
	PQfinish(conn);
	return r;
}
