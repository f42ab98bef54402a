/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a lease costs, beside what it is made of: acquire + release of an idle slot whose shell is cached, against a
 * sem_wait + sem_post pair on shared memory; an adoption against a fresh connection. Each pair is measured in turn, in
 * one run, several rounds; what counts is the median of the rounds' ratios. Links the library's insides, to time an adoption
 * alone.
 */
#include <fcntl.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adopt.h"
#include "client_priv.h"
#include "measure.h"
#include "options.h"
#include "report.h"
#include "slots.h"
#include "stand.h"

#define PAIRS 400000
#define CONNECTS 40

static const struct report_table_about lease_about = {
    .id = "lease",
    .title = "Acquire + release of an idle connection, statistics included, against sem_wait + sem_post",
    .columns = {{"time", "ns", 1, true}, {"/semaphore", "", 2, true}},
    .plot = {0, false},
}, adoption_about = {
    .id = "adoption",
    .title = "A PGconn for a connection that is there (adoption), against a fresh connection",
    .columns = {{"time", "us", 1, true}, {"fresh/adoption", "", 1, true}},
    .plot = {0, true},
};

static unsigned pairs, connects;

static double
sem_pair_ns(sem_t *sem)
{
	uint64_t start = clock_ns();

	for (unsigned i = 0; i < pairs; i++) {
		sem_wait(sem);
		sem_post(sem);
	}
	return (double)(clock_ns() - start) / pairs;
}

static double
lease_pair_ns(pglease_pool *pool)
{
	uint64_t start = clock_ns();

	for (unsigned i = 0; i < pairs; i++) {
		pglease_lease lease;
		PGconn *conn;

		if (pglease_acquire(pool, 60000, &lease, &conn) != 0 || pglease_release(&lease) != 0)
			measure_die("lease", pglease_error_message());
	}
	return (double)(clock_ns() - start) / pairs;
}

static double
adoption_ns(struct pool_state *state, const pglease_lease *lease)
{
	struct shell shell = {.lost = false};
	uint64_t generation = atomic_load(&state->seg.slot[lease->slot].generation), start = clock_ns();

	for (unsigned i = 0; i < connects; i++) {
		if (adopt(state, lease->slot, generation, slot_load(&state->seg, lease->slot),
			clock_ns() + UINT64_C(5000000000), &shell) != 0)
			measure_die("adoption", pglease_error_message());
		dup3(state->dead_fd, PQsocket(shell.conn), O_CLOEXEC);
		PQfinish(shell.conn);
	}
	return (double)(clock_ns() - start) / connects;
}

static double
fresh_ns(const char *conninfo)
{
	uint64_t start = clock_ns();

	for (unsigned i = 0; i < connects; i++)
		PQfinish(stand_connect(conninfo));
	return (double)(clock_ns() - start) / connects;
}

static void
measure_leases(pglease_pool *pool, unsigned rounds)
{
	sem_t *sem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct report_table *table = report_table(&lease_about);
	unsigned base = report_row(table, "", "sem_wait + sem_post, shared between processes"),
		 row = report_row(table, "", "acquire + release");

	if (sem == MAP_FAILED || sem_init(sem, 1, 1) != 0)
		measure_die("semaphore", "cannot be made");
	lease_pair_ns(pool); /* warm: adopts, and brings the code into the caches */
	for (unsigned i = 0; i < rounds; i++) {
		report_sample(table, base, 0, sem_pair_ns(sem));
		report_sample(table, row, 0, lease_pair_ns(pool));
		report_ratio(table, row, 1, 0, base);
	}
	report_brief(table, row, 1, "acquire + release of an idle connection, in semaphore pairs", REPORT_AT_MOST, 5);
	sem_destroy(sem);
	munmap(sem, 4096);
}

static void
measure_adoptions(pglease_pool *pool, const char *conninfo, unsigned rounds)
{
	struct report_table *table = report_table(&adoption_about);
	unsigned fresh = report_row(table, "", "fresh connection"), row = report_row(table, "", "adoption");
	struct pool_state *state;
	pglease_lease lease;
	PGconn *conn;

	if (client_pool_state(pool, &state) != 0 || pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn) != 0)
		measure_die("acquire", pglease_error_message());
	for (unsigned i = 0; i < rounds; i++) {
		double fresh_us = fresh_ns(conninfo) / 1e3, us = adoption_ns(state, &lease) / 1e3;

		report_sample(table, fresh, 0, fresh_us);
		report_sample(table, row, 0, us);
		report_sample(table, row, 1, fresh_us / us);
	}
	if (pglease_release(&lease) != 0)
		measure_die("release", pglease_error_message());
	report_brief(table, row, 1, "adoptions in the time of a fresh connection", REPORT_AT_LEAST, 20);
}

int
main(int argc, char **argv)
{
	static const struct options_sizes sizes = {.rounds = {21, 9, 1}};
	static const pglease_test_pool pool_options = {.name = "app", .max = 2};
	pglease_test_options env_options = PGLEASE_TEST_OPTIONS(.no_leak_check = 1, .pools = &pool_options, .npools = 1);
	pglease_test_env *env;
	struct options options;
	pglease *client;
	pglease_pool *pool;

	options_parse(argc, argv, &sizes, &options);
	pairs = options_count(&options, PAIRS);
	connects = options_count(&options, CONNECTS);
	report_begin(&options);
	env = stand_start(&env_options);
	stand_attach(env, pool_options.name, &client, &pool);
	measure_leases(pool, options.rounds);
	measure_adoptions(pool, pglease_test_conninfo(env), options.rounds);
	pglease_detach(client);
	stand_stop(env);
	report_finish();
	return 0;
}
