/* SPDX-License-Identifier: PostgreSQL */
/*
 * Debian's programs and languages, unmodified, on a pool: more processes than it has connections, some of them killed in the
 * middle; then the sums must agree, every transaction be there once, and nothing be left behind.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "program.h"

#define CONNECTIONS 3
#define WORKERS 6
#define VICTIMS 3
#define ROUNDS "40"
#define FOR_EVER "1000000"
#define PROGRESS 5 /* transactions, after which a victim may be killed */
#define WAIT_MS 120000

static pglease_pool *pool;

static void
start(unsigned max, const char *extra)
{
	char path[512];

	it_start(1, max, extra);
	program_environment();
	snprintf(path, sizeof(path), "/usr/lib/postgresql/15/bin:%s", getenv("PATH"));
	ck_assert_int_eq(setenv("PATH", path, 1), 0);
	pool = it_attach();
}

/* Direct, and as a number. */
static int64_t
number(const char *sql)
{
	char text[64];

	ck_assert_msg(pglease_test_sql(it_env, sql, text, sizeof(text)) == 0, "%s", pglease_test_error_message());
	return strtoll(text, NULL, 10);
}

static int
are_the_pools(void *connections)
{
	return number("select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()") <=
	       *(const unsigned *)connections;
}

static void
check_pool(unsigned connections)
{
	pglease_stats stats;

	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_le(stats.total, connections);
	ck_assert_uint_gt(stats.acquired, 0);
	/* All sessions of the server are the pool's and this one; those that were revoked end when they have noticed. */
	ck_assert_msg(pglease_test_await(are_the_pools, &connections, IT_PATIENCE_MS) == 0, "sessions are left on the server");
}

static void
worker_start(const char *language, const char *script, const char *name, const char *rounds, struct child *ret)
{
	const char *argv[] = {program_built("pglease-run"), language, script, name, rounds, NULL};
	char log[512];

	snprintf(log, sizeof(log), "%s/%s.log", pglease_test_folder(it_env), name);
	ck_assert_msg(child_start(argv, log, NULL, ret) == 0, "%s", child_error());
}

