/* SPDX-License-Identifier: PostgreSQL */
/*
 * Sessions of an environment's server that are no pool's. One that was closed a moment ago may still be there: it is on
 * its way out as long as its process runs, and one that sleeps and does nothing between two looks is not.
 */
#include "look.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_S 5

/* "S" and the number of times that it went to sleep: alike in two looks, it has done nothing between. "": it has gone. */
static void
rest_of(pid_t pid, char *buf, size_t size)
{
	char path[64], line[256], state = '?';
	unsigned long switches = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	*buf = '\0';
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL) {
		sscanf(line, "State: %c", &state);
		sscanf(line, "voluntary_ctxt_switches: %lu", &switches);
	}
	fclose(file);
	snprintf(buf, size, "%c/%lu", state, switches);
}

static void
note_session(struct pglease_test_env *env, struct look *look, PGresult *result, int row)
{
	pid_t pid = (pid_t)atoi(PQgetvalue(result, row, 0));
	char key[64], rest[64];
	struct thing *thing;

	if (look_is_pools(env, pid))
		return;
	rest_of(pid, rest, sizeof(rest));
	snprintf(key, sizeof(key), "%d/%s", (int)pid, PQgetvalue(result, row, 1));
	thing = look_note(look, PGLEASE_TEST_LEAK_SESSION, key,
	    "server pid %d, database %s, application '%s': %s for %s s; its last query: %.200s", (int)pid,
	    PQgetvalue(result, row, 2), PQgetvalue(result, row, 3), PQgetvalue(result, row, 4), PQgetvalue(result, row, 5),
	    PQgetvalue(result, row, 6));
	if (thing != NULL) {
		thing->passing = true;
		thing->bytes = rest[0] == 'S' ? strtoull(rest + 2, NULL, 10) + 1 : 0;
	}
}

void
look_server(struct pglease_test_env *env, struct look *look)
{
	char conninfo[sizeof(env->conninfo) + 64];
	PGresult *result;
	PGconn *conn;

	if (!env->has_upstream)
		return;
	if (env->upstream.server.pid == 0) {
		look_unseen(look, "sessions: the server does not run");
		return;
	}
	snprintf(conninfo, sizeof(conninfo), "%s connect_timeout=%d application_name=pglease-test", env->conninfo, CONNECT_S);
	conn = environ_connect(conninfo, env->foreign);
	result = PQexec(conn,
	    "select pid, backend_start, coalesce(datname, ''), application_name, coalesce(state, ''), "
	    "round(extract(epoch from clock_timestamp() - state_change)::numeric, 3), query from pg_stat_activity "
	    "where backend_type = 'client backend' and pid <> pg_backend_pid()");
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		look_unseen(look, "sessions: the server does not answer");
	for (int i = 0; i < PQntuples(result); i++)
		note_session(env, look, result, i);
	PQclear(result);
	PQfinish(conn);
}
