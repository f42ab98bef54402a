/* SPDX-License-Identifier: PostgreSQL */
/*
 * Silence between broker and workers here and the server there: packets are lost, in both directions, and nobody says so. Who has a lease
 * is told by libpq when TCP gives up, if it was told to; nobody gets a connection that has been found dead; all is well again when
 * packets pass. (A server that is stopped, which looks the same but for TCP: test_upstream_dies.)
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "network.h"
#include "outage.h"

#define TIMED_OUT "Connection timed out" /* strerror(ETIMEDOUT), in libpq's message */
/* So that a server ends the sessions whose clients it cannot hear any more: what a pool over a network should have. */
#define SERVER_NOTICES \
	"-c tcp_keepalives_idle=1 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=2 -c client_connection_check_interval=500"
/* Like this in conninfo, and its password-less entry. */
#define CONNINFO "host=" NETWORK_FAR " user=postgres dbname=postgres options='" SERVER_NOTICES "'"

static pglease_pool *pool;

/* In the near namespace; the server is in the far one. */
static void
start(unsigned connections, const char *extra)
{
	char all[512], path[300];
	pglease_test_pool app = {.name = "app", .min = connections, .max = connections, .conninfo = CONNINFO, .extra = all};
	pglease_test_options options =
	    PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .listen = NETWORK_FAR, .no_broker = true, .memory_slack = 1 << 20);
	bool is_in = false;
	FILE *f;

	snprintf(all, sizeof(all), OUTAGE_QUICK "%s", extra);
	network_make();
	outage_ok(pglease_test_env_new(&options, &it_env));
	network_enter(NETWORK_PLACE_NEAR);
	snprintf(path, sizeof(path), "%s/data/pg_hba.conf", pglease_test_folder(it_env));
	f = fopen(path, "ae");
	ck_assert_ptr_nonnull(f);
	fputs("host all all " NETWORK_ALL " trust\n", f);
	ck_assert_int_eq(fclose(f), 0);
	outage_ok(pglease_test_sql(it_env, "select pg_reload_conf()", NULL, 0));
	while (!is_in) {
		PGconn *conn = PQconnectdb(CONNINFO);

		is_in = PQstatus(conn) == CONNECTION_OK;
		ck_assert_msg(is_in || strstr(PQerrorMessage(conn), "no pg_hba.conf entry") != NULL, "%s", PQerrorMessage(conn));
		PQfinish(conn);
	}
	outage_ok(pglease_test_broker_start(it_env));
	pool = it_attach();
	it_await_all_idle(pool);
}

static int
are_left(void *context)
{
	char n[16];

	/* Over the server's Unix socket: nothing is lost there. */
	outage_ok(pglease_test_sql(it_env, "select count(*) from pg_stat_activity where client_addr is not null", n, sizeof(n)));
	return (unsigned)atoi(n) == *(const unsigned *)context;
}

/* No more and no fewer: what the broker gave up has come to its end there. */
static void
await_sessions(unsigned n)
{
	outage_ok(pglease_test_await(are_left, &n, IT_PATIENCE_MS));
}

static int
runs(void *context)
{
	char n[16];

	outage_ok(pglease_test_sql(it_env, context, n, sizeof(n)));
	return atoi(n) == 1;
}

static void
await_running(void)
{
	static char is_running[] = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";

	outage_ok(pglease_test_await(runs, is_running, IT_PATIENCE_MS));
}

/* The result of the query that is under way. */
static PGresult *
await_result(PGconn *conn)
{
	struct pollfd readable = {.fd = PQsocket(conn), .events = POLLIN};
	PGresult *result;

	while (PQisBusy(conn)) {
		ck_assert_int_eq(poll(&readable, 1, IT_PATIENCE_MS), 1);
		if (PQconsumeInput(conn) != 1)
			break;
	}
	result = PQgetResult(conn);
	ck_assert_ptr_nonnull(result);
	return result;
}

static bool
has_all(const pglease_stats *stats, const void *arg)
{
	return stats->idle == *(const unsigned *)arg && stats->total == stats->idle;
}

/* As many as before, and what has become of the others. */
static void
assert_recovers(unsigned connections)
{
	network_pass(true);
	it_await(pool, has_all, &connections, "the pool's connections");
	outage_assert_serves(pool);
	await_sessions(connections);
}

