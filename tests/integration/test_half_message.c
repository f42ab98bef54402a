/* SPDX-License-Identifier: PostgreSQL */
/*
 * Half a notification: a lease ends when a part of the message has come, which is in the PGconn's own
 * buffer, and the rest is still on its way. Nothing tells so: the session is idle, and its stream is
 * empty. The next lessee's stream begins in the middle of a message, wherever it was cut; what it takes
 * for an answer then must not be one.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hygiene.h"
#include "it.h"

/*
 * The shortest notification there is, to a channel whose name is the type of a message that may come at
 * any time: cut before its last three bytes, the rest is such a type and the beginning of a length.
 */
#define CHANNEL "A"
#define NOTIFICATION (1 + 4 + 4 + 2 + 1)

static void
notify(void)
{
	ck_assert_msg(pglease_test_sql(it_env, "notify \"" CHANNEL "\"", NULL, 0) == 0, "%s", pglease_test_error_message());
}

static void
kit(int r)
{
	ck_assert_msg(r == 0, "%s", pglease_test_error_message());
}

static void
start(const char *extra)
{
	pglease_test_pool pool = {.name = "app", .min = 1, .max = 1, .extra = extra};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &pool, .npools = 1, .relay = true);

	kit(pglease_test_env_new(&options, &it_env));
}

/* Of what the server says, so many bytes pass. */
static void
hold(unsigned bytes, bool until_asked)
{
	kit(pglease_test_relay_hold(it_env, bytes, until_asked));
}

static void
await_held(void)
{
	kit(pglease_test_relay_await_held(it_env, 30000));
}

/* The part that has come is in libpq, and says nothing. */
static void
read_half(PGconn *conn)
{
	hygiene_await_bytes(conn, 1);
	ck_assert_int_eq(PQconsumeInput(conn), 1);
	ck_assert_ptr_null(PQnotifies(conn));
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
}

static void
listener(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);

	it_query(conn, "listen \"" CHANNEL "\"");
	it_say(socket, 'l');
	it_hear(socket, 'n');
	read_half(conn);
	it_release(&lease);
	it_say(socket, 'r');
	it_hear(socket, 'a');
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 'again'"), "again");
	ck_assert_ptr_null(PQnotifies(conn));
	it_release(&lease);
	it_say(socket, 'd');
}

/* Every place where it can be cut. */
static void
play(const char *extra, bool until_asked, unsigned first, unsigned last)
{
	pglease_pool *pool;

	start(extra);
	pool = it_attach();
	for (unsigned cut = first; cut <= last; cut++) {
		struct it_worker a = it_worker(listener, NULL);
		pglease_stats before, after;
		pglease_lease lease;
		const char *found;
		PGconn *conn;

		it_hear(a.socket, 'l');
		it_ok(pglease_stats_get(pool, &before));
		hold(cut, until_asked);
		notify();
		await_held();
		it_say(a.socket, 'n');
		it_hear(a.socket, 'r');
		conn = it_acquire(pool, &lease);
		found = hygiene_differs(conn, "select 'mine'", "mine");
		ck_assert_msg(found == NULL, "cut after %u bytes: LEAKED: %s", cut, found);
		found = hygiene_differs(conn, "select count(*) from pg_listening_channels()", "0");
		ck_assert_msg(found == NULL, "cut after %u bytes: LEAKED: %s", cut, found);
		it_release(&lease);
		it_ok(pglease_stats_get(pool, &after));
		ck_assert_uint_eq(after.opened - before.opened, 1); /* replaced: nothing else could help */
		it_say(a.socket, 'a');
		it_hear(a.socket, 'd');
		it_join(&a);
	}
}

START_TEST(the_rest_comes_with_the_answer)
{
	play("reset_timeout = 300ms\n", true, 1, NOTIFICATION - 1);
}
END_TEST

/* The reset is sent by the one that has the first half. */
START_TEST(the_rest_comes_with_the_answer_to_a_reset_sent_ahead)
{
	play("reset = always\nreset_timeout = 300ms\n", true, 1, NOTIFICATION - 1);
}
END_TEST

START_TEST(the_rest_never_comes)
{
	play("reset_timeout = 300ms\n", false, NOTIFICATION / 2, NOTIFICATION / 2);
}
END_TEST

/* The same PGconn goes on with what it has. */
START_TEST(the_same_process_reads_on)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	start(NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	it_query(conn, "listen \"" CHANNEL "\"");
	hold(NOTIFICATION / 2, true);
	notify();
	await_held();
	read_half(conn);
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
}
END_TEST

/*
 * Without pglease: the next one on that socket is fooled wherever the message was cut, so the check can
 * find it.
 */
START_TEST(without_pglease_the_next_one_is_lost)
{
	start(NULL);
	hygiene_expect_silence();
	for (unsigned cut = 1; cut < NOTIFICATION; cut++) {
		PGconn *first, *next;

		hold(UINT32_MAX, true);
		first = PQconnectdb(pglease_test_relay_conninfo(it_env));
		next = PQconnectdb(pglease_test_relay_conninfo(it_env));
		ck_assert_int_eq(PQstatus(first), CONNECTION_OK);
		ck_assert_int_eq(PQstatus(next), CONNECTION_OK);
		it_query(first, "listen \"" CHANNEL "\"");
		hold(cut, true);
		notify();
		await_held();
		read_half(first);
		ck_assert_int_ge(dup2(PQsocket(first), PQsocket(next)), 0);
		ck_assert_msg(hygiene_differs(next, "select 'mine'", "mine") != NULL,
		    "cut after %u bytes: not found", cut);
		PQfinish(first);
		PQfinish(next);
	}
}
END_TEST

IT_MAIN("half_message", the_rest_comes_with_the_answer, the_rest_comes_with_the_answer_to_a_reset_sent_ahead,
    the_rest_never_comes, the_same_process_reads_on, without_pglease_the_next_one_is_lost)
