/* SPDX-License-Identifier: PostgreSQL */
/*
 * What test_counts counts from outside: one operation, N times, and nothing else that depends on N. It is run with N and with 2 N: the
 * difference is that of N operations.
 *
 *	counted lease N      acquire and release, the slot idle and its shell cached
 *	counted dirty N      the same, each release with a reset
 *	counted kept N       in one lease, N times a prepared statement executed by PQexecPrepared
 *	counted leased N     the same, each in a lease of its own
 *	counted cached N     as kept, by pglease_exec_cached
 *	counted handover N   two processes on one connection, until N leases were waited for: says how often they slept
 *	counted memory       says what attaching and adopting take of the heap
 */
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pglease.h"

static pglease *client;
static pglease_pool *pool;

static void
ok(int r)
{
	if (r == 0)
		return;
	fprintf(stderr, "counted: %s\n", pglease_error_message());
	exit(1);
}

static void
attach(void)
{
	ok(pglease_attach(NULL, NULL, &client));
	ok(pglease_pool_open(client, "app", &pool));
}

static void
lease(enum pglease_session session)
{
	pglease_lease lease;
	PGconn *conn;

	ok(pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn));
	ok(pglease_release_as(&lease, session));
}

static void
leases(enum pglease_session session, unsigned n)
{
	attach();
	lease(session);
	for (unsigned i = 0; i < n; i++)
		lease(session);
}

/* One result, of a lookup with one parameter. */
static void
execute(PGconn *conn, bool cached)
{
	static const char *const values[] = {"1"};
	PGresult *result = cached ? pglease_exec_cached(conn, "SELECT $1::int", 1, NULL, values, NULL, NULL, 0)
	                          : PQexecPrepared(conn, "counted", 1, values, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK) {
		fprintf(stderr, "counted: %s", PQerrorMessage(conn));
		exit(1);
	}
	PQclear(result);
}

static void
executions(bool cached, bool each, unsigned n)
{
	pglease_lease lease;
	PGconn *conn;

	attach();
	ok(pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn));
	PQclear(PQprepare(conn, "counted", "SELECT $1::int", 0, NULL));
	for (unsigned i = 0; i < n; i++) {
		execute(conn, cached);
		if (!each)
			continue;
		ok(pglease_release(&lease));
		ok(pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn));
	}
	ok(pglease_release(&lease));
}

static long
sleeps(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return usage.ru_nvcsw;
}

/* Leases that were waited for, so far. */
static uint64_t
waited(void)
{
	pglease_stats stats;

	ok(pglease_stats_get(pool, &stats));
	return stats.acquired_waited;
}

/* Leases that find the connection idle, because the other process does not run just now, count for nothing. */
static void
handovers(unsigned n)
{
	uint64_t end;
	pid_t child;
	int status;

	attach();
	end = waited() + n;
	child = fork();
	if (child < 0)
		exit(1);
	while (waited() < end)
		lease(PGLEASE_SESSION_CLEAN);
	if (child == 0)
		_exit(0);
	if (waitpid(child, &status, 0) != child || status != 0)
		exit(1);
	printf("sleeps %ld\n", sleeps(RUSAGE_SELF) + sleeps(RUSAGE_CHILDREN));
}

static size_t
heap(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void
memory(void)
{
	size_t before = heap(), attached;
	pglease_lease lease;
	PGconn *conn;

	attach();
	attached = heap();
	ok(pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn));
	printf("client %zu\nshell %zu\n", attached - before, heap() - attached);
	ok(pglease_release(&lease));
}

int
main(int argc, char **argv)
{
	unsigned n = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

	if (argc == 3 && strcmp(argv[1], "lease") == 0)
		leases(PGLEASE_SESSION_USED, n);
	else if (argc == 3 && strcmp(argv[1], "dirty") == 0)
		leases(PGLEASE_SESSION_DIRTY, n);
	else if (argc == 3 && strcmp(argv[1], "kept") == 0)
		executions(false, false, n);
	else if (argc == 3 && strcmp(argv[1], "leased") == 0)
		executions(false, true, n);
	else if (argc == 3 && strcmp(argv[1], "cached") == 0)
		executions(true, false, n);
	else if (argc == 3 && strcmp(argv[1], "handover") == 0)
		handovers(n);
	else if (argc == 2 && strcmp(argv[1], "memory") == 0)
		memory();
	else
		return 1;
	return 0;
}