/* What the broker does not try, TCP does: it tells whoever has the connection. */
START_TEST(tcp_notices)
{
	pglease_lease waits, asks, none;
	PGconn *waiting, *asking, *dead;
	PGresult *result;

	start(3, "keepalive = 0\ntcp_keepalives_idle = 1s\ntcp_keepalives_interval = 1s\ntcp_keepalives_count = 1\n"
		 "tcp_user_timeout = 1s\nconnect_timeout = 200ms\n");
	waiting = it_acquire(pool, &waits);
	asking = it_acquire(pool, &asks);
	ck_assert_int_eq(PQsendQuery(waiting, "select pg_sleep(1000)"), 1);
	await_running();
	network_pass(false);
	/* A query that never arrives, and an answer that never comes. */
	outage_assert_lost(asking, TIMED_OUT);
	result = await_result(waiting);
	ck_assert_int_eq(PQresultStatus(result), PGRES_FATAL_ERROR);
	PQclear(result);
	ck_assert_msg(strstr(PQerrorMessage(waiting), TIMED_OUT) != NULL, "%s", PQerrorMessage(waiting));
	ck_assert_int_eq(PQstatus(waiting), CONNECTION_BAD);
	it_release(&waits);
	it_release(&asks);
	/* The third one was idle, and has been found dead too. Who asks now is told what the pool knows. */
	it_await(pool, outage_has_tried, NULL, "a pool without connections");
	ck_assert_int_eq(pglease_acquire(pool, 100, &none, &dead), PGLEASE_EUPSTREAM);
	ck_assert_msg(strstr(pglease_error_message(), "no connection in pool app within 0.1") != NULL &&
			  strstr(pglease_error_message(), "no answer within connect_timeout (200 ms)") != NULL,
	    "%s", pglease_error_message());
	assert_recovers(3);
}
END_TEST

/* The broker's own tries of what is idle. Nobody waits for a server that is not there, if the pool says so. */
START_TEST(the_broker_notices)
{
	pglease_lease held, none;
	struct it_worker worker;
	PGconn *conn, *dead;
	PGresult *result;

	start(3, "fail_fast = yes\nkeepalive = 100ms\nreset_timeout = 200ms\nconnect_timeout = 200ms\n");
	conn = it_acquire(pool, &held);
	network_pass(false);
	ck_assert_int_eq(PQsendQuery(conn, "select 'late'"), 1);
	it_await_published("app", "closed_broken", 2);
	it_await_published("app", "open_failed_08", 1);
	/* As long as one is leased it may come back, and is waited for. */
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &none, &dead), PGLEASE_ETIMEOUT);
	ck_assert_msg(strstr(pglease_error_message(), "1 of 3 leased") != NULL, "%s", pglease_error_message());
	worker = it_worker(outage_wait_and_be_told, NULL);
	it_hear(worker.socket, 'a');
	it_await_waiting(pool, 1);
	it_ok(pglease_release_as(&held, PGLEASE_SESSION_BROKEN));
	it_hear(worker.socket, 'u');
	it_join(&worker);
	ck_assert_int_eq(pglease_acquire(pool, OUTAGE_HOUR_MS, &none, &dead), PGLEASE_EUPSTREAM);
	assert_recovers(3);
	/* A silence that is over before anybody has given up costs the query nothing but time. */
	conn = it_acquire(pool, &held);
	network_pass(false);
	ck_assert_int_eq(PQsendQuery(conn, "select 'late'"), 1);
	network_pass(true);
	result = await_result(conn);
	ck_assert_str_eq(PQgetvalue(result, 0, 0), "late");
	PQclear(result);
	ck_assert_ptr_null(PQgetResult(conn));
	it_release(&held);
	it_await_all_idle(pool);
}
END_TEST

/* The silence begins while connections are being opened: each attempt ends at its time-out, and one of them succeeds at last. */
START_TEST(from_the_first_packet_on)
{
	pglease_lease none;
	PGconn *dead;

	start(1, "connect_timeout = 200ms\n");
	it_detach();
	outage_ok(pglease_test_broker_stop(it_env));
	network_pass(false);
	outage_ok(pglease_test_broker_start(it_env));
	pool = it_attach();
	it_await_published("app", "open_failed_08", 3);
	ck_assert_int_eq(pglease_acquire(pool, 100, &none, &dead), PGLEASE_EUPSTREAM);
	assert_recovers(1);
}
END_TEST

IT_MAIN("network", tcp_notices, the_broker_notices, from_the_first_packet_on)
