/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a reset costs per lease, by who does it and when. Every figure is of acquire, `select 1`, release (or, direct, of the
 * queries alone), and stands beside the same without a reset, measured in turn in one run.
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

#include "measure.h"
#include "options.h"
#include "report.h"
#include "segment.h"
#include "stand.h"

#define TURNS 2000          /* of each process, alternating */
#define PAUSED_TURNS 100    /* likewise, where the broker is given time between them */
#define SATURATED_NS 500000000
#define PROCESSES 4

static const struct report_table_about alternating_about = {
    .id = "resets-alternating",
    .title = "Acquire, SELECT 1, release: one connection, two processes strictly in turn, by how the session is reset",
    .columns = {{"time", "us", 1, true}, {"/no reset", "", 2, true}},
    .plot = {1, false},
}, saturated_about = {
    .id = "resets-saturated",
    .title = "Acquire, SELECT 1, release: two connections, four processes, time of a connection per lease",
    .columns = {{"time", "us", 1, true}, {"/no reset", "", 2, true}},
    .plot = {1, false},
};

static pglease_test_env *env;
static struct options options;

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
query(PGconn *conn, const char *sql, ExecStatusType expected)
{
	stand_check(PQexec(conn, sql), expected);
}

static struct worker
start(const struct kind *kind)
{
	struct worker w = {.kind = kind};
	pglease *client;

	if (kind->pool == NULL)
		w.direct = stand_connect(pglease_test_conninfo(env));
	else
		stand_attach(env, kind->pool, &client, &w.pool);
	return w;
}

static void
lease_once(const struct worker *w)
{
	pglease_lease lease;
	PGconn *conn;

	if (w->direct != NULL) {
		query(w->direct, "select 1", PGRES_TUPLES_OK);
		if (w->kind->discards)
			query(w->direct, "discard all", PGRES_COMMAND_OK);
		return;
	}
	if (pglease_acquire(w->pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0)
		measure_die("acquire", pglease_error_message());
	query(conn, "select 1", PGRES_TUPLES_OK);
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
	for (; end - begin < options_count(&options, SATURATED_NS); leases++) {
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
				take_turns(&w, i, options_count(&options, kind->pause_us != 0 ? PAUSED_TURNS : TURNS));
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
compare(const struct report_table_about *about, bool saturated)
{
	struct report_table *table = report_table(about);
	unsigned row[KINDS];

	for (unsigned k = 0; k < KINDS; k++)
		if (!saturated || kinds[k].pause_us == 0)
			row[k] = report_row(table, "", kinds[k].what);
	for (unsigned round = 0; round < options.rounds; round++) {
		for (unsigned i = 0; i < KINDS; i++) {
			unsigned k = measure_turn(round, i, KINDS);

			if (!saturated || kinds[k].pause_us == 0)
				report_sample(table, row[k], 0, run(&kinds[k], saturated) / 1e3);
		}
		for (unsigned k = 0; k < KINDS; k++)
			if (k != base[k] && (!saturated || kinds[k].pause_us == 0))
				report_ratio(table, row[k], 1, 0, row[base[k]]);
	}
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {.rounds = {7, 3, 1}};
	static const pglease_test_pool alternating[] = {
	    {.name = "handover", .max = 1, .extra = "reset_after = 0\n"},
	    {.name = "always", .max = 1, .extra = "reset = always\nreset_after = 0\n"},
	    {.name = "light", .max = 1, .extra = "reset = always\nreset_kind = light\nreset_after = 0\n"},
	    {.name = "broker", .max = 1},
	};
	pglease_test_pool pools[4];
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = alternating, .npools = 4);

	options_parse(argc, argv, &sizes, &options);
	report_begin(&options);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		measure_die("memory", "none");
	env = stand_start(&env_options);
	compare(&alternating_about, false);
	stand_stop(env);

	for (unsigned i = 0; i < 4; i++) {
		pools[i] = alternating[i];
		pools[i].min = pools[i].max = PROCESSES / 2;
	}
	env_options.pools = pools;
	env = stand_start(&env_options);
	compare(&saturated_about, true);
	stand_stop(env);
	report_finish();
	return 0;
}
