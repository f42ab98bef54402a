/* SPDX-License-Identifier: PostgreSQL */
/*
 * How long it takes from a release until the worker that sleeps in acquire has the connection, against how long it takes from
 * sem_post until the process that sleeps in sem_wait runs; with both processes on the same core, and on two. The sleeper has
 * slept for a moment (it is woken, and takes the connection) or for longer than grant_after (it is granted it). Released as
 * clean, nothing is sent to the server between the two leases: that is the waking alone. The policies show what they add.
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

#define WAKES 1000
#define LONG_WAKES 200
#define LONG_NS UINT64_C(2000000) /* twice grant_after */

enum column { P50, P99, P50_RATIO, P99_RATIO };

static const struct report_table_about about = {
    .id = "handover",
    .title = "From a release to the sleeping waiter's return from acquire, against sem_post to the return from sem_wait",
    .columns = {[P50] = {"p50", "us", 1, true}, [P99] = {"p99", "us", 1, true}, [P50_RATIO] = {"p50/semaphore", "", 2, true},
        [P99_RATIO] = {"p99/semaphore", "", 2, true}},
    .plot = {P50, false},
};

/* What is handed over, by a process that has it to one that sleeps for it. */
enum thing { SEMAPHORE, LEASE };

static const struct kind {
	const char *what;
	enum thing thing;
	const char *pool;
	enum pglease_session session;
	uint64_t asleep_ns;
	unsigned wakes, base;
	const char *headline;
} kinds[] = {
    {"semaphore", SEMAPHORE, NULL, 0, 0, WAKES, 0, NULL},
    {"lease, released as clean", LEASE, "never", PGLEASE_SESSION_CLEAN, 0, WAKES, 0, "just asleep"},
    {"lease, reset = never", LEASE, "never", PGLEASE_SESSION_USED, 0, WAKES, 0, NULL},
    {"lease, reset = handover", LEASE, "handover", PGLEASE_SESSION_USED, 0, WAKES, 0, NULL},
    {"semaphore, after 2 ms", SEMAPHORE, NULL, 0, LONG_NS, LONG_WAKES, 4, NULL},
    {"lease, released as clean, after 2 ms", LEASE, "never", PGLEASE_SESSION_CLEAN, LONG_NS, LONG_WAKES, 4, "after 2 ms"},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* Between the two processes. Each step is a number that grows: both look and yield, which is the same for either thing. */
static struct shared {
	sem_t sem;
	_Atomic uint64_t asked;  /* by the giver: go to sleep for the n-th time */
	_Atomic uint64_t asleep; /* the sleeper is about to */
	_Atomic uint64_t got;    /* the sleeper has it, at: */
	_Atomic uint64_t at_ns;
	_Atomic uint64_t over; /* the sleeper has given it back */
	_Atomic bool end;
} *shared;

static pglease_test_env *env;
static struct options options;

static void
await(const _Atomic uint64_t *number, uint64_t value)
{
	while (atomic_load(number) < value)
		sched_yield();
}

static void
pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		measure_die("sched_setaffinity", "failed");
}

static void __attribute__((noreturn))
sleeper(const struct kind *kind, int cpu)
{
	pglease *client = NULL;
	pglease_pool *pool = NULL;
	pglease_lease lease;
	PGconn *conn;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(cpu);
	if (kind->thing == LEASE) {
		stand_attach(env, kind->pool, &client, &pool);
		/* Makes its PGconn. */
		if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0 || pglease_release(&lease) != 0)
			measure_die("acquire", pglease_error_message());
	}
	atomic_store(&shared->over, 1);
	for (uint64_t i = 1;; i++) {
		while (atomic_load(&shared->asked) < i && !atomic_load(&shared->end))
			sched_yield();
		if (atomic_load(&shared->end))
			break;
		atomic_store(&shared->asleep, i);
		if (kind->thing == LEASE) {
			if (pglease_acquire(pool, 20000, &lease, &conn) != 0)
				measure_die("acquire", pglease_error_message());
		} else {
			while (sem_wait(&shared->sem) != 0)
				;
		}
		atomic_store(&shared->at_ns, clock_ns());
		atomic_store(&shared->got, i);
		if (kind->thing == LEASE)
			pglease_release_as(&lease, kind->session);
		atomic_store(&shared->over, i + 1);
	}
	pglease_detach(client);
	_exit(0);
}

