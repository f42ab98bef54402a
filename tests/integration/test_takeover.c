/* SPDX-License-Identifier: PostgreSQL */
/* What becomes of the server sessions of a broker that was killed: those that nobody gives up, the next broker ends. */
#include "survive.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

static pglease_pool *pool;
static pglease_lease lease;
static PGconn *conn;

static void
stays(int socket, const void *sql)
{
	conn = it_acquire(it_attach(), &lease);
	if (sql != NULL)
		ck_assert_int_eq(PQsendQuery(conn, sql), 1);
	else
		it_release(&lease);
	it_say(socket, 'r');
	for (;;)
		pause();
}

/*
 * What the broker's log says of the time when the old sessions' end fell due: not before `least` seconds, as it has seen them, and for
 * this reason.
 */
static void
assert_due(double least, const char *why)
{
	char line[512], *log = NULL;
	size_t size = 0;
	const char *at;
	double after = 0;
	FILE *f = fopen(pglease_test_log(it_env), "re");

	ck_assert_ptr_nonnull(f);
	ck_assert(getdelim(&log, &size, '\0', f) > 0);
	fclose(f);
	at = strstr(log, "are looked for after ");
	ck_assert_msg(at != NULL, "%s", log);
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
	free(log);
	ck_assert_msg(sscanf(line, "are looked for after %lf s", &after) == 1 && strstr(line, why) != NULL, "%s", line);
	ck_assert_msg(after >= least, "%s: it is not due before %g s", line, least);
}

/* A worker that has an idle connection, and never calls again. */
START_TEST(after_the_limit)
{
	struct it_worker worker;
	PGconn *stranger;

	it_start(1, 1, "takeover_limit = 1s\n");
	stranger = pglease_test_connect(it_env);
	ck_assert_ptr_nonnull(stranger);
	worker = it_worker(stays, NULL);
	it_hear(worker.socket, 'r');
	pool = it_attach();
	survive_note_sessions();
	pglease_detach(it_client());
	survive_kill();
	survive_start();
	survive_await_sessions(1); /* the stranger's: of the same user, in the same database */
	it_await_published("app", "takeover_ended", 1);
	assert_due(1, "takeover_limit is over");
	ck_assert_str_eq(it_query(stranger, "select 'still'"), "still");
	PQfinish(stranger);
	pool = it_attach();
	it_acquire(pool, &lease);
	it_release(&lease);
	it_kill(&worker);
}
END_TEST

/* One that holds a lease for longer is told by the session's end, and gets on. */
START_TEST(of_a_lease_that_is_held_for_longer)
{
	it_start(1, 1, "takeover_limit = 1s\n");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	survive_note_sessions();
	survive_kill();
	survive_start();
	survive_await_sessions(0);
	PQclear(PQexec(conn, "select 1"));
	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
	it_release(&lease);
	survive_await_new(pool);
}
END_TEST

/* A statement of a worker that died with the broker would run for ever: there is nobody left to wait for. */
START_TEST(soon_when_nobody_is_left)
{
	struct it_worker worker;

	it_start(1, 1, "takeover_limit = 24h\n");
	worker = it_worker(stays, "select pg_sleep(100000)");
	it_hear(worker.socket, 'r');
	it_await_published("app", "leased", 1); /* the broker has noted the worker, too */
	survive_note_sessions();
	survive_kill();
	it_kill(&worker);
	survive_start();
	survive_await_sessions(0);
	it_await_published("app", "takeover_ended", 1);
	assert_due(5, "no process that was attached to it lives");
}
END_TEST

static void
stays_in_both(int socket, const void *arg)
{
	static const char *const name[] = {"app", "kept"};
	pglease_pool *p;

	it_attach();
	for (unsigned i = 0; i < 2; i++) {
		it_ok(pglease_pool_open(it_client(), name[i], &p));
		conn = it_acquire(p, &lease);
		ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(100000)"), 1);
	}
	it_say(socket, 'r');
	for (;;)
		pause();
}

START_TEST(never_if_the_pool_says_so)
{
	static const pglease_test_pool pools[] = {
	    {.name = "app", .max = 1}, {.name = "kept", .max = 1, .extra = "takeover_limit = 0\n"}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .no_leak_check = 1);
	struct it_worker worker;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	worker = it_worker(stays_in_both, NULL);
	it_hear(worker.socket, 'r');
	it_await_published("app", "leased", 1);
	it_await_published("kept", "leased", 1);
	survive_note_sessions();
	survive_kill();
	it_kill(&worker);
	survive_start();
	it_await_published("app", "takeover_ended", 1);
	survive_await_sessions(1);
	ck_assert_uint_eq(it_published("kept", "takeover_ended"), 0);
	ck_assert_int_eq(pglease_test_sql(it_env,
	    "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like '%pg_sleep(100000)'", NULL, 0), 0);
}
END_TEST

