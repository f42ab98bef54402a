/* SPDX-License-Identifier: PostgreSQL */
/*
 * A worker program: processes that lease connections and run pgbench's TPC-B-like transaction on pgbench's
 * tables, then a check in SQL that the balances agree and that every committed transaction is there once.
 * What an application would do, and what quickstart and benchmarks run.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pglease.h>

#include "histogram.h"
#include "work.h"

#define MAX_WORKERS 1024

struct options {
	const char *instance, *pool;
	unsigned workers;
	unsigned seconds; /* 0: by number */
	uint64_t transactions; /* per worker; 0: by time */
};

/* Written by one worker, read by the parent after its end. */
struct result {
	struct histogram wait, transaction;
	uint64_t leases, committed;
};

/* What is in the tables. */
struct sums {
	int64_t accounts, tellers, branches, delta;
	uint64_t rows;
	unsigned scale;
};

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static int
lease_failed(const char *what)
{
	fprintf(stderr, "tpcb: %s: %s\n", what, pglease_error_message());
	return -1;
}

/* The worker's life after its attachment. 0 when every transaction was committed. */
static int
work(pglease_pool *pool, const struct options *options, unsigned scale, struct result *result)
{
	const struct work transaction = {.query = WORK_TPCB, .protocol = WORK_EXTENDED, .scale = scale};
	uint64_t end = now_ns() + options->seconds * UINT64_C(1000000000), seed = work_seed();

	while (options->seconds != 0 ? now_ns() < end : result->committed < options->transactions) {
		uint64_t start = now_ns(), leased;
		pglease_lease lease;
		PGconn *conn;
		int r;

		if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn))
			return lease_failed("acquire");
		leased = now_ns();
		histogram_record(&result->wait, leased - start);
		result->leases++;
		r = work_run(conn, &transaction, &seed);
		if (r == 0) {
			histogram_record(&result->transaction, now_ns() - leased);
			result->committed++;
		}
		if (pglease_release(&lease))
			return lease_failed("release");
		if (r)
			return r;
	}
	return 0;
}

/* In the child. Says on `ready` that it is attached and waits for the end of `go`, so that all start
 * together. */
static void __attribute__((noreturn))
worker(const struct options *options, unsigned scale, int ready, int go, struct result *result)
{
	pglease *client;
	pglease_pool *pool;
	char byte = 0;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (pglease_attach(options->instance, NULL, &client)) {
		lease_failed("attach");
		_exit(1);
	}
	r = pglease_pool_open(client, options->pool, &pool);
	if (r) {
		lease_failed("open pool");
		_exit(1);
	}
	if (write(ready, &byte, 1) != 1)
		_exit(1);
	close(ready); /* the parent reads until every worker has written or died */
	if (read(go, &byte, 1) != 0)
		_exit(1);
	r = work(pool, options, scale, result);
	pglease_detach(client);
	_exit(r != 0);
}

/* Numbers and sums, leased like any worker's connection. */
static int
look(const struct options *options, struct sums *ret_sums, pglease_stats *ret_stats)
{
	static const char sql[] =
	    "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM "
	    "pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), (SELECT "
	    "coalesce(sum(delta), 0) FROM pgbench_history), (SELECT count(*) FROM "
	    "pgbench_history), (SELECT count(*) FROM pgbench_branches)";
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGresult *result;
	PGconn *conn;
	int r = -1;

	if (pglease_attach(options->instance, NULL, &client))
		return lease_failed("attach");
	if (pglease_pool_open(client, options->pool, &pool) ||
	    pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn)) {
		lease_failed("acquire");
		goto out;
	}
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_TUPLES_OK) {
		fprintf(stderr, "tpcb: %s(make the tables with pgbench -i)\n", PQerrorMessage(conn));
	} else {
		ret_sums->accounts = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
		ret_sums->tellers = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
		ret_sums->branches = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
		ret_sums->delta = strtoll(PQgetvalue(result, 0, 3), NULL, 10);
		ret_sums->rows = strtoull(PQgetvalue(result, 0, 4), NULL, 10);
		ret_sums->scale = (unsigned)strtoul(PQgetvalue(result, 0, 5), NULL, 10);
		r = 0;
	}
	PQclear(result);
	if (pglease_release(&lease) || pglease_stats_get(pool, ret_stats))
		r = lease_failed("release");
out:
	pglease_detach(client);
	return r;
}

static const char *
duration(uint64_t ns, char buf[static 32])
{
	if (ns < 1000)
		snprintf(buf, 32, "%" PRIu64 " ns", ns);
	else if (ns < 1000000)
		snprintf(buf, 32, "%.1f us", (double)ns / 1e3);
	else
		snprintf(buf, 32, "%.2f ms", (double)ns / 1e6);
	return buf;
}

static void
print_times(const char *what, const struct histogram_sum *sum)
{
	char p50[32], p95[32], p99[32], max[32];

	printf("%-18s p50 %s, p95 %s, p99 %s, max %s\n", what, duration(histogram_quantile(sum, 0.50), p50),
	    duration(histogram_quantile(sum, 0.95), p95), duration(histogram_quantile(sum, 0.99), p99),
	    duration(histogram_max(sum), max));
}

