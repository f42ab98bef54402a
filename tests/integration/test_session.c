/* SPDX-License-Identifier: PostgreSQL */
/*
 * A session that is ended against the manual, or lost; and whose it is otherwise. What must not be left in
 * one: test_hygiene.c.
 */
#include <libpq-events.h>
#include <string.h>

#include "it.h"

/* Two worker processes over one connection: `leave` in the first, `find` in the second. */
static void (*leave)(PGconn *conn);
static void (*find)(PGconn *conn);

static void
first(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;

	leave(it_acquire(pool, &lease));
	it_release(&lease);
	it_say(socket, 'l');
	it_hear(socket, 'q'); /* lives on: its shell is still there */
}

static void
second(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn;

	it_hear(socket, 'g');
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
	find(conn);
	ck_assert_str_eq(it_query(conn, "select 'clean'"), "clean");
	it_release(&lease);
	it_say(socket, 'f');
	it_hear(socket, 'q');
}

/* Opened and replaced connections tell which of the two ways it went. */
static pglease_stats
leaves_and_finds(void (*leaver)(PGconn *conn), void (*finder)(PGconn *conn))
{
	struct it_worker a, b;
	pglease_pool *pool;
	pglease_stats stats;

	it_start(1, 1, NULL);
	leave = leaver;
	find = finder;
	a = it_worker(first, NULL);
	it_hear(a.socket, 'l');
	b = it_worker(second, NULL);
	it_say(b.socket, 'g');
	it_hear(b.socket, 'f');
	pool = it_attach();
	it_ok(pglease_stats_get(pool, &stats));
	it_say(a.socket, 'q');
	it_say(b.socket, 'q');
	it_join(&a);
	it_join(&b);
	return stats;
}

static void
find_own_row(PGconn *conn)
{
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
}

static void
leave_finished(PGconn *conn)
{
	PQfinish(conn); /* against the manual */
}

START_TEST(pqfinish_on_a_lease_harms_nobody)
{
	ck_assert_uint_eq(leaves_and_finds(leave_finished, find_own_row).opened, 2);
}
END_TEST

static void
leave_terminated(PGconn *conn)
{
	PQclear(PQexec(conn, "select pg_terminate_backend(pg_backend_pid())"));
	ck_assert_int_ne(PQstatus(conn), CONNECTION_OK);
}

START_TEST(a_lost_connection_is_replaced)
{
	ck_assert_uint_eq(leaves_and_finds(leave_terminated, find_own_row).opened, 2);
}
END_TEST

/*
 * The same process finds its own session, for free; after another's lease of it, at the baseline on both
 * sides.
 */
START_TEST(own_session_until_another_had_it)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	struct it_worker worker;
	pglease_stats stats;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	it_query(conn, "set timezone = 'Asia/Tokyo'; prepare p as select 11");
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "execute p"), "11");
	ck_assert_str_eq(PQparameterStatus(conn, "TimeZone"), "Asia/Tokyo");
	it_release(&lease);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.resets, 0);

	find = find_own_row;
	worker = it_worker(second, NULL);
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'f');
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select count(*) from pg_prepared_statements"), "0");
	ck_assert_str_ne(PQparameterStatus(conn, "TimeZone"), "Asia/Tokyo");
	ck_assert_str_eq(it_query(conn, "show timezone"), PQparameterStatus(conn, "TimeZone"));
	it_release(&lease);
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

static unsigned destroyed;

static int
on_event(PGEventId id, void *info, void *pass_through)
{
	if (id == PGEVT_CONNDESTROY && PQinstanceData(((PGEventConnDestroy *)info)->conn, on_event) == &destroyed)
		destroyed++;
	return 1;
}

/*
 * An event procedure cannot be taken away: it is told that its PGconn ends, in time to free its data; the
 * session goes on.
 */
START_TEST(an_event_procedure_is_told_at_the_release)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	int backend;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	backend = PQbackendPID(conn);
	ck_assert_int_eq(PQregisterEventProc(conn, on_event, "application", NULL), 1);
	ck_assert_int_eq(PQsetInstanceData(conn, on_event, &destroyed), 1);
	it_query(conn, "select 1");
	ck_assert_uint_eq(destroyed, 0);
	it_release(&lease);
	ck_assert_uint_eq(destroyed, 1);
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQbackendPID(conn), backend);
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
	ck_assert_uint_eq(destroyed, 1);
}
END_TEST

IT_MAIN("session", an_event_procedure_is_told_at_the_release, pqfinish_on_a_lease_harms_nobody,
    a_lost_connection_is_replaced, own_session_until_another_had_it)
