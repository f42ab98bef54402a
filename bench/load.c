/* SPDX-License-Identifier: PostgreSQL */
/* A load of worker processes. Owns them, from load_run's start to its end, and the memory that they count in. */
#include "load.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pglease.h>

#include "measure.h"
#include "segment.h"

/* Before the time measured: a part of it, and at least this. */
#define WARM_PART 0.15
#define WARM_NS UINT64_C(100000000)
#define MAX_SLOTS 64
#define LONG_MS 60000

/* Written by one worker, read by the parent after its end. */
struct worker {
	struct histogram latency;
	uint64_t transactions, switches, cpu_ns;
};

struct shared {
	sem_t turn; /* to lease all connections at once */
	/* Written by the parent before it lets the workers go. */
	uint64_t from_ns, until_ns;
	struct worker worker[];
};

/* How one worker reaches the server. */
struct reach {
	pglease *client;
	pglease_pool *pool;
	PGconn *conn; /* kept */
};

static void __attribute__((noreturn))
fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
	_exit(1);
}

/* A worker that has run for long has a PGconn for each connection: so it is to begin with. */
static void
lease_all(pglease_pool *pool, unsigned slots, sem_t *turn)
{
	pglease_lease lease[MAX_SLOTS];
	PGconn *conn;

	while (sem_wait(turn) != 0)
		;
	for (unsigned i = 0; i < slots; i++)
		if (pglease_acquire(pool, LONG_MS, &lease[i], &conn))
			fail("acquire", pglease_error_message());
	for (unsigned i = 0; i < slots; i++)
		pglease_release(&lease[i]);
	sem_post(turn);
}

static void
reach_init(struct reach *reach, const struct load *load, sem_t *turn)
{
	memset(reach, 0, sizeof(*reach));
	if (load->pool != NULL) {
		if (pglease_attach(NULL, NULL, &reach->client) || pglease_pool_open(reach->client, load->pool, &reach->pool))
			fail("attach", pglease_error_message());
		lease_all(reach->pool, load->slots, turn);
		return;
	}
	reach->conn = PQconnectdb(load->conninfo);
	if (PQstatus(reach->conn) != CONNECTION_OK)
		fail("connect", PQerrorMessage(reach->conn));
	if (load->work.protocol == WORK_PREPARED && work_prepare(reach->conn, &load->work) != 0)
		_exit(1);
}

static void
reach_fini(struct reach *reach)
{
	PQfinish(reach->conn);
	pglease_detach(reach->client);
}

static void
transaction(const struct reach *reach, const struct load *load, uint64_t *seed)
{
	pglease_lease lease;
	PGconn *conn;

	if (reach->pool == NULL) {
		if (work_run(reach->conn, &load->work, seed) != 0)
			_exit(1);
		return;
	}
	if (pglease_acquire(reach->pool, LONG_MS, &lease, &conn))
		fail("acquire", pglease_error_message());
	if (work_run(conn, &load->work, seed) != 0)
		_exit(1);
	if (pglease_release_as(&lease, load->clean ? PGLEASE_SESSION_CLEAN : PGLEASE_SESSION_USED))
		fail("release", pglease_error_message());
}

/* Context switches and CPU time of this process so far, with this sign, into *worker. */
static void
add_usage(struct worker *worker, int sign)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	worker->switches += (uint64_t)(sign * (usage.ru_nvcsw + usage.ru_nivcsw));
	worker->cpu_ns += (uint64_t)sign * measure_cpu_ns(getpid());
}

/* In the child. Says on `ready` that it is connected and waits for the end of `go`. */
static void __attribute__((noreturn))
work(const struct load *load, struct shared *shared, struct worker *me, int ready, int go)
{
	uint64_t seed = work_seed(), begin, end;
	struct reach reach;
	char byte = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	reach_init(&reach, load, &shared->turn);
	if (write(ready, &byte, 1) != 1)
		_exit(1);
	close(ready); /* the parent reads until every worker has written or died */
	if (read(go, &byte, 1) != 0)
		_exit(1);
	while ((begin = clock_ns()) < shared->from_ns)
		transaction(&reach, load, &seed);
	add_usage(me, -1);
	do {
		transaction(&reach, load, &seed);
		end = clock_ns();
		/* Who waits at the end has waited for as long as that, but has done nothing in time. */
		histogram_record(&me->latency, end - begin);
		me->transactions += end < shared->until_ns;
		begin = end;
	} while (begin < shared->until_ns);
	add_usage(me, 1);
	reach_fini(&reach);
	_exit(0);
}

