/* SPDX-License-Identifier: PostgreSQL */
/* Pools that a reload makes anew, because their segment was made by what has changed: nobody fails, and nothing of the old one is lent again. */
#include "reload.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

/* Leases all the time, and none fails. */
static void
busy(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_say(socket, 'r');
	for (struct pollfd told = {.fd = socket, .events = POLLIN}; poll(&told, 1, 0) == 0;) {
		it_query(it_acquire(p, &lease), "select 1");
		it_release(&lease);
	}
	pglease_detach(it_client());
}

/* Who leases, waits and holds notices nothing; then what the new settings say is so. */
START_TEST(a_pool_is_made_anew)
{
	struct it_worker worker[3];
	char pid[16];

	reload_start(NULL, "max_connections = 2", "");
	conn = it_acquire(pool, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	for (unsigned i = 0; i < 3; i++) {
		worker[i] = it_worker(busy, NULL);
		it_hear(worker[i].socket, 'r');
	}
	for (unsigned i = 0; i < 6; i++) {
		reload_configure(NULL, reload_section("app", i % 2 == 0 ? "max_connections = 2\nreset = always\nmax_leases_per_client = 2"
							  : "max_connections = 2\nreset_kind = light"), reload_section("two", ""));
		reload_now();
		restart_await_log("pool app is made anew: ");
		/* The one that is out counts, so that there are never more than two. */
		ck_assert_uint_le(reload_sessions("app"), 2);
		ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	}
	for (unsigned i = 0; i < 3; i++) {
		it_say(worker[i].socket, 'q');
		it_join(&worker[i]);
	}
	it_release(&lease);
	reload_configure(NULL, reload_section("app", "pooling = no"), reload_section("two", ""));
	reload_now();
	snprintf(pid, sizeof(pid), "%s", it_query(it_acquire(pool, &lease), "select pg_backend_pid()"));
	it_release(&lease);
	ck_assert_str_ne(it_query(it_acquire(pool, &lease), "select pg_backend_pid()"), pid);
	it_release(&lease);
}
END_TEST

static void
waits_in_app(int socket, const void *arg)
{
	pool = it_attach();
	it_say(socket, 'r');
	reload_assert_serves(pool);
	it_say(socket, 'd');
	pglease_detach(it_client());
}

/* What an operator has said of it holds of its successor too; who waits, waits on there. */
START_TEST(a_paused_pool_is_made_anew)
{
	struct it_worker worker, dies;

	reload_start(NULL, "", "");
	reload_assert_serves(pool);
	ck_assert_int_eq(it_ctl("pause", "app", NULL), 0);
	worker = it_worker(waits_in_app, NULL);
	dies = it_worker(waits_in_app, NULL);
	it_hear(worker.socket, 'r');
	it_hear(dies.socket, 'r');
	it_await_waiting(pool, 2);
	reload_configure(NULL, reload_section("app", "reset = always"), reload_section("two", ""));
	reload_now();
	it_await_waiting(pool, 2);
	it_kill(&dies);
	it_await_waiting(pool, 1);
	ck_assert_uint_eq(reload_sessions("app"), 0);
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	it_hear(worker.socket, 'd');
	it_join(&worker);
}
END_TEST

START_TEST(another_user)
{
	char user[64], role[16], conninfo[512];

	reload_start(NULL, "min_connections = 2\nmax_connections = 3", "");
	ck_assert_int_eq(pglease_test_sql(it_env, "create role someone login superuser; select 'someone'", role, sizeof(role)), 0);
	it_await_published("app", "idle", 2);
	conn = it_acquire(pool, &lease);
	snprintf(user, sizeof(user), "%s", it_query(conn, "select current_user"));
	ck_assert_str_ne(user, "someone");
	snprintf(conninfo, sizeof(conninfo), "[pool app]\nconninfo = %s user=someone\nmax_connections = 3\n", pglease_test_conninfo(it_env));
	reload_configure(NULL, conninfo, reload_section("two", ""));
	reload_now();
	/* From here on no session of the first one's is leased; that which is out goes on. */
	reload_await_sessions("app", 1);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_str_eq(it_query(it_acquire(pool, &other), "select current_user"), "someone");
		it_release(&other);
	}
	ck_assert_str_eq(it_query(conn, "select current_user"), user);
	it_release(&lease);
	reload_await_sessions("app", 0);
	ck_assert_str_eq(it_query(it_acquire(pool, &other), "select current_user"), "someone");
	it_release(&other);
}
END_TEST

START_TEST(more_connections_than_there_was_room_for)
{
	pglease_lease leases[20];

	reload_start(NULL, "max_connections = 1", "");
	conn = it_acquire(pool, &leases[0]);
	reload_configure(NULL, reload_section("app", "max_connections = 20"), reload_section("two", ""));
	reload_now();
	for (unsigned i = 1; i < 20; i++)
		it_acquire(pool, &leases[i]);
	ck_assert_uint_eq(reload_sessions("app"), 20);
	for (unsigned i = 0; i < 20; i++)
		it_release(&leases[i]);
	restart_await_log("pool app has gone: it has no connection");
	it_await_all_idle(pool);
}
END_TEST

static void
holds_app(int socket, const void *arg)
{
	uint64_t dead;

	pool = it_attach();
	conn = it_acquire(pool, &lease);
	it_say(socket, 'r');
	it_hear(socket, 'm');
	reload_assert_serves(pool); /* the new one's: both are open */
	it_say(socket, 'd');
	it_hear(socket, 'g');
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	/* Until it has found the next broker. */
	for (dead = other.incarnation; other.incarnation == dead;)
		reload_assert_serves(pool);
	it_ok(pglease_release(&lease));
	it_say(socket, 'd');
	it_hear(socket, 'q');
	pglease_detach(it_client());
}

/* And while one is made anew: what is left in both segments is nobody's, and goes with its lessee. */
START_TEST(the_broker_is_killed_when_one_was_made_anew)
{
	struct it_worker worker;

	reload_start(NULL, "max_connections = 2", "");
	worker = it_worker(holds_app, NULL);
	it_hear(worker.socket, 'r');
	reload_configure(NULL, reload_section("app", "max_connections = 2\nreset = always"), reload_section("two", ""));
	reload_now();
	it_say(worker.socket, 'm');
	it_hear(worker.socket, 'd');
	survive_note_sessions();
	it_await_ticks(2);
	survive_kill();
	survive_start();
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'd');
	survive_await_sessions(0);
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

/* Of who does not call, the next broker ends it, as the session of a pool of that name. */
START_TEST(its_sessions_are_left_to_the_next_broker)
{
	struct it_worker worker;

	reload_start(NULL, "max_connections = 2\ntakeover_limit = 1s", "");
	worker = it_worker(holds_app, NULL);
	it_hear(worker.socket, 'r');
	reload_configure(NULL, reload_section("app", "max_connections = 2\ntakeover_limit = 1s\nreset = always"), reload_section("two", ""));
	reload_now();
	survive_note_sessions();
	survive_kill();
	survive_start();
	it_await_published("app", "takeover_ended", 1);
	survive_await_sessions(0);
	it_kill(&worker);
}
END_TEST

IT_MAIN("reload_anew", a_pool_is_made_anew, a_paused_pool_is_made_anew, another_user, more_connections_than_there_was_room_for,
    the_broker_is_killed_when_one_was_made_anew, its_sessions_are_left_to_the_next_broker)
