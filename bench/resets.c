/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a reset costs per lease, by who does it and when. Every figure is of acquire, `select 1`, release (or, direct, of the
 * queries alone), and stands beside the same without a reset, measured in turn in one run.
 *
 *	resets
 *
 * Alternating: one slot, two processes, strictly in turn; time per lease without the handing over of the turn.
 * Saturation: two slots, four processes, as fast as they can; time per lease of one slot.
 */
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "measure.h"
#include "pglease.h"
#include "segment.h"

#define ROUNDS 7
#define TURNS 2000          /* of each process, alternating */
#define PAUSED_TURNS 100    /* likewise, where the broker is given time between them */
#define SATURATED_NS UINT64_C(500000000)
#define PROCESSES 4

static struct fixture *fixture;

/* Shared by the processes of one measurement. */
static struct shared {
	sem_t turn[2];
	_Atomic uint64_t ns, leases;
	_Atomic uint32_t go;
} *shared;

struct kind {
	const char *what;
	const char *pool; /* NULL: a direct connection */
	enum pglease_session session;
	bool discards;    /* direct: sends DISCARD ALL after each query */
	unsigned pause_us; /* between turns */
};

static const struct kind kinds[] = {
    {"none (released as clean)", "handover", PGLEASE_SESSION_CLEAN, false, 0},
    {"by the next lessee, who waits", "handover", PGLEASE_SESSION_USED, false, 0},
    {"sent ahead (always)", "always", PGLEASE_SESSION_USED, false, 0},
    {"sent ahead, light", "light", PGLEASE_SESSION_USED, false, 0},
    {"none, with 3 ms between leases", "handover", PGLEASE_SESSION_CLEAN, false, 3000},
    {"by the next lessee, with 3 ms between leases", "handover", PGLEASE_SESSION_USED, false, 3000},
    {"by the broker, with 3 ms between leases", "broker", PGLEASE_SESSION_USED, false, 3000},
    {"sent ahead, with 3 ms between leases", "always", PGLEASE_SESSION_USED, false, 3000},
    {"direct", NULL, PGLEASE_SESSION_USED, false, 0},
    {"direct, with DISCARD ALL", NULL, PGLEASE_SESSION_USED, true, 0},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))
/* What each is compared with. */
static const unsigned base[KINDS] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8};

struct worker {
	const struct kind *kind;
	pglease_pool *pool;
	PGconn *direct;
};

static void
query(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		measure_die(sql, PQerrorMessage(conn));
	PQclear(result);
}

static struct worker
start(const struct kind *kind)
{
	struct worker w = {.kind = kind};
	pglease *client;

	if (kind->pool == NULL) {
		w.direct = PQconnectdb(fixture_conninfo(fixture));
		if (PQstatus(w.direct) != CONNECTION_OK)
			measure_die("connect", PQerrorMessage(w.direct));
	} else if (pglease_attach(fixture_instance(fixture),
		       &(pglease_options){.socket_dir = fixture_socket_dir(fixture)}, &client) != 0 ||
		   pglease_pool_open(client, kind->pool, &w.pool) != 0) {
		measure_die(kind->pool, pglease_error_message());
	}
	return w;
}

