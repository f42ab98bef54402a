/* SPDX-License-Identifier: PostgreSQL */
/*
 * Pools that come, go and are made anew by a reload, as workers see it: those that lease, those that wait, and those that die
 * meanwhile; and a broker that is killed or restarted while one goes.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "restart.h"
#include "survive.h"

static pglease_pool *pool, *two;
static pglease_lease lease, other;
static PGconn *conn;

/* A section, on the environment's server. */
static const char *
section(const char *name, const char *lines)
{
	static char text[4][1024];
	static unsigned next;
	char *at = text[next++ % 4];

	snprintf(at, sizeof(text[0]), "[pool %s]\nconninfo = %s application_name=%s\n%s\n", name, pglease_test_conninfo(it_env), name, lines);
	return at;
}

static void
configure(const char *instance, const char *app, const char *second)
{
	char pools[2100];

	snprintf(pools, sizeof(pools), "%s\n%s", app, second != NULL ? second : "");
	restart_configure(instance, pools);
}

static void
reload(void)
{
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 0);
}

/* Pools app and two of these lines; NULL: there is no second one. This process is attached, and has them open. */
static void
start(const char *instance, const char *app, const char *second)
{
	const pglease_test_pool pools[] = {{.name = "app"}, {.name = "two"}};
	const pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .no_broker = 1);

	restart_prepare();
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	configure(instance, section("app", app), second != NULL ? section("two", second) : NULL);
	survive_start();
	pool = it_attach();
	if (second != NULL)
		it_ok(pglease_pool_open(it_client(), "two", &two));
}

static uint64_t
acquired(pglease_pool *p)
{
	pglease_stats stats;

	it_ok(pglease_stats_get(p, &stats));
	return stats.acquired;
}

/* Sessions of that name which the server has. */
static unsigned
sessions(const char *name)
{
	char sql[160], n[16];

	snprintf(sql, sizeof(sql), "select count(*) from pg_stat_activity where application_name = '%s'", name);
	ck_assert_int_eq(pglease_test_sql(it_env, sql, n, sizeof(n)), 0);
	return (unsigned)atoi(n);
}

struct wanted {
	const char *name;
	unsigned n;
};

static int
has_sessions(void *context)
{
	const struct wanted *w = context;

	return sessions(w->name) == w->n;
}

static void
await_sessions(const char *name, unsigned n)
{
	struct wanted w = {name, n};

	ck_assert_msg(pglease_test_await(has_sessions, &w, IT_PATIENCE_MS) == 0, "%u sessions of %s, not %u", sessions(name), name, n);
}

static void
assert_no_pool(pglease_pool *p)
{
	pglease_lease none;
	PGconn *c;

	ck_assert_int_eq(pglease_acquire(p, 20000, &none, &c), PGLEASE_ENOPOOL);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "has no pool \"two\""));
}

static void
assert_serves(pglease_pool *p)
{
	ck_assert_str_eq(it_query(it_acquire(p, &other), "select 'served'"), "served");
	it_release(&other);
}