static void
worker_end(struct child *worker, const char *name)
{
	char log[512], line[512] = "";
	FILE *f;
	int status;

	ck_assert_msg(child_wait(worker, WAIT_MS, &status) == 0, "%s: %s", name, child_error());
	if (status == 0)
		return;
	snprintf(log, sizeof(log), "%s/%s.log", pglease_test_folder(it_env), name);
	f = fopen(log, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		fprintf(stderr, "%s: %s", name, line);
	ck_abort_msg("%s ended with %x: %s", name, (unsigned)status, line);
}

/* Workers of a language, and victims among them. */
static void
storm(const char *language, const char *file, const char *extra)
{
	struct child workers[WORKERS + VICTIMS];
	char names[WORKERS + VICTIMS][16], sql[256], script[512];
	int status;

	start(CONNECTIONS, extra);
	ck_assert_int_eq(pglease_test_sql(it_env,
			     "create table account (id int primary key, balance bigint not null);"
			     "insert into account select i, 0 from generate_series(1, 10) i;"
			     "create table history (worker text, n int, delta int, primary key (worker, n))",
			     NULL, 0),
	    0);
	snprintf(script, sizeof(script), "%s", program_source(file));
	for (unsigned i = 0; i < WORKERS + VICTIMS; i++) {
		snprintf(names[i], sizeof(names[i]), "%s%u", i < WORKERS ? "worker" : "victim", i);
		worker_start(language, script, names[i], i < WORKERS ? ROUNDS : FOR_EVER, &workers[i]);
	}
	for (unsigned i = WORKERS; i < WORKERS + VICTIMS; i++) {
		snprintf(sql, sizeof(sql), "select count(*) from history where worker = '%s'", names[i]);
		/* It is a process in its own right: what it has done shows in the table only. */
		while (number(sql) < PROGRESS && child_wait(&workers[i], 1, &status) == -ETIMEDOUT)
			;
		ck_assert_msg(workers[i].pid != 0, "%s ended by itself", names[i]);
		ck_assert_int_eq(child_signal(&workers[i], SIGKILL), 0);
		ck_assert_int_eq(child_wait(&workers[i], WAIT_MS, &status), 0);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		worker_end(&workers[i], names[i]);
	check_pool(CONNECTIONS);
	ck_assert_int_eq(number("select sum(balance) - (select sum(delta) from history) from account"), 0);
	ck_assert_int_eq(number("select count(*) from history where worker like 'worker%'"), WORKERS * strtol(ROUNDS, NULL, 10));
}

START_TEST(psql_processes)
{
	storm("sh", "tests/programs/worker.sh", NULL);
}
END_TEST

START_TEST(psycopg2_processes)
{
	storm("/usr/bin/python3", "tests/programs/worker.py", NULL);
}
END_TEST

START_TEST(php_pgsql_processes)
{
	storm("php", "tests/programs/worker.php", NULL);
}
END_TEST

START_TEST(php_pdo_processes)
{
	storm("php", "tests/programs/worker_pdo.php", NULL);
}
END_TEST

START_TEST(ruby_processes)
{
	storm("ruby", "tests/programs/worker.rb", NULL);
}
END_TEST

START_TEST(perl_processes)
{
	storm("perl", "tests/programs/worker.pl", NULL);
}
END_TEST

static void
script(const char *language, const char *file, unsigned connections)
{
	char path[512];

	start(connections, NULL);
	snprintf(path, sizeof(path), "%s", program_source(file));
	program_ok(true, PROGRAM(language, path));
	check_pool(connections);
}

START_TEST(psql_does_what_it_does)
{
	script("sh", "tests/programs/psql.sh", 2);
}
END_TEST

START_TEST(psql_at_a_terminal)
{
	script("/usr/bin/python3", "tests/programs/terminal.py", 2);
}
END_TEST

START_TEST(pgbench_in_all_its_ways)
{
	script("sh", "tests/programs/pgbench.sh", 5);
}
END_TEST

/*
 * Clients that connect for each transaction, and are more than the connections; one process of them is killed. A thread for
 * each: one that holds a connection and waits for another would wait for itself.
 */
START_TEST(pgbench_that_connects_anew)
{
	struct child victim;
	const char *argv[] = {program_built("pglease-run"), "pgbench", "-n", "-C", "-c", "8", "-j", "8", "-T", "1000", NULL};
	char log[512];
	int64_t rows;
	int status;

	start(CONNECTIONS, NULL);
	argv[0] = program_built("pglease-run");
	program_ok(true, PROGRAM("pgbench", "-i", "-q"));
	snprintf(log, sizeof(log), "%s/victim.log", pglease_test_folder(it_env));
	ck_assert_msg(child_start(argv, log, NULL, &victim) == 0, "%s", child_error());
	while (number("select count(*) from pgbench_history") < 100)
		;
	ck_assert_int_eq(child_signal(&victim, SIGKILL), 0);
	ck_assert_int_eq(child_wait(&victim, WAIT_MS, &status), 0);
	check_pool(CONNECTIONS);
	rows = number("select count(*) from pgbench_history");
	program_ok(true, PROGRAM("pgbench", "-n", "-C", "-c", "8", "-j", "8", "-t", "25"));
	ck_assert_int_eq(number("select count(*) from pgbench_history"), rows + 200);
	ck_assert_int_eq(number("select sum(abalance) - (select sum(delta) from pgbench_history) from pgbench_accounts"), 0);
	ck_assert_int_eq(number("select sum(abalance) - (select sum(bbalance) from pgbench_branches) from pgbench_accounts"), 0);
	check_pool(CONNECTIONS);
}
END_TEST

START_TEST(pg_dump_into_pg_restore)
{
	script("sh", "tests/programs/dump.sh", 5);
}
END_TEST

START_TEST(psycopg2_threads_and_event_loop)
{
	script("/usr/bin/python3", "tests/programs/threads.py", CONNECTIONS);
}
END_TEST

START_TEST(psycopg2_prefork_server_under_load)
{
	script("/usr/bin/python3", "tests/programs/server.py", CONNECTIONS);
}
END_TEST

IT_MAIN("programs", psql_processes, psycopg2_processes, php_pgsql_processes, php_pdo_processes, ruby_processes, perl_processes,
    psql_does_what_it_does, psql_at_a_terminal, pgbench_in_all_its_ways, pgbench_that_connects_anew, pg_dump_into_pg_restore,
    psycopg2_threads_and_event_loop, psycopg2_prefork_server_under_load)