static void
lease_once(const struct worker *w)
{
	pglease_lease lease;
	PGconn *conn;

	if (w->direct != NULL) {
		query(w->direct, "select 1");
		if (w->kind->discards)
			query(w->direct, "discard all");
		return;
	}
	if (pglease_acquire(w->pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0)
		measure_die("acquire", pglease_error_message());
	query(conn, "select 1");
	if (pglease_release_as(&lease, w->kind->session) != 0)
		measure_die("release", pglease_error_message());
}

static void
take_turns(const struct worker *w, unsigned me, unsigned turns)
{
	uint64_t ns = 0;

	for (unsigned i = 0; i < turns + 2; i++) {
		uint64_t begin;

		while (sem_wait(&shared->turn[me]) != 0)
			;
		if (w->kind->pause_us != 0)
			usleep(w->kind->pause_us);
		begin = clock_ns();
		lease_once(w);
		if (i >= 2) /* the first two make the shell */
			ns += clock_ns() - begin;
		sem_post(&shared->turn[!me]);
	}
	atomic_fetch_add(&shared->ns, ns);
	atomic_fetch_add(&shared->leases, turns);
}

static void
be_busy(const struct worker *w)
{
	uint64_t leases = 0, begin, end;

	for (unsigned i = 0; i < 50; i++)
		lease_once(w);
	atomic_fetch_add(&shared->go, 1);
	while (atomic_load(&shared->go) < (w->direct != NULL ? PROCESSES / 2 : PROCESSES))
		lease_once(w);
	begin = end = clock_ns();
	for (; end - begin < SATURATED_NS; leases++) {
		lease_once(w);
		end = clock_ns();
	}
	atomic_fetch_add(&shared->ns, end - begin);
	atomic_fetch_add(&shared->leases, leases);
}

/* Nanoseconds per lease. */
static double
run(const struct kind *kind, bool saturated)
{
	/* A direct connection is one process's: as many of them as there are slots otherwise. */
	unsigned processes = !saturated ? 2 : kind->pool == NULL ? PROCESSES / 2 : PROCESSES;
	pid_t pid[PROCESSES];

	sem_init(&shared->turn[0], 1, 1);
	sem_init(&shared->turn[1], 1, 0);
	atomic_store(&shared->ns, 0);
	atomic_store(&shared->leases, 0);
	atomic_store(&shared->go, 0);
	for (unsigned i = 0; i < processes; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			struct worker w = start(kind);

			if (saturated)
				be_busy(&w);
			else
				take_turns(&w, i, kind->pause_us != 0 ? PAUSED_TURNS : TURNS);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < processes; i++) {
		int status;

		if (waitpid(pid[i], &status, 0) != pid[i] || status != 0)
			measure_die(kind->what, "a process failed");
	}
	/* Two slots or connections work side by side: processes' time per slot. */
	return (double)atomic_load(&shared->ns) / (double)atomic_load(&shared->leases) / (saturated ? processes / 2.0 : 1);
}

static void
compare(const char *title, bool saturated)
{
	static double ns[KINDS][ROUNDS], ratio[KINDS][ROUNDS];
	char what[80];

	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned k = 0; k < KINDS; k++)
			if (!saturated || kinds[k].pause_us == 0)
				ns[k][i] = run(&kinds[k], saturated);
		for (unsigned k = 0; k < KINDS; k++)
			ratio[k][i] = ns[k][i] / ns[base[k]][i];
	}
	printf("%s (%d rounds)\n", title, ROUNDS);
	for (unsigned k = 0; k < KINDS; k++) {
		if (saturated && kinds[k].pause_us != 0)
			continue;
		measure_print(kinds[k].what, ns[k], ROUNDS, 1e-3, "us");
		snprintf(what, sizeof(what), "  times \"%.36s\"", kinds[base[k]].what);
		if (k != base[k])
			measure_print(what, ratio[k], ROUNDS, 1, "");
	}
}

int
main(void)
{
	static const struct fixture_pool alternating[] = {
	    {.name = "handover", .max = 1, .extra = "reset_after = 0\n"},
	    {.name = "always", .max = 1, .extra = "reset = always\nreset_after = 0\n"},
	    {.name = "light", .max = 1, .extra = "reset = always\nreset_kind = light\nreset_after = 0\n"},
	    {.name = "broker", .max = 1},
	};
	struct fixture_pool pools[4];
	struct fixture_options options = {.pools = alternating, .npools = 4};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		measure_die("memory", "none");
	if (fixture_start(&options, &fixture) != 0)
		measure_die("fixture", fixture_error());
	compare("one slot, two processes in turn: time per lease", false);
	if (fixture_stop(fixture) != 0)
		measure_die("fixture", fixture_error());

	for (unsigned i = 0; i < 4; i++) {
		pools[i] = alternating[i];
		pools[i].min = pools[i].max = PROCESSES / 2;
	}
	options.pools = pools;
	if (fixture_start(&options, &fixture) != 0)
		measure_die("fixture", fixture_error());
	compare("two slots, four processes, saturated: time per lease of a slot", true);
	if (fixture_stop(fixture) != 0)
		measure_die("fixture", fixture_error());
	return 0;
}