START_TEST(a_pool_comes)
{
	char pid[16];

	pglease_stats stats;

	start(NULL, "", NULL);
	conn = it_acquire(pool, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	ck_assert_int_eq(pglease_pool_open(it_client(), "two", &two), PGLEASE_ENOPOOL);
	/* Before the others, so that they are at other places in the list. */
	configure(NULL, section("two", "min_connections = 2"), section("app", ""));
	reload();
	restart_said("pool two: new");
	restart_await_log("pool two is new");
	it_ok(pglease_pool_open(it_client(), "two", &two));
	assert_serves(two);
	it_await_published("two", "total", 2);
	it_ok(pglease_stats_get(two, &stats));
	ck_assert_uint_eq(stats.clients, 1);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	reload();
	restart_now();
	assert_serves(two);
	ck_assert_uint_eq(acquired(two), 2);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
	assert_serves(pool);
}
END_TEST

/* Waits for a connection of two; that ends by the pool's. */
static void
waits_in_two(int socket, const void *arg)
{
	(void)it_attach();
	it_ok(pglease_pool_open(it_client(), "two", &two));
	it_say(socket, 'r');
	assert_no_pool(two);
	it_say(socket, 'd');
	pglease_detach(it_client());
}

/* Its lease goes on, and is the last; a name that comes back is another pool, with the history of the first. */
START_TEST(a_pool_goes)
{
	struct it_worker worker;

	start(NULL, "", "max_connections = 1");
	conn = it_acquire(two, &lease);
	worker = it_worker(waits_in_two, NULL);
	it_hear(worker.socket, 'r');
	it_await_waiting(two, 1);
	configure(NULL, section("app", ""), NULL);
	reload();
	it_hear(worker.socket, 'd');
	it_join(&worker);
	restart_said("pool two: going, 1 leases of the old one are out");
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	restart_said("pool two: going, 1 of 1 connections open");
	assert_no_pool(two);
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	assert_serves(pool);
	ck_assert_int_eq(it_ctl("drain", "two", NULL), 3);
	it_release(&lease);
	await_sessions("two", 0);
	restart_await_log("pool two has gone: it has no connection");
	assert_no_pool(two);
	configure(NULL, section("app", ""), section("two", "max_connections = 3"));
	reload();
	assert_serves(two);
	ck_assert_uint_eq(acquired(two), 1);
	ck_assert_uint_eq(it_published("two", "max"), 3);
}
END_TEST

START_TEST(its_leases_are_revoked_after_drain_timeout)
{
	start("drain_timeout = 300ms", "", "");
	conn = it_acquire(two, &lease);
	configure("drain_timeout = 300ms", section("app", ""), NULL);
	reload();
	await_sessions("two", 0);
	restart_await_log("pool two has gone: it has no connection");
	ck_assert_int_eq(PQresultStatus(PQexec(conn, "select 1")), PGRES_FATAL_ERROR);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	assert_serves(pool);
}
END_TEST

static void
holds_two(int socket, const void *arg)
{
	(void)it_attach();
	it_ok(pglease_pool_open(it_client(), "two", &two));
	conn = it_acquire(two, &lease);
	it_say(socket, 'r');
	it_hear(socket, 'g');
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_say(socket, 'd');
	it_hear(socket, 'q');
	it_ok(pglease_release(&lease));
	it_say(socket, 'd');
	it_hear(socket, 'q');
	pglease_detach(it_client());
}

START_TEST(its_lessee_dies)
{
	struct it_worker worker;

	start("drain_timeout = 1h", "", "");
	worker = it_worker(holds_two, NULL);
	it_hear(worker.socket, 'r');
	configure("drain_timeout = 1h", section("app", ""), NULL);
	reload();
	await_sessions("two", 1);
	it_kill(&worker);
	await_sessions("two", 0);
	restart_await_log("pool two has gone: it has no connection");
	assert_serves(pool);
}
END_TEST

/* What the kernel, the words and the sockets say of it goes over to the next program, with its settings. */
START_TEST(a_restart_and_a_reload_while_it_goes)
{
	char pid[16];

	start("drain_timeout = 1h", "", "");
	conn = it_acquire(two, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	configure("drain_timeout = 1h", section("app", ""), NULL);
	reload();
	restart_now();
	reload();
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	assert_no_pool(two);
	/* The name comes back while the old one is there. */
	configure("drain_timeout = 1h", section("app", ""), section("two", ""));
	reload();
	assert_serves(two);
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
	restart_await_log("pool two has gone: it has no connection");
	assert_serves(two);
}
END_TEST

/* Its backend is another one, or stops what it does, as of any lease. */
START_TEST(reset_and_cancel_while_it_goes)
{
	char before[16], error[256];
	PGcancel *cancel;
	PGresult *result;

	start("drain_timeout = 1h", "", "");
	conn = it_acquire(two, &lease);
	configure("drain_timeout = 1h", section("app", ""), NULL);
	reload();
	snprintf(before, sizeof(before), "%s", it_query(conn, "select pg_backend_pid()"));
	PQreset(conn);
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
	ck_assert_str_ne(it_query(conn, "select pg_backend_pid()"), before);
	cancel = PQgetCancel(conn);
	ck_assert_ptr_nonnull(cancel);
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(600)"), 1);
	do /* it may come before the statement */
		ck_assert_msg(PQcancel(cancel, error, sizeof(error)), "%s", error);
	while (PQconsumeInput(conn) == 1 && PQisBusy(conn));
	PQfreeCancel(cancel);
	result = PQgetResult(conn);
	ck_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014");
	PQclear(result);
	ck_assert_ptr_null(PQgetResult(conn));
	it_release(&lease);
	await_sessions("two", 0);
	restart_await_log("pool two has gone: it has no connection");
}
END_TEST

START_TEST(the_broker_is_killed_while_it_goes)
{
	struct it_worker worker;

	start("drain_timeout = 1h", "", "");
	worker = it_worker(holds_two, NULL);
	it_hear(worker.socket, 'r');
	configure("drain_timeout = 1h", section("app", ""), NULL);
	reload();
	survive_kill();
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'd');
	survive_start();
	assert_serves(pool);
	assert_no_pool(two);
	await_sessions("two", 1);
	it_say(worker.socket, 'q');
	it_hear(worker.socket, 'd');
	/* There is no broker that would. */
	await_sessions("two", 0);
	it_say(worker.socket, 'q');
	it_join(&worker);
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
	assert_serves(pool); /* the new one's: both are open */
	it_say(socket, 'd');
	it_hear(socket, 'g');
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	/* Until it has found the next broker. */
	for (dead = other.incarnation; other.incarnation == dead;)
		assert_serves(pool);
	it_ok(pglease_release(&lease));
	it_say(socket, 'd');
	it_hear(socket, 'q');
	pglease_detach(it_client());
}

/* And while one is made anew: what is left in both segments is nobody's, and goes with its lessee. */
START_TEST(the_broker_is_killed_when_one_was_made_anew)
{
	struct it_worker worker;

	start(NULL, "max_connections = 2", "");
	worker = it_worker(holds_app, NULL);
	it_hear(worker.socket, 'r');
	configure(NULL, section("app", "max_connections = 2\nreset = always"), section("two", ""));
	reload();
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

	start(NULL, "max_connections = 2\ntakeover_limit = 1s", "");
	worker = it_worker(holds_app, NULL);
	it_hear(worker.socket, 'r');
	configure(NULL, section("app", "max_connections = 2\ntakeover_limit = 1s\nreset = always"), section("two", ""));
	reload();
	survive_note_sessions();
	survive_kill();
	survive_start();
	it_await_published("app", "takeover_ended", 1);
	survive_await_sessions(0);
	it_kill(&worker);
}
END_TEST

/* A pool that is raised an alert of: its end is told. */
START_TEST(its_alerts_are_over)
{
	start("drain_timeout = 1h", "", "alert_leaks = 1\nleak_threshold = 50ms\nalert_raise_after = 0");
	conn = it_acquire(two, &lease);
	restart_await_log("pool two: alert leaks is raised");
	configure("drain_timeout = 1h", section("app", ""), NULL);
	reload();
	restart_await_log("pool two: alert leaks is over: the pool has gone, or is made anew");
	it_release(&lease);
}
END_TEST

static int
take_row(void *context, const pglease_history_row *row)
{
	*(pglease_history_row *)context = *row;
	return 0;
}

/* Leases that the pool's history tells of, whoever counted them. */
static uint64_t
remembered(pglease_pool *p)
{
	pglease_history_row row = {0};

	it_ok(pglease_history(p, 0, UINT64_MAX, 0, take_row, &row));
	return row.acquired;
}

static int
remembers_two(void *context)
{
	return remembered(context) >= 2;
}

static void
await_remembered(pglease_pool *p)
{
	ck_assert_msg(
	    pglease_test_await(remembers_two, p, IT_PATIENCE_MS) == 0, "the history tells of %u leases", (unsigned)remembered(p));
}

static bool
is_there(const char *before, const char *of, const char *after)
{
	char path[512];

	snprintf(path, sizeof(path), "%s%s%s", before, of, after);
	return access(path, F_OK) == 0;
}

/* It is the name's, not the segment's: over a pool that is made anew, and one that goes and comes back. */
START_TEST(its_history_goes_on)
{
	start(NULL, "", "");
	assert_serves(pool);
	assert_serves(pool);
	assert_serves(two);
	assert_serves(two);
	await_remembered(pool);
	await_remembered(two);
	ck_assert(is_there("/dev/shm/pglease.", pglease_test_instance(it_env), ".history.two"));
	configure(NULL, section("app", "reset = always"), NULL);
	reload();
	ck_assert(!is_there("/dev/shm/pglease.", pglease_test_instance(it_env), ".history.two"));
	ck_assert(is_there("", pglease_test_folder(it_env), "/embedded/history.two"));
	ck_assert_uint_eq(acquired(pool), 0);
	ck_assert_uint_ge(remembered(pool), 2);
	configure(NULL, section("app", "reset = always"), section("two", ""));
	reload();
	ck_assert_uint_eq(acquired(two), 0);
	ck_assert_uint_ge(remembered(two), 2);
	assert_serves(two);
	assert_serves(pool);
}
END_TEST

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

	start(NULL, "max_connections = 2", "");
	conn = it_acquire(pool, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	for (unsigned i = 0; i < 3; i++) {
		worker[i] = it_worker(busy, NULL);
		it_hear(worker[i].socket, 'r');
	}
	for (unsigned i = 0; i < 6; i++) {
		configure(NULL, section("app", i % 2 == 0 ? "max_connections = 2\nreset = always\nmax_leases_per_client = 2"
							  : "max_connections = 2\nreset_kind = light"), section("two", ""));
		reload();
		restart_await_log("pool app is made anew: ");
		/* The one that is out counts, so that there are never more than two. */
		ck_assert_uint_le(sessions("app"), 2);
		ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	}
	for (unsigned i = 0; i < 3; i++) {
		it_say(worker[i].socket, 'q');
		it_join(&worker[i]);
	}
	it_release(&lease);
	configure(NULL, section("app", "pooling = no"), section("two", ""));
	reload();
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
	assert_serves(pool);
	it_say(socket, 'd');
	pglease_detach(it_client());
}

/* What an operator has said of it holds of its successor too; who waits, waits on there. */
START_TEST(a_paused_pool_is_made_anew)
{
	struct it_worker worker, dies;

	start(NULL, "", "");
	assert_serves(pool);
	ck_assert_int_eq(it_ctl("pause", "app", NULL), 0);
	worker = it_worker(waits_in_app, NULL);
	dies = it_worker(waits_in_app, NULL);
	it_hear(worker.socket, 'r');
	it_hear(dies.socket, 'r');
	it_await_waiting(pool, 2);
	configure(NULL, section("app", "reset = always"), section("two", ""));
	reload();
	it_await_waiting(pool, 2);
	it_kill(&dies);
	it_await_waiting(pool, 1);
	ck_assert_uint_eq(sessions("app"), 0);
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	it_hear(worker.socket, 'd');
	it_join(&worker);
}
END_TEST

START_TEST(another_user)
{
	char user[64], role[16], conninfo[512];

	start(NULL, "min_connections = 2\nmax_connections = 3", "");
	ck_assert_int_eq(pglease_test_sql(it_env, "create role someone login superuser; select 'someone'", role, sizeof(role)), 0);
	it_await_published("app", "idle", 2);
	conn = it_acquire(pool, &lease);
	snprintf(user, sizeof(user), "%s", it_query(conn, "select current_user"));
	ck_assert_str_ne(user, "someone");
	snprintf(conninfo, sizeof(conninfo), "[pool app]\nconninfo = %s user=someone\nmax_connections = 3\n", pglease_test_conninfo(it_env));
	configure(NULL, conninfo, section("two", ""));
	reload();
	/* From here on no session of the first one's is leased; that which is out goes on. */
	await_sessions("app", 1);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_str_eq(it_query(it_acquire(pool, &other), "select current_user"), "someone");
		it_release(&other);
	}
	ck_assert_str_eq(it_query(conn, "select current_user"), user);
	it_release(&lease);
	await_sessions("app", 0);
	ck_assert_str_eq(it_query(it_acquire(pool, &other), "select current_user"), "someone");
	it_release(&other);
}
END_TEST

