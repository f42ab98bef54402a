/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker is killed, and started again or not: what its workers do meanwhile, and how they find the next one, from
 * whatever state they are in. (What becomes of its sessions: test_takeover. Of questions to it: test_unanswered.)
 */
#include "survive.h"

#include <signal.h>
#include <string.h>

#define WAIT_MS 60000
#define LEASES 300
/* A connection that the broker has in its hands when it is killed is nobody's: it is not to reset any in that moment. */
#define LEFT_ALONE "reset_after = 1h\n"

static pglease_pool *pool;
static pglease_lease lease, other;
static PGconn *conn;

/* Its part in a pool without a broker: leases, one after the other, as often as said. */
static void
go_on(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_acquire(p, &lease);
	it_release(&lease);
	it_say(socket, 'r');
	it_hear(socket, 'g');
	for (unsigned i = 0; i < LEASES; i++) {
		conn = it_acquire(p, &lease);
		ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
		if (arg != NULL)
			it_query(conn, arg);
		it_release(&lease);
	}
	it_say(socket, 'd');
	it_hear(socket, 'q');
	pglease_detach(it_client());
}

/* Workers that have a PGconn for the only connection take it in turns, wait for each other, and reset what the others left. */
static void
all_go_on(unsigned n, const char *sql)
{
	struct it_worker worker[3];

	for (unsigned i = 0; i < n; i++) {
		worker[i] = it_worker(go_on, sql);
		it_hear(worker[i].socket, 'r');
	}
	survive_kill();
	for (unsigned i = 0; i < n; i++)
		it_say(worker[i].socket, 'g');
	for (unsigned i = 0; i < n; i++)
		it_hear(worker[i].socket, 'd');
	for (unsigned i = 0; i < n; i++) {
		it_say(worker[i].socket, 'q');
		it_join(&worker[i]);
	}
}

START_TEST(one_goes_on)
{
	it_start(1, 1, LEFT_ALONE);
	all_go_on(1, NULL);
}
END_TEST

START_TEST(they_go_on_in_turns)
{
	it_start(1, 1, LEFT_ALONE);
	all_go_on(3, NULL);
}
END_TEST

START_TEST(they_go_on_with_resets_at_each_release)
{
	it_start(1, 1, LEFT_ALONE "reset = always\n");
	all_go_on(3, "set application_name = 'mine'");
}
END_TEST

/* Has never had a connection. */
static void
newcomer(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_say(socket, 'r');
	it_hear(socket, 't');
	ck_assert_int_eq(pglease_acquire(p, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ENOBROKER);
	ck_assert_msg(strstr(pglease_error_message(), "no broker of instance") != NULL, "%s", pglease_error_message());
	it_say(socket, 't');
	it_ok(pglease_acquire(p, WAIT_MS, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
	it_say(socket, 'd');
}

START_TEST(who_has_no_connection_waits_for_the_next_broker)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	worker = it_worker(newcomer, NULL);
	it_hear(worker.socket, 'r');
	survive_kill();
	it_say(worker.socket, 't');
	it_hear(worker.socket, 't');
	survive_start();
	it_hear(worker.socket, 'd');
	it_join(&worker);
}
END_TEST

START_TEST(a_wait_ends_at_its_deadline)
{
	it_start(1, 1, NULL);
	pool = it_attach();
	survive_kill();
	ck_assert_int_eq(pglease_acquire(pool, 300, &lease, &conn), PGLEASE_ENOBROKER);
	ck_assert_msg(strstr(pglease_error_message(), "within 0.3") != NULL, "%s", pglease_error_message());
}
END_TEST

/* By the clock only so far as that the time-out is not waited for. */
static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Also from a line where it was not leased before, which is not the warm way; and at once. */
START_TEST(what_is_idle_is_leased_without_a_broker)
{
	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	it_acquire(pool, &lease);
	survive_kill();
	/* From here on it is known. The other connection is none of those that can be had. */
	ck_assert_int_eq(pglease_acquire(pool, 1, &other, &conn), PGLEASE_ENOBROKER);
	it_release(&lease);
	it_ok(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn));
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &other, &conn), PGLEASE_ENOBROKER);
	it_release(&lease);
	it_ok(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
}
END_TEST

START_TEST(who_has_no_connection_fails_at_once_if_the_pool_says_so)
{
	pglease_request *request;
	double begun;

	it_start(1, 1, "broker_down = fail\n");
	pool = it_attach();
	survive_kill();
	begun = seconds();
	ck_assert_int_eq(pglease_acquire(pool, WAIT_MS, &lease, &conn), PGLEASE_ENOBROKER);
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	ck_assert_int_eq(survive_finish(request, &lease, &conn), PGLEASE_ENOBROKER);
	ck_assert(seconds() - begun < WAIT_MS / 2000);
	survive_start();
	it_ok(pglease_acquire(pool, WAIT_MS, &lease, &conn));
	it_release(&lease);
}
END_TEST

