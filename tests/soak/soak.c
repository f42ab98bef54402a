/* SPDX-License-Identifier: PostgreSQL */
/*
 * soak-workers [SECONDS [SEED]]: workers work, and everything around them dies, in a random order. At the end everything is there,
 * and nothing is left over; what happened is printed.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pglease.h"
#include "soak.h"

#define CONNECTIONS 4 /* of each pool */
#define PATIENCE_MS 60000
#define POOL "lease_limit = 3s\nretry_min = 20ms\nretry_max = 200ms\nleak_detection = no\n"

struct soak *soak;

static pglease_test_env *env;
static pglease_pool *pool[2];
static pid_t workers[SOAK_WORKERS];
static uint64_t random_state;

uint64_t
soak_random(uint64_t *state, uint64_t n)
{
	/* SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % n;
}

void
soak_fail(const char *format, ...)
{
	va_list args;

	if (!atomic_exchange(&soak->failed, true)) {
		va_start(args, format);
		vsnprintf(soak->message, sizeof(soak->message), format, args);
		va_end(args);
		fprintf(stderr, "soak: %s\n", soak->message);
	}
	_exit(1);
}

#define kit(call) \
	do { \
		if ((call) != 0) \
			soak_fail("%s: %s", #call, pglease_test_error_message()); \
	} while (0)
#define lib(call) \
	do { \
		if ((call) != 0) \
			soak_fail("%s: %s", #call, pglease_error_message()); \
	} while (0)

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void
start_worker(unsigned i)
{
	uint64_t seed = soak_random(&random_state, UINT64_MAX);
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		soak_fail("fork: %m");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		worker_run(seed);
	}
	workers[i] = pid;
}

/* Those that have ended are replaced. */
static void
look_after_workers(void)
{
	for (unsigned i = 0; i < SOAK_WORKERS; i++) {
		int status;

		if (waitpid(workers[i], &status, WNOHANG) == 0)
			continue;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			soak_fail("a worker ended with wait status %d", status);
		start_worker(i);
	}
}

static void
kill_worker(void)
{
	unsigned i = (unsigned)soak_random(&random_state, SOAK_WORKERS);

	kill(workers[i], SIGKILL);
	if (waitpid(workers[i], NULL, 0) != workers[i])
		soak_fail("waitpid: %m");
	soak_count(SOAK_KILLS);
	start_worker(i);
}

/* One at a time; the next such trouble lets it go on. For longer than its lease may last, sometimes. */
static void
stop_worker(void)
{
	static unsigned stopped = SOAK_WORKERS;
	static pid_t pid;

	if (stopped < SOAK_WORKERS) {
		if (workers[stopped] == pid)
			kill(pid, SIGCONT);
		stopped = SOAK_WORKERS;
		return;
	}
	stopped = (unsigned)soak_random(&random_state, SOAK_WORKERS);
	pid = workers[stopped];
	kill(pid, SIGSTOP);
	soak_count(SOAK_STOPS);
}

static void
terminate_backend(void)
{
	/* It may be restarting: then nothing is done. */
	if (pglease_test_sql(env,
		"select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> "
		"pg_backend_pid() order by random() limit 1",
		NULL, 0) == 0)
		soak_count(SOAK_TERMINATIONS);
}

static void
drain(void)
{
	/* The broker answers: nobody else kills it. One that waits for a stopped worker's lease gives up in time. */
	pglease *client;
	int r = pglease_attach(NULL, NULL, &client);

	if (r != 0)
		soak_fail("attach for a drain: %s", pglease_error_message());
	r = pglease_drain(client, "handover", 100);
	if (r != 0 && r != PGLEASE_ETIMEOUT)
		soak_fail("drain: %s", pglease_error_message());
	lib(pglease_resume(client, "handover"));
	pglease_detach(client);
	soak_count(SOAK_DRAINS);
}

static void
restart_server(void)
{
	kit(pglease_test_server_stop(env));
	kit(pglease_test_server_start(env));
	soak_count(SOAK_SERVER_RESTARTS);
}

static void
crash_server(void)
{
	kit(pglease_test_kill(env, PGLEASE_TEST_SERVER, 0));
	kit(pglease_test_server_start(env));
	soak_count(SOAK_SERVER_CRASHES);
}

static void
kill_broker(void)
{
	kit(pglease_test_kill(env, PGLEASE_TEST_BROKER, 0));
	usleep((useconds_t)soak_random(&random_state, 300000));
	kit(pglease_test_broker_start(env));
	soak_count(SOAK_BROKER_KILLS);
}

/* Of a hundred. */
static const struct {
	unsigned share;
	void (*make)(void);
} troubles[] = {{45, kill_worker}, {20, stop_worker}, {15, terminate_backend}, {8, drain}, {4, restart_server}, {2, crash_server},
    {6, kill_broker}};

static void
make_trouble(void)
{
	uint64_t n = soak_random(&random_state, 100);

	for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++) {
		if (n < troubles[i].share) {
			troubles[i].make();
			return;
		}
		n -= troubles[i].share;
	}
}