/* Whether the kernel has it asleep. */
static bool
sleeps(pid_t pid)
{
	char path[64], line[256] = "";
	const char *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		measure_die(path, "the other process is gone");
	if (fgets(line, sizeof(line), f) == NULL)
		line[0] = '\0';
	fclose(f);
	end = strrchr(line, ')');
	return end != NULL && end[1] == ' ' && end[2] == 'S';
}

/* One measurement; the giver is this process. */
static uint64_t
hand_over(const struct kind *kind, pglease_pool *pool, pid_t pid, uint64_t i)
{
	pglease_lease lease;
	PGconn *conn;
	uint64_t begin;

	await(&shared->over, i);
	if (kind->thing == LEASE && pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0)
		measure_die("acquire", pglease_error_message());
	atomic_store(&shared->asked, i);
	await(&shared->asleep, i);
	while (!sleeps(pid))
		sched_yield();
	if (kind->asleep_ns != 0)
		measure_sleep_until(clock_ns() + kind->asleep_ns);
	begin = clock_ns();
	if (kind->thing == LEASE)
		pglease_release_as(&lease, kind->session);
	else
		sem_post(&shared->sem);
	await(&shared->got, i);
	return atomic_load(&shared->at_ns) - begin;
}

static void
measure(struct report_table *table, unsigned row, const struct kind *kind, const int cpu[2])
{
	static uint64_t ns[WAKES];
	unsigned n = options_count(&options, kind->wakes);
	pglease *client = NULL;
	pglease_pool *pool = NULL;
	int status;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	sem_init(&shared->sem, 1, 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		sleeper(kind, cpu[1]);
	pin(cpu[0]);
	if (kind->thing == LEASE)
		stand_attach(env, kind->pool, &client, &pool);
	for (unsigned i = 0; i < n; i++)
		ns[i] = hand_over(kind, pool, pid, i + 1);
	atomic_store(&shared->end, true);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		measure_die(kind->what, "the other process failed");
	pglease_detach(client);
	report_sample(table, row, P50, (double)measure_quantile(ns, n, 0.5) / 1e3);
	report_sample(table, row, P99, (double)measure_quantile(ns, n, 0.99) / 1e3);
}

static void
compare(struct report_table *table, const char *where, const int cpu[2])
{
	unsigned row[KINDS];
	char what[96];

	for (unsigned k = 0; k < KINDS; k++)
		row[k] = report_row(table, where, kinds[k].what);
	for (unsigned round = 0; round < options.rounds; round++) {
		for (unsigned i = 0; i < KINDS; i++) {
			unsigned k = measure_turn(round, i, KINDS);

			measure(table, row[k], &kinds[k], cpu);
		}
		for (unsigned k = 0; k < KINDS; k++) {
			if (k == kinds[k].base)
				continue;
			report_ratio(table, row[k], P50_RATIO, P50, row[kinds[k].base]);
			report_ratio(table, row[k], P99_RATIO, P99, row[kinds[k].base]);
		}
	}
	for (unsigned k = 0; k < KINDS; k++) {
		if (kinds[k].headline == NULL)
			continue;
		snprintf(what, sizeof(what), "hand-over, median, of a semaphore's: %s, %s", where, kinds[k].headline);
		(kinds[k].asleep_ns == 0 ? report_brief : report_headline)(table, row[k], P50_RATIO, what, REPORT_AT_MOST, 1.3);
		snprintf(what, sizeof(what), "hand-over, 99th percentile, of a semaphore's: %s, %s", where,
		    kinds[k].headline);
		report_headline(table, row[k], P99_RATIO, what, REPORT_AT_MOST, 2);
	}
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {.rounds = {15, 7, 1}};
	static const pglease_test_pool pools[] = {{.name = "never", .min = 1, .max = 1, .extra = "reset = never\n"},
	    {.name = "handover", .min = 1, .max = 1, .extra = "reset_after = 0\n"}};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = pools, .npools = 2);
	struct report_table *table;
	cpu_set_t set;
	int cpu[2] = {-1, -1};

	options_parse(argc, argv, &sizes, &options);
	report_begin(&options);
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		measure_die("sched_getaffinity", "failed");
	for (int i = 0, n = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &set))
			cpu[n++] = i;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		measure_die("memory", "none");
	table = report_table(&about);
	env = stand_start(&env_options);
	compare(table, "same core", (int[]){cpu[0], cpu[0]});
	if (cpu[1] >= 0)
		compare(table, "two cores", cpu);
	else
		report_row_note(table, report_row(table, "two cores", "lease"), "this machine has one core");
	stand_stop(env);
	report_finish();
	return 0;
}