START_TEST(what_a_process_has_it_leases_if_the_pool_fails_others)
{
	it_start(1, 1, LEFT_ALONE "broker_down = fail\n");
	all_go_on(3, NULL);
}
END_TEST

static void
idler(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_acquire(p, &lease);
	it_release(&lease);
	it_say(socket, 'r');
	it_hear(socket, 'g');
	survive_await_new(p);
	it_say(socket, 'd');
	pglease_detach(it_client());
}

static void
holder(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	conn = it_acquire(p, &lease);
	it_say(socket, 'r');
	it_hear(socket, 'g');
	ck_assert_str_eq(it_query(conn, "select 'still'"), "still");
	it_release(&lease);
	survive_await_new(p);
	it_say(socket, 'd');
	pglease_detach(it_client());
}

static void
waiter(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	if (arg != NULL) {
		it_acquire(p, &lease);
		it_release(&lease);
	}
	it_say(socket, 'r');
	it_hear(socket, 'w');
	conn = it_acquire(p, &lease);
	ck_assert(!survive_is_old(conn));
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
	it_say(socket, 'd');
	pglease_detach(it_client());
}

static void
requester(int socket, const void *arg)
{
	pglease_pool *p = it_attach();
	pglease_request *request;

	it_say(socket, 'r');
	it_hear(socket, 'w');
	it_ok(pglease_acquire_start(p, WAIT_MS, &request));
	it_ok(survive_finish(request, &lease, &conn));
	ck_assert(!survive_is_old(conn));
	it_release(&lease);
	it_say(socket, 'd');
	pglease_detach(it_client());
}

static void
kill_and_start(const void *arg)
{
	survive_kill();
	survive_start();
}

/* Workers that hold, wait (with and without a PGconn for the connection), request or do nothing. */
static void
all_find_the_next(void (*again)(const void *))
{
	struct it_worker idle, held, waits[2], requests;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	survive_note_sessions();
	idle = it_worker(idler, NULL);
	it_hear(idle.socket, 'r');
	waits[0] = it_worker(waiter, &idle);
	it_hear(waits[0].socket, 'r');
	waits[1] = it_worker(waiter, NULL);
	it_hear(waits[1].socket, 'r');
	requests = it_worker(requester, NULL);
	it_hear(requests.socket, 'r');
	held = it_worker(holder, NULL);
	it_hear(held.socket, 'r');
	it_acquire(pool, &lease);
	it_say(waits[0].socket, 'w');
	it_say(waits[1].socket, 'w');
	it_say(requests.socket, 'w');
	it_await_waiting(pool, 3);
	again(NULL);
	it_hear(waits[0].socket, 'd');
	it_hear(waits[1].socket, 'd');
	it_hear(requests.socket, 'd');
	it_say(held.socket, 'g');
	it_hear(held.socket, 'd');
	it_join(&held);
	it_say(idle.socket, 'g');
	it_hear(idle.socket, 'd');
	it_join(&idle);
	it_join(&waits[0]);
	it_join(&waits[1]);
	it_join(&requests);
	it_release(&lease);
	survive_await_new(pool);
	survive_await_sessions(0);
}

START_TEST(all_find_the_next_broker_after_a_kill)
{
	all_find_the_next(kill_and_start);
}
END_TEST

static void
twice(const void *arg)
{
	kill_and_start(NULL);
	kill_and_start(NULL);
}

START_TEST(all_find_the_next_broker_after_two_kills)
{
	all_find_the_next(twice);
}
END_TEST

/* It takes their leases away. */
START_TEST(after_a_stop)
{
	struct it_worker idle, fresh;

	it_start_as("drain_timeout = 0\n", NULL, 1);
	pool = it_attach();
	it_await_all_idle(pool);
	survive_note_sessions();
	idle = it_worker(idler, NULL);
	it_hear(idle.socket, 'r');
	fresh = it_worker(newcomer, NULL);
	it_hear(fresh.socket, 'r');
	it_acquire(pool, &lease);
	survive_stop();
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	it_say(fresh.socket, 't');
	it_hear(fresh.socket, 't');
	survive_start();
	it_hear(fresh.socket, 'd');
	it_join(&fresh);
	it_say(idle.socket, 'g');
	it_hear(idle.socket, 'd');
	it_join(&idle);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

IT_MAIN("survive", one_goes_on, they_go_on_in_turns, they_go_on_with_resets_at_each_release,
    who_has_no_connection_waits_for_the_next_broker, a_wait_ends_at_its_deadline,
    what_is_idle_is_leased_without_a_broker, who_has_no_connection_fails_at_once_if_the_pool_says_so,
    what_a_process_has_it_leases_if_the_pool_fails_others, all_find_the_next_broker_after_a_kill,
    all_find_the_next_broker_after_two_kills, after_a_stop)
