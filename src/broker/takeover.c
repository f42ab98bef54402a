/* SPDX-License-Identifier: PostgreSQL */
/*
 * Its course: a short-lived thread for each pool ends the sessions that are in the list, over a connection of its own: libpq's connects
 * block. A thread has copies of all that it uses; it shares `state` with the loop, and its result before that.
 */
#include "takeover_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "handover.h"
#include "log.h"
#include "service.h"
#include "stats.h"
#include "text_stream.h"

#define SECOND UINT64_C(1000000000)
#define TAKEOVER_STACK (256 * 1024)
/*
 * When none of the processes lives that were attached to the old broker, as far as it has said: one that attached in its last tenth of a
 * second it has not named, and so long is time for what that does.
 */
#define ORPHANS_NS (5 * SECOND)
#define TRIES_PER_WARNING 30
#define RETRY_NS (10 * SECOND)
/* More of a pool's are not handed over to another program: the restart is refused. */
#define OLDS_MAX (1u << 24)

/* A backend is the old session, and no other that has its pid, if it began before that broker's successor: by the server's own clock. */
static const char query[] =
    "select count(*) from (select pg_catalog.pg_terminate_backend(a.pid) as done from pg_catalog.pg_stat_activity as a,"
    " (select u.pid, pg_catalog.min(u.age) as age from unnest($1::int[], $2::float8[]) as u (pid, age) group by u.pid) as old"
    " where a.pid = old.pid and a.usename = session_user and a.datname = current_database()"
    " and a.backend_start < pg_catalog.clock_timestamp() - old.age * interval '1 second' offset 0) as ended where done";

/* The two arrays, as text. NULL: out of memory. */
static char *
array_of(const struct job *job, bool ages)
{
	uint64_t now = clock_ns();
	struct text_stream to;
	FILE *f = text_stream_open(&to);

	if (f == NULL)
		return NULL;
	for (unsigned i = 0; i < (job->nfree != 0 ? job->nfree : job->nolds); i++) {
		fputc(i == 0 ? '{' : ',', f);
		if (ages)
			fprintf(f, "%.6f", (double)clock_since(now, job->olds[i].until) / 1e9);
		else
			fprintf(f, "%" PRIu32, job->olds[i].pid);
	}
	fputc('}', f);
	return text_stream_close(&to, f);
}

