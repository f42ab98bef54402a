/* SPDX-License-Identifier: PostgreSQL */
/*
 * Parameters that the server itself changes: a new default by a reload, a role's settings, the promotion
 * of a standby. A session tells of it once, to the PGconn that speaks to it then; the PGconns of other
 * processes must be put right in time, which is (doc/design.md, "The window"): what escaping depends on,
 * at the end of the lease that was told; all others, when the lease is handed over to a waiter, and else
 * once the session has been used for 100 ms since.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hygiene.h"
#include "it.h"

#define QUERIES 20000 /* ends a failing test only */
#define WINDOW_NS UINT64_C(100000000) /* the documented one */

/*
 * The last one is changed for new sessions only: PostgreSQL cannot change it in a session that is outside
 * a transaction.
 */
static const struct parameter {
	const char *name, *value;
} parameters[] = {
    {"standard_conforming_strings", "off"},
    {"TimeZone", "Asia/Tokyo"},
    {"DateStyle", "German, DMY"},
    {"IntervalStyle", "sql_standard"},
    {"default_transaction_read_only", "on"},
    {"client_encoding", "LATIN1"},
};
#define PARAMETERS ((int)(sizeof(parameters) / sizeof(parameters[0])))
#define RELOADED (PARAMETERS - 1)

static void
alter(const char *what, const struct parameter *p)
{
	char text[256];

	snprintf(text, sizeof(text), "alter %s set %s = '%s'", what, p->name, p->value);
	ck_assert_msg(pglease_test_sql(it_env, text, NULL, 0) == 0, "%s", pglease_test_error_message());
}

static void
reload(const struct parameter *p)
{
	alter("system", p);
	ck_assert_msg(
	    pglease_test_sql(it_env, "select pg_reload_conf()", NULL, 0) == 0, "%s", pglease_test_error_message());
}

/* Queries until the session has told this PGconn. */
static void
await_told(PGconn *conn, const struct parameter *p)
{
	for (unsigned i = 0; i < QUERIES && strcmp(PQparameterStatus(conn, p->name), p->value) != 0; i++)
		it_query(conn, "select 1");
	ck_assert_str_eq(PQparameterStatus(conn, p->name), p->value);
}

/*
 * What the PGconn believes *before* its first query (an answer may bring the news with it) is what the
 * session has. Then the others, too.
 */
static void
assert_agrees(PGconn *conn, const char *name)
{
	char believed[64], query[96];
	const char *found;

	snprintf(believed, sizeof(believed), "%s", PQparameterStatus(conn, name));
	snprintf(query, sizeof(query), "show %s", name);
	found = hygiene_differs(conn, query, believed);
	ck_assert_msg(found == NULL, "the PGconn's belief is wrong: %s", found);
	found = hygiene_disagrees(conn);
	ck_assert_msg(found == NULL, "%s", found);
	found = hygiene_escapes_badly(conn);
	ck_assert_msg(found == NULL, "%s", found);
}

static uint64_t
clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Lease after lease, for longer than the window. Ends with a lease. */
static void
use(pglease_pool *pool, pglease_lease *lease, PGconn **ret_conn)
{
	uint64_t end = clock_now() + WINDOW_NS;

	do {
		it_release(lease);
		*ret_conn = it_acquire(pool, lease);
		it_query(*ret_conn, "select 1");
	} while (clock_now() <= end);
}

/* A worker with a PGconn from before, which leases, and looks, when it is told to. */
static void
lessee(int socket, const void *arg)
{
	const struct parameter *p = arg;
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn;
	char told;

	conn = it_acquire(pool, &lease);
	it_release(&lease);
	it_say(socket, 'w');
	while (recv(socket, &told, 1, 0) == 1 && told != 'q') {
		switch (told) {
		case 'l':
			conn = it_acquire(pool, &lease);
			break;
		case 't':
			await_told(conn, p);
			break;
		case 'a':
			assert_agrees(conn, p->name);
			break;
		case 'v':
			ck_assert_str_eq(PQparameterStatus(conn, p->name), p->value);
			break;
		case 'u':
			use(pool, &lease, &conn);
			break;
		case 'r':
			it_release(&lease);
			break;
		}
		it_say(socket, told);
	}
}