/* A sibling has a PGconn for the same connection, and never calls: the session ends all the same, of one that was idle ... */
START_TEST(an_idle_session_ends_for_all)
{
	struct it_worker worker;

	it_start(1, 1, "takeover_limit = 24h\n");
	worker = it_worker(stays, NULL);
	it_hear(worker.socket, 'r');
	pool = it_attach();
	it_acquire(pool, &lease);
	it_release(&lease);
	survive_note_sessions();
	survive_kill();
	survive_start();
	survive_await_new(pool);
	survive_await_sessions(0);
	it_kill(&worker);
}
END_TEST

/* ... and of one that was leased. */
START_TEST(a_leased_session_ends_for_all)
{
	struct it_worker worker;

	it_start(1, 1, "takeover_limit = 24h\n");
	worker = it_worker(stays, NULL);
	it_hear(worker.socket, 'r');
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	survive_note_sessions();
	survive_kill();
	survive_start();
	for (pglease_lease other = lease; other.incarnation == lease.incarnation; it_release(&other))
		it_acquire(pool, &other);
	ck_assert_str_eq(it_query(conn, "select 'still'"), "still");
	it_release(&lease);
	survive_await_sessions(0);
	it_kill(&worker);
}
END_TEST

/* The next broker is killed before it is time: the one after it knows of the first one's sessions, too. */
START_TEST(by_the_broker_after_the_next)
{
	struct it_worker worker;

	it_start(1, 1, "takeover_limit = 5s\n");
	worker = it_worker(stays, NULL);
	it_hear(worker.socket, 'r');
	survive_note_sessions();
	survive_kill();
	survive_start();
	survive_kill();
	survive_await_sessions(1);
	survive_start();
	survive_await_sessions(0);
	it_await_published("app", "takeover_ended", 1);
	it_kill(&worker);
	/* What has been done is not done again. */
	survive_kill();
	survive_start();
	ck_assert_uint_eq(it_published("app", "takeover_ended"), 0);
}
END_TEST

/* It has published nothing since. */
START_TEST(one_that_has_just_been_opened)
{
	struct it_worker worker;

	it_start(0, 1, "takeover_limit = 1s\n");
	worker = it_worker(stays, NULL);
	it_hear(worker.socket, 'r');
	survive_kill();
	survive_note_sessions();
	survive_start();
	survive_await_sessions(0);
	it_await_published("app", "takeover_ended", 1);
	it_kill(&worker);
}
END_TEST

/* And of a broker that publishes nothing at all, after so many sessions that the list has been written anew. */
START_TEST(the_last_of_many)
{
	struct it_worker worker;

	it_start_as("monitoring = no\n", "takeover_limit = 1s\npooling = no\n", 1);
	pool = it_attach();
	for (unsigned i = 0; i < 300; i++) {
		it_acquire(pool, &lease);
		it_release(&lease);
	}
	it_detach();
	worker = it_worker(stays, "select pg_sleep(1000)");
	it_hear(worker.socket, 'r');
	survive_kill();
	survive_note_sessions();
	survive_start();
	survive_await_sessions(0);
	it_kill(&worker);
}
END_TEST

/* In a folder that outlives the machine's boot, the list of one before: its numbers are others' by now. */
static void
change_boot(void)
{
	char path[300], text[4096] = "", *at;
	FILE *f;

	snprintf(path, sizeof(path), "%s/lock", pglease_test_socket_dir(it_env));
	f = fopen(path, "r+e");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, f), 0);
	at = strstr(text, "\nboot ");
	ck_assert_msg(at != NULL && strstr(text, "\nold ") != NULL && strstr(text, "\nsession ") != NULL, "%s", text);
	at[6] = at[6] == '0' ? '1' : '0';
	rewind(f);
	ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(not_those_of_another_boot)
{
	struct it_worker first, second, third;

	it_start(1, 1, "takeover_limit = 1s\n");
	first = it_worker(stays, NULL);
	it_hear(first.socket, 'r');
	survive_note_sessions();
	survive_kill();
	survive_start();
	second = it_worker(stays, NULL);
	it_hear(second.socket, 'r');
	survive_note_sessions();
	survive_kill();
	change_boot();
	survive_start();
	third = it_worker(stays, NULL);
	it_hear(third.socket, 'r');
	survive_kill();
	survive_start();
	/* The third broker's; one query is for all that are in the list. */
	it_await_published("app", "takeover_ended", 1);
	ck_assert_uint_eq(it_published("app", "takeover_ended"), 1);
	survive_await_sessions(2);
	it_kill(&first);
	it_kill(&second);
	it_kill(&third);
}
END_TEST