static void
ask(struct job *job)
{
	PGconn *conn = PQconnectdbParams((const char *const *)job->keywords, (const char *const *)job->values, 1);
	PGresult *result = NULL;
	char *pids = array_of(job, false), *ages = array_of(job, true);
	const char *params[] = {pids, ages};

	job->ended = -1;
	if (PQstatus(conn) != CONNECTION_OK || pids == NULL || ages == NULL) {
		snprintf(job->why, sizeof(job->why), "%s", PQstatus(conn) == CONNECTION_OK ? "out of memory" : PQerrorMessage(conn));
		goto out;
	}
	result = PQexecParams(conn, query, 2, NULL, params, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		job->ended = atoi(PQgetvalue(result, 0, 0));
	else
		snprintf(job->why, sizeof(job->why), "%s", PQerrorMessage(conn));
out:
	PQclear(result);
	PQfinish(conn);
	free(pids);
	free(ages);
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
	free(job->olds);
	memset(job, 0, sizeof(*job));
}

static bool
take_clients(struct takeover *t, const struct stats_snapshot *old)
{
	const struct stats_view *view = stats_view_find(old, stats_table_name(STATS_CLIENTS));
	const struct stats_column *pid = view != NULL ? stats_column_find(view, "pid") : NULL;
	uint64_t n;

	if (pid == NULL || pid->type == STATS_TEXT)
		return true;
	t->clients = calloc((size_t)view->nrows + 1, sizeof(*t->clients));
	if (t->clients == NULL)
		return false;
	for (uint32_t row = 0; row < view->nrows; row++)
		if (!stats_value_u64(view, row, pid, &n))
			t->can_tell = false; /* it has no number here */
		else if (n > 1 && n <= INT32_MAX)
			t->clients[t->nclients++] = (uint32_t)n;
	return true;
}

/* Those of a broker that has been killed, as it published them. False: out of memory. */
static bool
take_picture(struct takeover *t, const char *instance)
{
	struct stats_reader *reader;
	struct stats_snapshot old;
	bool ok = true, has_old;

	if (stats_reader_open(instance, &reader) != 0)
		return true;
	has_old = stats_reader_snapshot(reader, &old) == 0;
	stats_reader_close(reader);
	if (!has_old)
		return true;
	/* Of a living one the name cannot be had; one that has stopped has left nothing. */
	if (old.gone && old.header.state != SEGMENT_CLOSED) {
		t->broker = (pid_t)old.header.broker_pid;
		/* Whether those of brokers before it live is not known. */
		t->can_tell = old.header.pid_namespace != 0 && old.header.pid_namespace == stats_pid_namespace() &&
		              !takeover_list_is_older(t);
		ok = take_clients(t, &old);
	}
	stats_snapshot_fini(&old);
	return ok;
}

static struct takeover *
new_takeover(struct sockdir *sockdir, struct pool *const *pools, unsigned npools)
{
	struct takeover *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->sockdir = sockdir;
	t->pools = pools;
	t->npools = npools;
	t->began = clock_ns();
	return t;
}

struct takeover *
takeover_new(const char *instance, struct sockdir *sockdir, struct pool *const *pools, unsigned npools)
{
	struct takeover *t = new_takeover(sockdir, pools, npools);

	if (t == NULL)
		return NULL;
	for (unsigned i = 0; i < npools; i++) {
		struct job *job = &t->job[t->njobs];

		if (pools[i]->settings->takeover_limit == 0)
			continue;
		t->njobs++;
		job->pool = pools[i];
		job->due = t->began + pools[i]->settings->takeover_limit;
		if (!takeover_list_take(t, job) || !take_target(job, pools[i]))
			goto fail;
		if (job->nolds == 0) {
			job_fini(job);
			t->njobs--;
			continue;
		}
		takeover_stored_take(job);
		if (job->nfree != 0)
			job->due = t->began;
	}
	service_drop_stored();
	if (!take_picture(t, instance))
		goto fail;
	takeover_list_write(t);
	return t;
fail:
	takeover_free(t, 0);
	return NULL;
}

/* What both programs of a restart know of it; of a job its pool has been noted before. */
static void
fields(struct handover *h, struct takeover *t)
{
	HANDOVER(h, t->began);
	HANDOVER(h, t->look_at);
	HANDOVER(h, t->can_tell);
	HANDOVER(h, t->broker);
	handover_count(h, &t->nclients, LAYOUT_MAX_CLIENTS);
	if (handover_reads(h) && (t->clients = calloc((size_t)t->nclients + 1, sizeof(*t->clients))) == NULL)
		t->nclients = 0; /* the stream is out of step: handover_check() */
	handover_bytes(h, t->clients, t->nclients * sizeof(*t->clients));
}

static void
job_fields(struct handover *h, struct job *job)
{
	HANDOVER(h, job->due);
	HANDOVER(h, job->tries);
	handover_count(h, &job->nolds, OLDS_MAX);
	handover_count(h, &job->nfree, job->nolds);
	if (handover_reads(h) && (job->olds = calloc((size_t)job->nolds + 1, sizeof(*job->olds))) == NULL)
		job->nolds = 0;
	handover_bytes(h, job->olds, job->nolds * sizeof(*job->olds));
}

/* By name: the pool may have been made anew. */
static void
name_field(struct handover *h, char name[static LAYOUT_NAME], const char *is)
{
	memset(name, 0, LAYOUT_NAME);
	snprintf(name, LAYOUT_NAME, "%s", is);
	handover_bytes(h, name, LAYOUT_NAME);
	name[LAYOUT_NAME - 1] = '\0';
}

/* A thread that still runs is done with by the exec, and what it was to do is done again. */
void
takeover_hand_over(struct takeover *t, struct handover *to)
{
	char name[LAYOUT_NAME];
	uint32_t n = 0;

	handover_section(to, "takeover");
	for (unsigned i = 0; i < t->njobs; i++)
		n += t->job[i].pool != NULL;
	handover_count(to, &n, LAYOUT_MAX_POOLS);
	fields(to, t);
	for (unsigned i = 0; i < t->njobs; i++) {
		if (t->job[i].pool == NULL)
			continue;
		name_field(to, name, t->job[i].pool->settings->name);
		job_fields(to, &t->job[i]);
	}
}

/* One pool's; a limit that has become shorter counts, and one that has become longer does not. */
static int
take_job(struct takeover *t, struct pool *const *pools, unsigned npools, struct handover *from)
{
	struct job *job = &t->job[t->njobs];
	char name[LAYOUT_NAME];
	uint64_t due;

	name_field(from, name, "");
	job_fields(from, job);
	if (handover_check(from, false) != 0)
		return -1;
	for (unsigned i = 0; i < npools; i++)
		if (strcmp(pools[i]->settings->name, name) == 0)
			job->pool = pools[i];
	if (job->pool == NULL)
		log_info("pool %s has gone: the sessions of a broker before that are left are not looked for", name);
	if (job->pool == NULL || job->pool->settings->takeover_limit == 0) {
		job_fini(job);
		return 0;
	}
	t->njobs++;
	due = t->began + job->pool->settings->takeover_limit;
	if (job->tries == 0 && job->due > due)
		job->due = due;
	return take_target(job, job->pool) ? 0 : log_refuse("out of memory");
}

int
takeover_take_over(
    struct handover *from, struct sockdir *sockdir, struct pool *const *pools, unsigned npools, unsigned nall, struct takeover **ret)
{
	struct takeover *t = new_takeover(sockdir, pools, nall);
	uint32_t n = 0;

	if (t == NULL)
		return log_refuse("out of memory");
	*ret = t;
	handover_section(from, "takeover");
	handover_count(from, &n, LAYOUT_MAX_POOLS);
	fields(from, t);
	for (uint32_t i = 0; i < n; i++)
		if (take_job(t, pools, npools, from) != 0)
			return -1;
	takeover_list_write(t);
	return handover_check(from, false);
}

void
takeover_forget_pool(struct takeover *t, unsigned nall)
{
	t->npools = nall;
}

bool
takeover_is_quiet(const struct takeover *t)
{
	for (unsigned i = 0; i < t->njobs; i++)
		if (t->job[i].pool != NULL && atomic_load(&t->job[i].state) != JOB_WAITS)
			return false;
	return true;
}

static void
begin(const struct takeover *t, struct job *job, uint64_t now)
{
	bool in_time = now - t->began >= job->pool->settings->takeover_limit;

	if (in_time)
		job->nfree = 0; /* all of them */
	if (job->tries == 0)
		log_event(LOG_LEVEL_INFO, LOG_ABOUT(ABOUT_POOL(job->pool)),
		    "the sessions of the broker before (pid %ld) are looked for after %.3f s: %s", (long)t->broker,
		    (double)(now - t->began) / 1e9,
		    in_time          ? "takeover_limit is over"
		    : job->nfree > 0 ? "nobody can lease them any more"
		                     : "no process that was attached to it lives");
	if (start(job) != 0)
		job->due = now + SECOND;
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

	/* It may be they that fill the server: nobody else would end them. */
	if (job->ended < 0) {
		if (job->tries++ % TRIES_PER_WARNING == 0)
			log_event(LOG_LEVEL_WARNING, LOG_ABOUT(.pool = pool),
			    "the sessions of the broker before (pid %ld) cannot be looked for yet: %s", (long)t->broker,
			    job->why);
		atomic_store(&job->state, JOB_WAITS);
		job->due = now + RETRY_NS;
		return;
	}
	if (job->ended > 0)
		log_event(LOG_LEVEL_INFO, LOG_ABOUT(.pool = pool),
		    "%d sessions of the broker before (pid %ld) were left, and have been ended", job->ended,
		    (long)t->broker);
	for (int i = 0; i < job->ended; i++)
		pool_count(job->pool, COUNTER_TAKEOVER_ENDED);
	if (job->nfree != 0 && job->nfree < job->nolds) {
		job->nolds -= job->nfree;
		memmove(job->olds, job->olds + job->nfree, job->nolds * sizeof(*job->olds));
		job->nfree = job->tries = 0;
		job->due = t->began + job->pool->settings->takeover_limit;
		atomic_store(&job->state, JOB_WAITS);
	} else {
		job_fini(job);
	}
	takeover_list_write(t);
}

void
takeover_tick(struct takeover *t, uint64_t now, bool begins)
{
	if (t->can_tell && t->nclients != 0 && now >= t->look_at && now > t->began + ORPHANS_NS) {
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
		else if (atomic_load(&job->state) == JOB_WAITS && begins && now >= job->due)
			begin(t, job, now);
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