static void
sum_up(const struct load *load, const struct shared *shared, struct load_result *ret)
{
	static struct histogram_sum latency;
	uint64_t all = 0, least = UINT64_MAX, switches = 0, cpu_ns = 0;

	memset(&latency, 0, sizeof(latency));
	for (unsigned i = 0; i < load->workers; i++) {
		const struct worker *w = &shared->worker[i];

		histogram_add(&latency, &w->latency);
		all += w->transactions;
		least = w->transactions < least ? w->transactions : least;
		switches += w->switches;
		cpu_ns += w->cpu_ns;
	}
	/* Too short a time for one: what was begun in it. */
	if (all == 0) {
		all = latency.count;
		least = all / load->workers;
	}
	ret->per_second = (double)all * 1e9 / (double)(shared->until_ns - shared->from_ns);
	ret->p50_us = (double)histogram_quantile(&latency, 0.5) / 1e3;
	ret->p99_us = (double)histogram_quantile(&latency, 0.99) / 1e3;
	ret->max_us = (double)histogram_max(&latency) / 1e3;
	ret->slowest = (double)least * load->workers / (double)all;
	ret->switches = (double)switches / (double)all;
	ret->worker_us = (double)cpu_ns / 1e3 / (double)all;
	for (unsigned i = 0; i < LOAD_WATCHED; i++)
		ret->watched_us[i] /= 1e3 * (double)all;
}

/* Ends the workers that live: the others have failed. */
static void __attribute__((noreturn))
give_up(const pid_t *pids, unsigned n, const char *why)
{
	for (unsigned i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	measure_die("load", why);
}

void
load_run(const struct load *load, struct load_result *ret_result)
{
	size_t size = sizeof(struct shared) + load->workers * sizeof(struct worker);
	struct shared *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct load_result result = {0};
	pid_t *pids = calloc(load->workers, sizeof(*pids));
	uint64_t length = (uint64_t)(load->seconds * 1e9), warm = (uint64_t)(load->seconds * 1e9 * WARM_PART);
	int ready[2], go[2], status;
	unsigned connected = 0;
	char byte;

	if (shared == MAP_FAILED || pids == NULL || load->slots > MAX_SLOTS || sem_init(&shared->turn, 1, 1) || pipe(ready) ||
	    pipe(go))
		measure_die("load", strerror(errno));
	fflush(NULL);
	for (unsigned i = 0; i < load->workers; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			give_up(pids, i, "fork failed");
		if (pids[i] == 0) {
			close(ready[0]);
			close(go[1]);
			work(load, shared, &shared->worker[i], ready[1], go[0]);
		}
	}
	close(ready[1]);
	close(go[0]);
	while (read(ready[0], &byte, 1) == 1)
		connected++;
	if (connected < load->workers)
		give_up(pids, load->workers, "a worker could not connect");
	shared->from_ns = clock_ns() + (warm > WARM_NS ? warm : WARM_NS);
	shared->until_ns = shared->from_ns + length;
	close(go[1]);
	measure_sleep_until(shared->from_ns);
	for (unsigned i = 0; i < LOAD_WATCHED; i++)
		result.watched_us[i] = -(double)measure_cpu_ns(load->watched[i]);
	measure_sleep_until(shared->until_ns);
	for (unsigned i = 0; i < LOAD_WATCHED; i++)
		result.watched_us[i] += (double)measure_cpu_ns(load->watched[i]);
	for (unsigned i = 0; i < load->workers; i++)
		if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
			give_up(pids + i + 1, load->workers - i - 1, "a worker failed");
	sum_up(load, shared, &result);
	close(ready[0]);
	free(pids);
	munmap(shared, size);
	*ret_result = result;
}
