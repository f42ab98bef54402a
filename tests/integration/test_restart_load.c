/* SPDX-License-Identifier: PostgreSQL */
/*
 * Restarts under load: workers that lease, wait, adopt, leave sessions dirty, cancel and call PQreset all the time, each looking at
 * every answer. No acquire, query, cancel or release fails, and the server's sessions are the same before and after.
 */
#include "restart.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RESTARTS 20
#define CONNECTIONS 4

enum kind { PLAIN, DIRTY, HOLDS, CANCELS, RENEWS, NKINDS };

static void
expect(PGconn *conn, const char *sql, const char *wanted)
{
	PGresult *result = PQexec(conn, sql);

	ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(conn));
	ck_assert_str_eq(PQgetvalue(result, 0, 0), wanted);
	PQclear(result);
}

static void
cancel(PGconn *conn)
{
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(1000)"), 1);
	it_cancel(conn);
}

/* One lease's worth. */
static void
work(enum kind kind, PGconn *conn, unsigned n)
{
	char sql[96], nonce[48], own[48];
	const char *path;

	snprintf(nonce, sizeof(nonce), "%d-%u", (int)getpid(), n);
	snprintf(sql, sizeof(sql), "select '%s'", nonce);
	expect(conn, sql, nonce);
	/* What it has left itself it may find again; never what another left. */
	snprintf(own, sizeof(own), "own_%d", (int)getpid());
	path = it_query(conn, "show search_path");
	ck_assert_msg(strcmp(path, "\"$user\", public") == 0 || strcmp(path, own) == 0, "%s", path);
	switch (kind) {
	case DIRTY:
		snprintf(sql, sizeof(sql), "set search_path to %s", own);
		it_query(conn, sql);
		break;
	case HOLDS:
		it_query(conn, "begin");
		expect(conn, "select pg_sleep(0.02)", "");
		expect(conn, sql, nonce);
		it_query(conn, "commit");
		break;
	case CANCELS:
		cancel(conn);
		break;
	case RENEWS:
		if (n % 20 == 0) {
			PQreset(conn);
			ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
			expect(conn, sql, nonce);
		}
		break;
	default:
		break;
	}
}

static bool
told_to_end(int socket)
{
	char byte;

	return recv(socket, &byte, 1, MSG_DONTWAIT) == 1;
}

static void
worker(int socket, const void *arg)
{
	enum kind kind = *(const enum kind *)arg;
	pglease_options options = PGLEASE_OPTIONS_INIT;
	pglease_lease lease;
	pglease_pool *pool;
	pglease *client;
	PGconn *conn;

	options.max_shells = 1; /* it adopts again and again */
	it_ok(pglease_attach(NULL, &options, &client));
	it_ok(pglease_pool_open(client, "app", &pool));
	it_say(socket, 'r');
	for (unsigned n = 1; !told_to_end(socket); n++) {
		it_ok(pglease_acquire(pool, 20000, &lease, &conn));
		work(kind, conn, n);
		it_ok(pglease_release(&lease));
	}
	pglease_detach(client);
	it_say(socket, 'e');
}

static bool
all_there(const pglease_stats *stats, const void *arg)
{
	return stats->total == CONNECTIONS && stats->idle == CONNECTIONS;
}

static void
restart_under(const enum kind *kinds, unsigned n, const char *extra)
{
	struct it_worker workers[12];
	char before[512], after[512];
	pglease_pool *pool;

	restart_prepare();
	it_start(CONNECTIONS, CONNECTIONS, extra);
	pool = it_attach();
	it_await(pool, all_there, NULL, "all connections");
	it_backends(before);
	for (unsigned i = 0; i < n; i++) {
		workers[i] = it_worker(worker, &kinds[i]);
		it_hear(workers[i].socket, 'r');
	}
	for (unsigned i = 0; i < RESTARTS; i++)
		restart_now();
	for (unsigned i = 0; i < n; i++)
		it_say(workers[i].socket, 'e');
	for (unsigned i = 0; i < n; i++) {
		it_hear(workers[i].socket, 'e');
		it_join(&workers[i]);
	}
	it_await(pool, all_there, NULL, "all connections");
	it_backends(after);
	ck_assert_msg(it_published("app", "timeouts") == 0 && it_published("app", "failures") == 0, "acquires failed");
	/* A renewal is another session. */
	if (it_published("app", "closed_renewed") == 0)
		ck_assert_str_eq(before, after);
	ck_assert_uint_eq(it_published("app", "closed_broken"), 0);
	ck_assert_uint_eq(it_published("app", "closed_admin"), 0);
	ck_assert_uint_eq(it_published("app", "cancels_refused"), 0);
}

START_TEST(leases_waits_and_resets)
{
	static const enum kind kinds[] = {PLAIN, DIRTY, HOLDS, PLAIN, DIRTY, HOLDS, PLAIN, DIRTY};

	restart_under(kinds, 8, NULL);
}
END_TEST

START_TEST(cancels)
{
	static const enum kind kinds[] = {CANCELS, CANCELS, CANCELS, PLAIN, HOLDS, DIRTY};

	restart_under(kinds, 6, NULL);
}
END_TEST

START_TEST(renewals)
{
	static const enum kind kinds[] = {RENEWS, RENEWS, PLAIN, HOLDS, DIRTY, CANCELS};

	restart_under(kinds, 6, NULL);
}
END_TEST

START_TEST(resets_at_each_release)
{
	static const enum kind kinds[] = {PLAIN, DIRTY, HOLDS, PLAIN, DIRTY, CANCELS};

	restart_under(kinds, 6, "reset = always");
}
END_TEST

IT_MAIN("restart under load", leases_waits_and_resets, cancels, renewals, resets_at_each_release)
