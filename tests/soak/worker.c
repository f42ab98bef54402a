/* SPDX-License-Identifier: PostgreSQL */
/* What a worker does with its leases. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "pglease.h"
#include "soak.h"

/* One of each worker; a forked child gets another id. */
static struct worker {
	uint64_t id, random, nonce;
	pglease *client;
	pglease_pool *pool[2]; /* of the policies `handover` and `always` */
} me;

/* What trouble makes a query end with; all else is a failure. */
static bool
is_excused(PGconn *conn, const PGresult *result)
{
	static const char *const sqlstates[] = {"57P01", "57P02", "57P03", "57014", "25P02"};
	const char *got = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (PQstatus(conn) == CONNECTION_BAD)
		return true;
	for (size_t i = 0; got != NULL && i < sizeof(sqlstates) / sizeof(sqlstates[0]); i++)
		if (strcmp(got, sqlstates[i]) == 0)
			return true;
	return false;
}

static bool
is_good(PGconn *conn, PGresult *result, const char *what)
{
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_COPY_IN)
		return true;
	if (!is_excused(conn, result))
		soak_fail("%s: %s", what, PQresultErrorMessage(result));
	return false;
}

/* False: the connection is lost, or the statement was ended from outside. */
static bool
run(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);
	bool good = is_good(conn, result, sql);

	PQclear(result);
	return good;
}

/* A row that nobody else has asked for. */
static bool
ask(PGconn *conn, bool extended)
{
	char sql[128], nonce[32];
	const char *values[] = {nonce};
	PGresult *result;
	bool good;

	snprintf(nonce, sizeof(nonce), "%" PRIu64 ".%" PRIu64, me.id, ++me.nonce);
	snprintf(sql, sizeof(sql), "select '%s', repeat('x', %d)", nonce, (int)soak_random(&me.random, 20000));
	result = extended ? PQexecParams(conn, "select $1::text", 1, NULL, values, NULL, NULL, 0) : PQexec(conn, sql);
	good = is_good(conn, result, "a query");
	if (good && strcmp(PQgetvalue(result, 0, 0), nonce) != 0)
		soak_fail("asked for %s, got %s", nonce, PQgetvalue(result, 0, 0));
	PQclear(result);
	if (good)
		soak_count(SOAK_QUERIES);
	return good;
}

/* The session is at its baseline, but for what this very process has left where the policy allows that. */
static bool
is_clean(PGconn *conn, bool own_allowed)
{
	char sql[1024], own[32];
	PGresult *result;
	bool good;

	snprintf(own, sizeof(own), "%" PRIu64, own_allowed ? me.id : 0);
	snprintf(sql, sizeof(sql),
	    "select current_setting('application_name'),"
	    " (select count(*) from pg_listening_channels() c where c <> 'c%s')"
	    " + (select count(*) from pg_prepared_statements where name <> 'p%s')"
	    " + (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and objid <> %s)"
	    " + (select count(*) from pg_class where relnamespace = pg_my_temp_schema() and relname <> 't%s'),"
	    " pg_current_xact_id_if_assigned() is null",
	    own, own, own, own);
	result = PQexec(conn, sql);
	good = is_good(conn, result, "the look at a session");
	if (good) {
		const char *name = PQgetvalue(result, 0, 0);

		if ((strncmp(name, "soak", 4) == 0 && strcmp(name + 4, own) != 0) || strcmp(PQgetvalue(result, 0, 1), "0") != 0 ||
		    strcmp(PQgetvalue(result, 0, 2), "t") != 0)
			soak_fail("worker %" PRIu64 " got a session that is not at its baseline: application_name %s, %s traces, %s",
			    me.id, name, PQgetvalue(result, 0, 1),
			    *PQgetvalue(result, 0, 2) == 't' ? "no transaction" : "in a transaction");
		soak_count(SOAK_QUERIES);
	}
	PQclear(result);
	return good;
}

static bool
dirty(PGconn *conn)
{
	char sql[512], own[32];

	snprintf(own, sizeof(own), "%" PRIu64, me.id);
	snprintf(sql, sizeof(sql),
	    "set application_name = 'soak%s'; listen c%s; select pg_advisory_lock(%s);"
	    " create temp table if not exists t%s (i int); deallocate all; prepare p%s as select 1",
	    own, own, own, own, own);
	soak_count(SOAK_DIRTIED);
	return run(conn, sql);
}

static bool
transact(PGconn *conn)
{
	char sql[128];
	bool commit = soak_random(&me.random, 2) == 0;

	snprintf(sql, sizeof(sql), "begin; insert into ledger values (%" PRIu64 ", %" PRIu64 ", %s)", me.id, ++me.nonce,
	    commit ? "true" : "false");
	if (!run(conn, sql))
		return false;
	if (!commit) {
		soak_count(SOAK_ABANDONED);
		return true;
	}
	if (!run(conn, "commit"))
		return false;
	soak_count(SOAK_COMMITS);
	return true;
}

static bool
cancel(PGconn *conn)
{
	PGcancel *cancel = PQgetCancel(conn);
	char error[256];
	bool sent;
	PGresult *result;

	if (cancel == NULL || !PQsendQuery(conn, "select pg_sleep(0.2)")) {
		PQfreeCancel(cancel);
		return false;
	}
	sent = PQcancel(cancel, error, sizeof(error)) == 1;
	PQfreeCancel(cancel);
	while ((result = PQgetResult(conn)) != NULL) {
		(void)is_good(conn, result, "a query to be cancelled");
		PQclear(result);
	}
	if (sent)
		soak_count(SOAK_CANCELLED);
	return PQstatus(conn) == CONNECTION_OK;
}

