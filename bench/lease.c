/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a lease costs, beside what it is made of: acquire + release of an idle slot whose shell is cached, against a
 * sem_wait + sem_post pair on shared memory; an adoption against a fresh connection. Each pair is measured in turn, in
 * one run, several rounds; what counts is the median of the rounds' ratios.
 *
 *	lease [INSTANCE POOL CONNINFO]
 *
 * CONNINFO reaches the pool's server directly. Without arguments, on a PostgreSQL and a broker of its own. Links the
 * library's insides, to time an adoption alone.
 */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adopt.h"
#include "bench.h"
#include "client_priv.h"
#include "fixture.h"
#include "slots.h"

#define ROUNDS 11
#define PAIRS 400000
#define CONNECTS 40

static double
sem_pair_ns(sem_t *sem)
{
	uint64_t start = clock_ns();

	for (int i = 0; i < PAIRS; i++) {
		sem_wait(sem);
		sem_post(sem);
	}
	return (double)(clock_ns() - start) / PAIRS;
}

static double
lease_pair_ns(pglease_pool *pool)
{
	uint64_t start = clock_ns();

	for (int i = 0; i < PAIRS; i++) {
		pglease_lease lease;
		PGconn *conn;

		if (pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn) != 0 || pglease_release(&lease) != 0)
			bench_die("lease", pglease_error_message());
	}
	return (double)(clock_ns() - start) / PAIRS;
}

static double
adoption_ns(struct pool_state *state, const pglease_lease *lease)
{
	struct shell shell = {.lost = false};
	uint64_t generation = atomic_load(&state->seg.slot[lease->slot].generation), start = clock_ns();

	for (int i = 0; i < CONNECTS; i++) {
		PGconn *conn;

		if (adopt(state, lease->slot, generation, slot_load(&state->seg, lease->slot),
			clock_ns() + UINT64_C(5000000000), &shell, &conn) != 0)
			bench_die("adoption", pglease_error_message());
		dup3(state->dead_fd, PQsocket(conn), O_CLOEXEC);
		PQfinish(conn);
	}
	return (double)(clock_ns() - start) / CONNECTS;
}

static double
fresh_ns(const char *conninfo)
{
	uint64_t start = clock_ns();

	for (int i = 0; i < CONNECTS; i++) {
		PGconn *conn = PQconnectdb(conninfo);

		if (PQstatus(conn) != CONNECTION_OK)
			bench_die("fresh connection", PQerrorMessage(conn));
		PQfinish(conn);
	}
	return (double)(clock_ns() - start) / CONNECTS;
}

static void
measure(const char *instance, const char *pool_name, const char *conninfo)
{
	double sem_ns[ROUNDS], pair_ns[ROUNDS], ratio[ROUNDS], adopt_ns[ROUNDS], connect_ns[ROUNDS], share[ROUNDS];
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	struct pool_state *state;
	sem_t *sem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (sem == MAP_FAILED || sem_init(sem, 1, 1) != 0)
		bench_die("semaphore", "cannot be made");
	if (pglease_attach(instance, NULL, &client) != 0 || pglease_pool_open(client, pool_name, &pool) != 0 ||
	    client_pool_state(pool, &state) != 0)
		bench_die("attach", pglease_error_message());

	lease_pair_ns(pool); /* warm: adopts, and brings the code into the caches */
	for (int i = 0; i < ROUNDS; i++) {
		sem_ns[i] = sem_pair_ns(sem);
		pair_ns[i] = lease_pair_ns(pool);
		ratio[i] = pair_ns[i] / sem_ns[i];
	}
	printf("acquire + release, idle slot, cached shell (%d rounds of %d)\n", ROUNDS, PAIRS);
	bench_spread("sem_wait + sem_post", sem_ns, ROUNDS, 1, "ns");
	bench_spread("acquire + release", pair_ns, ROUNDS, 1, "ns");
	bench_spread("ratio", ratio, ROUNDS, 1, "");

	if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0)
		bench_die("acquire", pglease_error_message());
	for (int i = 0; i < ROUNDS; i++) {
		adopt_ns[i] = adoption_ns(state, &lease);
		connect_ns[i] = fresh_ns(conninfo);
		share[i] = connect_ns[i] / adopt_ns[i];
	}
	if (pglease_release(&lease) != 0)
		bench_die("release", pglease_error_message());
	printf("adoption against a fresh connection (%d rounds of %d)\n", ROUNDS, CONNECTS);
	bench_spread("fresh connection", connect_ns, ROUNDS, 1e-3, "us");
	bench_spread("adoption", adopt_ns, ROUNDS, 1e-3, "us");
	bench_spread("fresh / adoption", share, ROUNDS, 1, "");
	pglease_detach(client);
}

int
main(int argc, char **argv)
{
	static const struct fixture_pool pool = {.name = "app", .max = 2};
	struct fixture_options options = {.pools = &pool, .npools = 1};
	struct fixture *fixture;

	if (argc != 1 && argc != 4) {
		fprintf(stderr, "usage: lease [INSTANCE POOL CONNINFO]\n");
		return 1;
	}
	if (argc == 4) {
		measure(argv[1], argv[2], argv[3]);
		return 0;
	}
	if (fixture_start(&options, &fixture) != 0)
		bench_die("fixture", fixture_error());
	measure(fixture_instance(fixture), pool.name, fixture_conninfo(fixture));
	if (fixture_stop(fixture) != 0)
		bench_die("fixture", fixture_error());
	return 0;
}
