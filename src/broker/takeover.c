/* SPDX-License-Identifier: PostgreSQL */
/*
 * The list of old sessions, and a short-lived thread for each pool that ends them, over a connection of its own: libpq's
 * connects block. A thread has copies of all that it uses; it shares `state` with the loop, and its result before that.
 */
#include "takeover.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "stats.h"

#define SECOND UINT64_C(1000000000)
#define TAKEOVER_STACK (256 * 1024)
#define TRIES 10
#define RETRY_NS (10 * SECOND)

enum job_state { JOB_WAITS, JOB_RUNS, JOB_IS_DONE };

/* Of one pool. */
struct job {
	struct pool *pool;
	_Atomic uint32_t state; /* RUNS: the rest is the thread's, but for `pool` and `due` */
	uint64_t due;
	unsigned tries;
	unsigned npids;
	uint32_t *pids; /* of the old sessions' backends */
	uint64_t began; /* CLOCK_MONOTONIC: before any session of our own */
	char *keywords[TARGET_KEYWORDS + 2], *values[TARGET_KEYWORDS + 2];
	int ended; /* negative: it did not come to that, and `why` says why */
	char why[256];
};

struct takeover {
	struct job job[LAYOUT_MAX_POOLS];
	unsigned njobs;
	uint32_t *clients; /* pids of the processes that were attached */
	unsigned nclients;
	uint64_t look_at;
	bool can_tell; /* whether they live: their pids are of our namespace */
	pid_t broker;  /* the old one */
};

/* A backend is the old session, and no other that has its pid, if it began before us: by the server's own clock. */
static const char query[] =
    "select count(*) from (select pg_catalog.pg_terminate_backend(pid) as done from pg_catalog.pg_stat_activity"
    " where pid = any ($1::int[]) and usename = current_user and datname = current_database()"
    " and backend_start < pg_catalog.clock_timestamp() - $2::float8 * interval '1 second' offset 0) as ended where done";