static void
release(const pglease_lease *lease, enum pglease_session said)
{
	int r = pglease_release_as(lease, said);

	if (r == PGLEASE_ESTALE)
		soak_count(SOAK_REVOKED);
	else if (r != 0)
		soak_fail("release: %d: %s", r, pglease_error_message());
}

static bool acquire(unsigned which, pglease_lease *lease, PGconn **conn);

/* Ends with its lease. */
static void *
thread_with_a_lease(void *arg)
{
	pglease_lease lease;
	PGconn *conn;

	(void)arg;
	if (acquire(0, &lease, &conn))
		soak_count(SOAK_THREADS);
	return NULL;
}

/* Another process of this one's memory: it leases, as itself. */
static void
fork_one(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pglease_lease lease;
		PGconn *conn;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		me.id = atomic_fetch_add(&soak->last_id, 1) + 1;
		if (acquire(1, &lease, &conn) && is_clean(conn, false) && ask(conn, false))
			soak_count(SOAK_FORKS);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* One lease's use. False: it has been given up already. */
static bool
use(PGconn *conn, bool own_allowed)
{
	bool good = is_clean(conn, own_allowed);
	pthread_t thread;

	for (uint64_t n = soak_random(&me.random, 4); good && n > 0; n--)
		good = ask(conn, n % 2 == 0);
	switch (good ? soak_random(&me.random, 20) : 99) {
	case 0:
	case 1:
	case 2:
		good = dirty(conn);
		break;
	case 3:
	case 4:
	case 5:
		good = transact(conn);
		break;
	case 6:
		good = cancel(conn);
		break;
	case 7:
		PQreset(conn);
		soak_count(SOAK_RESETS);
		good = PQstatus(conn) == CONNECTION_OK && is_clean(conn, own_allowed);
		break;
	case 8:
		PQfinish(conn);
		soak_count(SOAK_FINISHED);
		return false;
	case 9:
		good = run(conn, "copy ledger from stdin");
		soak_count(SOAK_COPIES);
		break;
	case 10:
		if (soak_random(&me.random, 8) == 0) {
			soak_count(SOAK_EXITS);
			_exit(0);
		}
		break;
	case 11:
		if (pthread_create(&thread, NULL, thread_with_a_lease, NULL) == 0)
			pthread_join(thread, NULL);
		break;
	case 12:
		if (soak_random(&me.random, 4) == 0)
			fork_one();
		break;
	default:
		break;
	}
	if (!good)
		soak_count(SOAK_LOST);
	return true;
}

/* The library puts libpq's own back at each release. */
static void
drop_notice(void *arg, const char *message)
{
	(void)arg;
	(void)message;
}

static bool
acquire(unsigned which, pglease_lease *lease, PGconn **conn)
{
	static const int told[] = {PGLEASE_ETIMEOUT, PGLEASE_EUPSTREAM, PGLEASE_ENOBROKER, PGLEASE_EGONE, PGLEASE_EDRAINING,
	    PGLEASE_ENOROWS, PGLEASE_ENOCLIENTS};
	int r = pglease_acquire(me.pool[which], (int)soak_random(&me.random, 1500), lease, conn);

	if (r == 0) {
		soak_count(SOAK_LEASES);
		PQsetNoticeProcessor(*conn, drop_notice, NULL);
		return true;
	}
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		if (r == told[i]) {
			soak_count(SOAK_REFUSED);
			return false;
		}
	}
	soak_fail("acquire: %d: %s", r, pglease_error_message());
}

/* The broker may be away at this moment. */
static bool
attach(void)
{
	static const char *const names[] = {"handover", "always"};
	int r = 0;

	while (me.client == NULL || me.pool[1] == NULL) {
		if (me.client == NULL)
			r = pglease_attach(NULL, NULL, &me.client);
		for (unsigned i = 0; i < 2 && r == 0 && me.client != NULL; i++)
			if (me.pool[i] == NULL)
				r = pglease_pool_open(me.client, names[i], &me.pool[i]);
		if (atomic_load(&soak->end))
			return false;
		if (r == 0)
			continue;
		if (r != PGLEASE_ENOBROKER && r != PGLEASE_EGONE)
			soak_fail("attach: %d: %s", r, pglease_error_message());
		usleep(10000);
	}
	return true;
}

void
worker_run(uint64_t seed)
{
	pglease_lease lease;
	PGconn *conn;

	me.id = atomic_fetch_add(&soak->last_id, 1) + 1;
	me.random = seed;
	while (attach() && !atomic_load(&soak->end)) {
		unsigned which = (unsigned)soak_random(&me.random, 2);

		if (!acquire(which, &lease, &conn))
			continue;
		if (use(conn, which == 0))
			release(&lease, soak_random(&me.random, 10) == 0 ? PGLEASE_SESSION_DIRTY : PGLEASE_SESSION_USED);
		else
			(void)!pglease_release(&lease); /* it ended with its PGconn: a second end is an error, and nothing else */
	}
	pglease_detach(me.client);
	_exit(0);
}