/* Starts all workers at once and waits for them. The number that failed; *ret_ns is the time they took. */
static unsigned
run_workers(const struct options *options, unsigned scale, struct result *results, uint64_t *ret_ns)
{
	int ready[2], go[2], status;
	unsigned failed = 0, started = 0;
	pid_t pids[MAX_WORKERS];
	uint64_t start;
	char byte;

	if (pipe(ready) || pipe(go)) {
		perror("tpcb: pipe");
		return options->workers;
	}
	for (; started < options->workers; started++) {
		pids[started] = fork();
		if (pids[started] < 0) {
			perror("tpcb: fork");
			break;
		}
		if (pids[started] == 0) {
			close(ready[0]);
			close(go[1]);
			worker(options, scale, ready[1], go[0], &results[started]);
		}
	}
	failed = options->workers - started;
	close(ready[1]);
	close(go[0]);
	while (read(ready[0], &byte, 1) == 1)
		;
	start = now_ns();
	close(go[1]);
	for (unsigned i = 0; i < started; i++)
		if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
			failed++;
	*ret_ns = now_ns() - start;
	close(ready[0]);
	return failed;
}

/* The proof: nothing lost, nothing twice. */
static int
check_sums(const struct sums *before, const struct sums *after, uint64_t committed)
{
	printf("sums               accounts %" PRId64 ", tellers %" PRId64 ", branches %" PRId64
	       ", history %" PRId64 "; history rows %" PRIu64 ", transactions %" PRIu64 "\n",
	    after->accounts, after->tellers, after->branches, after->delta, after->rows - before->rows,
	    committed);
	if (after->accounts != after->tellers || after->accounts != after->branches ||
	    after->accounts != after->delta) {
		printf("WRONG: the balances do not agree\n");
		return -1;
	}
	if (after->rows - before->rows != committed) {
		printf("WRONG: the history does not hold each committed transaction once\n");
		return -1;
	}
	printf("right: the balances agree, and each committed transaction is in the history once\n");
	return 0;
}

static int
run(const struct options *options)
{
	static struct histogram_sum wait, transaction;
	struct sums before, after;
	pglease_stats stats_before, stats_after;
	struct result *results;
	uint64_t leases = 0, committed = 0, ns = 0;
	unsigned failed;

	results = mmap(NULL, options->workers * sizeof(*results), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (results == MAP_FAILED) {
		perror("tpcb: mmap");
		return 1;
	}
	if (look(options, &before, &stats_before))
		return 1;
	failed = run_workers(options, before.scale, results, &ns);
	for (unsigned i = 0; i < options->workers; i++) {
		leases += results[i].leases;
		committed += results[i].committed;
		histogram_add(&wait, &results[i].wait);
		histogram_add(&transaction, &results[i].transaction);
	}
	if (look(options, &after, &stats_after))
		return 1;
	printf("workers            %u processes on %u connections at most (scale %u)\n", options->workers,
	    stats_after.max_connections, before.scale);
	printf("leases             %" PRIu64 ", of which %" PRIu64 " waited\n", leases,
	    stats_after.acquired_waited - stats_before.acquired_waited);
	printf("transactions       %" PRIu64 " in %.2f s: %.0f per second\n", committed, (double)ns / 1e9,
	    ns != 0 ? (double)committed * 1e9 / (double)ns : 0.0);
	print_times("acquire", &wait);
	print_times("transaction", &transaction);
	munmap(results, options->workers * sizeof(*results));
	if (check_sums(&before, &after, committed))
		return 1;
	if (failed > 0) {
		fprintf(stderr, "tpcb: %u of %u workers failed\n", failed, options->workers);
		return 1;
	}
	return 0;
}

static int
parse_number(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno || end == text || *end != '\0' || *text == '-' || *ret == 0 || *ret > max ? -1 : 0;
}

int
main(int argc, char **argv)
{
	struct options options = {.pool = "main", .workers = 8};
	uint64_t number = 0;
	int c, bad = 0;

	while (!bad && (c = getopt(argc, argv, "n:p:w:d:t:h")) != -1) {
		switch (c) {
		case 'n':
			options.instance = optarg;
			break;
		case 'p':
			options.pool = optarg;
			break;
		case 'w':
			bad = parse_number(optarg, MAX_WORKERS, &number);
			options.workers = (unsigned)number;
			break;
		case 'd':
			bad = parse_number(optarg, 86400, &number);
			options.seconds = (unsigned)number;
			break;
		case 't':
			bad = parse_number(optarg, UINT32_MAX, &number);
			options.transactions = number;
			break;
		default:
			bad = 1;
		}
	}
	if (bad || optind < argc) {
		fprintf(stderr,
		    "Usage: tpcb [-n INSTANCE] [-p POOL] [-w WORKERS] [-d SECONDS | -t TRANSACTIONS]\n"
		    "Runs WORKERS (1 to 1024; 8) processes for SECONDS (5), or TRANSACTIONS each.\n");
		return 1;
	}
	if (options.transactions == 0 && options.seconds == 0)
		options.seconds = 5;
	else if (options.transactions != 0)
		options.seconds = 0;
	return run(&options);
}