static void
ask(struct job *job)
{
	PGconn *conn = PQconnectdbParams((const char *const *)job->keywords, (const char *const *)job->values, 1);
	PGresult *result = NULL;
	char *pids = malloc((size_t)job->npids * 11 + 3), age[32];
	const char *params[] = {pids, age};
	size_t used = 0;

	job->ended = -1;
	if (PQstatus(conn) != CONNECTION_OK || pids == NULL) {
		snprintf(job->why, sizeof(job->why), "%s", pids == NULL ? "out of memory" : PQerrorMessage(conn));
		goto out;
	}
	for (unsigned i = 0; i < job->npids; i++)
		used += (size_t)sprintf(pids + used, "%c%" PRIu32, i == 0 ? '{' : ',', job->pids[i]);
	strcpy(pids + used, "}");
	snprintf(age, sizeof(age), "%.6f", (double)clock_since(clock_ns(), job->began) / 1e9);
	result = PQexecParams(conn, query, 2, NULL, params, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		job->ended = atoi(PQgetvalue(result, 0, 0));
	else
		snprintf(job->why, sizeof(job->why), "%s", PQerrorMessage(conn));
out:
	PQclear(result);
	PQfinish(conn);
	free(pids);
}

static void *
run(void *arg)
{
	struct job *job = arg;

	ask(job);
	/* The loop takes it back, and may free it. */
	atomic_store(&job->state, JOB_IS_DONE);
	return NULL;
}

static int
start(struct job *job)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int r = pthread_attr_init(&attr);

	if (r != 0)
		return -r;
	pthread_attr_setstacksize(&attr, TAKEOVER_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	atomic_store(&job->state, JOB_RUNS);
	r = pthread_create(&thread, &attr, run, job);
	if (r != 0)
		atomic_store(&job->state, JOB_WAITS);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

static bool
add(struct job *job, unsigned n, const char *keyword, const char *value)
{
	job->keywords[n] = strdup(keyword);
	job->values[n] = strdup(value);
	return job->keywords[n] != NULL && job->values[n] != NULL;
}

/* As the pool connects, but within connect_timeout as libpq understands it. */
static bool
take_target(struct job *job, const struct pool *pool)
{
	const struct target *t = &pool->target;
	char timeout[24];
	unsigned n;

	snprintf(timeout, sizeof(timeout), "%" PRIu64, pool->settings->connect_timeout / SECOND + 2);
	for (n = 0; n < t->count; n++)
		if (!add(job, n, t->keywords[n], t->values[n]))
			return false;
	return add(job, n, "connect_timeout", timeout);
}

static void
job_fini(struct job *job)
{
	for (unsigned n = 0; n < TARGET_KEYWORDS + 2; n++) {
		free(job->keywords[n]);
		free(job->values[n]);
	}
	free(job->pids);
	memset(job, 0, sizeof(*job));
}

/* The numbers of a column, of those rows that have this text in another; NULL: of all. False: out of memory. */
static bool
take_numbers(const struct stats_snapshot *old, const char *table, const char *column, const char *key, const char *text,
    uint32_t **ret, unsigned *ret_n)
{
	const struct stats_view *view = stats_view_find(old, table);
	const struct stats_column *numbers = view != NULL ? stats_column_find(view, column) : NULL;
	const struct stats_column *keys = view != NULL && key != NULL ? stats_column_find(view, key) : NULL;
	uint64_t n;

	*ret_n = 0;
	if (numbers == NULL || numbers->type == STATS_TEXT || (key != NULL && (keys == NULL || keys->type != STATS_TEXT)))
		return true;
	*ret = calloc((size_t)view->nrows + 1, sizeof(**ret));
	if (*ret == NULL)
		return false;
	for (uint32_t row = 0; row < view->nrows; row++)
		if ((key == NULL || strcmp(stats_value_text(view, row, keys), text) == 0) &&
		    stats_value_u64(view, row, numbers, &n) && n > 1 && n <= INT32_MAX)
			(*ret)[(*ret_n)++] = (uint32_t)n;
	return true;
}

static struct takeover *
take(const struct stats_snapshot *old, struct pool *const *pools, unsigned npools)
{
	struct takeover *t = calloc(1, sizeof(*t));
	uint64_t now = clock_ns();

	if (t == NULL)
		return NULL;
	t->broker = (pid_t)old->header.broker_pid;
	t->can_tell = old->header.pid_namespace != 0 && old->header.pid_namespace == stats_pid_namespace();
	if (!take_numbers(old, stats_table_name(STATS_CLIENTS), "pid", NULL, NULL, &t->clients, &t->nclients))
		goto fail;
	for (unsigned i = 0; i < npools; i++) {
		struct job *job = &t->job[t->njobs];

		if (pools[i]->settings->takeover_limit == 0)
			continue;
		t->njobs++;
		job->pool = pools[i];
		job->began = now;
		job->due = now + pools[i]->settings->takeover_limit;
		if (!take_numbers(old, stats_table_name(STATS_SLOTS), "server_pid", "pool", pools[i]->settings->name,
			&job->pids, &job->npids) ||
		    !take_target(job, pools[i]))
			goto fail;
		if (job->npids == 0) {
			job_fini(job);
			t->njobs--;
		}
	}
	if (t->njobs != 0)
		return t;
fail:
	takeover_free(t, 0);
	return NULL;
}

struct takeover *
takeover_new(const char *instance, struct pool *const *pools, unsigned npools)
{
	struct stats_reader *reader;
	struct stats_snapshot old;
	struct takeover *t = NULL;

	if (stats_reader_open(instance, &reader) != 0)
		return NULL;
	if (stats_reader_snapshot(reader, &old) == 0) {
		/* Of a living one the name cannot be had; of one that has stopped there is nothing. */
		if (old.gone && old.header.state != SEGMENT_CLOSED)
			t = take(&old, pools, npools);
		stats_snapshot_fini(&old);
	}
	stats_reader_close(reader);
	return t;
}

/* Whether a process that was attached to the old broker lives, as far as its pid tells. */
static bool
lives_any(const struct takeover *t)
{
	for (unsigned i = 0; i < t->nclients; i++)
		if (kill((pid_t)t->clients[i], 0) == 0 || errno == EPERM)
			return true;
	return false;
}

static void
finish(struct takeover *t, struct job *job, uint64_t now)
{
	const char *pool = job->pool->settings->name;

	if (job->ended < 0 && ++job->tries < TRIES) {
		log_warning("pool %s: the sessions of the broker before cannot be looked for yet: %s", pool, job->why);
		atomic_store(&job->state, JOB_WAITS);
		job->due = now + RETRY_NS;
		return;
	}
	if (job->ended < 0)
		log_warning("pool %s: sessions of the broker before (pid %ld) may be left: %s", pool, (long)t->broker, job->why);
	else if (job->ended > 0)
		log_info("pool %s: %d sessions of the broker before (pid %ld) were left, and have been ended", pool, job->ended,
		    (long)t->broker);
	for (int i = 0; i < job->ended; i++)
		pool_count(job->pool, COUNTER_TAKEOVER_ENDED);
	job_fini(job);
}

void
takeover_tick(struct takeover *t, uint64_t now)
{
	if (t == NULL)
		return;
	if (t->can_tell && now >= t->look_at) {
		t->look_at = now + SECOND;
		for (unsigned i = 0; i < t->njobs && !lives_any(t); i++)
			if (t->job[i].tries == 0 && t->job[i].due > now)
				t->job[i].due = now;
	}
	for (unsigned i = 0; i < t->njobs; i++) {
		struct job *job = &t->job[i];

		if (job->pool == NULL) /* done with */
			continue;
		if (atomic_load(&job->state) == JOB_IS_DONE)
			finish(t, job, now);
		else if (atomic_load(&job->state) == JOB_WAITS && now >= job->due && start(job) != 0)
			job->due = now + SECOND;
	}
}

void
takeover_free(struct takeover *t, unsigned wait_ms)
{
	uint64_t end = clock_ns() + (uint64_t)wait_ms * 1000000;
	const struct timespec pause = {.tv_nsec = 1000000};

	if (t == NULL)
		return;
	for (unsigned i = 0; i < t->njobs; i++) {
		while (atomic_load(&t->job[i].state) == JOB_RUNS) {
			if (clock_ns() >= end)
				return; /* it still uses it: the process ends with it */
			nanosleep(&pause, NULL);
		}
	}
	for (unsigned i = 0; i < t->njobs; i++)
		job_fini(&t->job[i]);
	free(t->clients);
	free(t);
}