/* What a worker is told, step by step; each is done before the next. */
static void
tell(const struct it_worker *worker, const char *steps)
{
	for (; *steps != '\0'; steps++) {
		it_say(worker->socket, *steps);
		it_hear(worker->socket, *steps);
	}
}

static struct it_worker
start_lessee(const struct parameter *p)
{
	struct it_worker worker = it_worker(lessee, p);

	it_hear(worker.socket, 'w');
	return worker;
}

static void
end_lessee(struct it_worker *worker)
{
	it_say(worker->socket, 'q');
	it_join(worker);
}

static void
start(const char *settings)
{
	it_start(1, 1, settings);
	ck_assert_int_eq(pglease_test_sql(it_env, "create table injected (i int)", NULL, 0), 0);
}

/* By its session the first is told, and nobody else is. */
START_TEST(what_escaping_depends_on_at_once)
{
	const struct parameter *p = &parameters[0];
	struct it_worker a, b;

	start(NULL);
	a = start_lessee(p);
	b = start_lessee(p);
	tell(&a, "l");
	reload(p);
	tell(&a, "tar");
	tell(&b, "lavr");
	tell(&a, "lavr");
	end_lessee(&a);
	end_lessee(&b);
}
END_TEST

START_TEST(a_reload_during_a_lease)
{
	const struct parameter *p = &parameters[_i];
	struct it_worker a, b;

	start(NULL);
	a = start_lessee(p);
	b = start_lessee(p);
	tell(&a, "l");
	reload(p);
	tell(&a, "tuar");
	tell(&b, "lavr");
	tell(&a, "lavr");
	end_lessee(&a);
	end_lessee(&b);
}
END_TEST

/* Nobody has a lease: the server tells at the end of whatever it is asked next. */
START_TEST(a_reload_between_leases)
{
	const struct parameter *p = &parameters[_i];
	struct it_worker a, b;

	start(NULL);
	a = start_lessee(p);
	b = start_lessee(p);
	reload(p);
	tell(&a, "ltuar");
	tell(&b, "lavr");
	tell(&a, "lavr");
	end_lessee(&a);
	end_lessee(&b);
}
END_TEST

/*
 * The first gives the session back as soon as it has been told, and leases it no more: the second one,
 * which uses it from then on, must be put right all the same. (The broker's own resets would help: they
 * are off, as under load.)
 */
START_TEST(the_one_that_was_told_leases_no_more)
{
	const struct parameter *p = &parameters[_i];
	struct it_worker a, b;

	start("reset_after = 0\n");
	a = start_lessee(p);
	b = start_lessee(p);
	tell(&a, "l");
	reload(p);
	tell(&a, "tr");
	tell(&b, "luavr");
	end_lessee(&a);
	end_lessee(&b);
}
END_TEST

static bool
is_due(const pglease_stats *stats, const void *arg)
{
	return stats->pending == 1 && stats->max_wait_ns > 3000000;
}

START_TEST(a_reload_and_a_waiter)
{
	const struct parameter *p = &parameters[_i];
	struct it_worker a, b;
	pglease_pool *pool;

	start(NULL);
	a = start_lessee(p);
	b = start_lessee(p);
	pool = it_attach();
	tell(&a, "l");
	reload(p);
	tell(&a, "t");
	it_say(b.socket, 'l');
	it_await(pool, is_due, NULL, "a grant due");
	tell(&a, "r");
	it_hear(b.socket, 'l');
	tell(&b, "avr");
	tell(&a, "lavr");
	end_lessee(&a);
	end_lessee(&b);
}
END_TEST