/* The limit is counted from when the broker was taken over, whatever programs have been in its successor's place since. */
START_TEST(after_restarts_without_end)
{
	unsigned restarts = 0;
	struct it_worker worker;
	uint64_t began;

	it_start(1, 1, "takeover_limit = 3s\n");
	worker = it_worker(stays, NULL);
	it_hear(worker.socket, 'r');
	survive_note_sessions();
	survive_kill();
	survive_start();
	began = clock_ns();
	do {
		ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
		it_await_ticks(2);
		restarts++;
		ck_assert_msg(clock_ns() - began < IT_PATIENCE_MS * UINT64_C(1000000), "it is never due, after %u restarts",
		    restarts);
	} while (it_published("app", "takeover_ended") == 0);
	ck_assert_uint_ge(restarts, 2);
	assert_due(3, "takeover_limit is over");
	survive_await_sessions(0);
	it_kill(&worker);
}
END_TEST

/* The server is not there when it is time: it is tried again. */
START_TEST(of_a_server_that_is_down_first)
{
	struct it_worker worker;

	it_start(1, 1, "takeover_limit = 1s\nretry_max = 200ms\n");
	worker = it_worker(stays, NULL);
	it_hear(worker.socket, 'r');
	survive_kill();
	ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
	survive_start();
	ck_assert_msg(pglease_test_await_log(it_env, "cannot be looked for yet", IT_PATIENCE_MS) == 0, "%s",
	    pglease_test_error_message());
	ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	it_acquire(pool, &lease);
	it_release(&lease);
	it_kill(&worker);
}
END_TEST

static void
change_config(const char *from, const char *to)
{
	char text[8192] = "", *at;
	FILE *f = fopen(pglease_test_config(it_env), "r+e");

	ck_assert_uint_eq(strlen(from), strlen(to));
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, f), 0);
	at = strstr(text, from);
	ck_assert_ptr_nonnull(at);
	memcpy(at, to, strlen(to));
	rewind(f);
	ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
	ck_assert_int_eq(fclose(f), 0);
}

/* Who calls gives up its own, long before the limit; of who does not, it is ended by that. (A restart may make it shorter.) */
START_TEST(each_in_its_own_way)
{
	struct it_worker worker;

	it_start(2, 2, "takeover_limit = 24h\n");
	pool = it_attach();
	it_await_all_idle(pool);
	it_acquire(pool, &lease);
	worker = it_worker(stays, NULL);
	it_hear(worker.socket, 'r');
	it_release(&lease);
	survive_note_sessions();
	survive_kill();
	survive_start();
	survive_await_new(pool);
	survive_await_sessions(1);
	ck_assert_uint_eq(it_published("app", "takeover_ended"), 0);
	change_config("takeover_limit = 24h", "takeover_limit = 1s ");
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	survive_await_sessions(0);
	it_await_published("app", "takeover_ended", 1);
	assert_due(1, "takeover_limit is over");
	it_kill(&worker);
}
END_TEST

static void
several(int socket, const void *arg)
{
	pglease_lease leases[3];
	pglease_pool *p = it_attach();

	for (unsigned i = 0; i < 3; i++)
		it_acquire(p, &leases[i]);
	for (unsigned i = 0; i < 3; i++)
		it_release(&leases[i]);
	it_say(socket, 'r');
	it_hear(socket, 'g');
	survive_await_new(p);
	it_say(socket, 'd');
	it_hear(socket, 'q');
	pglease_detach(it_client());
}

/* Long before it, by the workers' own doing: each has a PGconn for each connection. */
START_TEST(none_is_left_when_all_workers_have_called)
{
	struct it_worker worker[3];
	uint64_t began;

	it_start(3, 3, "takeover_limit = 24h\n");
	pool = it_attach();
	it_await_all_idle(pool);
	pglease_detach(it_client());
	survive_note_sessions();
	for (unsigned i = 0; i < 3; i++) {
		worker[i] = it_worker(several, NULL);
		it_hear(worker[i].socket, 'r');
	}
	survive_kill();
	survive_start();
	began = clock_ns();
	for (unsigned i = 0; i < 3; i++)
		it_say(worker[i].socket, 'g');
	for (unsigned i = 0; i < 3; i++)
		it_hear(worker[i].socket, 'd');
	survive_await_sessions(0);
	printf("# no old session is left %.0f ms after the workers' first call\n", (double)(clock_ns() - began) / 1e6);
	for (unsigned i = 0; i < 3; i++) {
		it_say(worker[i].socket, 'q');
		it_join(&worker[i]);
	}
	pool = it_attach();
	ck_assert_uint_eq(it_published("app", "takeover_ended"), 0);
}
END_TEST

IT_MAIN("takeover", after_the_limit, of_a_lease_that_is_held_for_longer, soon_when_nobody_is_left, never_if_the_pool_says_so,
    an_idle_session_ends_for_all, a_leased_session_ends_for_all, by_the_broker_after_the_next,
    one_that_has_just_been_opened, the_last_of_many, not_those_of_another_boot, after_restarts_without_end, of_a_server_that_is_down_first, each_in_its_own_way,
    none_is_left_when_all_workers_have_called)