START_TEST(more_connections_than_there_was_room_for)
{
	pglease_lease leases[20];

	start(NULL, "max_connections = 1", "");
	conn = it_acquire(pool, &leases[0]);
	configure(NULL, section("app", "max_connections = 20"), section("two", ""));
	reload();
	for (unsigned i = 1; i < 20; i++)
		it_acquire(pool, &leases[i]);
	ck_assert_uint_eq(sessions("app"), 20);
	for (unsigned i = 0; i < 20; i++)
		it_release(&leases[i]);
	restart_await_log("pool app has gone: it has no connection");
	it_await_all_idle(pool);
}
END_TEST

/* One bad thing, and no pool comes, goes or is made anew. */
START_TEST(all_or_nothing)
{
	start(NULL, "", "");
	assert_serves(pool);
	configure("max_clients = 7", section("app", "reset = always"), section("three", "max_connections = none"));
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 3);
	configure("max_clients = 7", section("app", "reset = always"), section("three", ""));
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 3);
	restart_await_log("is not reloaded: max_clients of the instance is 256, and would be 7");
	assert_serves(pool);
	assert_serves(two);
	ck_assert_uint_eq(acquired(pool), 2);
	ck_assert_int_eq(pglease_pool_open(it_client(), "three", &two), PGLEASE_ENOPOOL);
}
END_TEST

