/* SPDX-License-Identifier: PostgreSQL */
/*
 * How long a lease of a killed process keeps others waiting: a pool of one connection, its lessee is killed by SIGKILL, and
 * another process that waits in acquire gets the connection that takes its place. Beside it, what a fresh connection takes.
 */
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"
#include "options.h"
#include "report.h"
#include "segment.h"
#include "stand.h"

#define KILLS 100

enum column { P50, P99, MAX, CONNECT, CONNECT_P99, P50_LESS, P99_LESS };

static const struct report_table_about about = {
    .id = "recovery",
    .title = "From the SIGKILL of a lessee until a process that waits has a connection in its place",
    .note = "Connect: a direct connection of the waiting process's own, made after each kill; its median is what is subtracted.",
    .columns = {[P50] = {"p50", "ms", 2, true}, [P99] = {"p99", "ms", 2, true}, [MAX] = {"max", "ms", 2, false},
        [CONNECT] = {"connect p50", "ms", 2, false}, [CONNECT_P99] = {"p99", "ms", 2, false},
        [P50_LESS] = {"p50 less connect", "ms", 2, true}, [P99_LESS] = {"p99 less connect", "ms", 2, true}},
    .plot = {P99_LESS, false},
};

static struct shared {
	sem_t leased; /* by the process that is to die */
	sem_t go;     /* to the one that waits for its connection */
	sem_t got;    /* it has it, */
	_Atomic uint64_t at_ns; /* at this time */
	_Atomic bool end;
} *shared;

static pglease_test_env *env;
static struct options options;

/* Leases, starts a query where told, and waits for its death. */
static void __attribute__((noreturn))
die_leasing(bool querying)
{
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stand_attach(env, "app", &client, &pool);
	if (pglease_acquire(pool, 60000, &lease, &conn) != 0)
		measure_die("acquire", pglease_error_message());
	if (querying && PQsendQuery(conn, "select pg_sleep(3600)") != 1)
		measure_die("query", PQerrorMessage(conn));
	sem_post(&shared->leased);
	for (;;)
		pause();
}

static void
await(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		;
}

/* In the child: acquires whenever told. */
static void __attribute__((noreturn))
wait_for_leases(void)
{
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stand_attach(env, "app", &client, &pool);
	for (;;) {
		await(&shared->go);
		if (atomic_load(&shared->end))
			break;
		if (pglease_acquire(pool, 60000, &lease, &conn) != 0)
			measure_die("acquire", pglease_error_message());
		atomic_store(&shared->at_ns, clock_ns());
		pglease_release(&lease);
		sem_post(&shared->got);
	}
	pglease_detach(client);
	_exit(0);
}

static pid_t
start(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		measure_die("fork", "failed");
	return pid;
}

/* Milliseconds. `pool` is for looking. */
static double
kill_one(pglease_pool *pool, bool querying)
{
	pid_t pid = start();
	pglease_stats stats;
	uint64_t begin;

	if (pid == 0)
		die_leasing(querying);
	await(&shared->leased);
	sem_post(&shared->go);
	do {
		if (pglease_stats_get(pool, &stats) != 0)
			measure_die("pglease_stats_get", pglease_error_message());
		sched_yield();
	} while (stats.pending == 0);
	begin = clock_ns();
	kill(pid, SIGKILL);
	await(&shared->got);
	waitpid(pid, NULL, 0);
	return (double)(atomic_load(&shared->at_ns) - begin) / 1e6;
}

static double
connect_ms(void)
{
	uint64_t begin = clock_ns();

	PQfinish(stand_connect(pglease_test_conninfo(env)));
	return (double)(clock_ns() - begin) / 1e6;
}

static void
measure(struct report_table *table, unsigned row, pglease_pool *pool, bool querying)
{
	static double gone[KILLS], connect[KILLS];
	unsigned n = options_count(&options, KILLS), p99 = n * 99 / 100 < n ? n * 99 / 100 : n - 1;

	for (unsigned i = 0; i < n; i++) {
		gone[i] = kill_one(pool, querying);
		connect[i] = connect_ms();
	}
	report_sample(table, row, P50, measure_median(gone, n));
	report_sample(table, row, P99, gone[p99]);
	report_sample(table, row, MAX, gone[n - 1]);
	report_sample(table, row, CONNECT, measure_median(connect, n));
	report_sample(table, row, CONNECT_P99, connect[p99]);
	report_sample(table, row, P50_LESS, gone[n / 2] - connect[n / 2]);
	report_sample(table, row, P99_LESS, gone[p99] - connect[n / 2]);
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {.rounds = {11, 5, 1}};
	static const pglease_test_pool pool_options = {.name = "app", .min = 1, .max = 1};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = &pool_options, .npools = 1);
	struct report_table *table;
	pglease *client;
	pglease_pool *pool;
	unsigned row[2];
	int status;
	pid_t waiter;

	options_parse(argc, argv, &sizes, &options);
	report_begin(&options);
	table = report_table(&about);
	row[0] = report_row(table, "", "killed while it leases");
	row[1] = report_row(table, "", "killed in a query");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || sem_init(&shared->leased, 1, 0) || sem_init(&shared->go, 1, 0) ||
	    sem_init(&shared->got, 1, 0))
		measure_die("memory", "none");
	env = stand_start(&env_options);
	waiter = start();
	if (waiter == 0)
		wait_for_leases();
	stand_attach(env, pool_options.name, &client, &pool);
	for (unsigned round = 0; round < options.rounds; round++)
		for (unsigned querying = 0; querying < 2; querying++)
			measure(table, row[querying], pool, querying);
	atomic_store(&shared->end, true);
	sem_post(&shared->go);
	if (waitpid(waiter, &status, 0) != waiter || status != 0)
		measure_die("waiting process", "it failed");
	report_brief(table, row[0], P99_LESS, "lessee killed: 99th percentile of its connection's loss, less a connect",
	    REPORT_AT_MOST, 10);
	report_headline(table, row[1], P99_LESS, "lessee killed in a query: 99th percentile of its connection's loss, less a connect",
	    REPORT_AT_MOST, 10);
	pglease_detach(client);
	stand_stop(env);
	report_finish();
	return 0;
}