/* The workers end by themselves: each comes to its end within its time-outs, whatever has happened to it. */
static void
end_workers(void)
{
	atomic_store(&soak->end, true);
	for (unsigned i = 0; i < SOAK_WORKERS; i++) {
		int status;

		kill(workers[i], SIGCONT);
		if (waitpid(workers[i], &status, 0) != workers[i] || status != 0)
			soak_fail("a worker ended with wait status %d", status);
	}
}

static int
is_at_rest(void *context)
{
	pglease_stats stats;
	unsigned *which = context;

	if (pglease_stats_get(pool[*which], &stats) != 0)
		return 0;
	return stats.leased == 0 && stats.granted == 0 && stats.busy == 0 && stats.pending == 0;
}

/* Every slot can be leased, all at a time. */
static void
lease_all(unsigned which)
{
	pglease_lease lease[CONNECTIONS];
	PGconn *conn;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		PGresult *result;

		lib(pglease_acquire(pool[which], PATIENCE_MS, &lease[i], &conn));
		result = PQexec(conn, "select 1");
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			soak_fail("at the end: %s", PQresultErrorMessage(result));
		PQclear(result);
	}
	for (unsigned i = 0; i < CONNECTIONS; i++)
		lib(pglease_release(&lease[i]));
}

static void
judge(void)
{
	char value[32];
	const pglease_test_leak *leaks;
	unsigned n;

	for (unsigned i = 0; i < 2; i++) {
		kit(pglease_test_pool_open(env, i == 0 ? "handover" : "always", &pool[i]));
		lease_all(i);
		kit(pglease_test_await(is_at_rest, &i, PATIENCE_MS));
	}
	kit(pglease_test_sql(env, "select count(*) from ledger where not done", value, sizeof(value)));
	if (strcmp(value, "0") != 0)
		soak_fail("%s transactions that were left open have been committed", value);
	kit(pglease_test_report(env, &leaks, &n));
	if (n != 0) {
		pglease_test_report_write(env, stderr, 0);
		soak_fail("%u leaks", n);
	}
}

static void
print_counts(unsigned seconds, uint64_t seed)
{
	static const char *const texts[] = {
#define TEXT(id, text) text,
	    SOAK_COUNTS(TEXT)
#undef TEXT
	};

	printf("# %u s, seed %" PRIu64 "\n", seconds, seed);
	for (unsigned i = 0; i < SOAK_NCOUNTS; i++)
		printf("# %10" PRIu64 " %s\n", atomic_load(&soak->count[i]), texts[i]);
}

/* An empty argument is none. */
static uint64_t
number(const char *argument, const char *name, uint64_t otherwise)
{
	char *end;
	uint64_t value;

	if (argument == NULL || *argument == '\0')
		return otherwise;
	value = strtoull(argument, &end, 10);
	if (*end != '\0' || value == 0) {
		fprintf(stderr, "soak: %s is \"%s\": a whole number above 0 is allowed\n", name, argument);
		exit(2);
	}
	return value;
}

int
main(int argc, char **argv)
{
	static const pglease_test_pool pools[] = {
	    {.name = "handover", .min = 1, .max = CONNECTIONS, .extra = POOL},
	    {.name = "always", .min = 1, .max = CONNECTIONS, .extra = POOL "reset = always"},
	};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(
	    .pools = pools, .npools = 2, .setup = "create table ledger (worker bigint, nonce bigint, done bool)");
	uint64_t seconds = number(argc > 1 ? argv[1] : NULL, "seconds", 30);
	uint64_t seed = number(argc > 2 ? argv[2] : NULL, "seed", (uint64_t)time(NULL)), until;

	random_state = seed;
	soak = mmap(NULL, sizeof(*soak), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (soak == MAP_FAILED) {
		perror("soak");
		return 1;
	}
	kit(pglease_test_env_new(&options, &env));
	for (unsigned i = 0; i < SOAK_WORKERS; i++)
		start_worker(i);
	until = now_ms() + seconds * 1000;
	while (now_ms() < until && !atomic_load(&soak->failed)) {
		look_after_workers();
		make_trouble();
		usleep((useconds_t)soak_random(&random_state, 200000));
	}
	end_workers();
	judge();
	print_counts((unsigned)seconds, seed);
	if (atomic_load(&soak->count[SOAK_QUERIES]) == 0)
		soak_fail("no worker got anything done");
	kit(pglease_test_env_free(env));
	return atomic_load(&soak->failed) ? 1 : 0;
}