/* A role's settings are for new sessions: the old one goes on as it was, the next generation has them. */
START_TEST(alter_role_set)
{
	const struct parameter *p = &parameters[_i];
	struct it_worker a, b;
	pglease_pool *pool;
	pglease_lease lease;
	pglease_stats stats;
	PGconn *conn;
	char before[64], query[96];

	start(NULL);
	a = start_lessee(p);
	b = start_lessee(p);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	snprintf(before, sizeof(before), "%s", PQparameterStatus(conn, p->name));
	it_release(&lease);
	alter("role postgres", p);
	tell(&a, "lar");
	tell(&b, "lar");
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(PQparameterStatus(conn, p->name), before);
	snprintf(query, sizeof(query), "show %s", p->name);
	ck_assert_str_eq(it_query(conn, query), before);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 1);
	/* The next generation. */
	PQclear(PQexec(conn, "select pg_terminate_backend(pg_backend_pid())"));
	it_release(&lease);
	tell(&a, "lavr");
	tell(&b, "lavr");
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 2);
	end_lessee(&a);
	end_lessee(&b);
}
END_TEST

static const struct parameter standby = {"in_hot_standby", "off"};

static void
start_on_standby(void)
{
	static const pglease_test_pool pool = {
	    .name = "app", .min = 1, .max = 1, .conninfo = "user=postgres dbname=postgres"};
	pglease_test_options options =
	    PGLEASE_TEST_OPTIONS(.pools = &pool, .npools = 1, .no_broker = true, .replication = true);
	char host[256];

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_msg(
	    pglease_test_sql(it_env, "create table injected (i int)", NULL, 0) == 0, "%s", pglease_test_error_message());
	ck_assert_msg(pglease_test_standby_start(it_env) == 0, "%s", pglease_test_error_message());
	/* Its folder was not known before: the broker finds the server by the environment. */
	snprintf(host, sizeof(host), "%s/pgs", pglease_test_folder(it_env));
	ck_assert_int_eq(setenv("PGHOST", host, 1), 0);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
}

static void
promote(void)
{
	PGconn *conn = PQconnectdb(pglease_test_standby_conninfo(it_env));

	ck_assert_int_eq(PQstatus(conn), CONNECTION_OK);
	ck_assert_str_eq(it_query(conn, "select pg_promote()"), "t"); /* waits for it */
	PQfinish(conn);
}

START_TEST(a_promotion_during_a_lease)
{
	struct it_worker a, b;

	start_on_standby();
	a = start_lessee(&standby);
	b = start_lessee(&standby);
	tell(&b, "lar"); /* on it is */
	tell(&a, "l");
	promote();
	tell(&a, "tuar");
	tell(&b, "lavr");
	tell(&a, "lavr");
	end_lessee(&a);
	end_lessee(&b);
}
END_TEST

START_TEST(a_promotion_between_leases)
{
	struct it_worker a, b;

	start_on_standby();
	a = start_lessee(&standby);
	b = start_lessee(&standby);
	promote();
	tell(&a, "ltuar");
	tell(&b, "lavr");
	tell(&a, "lavr");
	end_lessee(&a);
	end_lessee(&b);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("parameters");
	TCase *tcase = tcase_create("parameters");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, 180);
	tcase_add_checked_fixture(tcase, NULL, it_teardown);
	tcase_add_test(tcase, what_escaping_depends_on_at_once);
	tcase_add_loop_test(tcase, a_reload_during_a_lease, 0, RELOADED);
	tcase_add_loop_test(tcase, a_reload_between_leases, 0, RELOADED);
	tcase_add_loop_test(tcase, the_one_that_was_told_leases_no_more, 0, RELOADED);
	tcase_add_loop_test(tcase, a_reload_and_a_waiter, 0, RELOADED);
	tcase_add_loop_test(tcase, alter_role_set, 0, PARAMETERS);
	tcase_add_test(tcase, a_promotion_during_a_lease);
	tcase_add_test(tcase, a_promotion_between_leases);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