/* They come and go on the server that there is, as far as it has room. */
START_TEST(embedded_pools)
{
	const pglease_test_pool pools[] = {{.name = "app", .max = 3, .embedded = 1}, {.name = "two", .max = 1, .embedded = 1}};
	const pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .no_server = 1);
	char server[16];

	restart_prepare();
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	snprintf(server, sizeof(server), "%s", it_query(conn, "select pg_postmaster_start_time()::time(0)"));
	restart_configure(NULL, "[pool app]\nembedded = yes\nmax_connections = 4\n");
	reload();
	restart_configure(NULL, "[pool app]\nembedded = yes\n[pool two]\nembedded = yes\nmax_connections = 1\nreserve_connections = 1");
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 3);
	restart_said("room for connections of the embedded PostgreSQL is 4, and would be 7; stop and start it instead");
	restart_configure(NULL, "[pool app]\nembedded = yes\nmax_connections = 2\nreset = always\n[pool two]\nembedded = yes\nmax_connections = 2");
	reload();
	it_ok(pglease_pool_open(it_client(), "two", &two));
	assert_serves(two);
	ck_assert_str_eq(it_query(conn, "select pg_postmaster_start_time()::time(0)"), server);
	assert_serves(pool);
	it_release(&lease);
}
END_TEST

IT_MAIN("reload_pools", a_pool_comes, a_pool_goes, its_leases_are_revoked_after_drain_timeout, its_lessee_dies,
    a_restart_and_a_reload_while_it_goes, reset_and_cancel_while_it_goes, the_broker_is_killed_while_it_goes,
    the_broker_is_killed_when_one_was_made_anew, its_sessions_are_left_to_the_next_broker, its_alerts_are_over, its_history_goes_on,
    a_pool_is_made_anew, a_paused_pool_is_made_anew, another_user, more_connections_than_there_was_room_for, all_or_nothing,
    embedded_pools)
