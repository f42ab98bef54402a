/* SPDX-License-Identifier: PostgreSQL */
/*
 * Many processes attached: what a lease costs one of them, how long attaching takes, what memory each takes, and the broker.
 *
 *	scale [--workers 1,10,100,1000] [--rounds 5]
 */
#include <signal.h>
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

#define PROCESSES 1000
#define PAIRS 200000
#define SLOTS 2

enum column { LEASE, BY_FIRST, ATTACH, ATTACH_P99, CLIENT, BROKER, BROKER_HEAP, BROKER_SHARED };

static const struct report_table_about about = {
    .id = "scale",
    .title = "A pool of 2 connections, by the number of processes attached",
    .note = "Lease: acquire + release of an idle connection in one process, the others idle. Attach: until the pool is open. "
	    "Client: private memory that attaching adds to a process, without PGconns. Broker: private memory (of it, heap and "
	    "stack), and its share of mapped segments.",
    .columns = {[LEASE] = {"lease", "ns", 1, true}, [BY_FIRST] = {"/fewest", "", 2, true}, [ATTACH] = {"attach p50", "us", 0, true},
        [ATTACH_P99] = {"p99", "us", 0, false}, [CLIENT] = {"client", "KiB", 1, false}, [BROKER] = {"broker", "MB", 2, false},
        [BROKER_HEAP] = {"heap, stack", "MB", 2, false}, [BROKER_SHARED] = {"segments", "MB", 2, false}},
    .plot = {LEASE, false},
};

/* Of the attached processes, each writing its own. */
struct attached {
	uint64_t attach_ns, memory;
};

static pglease_test_env *env;
static struct options options;
static struct attached *attached;
static pid_t pids[PROCESSES];

static uint64_t
private_memory(pid_t pid)
{
	return measure_memory(pid, "Private_Clean:") + measure_memory(pid, "Private_Dirty:");
}

/* In the child: attaches, says so by the end of `said`, and stays. */
static void __attribute__((noreturn))
be_attached(struct attached *me, int said)
{
	pglease *client;
	pglease_pool *pool;
	uint64_t memory, begin;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	private_memory(getpid()); /* which takes some itself, the first time */
	memory = private_memory(getpid());
	begin = clock_ns();
	stand_attach(env, "app", &client, &pool);
	me->attach_ns = clock_ns() - begin;
	me->memory = private_memory(getpid()) - memory;
	if (write(said, "", 1) != 1)
		_exit(1);
	close(said);
	for (;;)
		pause();
}

/* One after the other: the time of attaching is not that of waiting for others. */
static void
attach_another(unsigned i)
{
	int said[2];
	char byte;

	if (pipe(said) != 0)
		measure_die("pipe", "none left");
	fflush(NULL);
	pids[i] = fork();
	if (pids[i] == 0) {
		close(said[0]);
		be_attached(&attached[i], said[1]);
	}
	close(said[1]);
	if (pids[i] < 0 || read(said[0], &byte, 1) != 1)
		measure_die("attach", "a process failed");
	close(said[0]);
}

static double
lease_ns(pglease_pool *pool)
{
	unsigned pairs = options_count(&options, PAIRS);
	uint64_t begin = clock_ns();

	for (unsigned i = 0; i < pairs; i++) {
		pglease_lease lease;
		PGconn *conn;

		if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0 || pglease_release(&lease) != 0)
			measure_die("lease", pglease_error_message());
	}
	return (double)(clock_ns() - begin) / pairs;
}

/* `n` processes, this one among them, are attached; those from `since` on are new. */
static void
look(struct report_table *table, unsigned row, pglease_pool *pool, unsigned since, unsigned n)
{
	static uint64_t ns[PROCESSES], memory[PROCESSES];
	pid_t broker = pglease_test_broker_pid(env);

	report_sample(table, row, LEASE, lease_ns(pool));
	for (unsigned i = since; i < n; i++) {
		ns[i - since] = attached[i].attach_ns;
		memory[i - since] = attached[i].memory;
	}
	report_sample(table, row, ATTACH, (double)measure_quantile(ns, n - since, 0.5) / 1e3);
	report_sample(table, row, ATTACH_P99, (double)measure_quantile(ns, n - since, 0.99) / 1e3);
	report_sample(table, row, CLIENT, (double)measure_quantile(memory, n - since, 0.5) / 1024);
	report_sample(table, row, BROKER, (double)private_memory(broker) / 1e6);
	report_sample(table, row, BROKER_HEAP, (double)measure_memory(broker, "Anonymous:") / 1e6);
	report_sample(table, row, BROKER_SHARED, (double)measure_memory(broker, "Pss_Shmem:") / 1e6);
}

static void
measure_round(struct report_table *table, const unsigned row[])
{
	pglease *client;
	pglease_pool *pool;
	unsigned n = 1;

	/* This process is the first: it leases. Its attaching is measured in a child of its own, which goes again. */
	attach_another(0);
	kill(pids[0], SIGKILL);
	waitpid(pids[0], NULL, 0);
	stand_attach(env, "app", &client, &pool);
	lease_ns(pool);
	for (unsigned i = 0; options.workers[i] != 0; i++) {
		unsigned since = i == 0 ? 0 : n;

		for (; n < options.workers[i]; n++)
			attach_another(n);
		look(table, row[i], pool, since, n);
		report_ratio(table, row[i], BY_FIRST, LEASE, row[0]);
	}
	for (unsigned i = 1; i < n; i++)
		kill(pids[i], SIGKILL);
	for (unsigned i = 1; i < n; i++)
		waitpid(pids[i], NULL, 0);
	pglease_detach(client);
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {
	    .rounds = {7, 2, 1},
	    .workers = {{1, 10, 100, 1000}, {1, 10, 100, 1000}, {1, 10}},
	};
	static const pglease_test_pool pool = {.name = "app", .min = SLOTS, .max = SLOTS};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = &pool, .npools = 1, .extra = "max_clients = 2048");
	struct report_table *table;
	unsigned row[OPTIONS_WORKERS_MAX], last = 0;
	char text[32];

	options_parse(argc, argv, &sizes, &options);
	report_begin(&options);
	table = report_table(&about);
	attached = mmap(NULL, PROCESSES * sizeof(*attached), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (attached == MAP_FAILED)
		measure_die("memory", "none");
	for (unsigned i = 0; options.workers[i] != 0; i++) {
		if (options.workers[i] > PROCESSES || (i > 0 && options.workers[i] <= options.workers[i - 1]))
			measure_die("--workers", "ascending numbers up to 1000");
		snprintf(text, sizeof(text), "%u attached", options.workers[i]);
		row[last = i] = report_row(table, "", text);
	}
	/* A new broker for each round: one that has seen a thousand clients keeps what it allocated for them. */
	for (unsigned round = 0; round < options.rounds; round++) {
		env = stand_start(&env_options);
		measure_round(table, row);
		stand_stop(env);
	}
	if (options.workers[last] == PROCESSES) {
		report_brief(
		    table, row[last], BY_FIRST, "a lease with 1,000 processes attached, of that with one", REPORT_AT_MOST, 1.2);
		report_brief(table, row[last], CLIENT, "memory of a client besides its PGconns", REPORT_AT_MOST, 64);
		report_headline(table, row[last], BROKER, "broker's private memory with 1,000 clients", REPORT_AT_MOST, 10);
		report_headline(
		    table, row[last], ATTACH, "attaching with up to 1,000 others attached, median", REPORT_AT_MOST, 1000);
	}
	report_finish();
	return 0;
}
