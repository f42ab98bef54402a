/* SPDX-License-Identifier: PostgreSQL */
/*
 * Many processes and threads over few connections, workers killed at random moments and replaced. Every query checks that
 * its row carries its own nonce, and that nothing of another process is in its session. At the end nothing is lost.
 */
#include "it.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 8
#define THREADS 3
#define LEASES 150 /* of each thread */
#define KILLS 40
#define SLOTS 3

static pglease_pool *pool;

/* One lease: its own nonce comes back, the session is the baseline or this process's own. False: something is wrong. */
static bool
one_lease(unsigned n)
{
	pglease_lease lease;
	PGconn *conn;
	char nonce[64], sql[256], who[32];
	PGresult *result;
	bool good;

	if (pglease_acquire(pool, 60000, &lease, &conn) != 0)
		return false;
	snprintf(who, sizeof(who), "p%d", getpid());
	snprintf(nonce, sizeof(nonce), "%d-%lx-%u", getpid(), (unsigned long)pthread_self(), n);
	snprintf(sql, sizeof(sql),
	    "select '%s', coalesce(current_setting('my.who', true), ''), (select count(*) from pg_prepared_statements)",
	    nonce);
	result = PQexec(conn, sql);
	good = PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), nonce) == 0 &&
	       (*PQgetvalue(result, 0, 1) == '\0' || strcmp(PQgetvalue(result, 0, 1), who) == 0);
	if (!good)
		fprintf(stderr, "%s: %s: %s %s\n", nonce, PQerrorMessage(conn),
		    PQntuples(result) == 1 ? PQgetvalue(result, 0, 0) : "no row",
		    PQntuples(result) == 1 ? PQgetvalue(result, 0, 1) : "");
	PQclear(result);
	/* Something to leave behind: a setting, sometimes an open transaction, an unread result, a changed encoding. */
	snprintf(sql, sizeof(sql), "set my.who = '%s'", who);
	PQclear(PQexec(conn, sql));
	if (n % 5 == 1)
		PQclear(PQexec(conn, "begin; set local work_mem = '2MB'"));
	if (n % 7 == 1)
		PQclear(PQexec(conn, "set timezone = 'Asia/Tokyo'"));
	if (n % 61 == 1)
		PQsendQuery(conn, "select 'not yours' from generate_series(1, 1000)");
	return pglease_release(&lease) == 0 && good;
}

static void *
leases(void *ret_bad)
{
	for (unsigned n = 0; n < LEASES; n++)
		if (!one_lease(n)) {
			fprintf(stderr, "%s\n", pglease_error_message());
			*(_Atomic unsigned *)ret_bad += 1;
		}
	return NULL;
}

static void
worker(int socket, const void *arg)
{
	pthread_t thread[THREADS];
	_Atomic unsigned bad = 0;

	pool = it_attach();
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, leases, &bad), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	_exit(bad == 0 ? 0 : 1);
}

static unsigned
random_below(unsigned n)
{
	unsigned r;

	ck_assert_int_eq(getrandom(&r, sizeof(r), 0), (int)sizeof(r));
	return r % n;
}

static bool
alone(const pglease_stats *stats, const void *arg)
{
	return stats->clients == 1;
}

START_TEST(nothing_is_lost_lent_twice_or_leaked)
{
	struct it_worker running[WORKERS];
	pglease_stats stats;
	char sessions[16], expect[16];

	it_start(1, SLOTS, NULL);
	for (unsigned i = 0; i < WORKERS; i++)
		running[i] = it_worker(worker, NULL);
	pool = it_attach();
	for (unsigned n = 0; n < KILLS; n++) {
		struct it_worker *victim = &running[random_below(WORKERS)];
		struct timespec pause = {.tv_nsec = (long)random_below(20000000)}; /* the randomness of the kill */
		int status;

		nanosleep(&pause, NULL);
		kill(victim->pid, SIGKILL);
		ck_assert_int_eq(waitpid(victim->pid, &status, 0), victim->pid);
		close(victim->socket);
		ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "a worker saw what was not its own");
		*victim = it_worker(worker, NULL);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		it_join(&running[i]);
	it_await(pool, alone, NULL, "the end of every worker");
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_le(stats.total, SLOTS);
	ck_assert_uint_ge(stats.acquired, WORKERS * THREADS * LEASES);
	/* All slots can be leased at once, and answer. */
	for (unsigned round = 0; round < 2; round++) {
		pglease_lease lease[SLOTS];

		for (unsigned i = 0; i < SLOTS; i++)
			ck_assert_str_eq(it_query(it_acquire(pool, &lease[i]), "select 'mine'"), "mine");
		for (unsigned i = 0; i < SLOTS; i++)
			it_release(&lease[i]);
	}
	snprintf(expect, sizeof(expect), "%u", SLOTS);
	for (unsigned i = 0;; i++) {
		ck_assert_int_eq(pglease_test_sql(it_env,
				     "select count(*) from pg_stat_activity where backend_type = 'client backend' and "
				     "pid <> pg_backend_pid() and (select true from pg_sleep(0.02))",
				     sessions, sizeof(sessions)),
		    0);
		if (strcmp(sessions, expect) == 0)
			break;
		ck_assert_msg(i < 200, "%s sessions on the server", sessions);
	}
}
END_TEST

IT_MAIN("stress", nothing_is_lost_lent_twice_or_leaked)
