/* SPDX-License-Identifier: PostgreSQL */
/*
 * Threads that look up host names. A job is its thread's until it is in the list of finished ones, and the loop's from
 * then on, but for `done` and `context`, which are always the loop's. The list, under the mutex, and the eventfd are all
 * that both use; they live until the last thread and the resolver are gone.
 */
#include "resolver.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "layout.h"
#include "log.h"

#define RUNNING_MAX 16 /* of each pool */

/* What threads and loop share; counted by both. */
struct shared {
	pthread_mutex_t mutex;
	unsigned users; /* the resolver, and each thread */
	struct resolver_job *finished;
	int eventfd;
};

struct resolver_job {
	struct resolver_job *next;
	struct shared *shared;
	hosts_lookup lookup;
	uint32_t pool;
	resolver_done done; /* NULL: abandoned */
	void *context;
	struct hosts hosts, found;
	int result;
	char error[256];
};

struct resolver {
	struct shared *shared;
	struct event *readable;
	hosts_lookup lookup;
	unsigned running[LAYOUT_MAX_POOLS];
};

static void
job_free(struct resolver_job *job)
{
	hosts_fini(&job->hosts);
	hosts_fini(&job->found);
	free(job);
}

/* One user less; with the last one all goes. */
static void
shared_drop(struct shared *s)
{
	bool last;

	pthread_mutex_lock(&s->mutex);
	last = --s->users == 0;
	pthread_mutex_unlock(&s->mutex);
	if (!last)
		return;
	while (s->finished != NULL) {
		struct resolver_job *job = s->finished;

		s->finished = job->next;
		job_free(job);
	}
	pthread_mutex_destroy(&s->mutex);
	if (s->eventfd >= 0)
		close(s->eventfd);
	free(s);
}

static void *
run(void *arg)
{
	struct resolver_job *job = arg;
	struct shared *s = job->shared;
	uint64_t one = 1;

	job->result = hosts_resolve(&job->hosts, job->lookup, &job->found, job->error, sizeof(job->error));
	pthread_mutex_lock(&s->mutex);
	job->next = s->finished;
	s->finished = job;
	while (write(s->eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_mutex_unlock(&s->mutex);
	shared_drop(s);
	return NULL;
}

static void
on_finished(evutil_socket_t fd, short what, void *arg)
{
	struct resolver *r = arg;
	struct resolver_job *job;
	uint64_t n;

	if (read(r->shared->eventfd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_error("look-up threads: eventfd: %m");
	pthread_mutex_lock(&r->shared->mutex);
	job = r->shared->finished;
	r->shared->finished = NULL;
	pthread_mutex_unlock(&r->shared->mutex);
	while (job != NULL) {
		struct resolver_job *next = job->next;

		r->running[job->pool]--;
		if (job->done != NULL)
			job->done(job->context, job->result == 0 ? &job->found : NULL, job->error);
		job_free(job);
		job = next;
	}
}

int
resolver_new(struct event_base *base, hosts_lookup lookup, struct resolver **ret)
{
	struct resolver *r = calloc(1, sizeof(*r));
	int error = ENOMEM;

	if (r == NULL)
		return -ENOMEM;
	r->lookup = lookup;
	r->shared = calloc(1, sizeof(*r->shared));
	if (r->shared == NULL)
		goto fail;
	r->shared->users = 1;
	pthread_mutex_init(&r->shared->mutex, NULL);
	r->shared->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->shared->eventfd < 0) {
		error = errno;
		goto fail;
	}
	r->readable = event_new(base, r->shared->eventfd, EV_READ | EV_PERSIST, on_finished, r);
	if (r->readable == NULL || event_add(r->readable, NULL) != 0)
		goto fail;
	*ret = r;
	return 0;

fail:
	resolver_free(r);
	return -error;
}

void
resolver_free(struct resolver *r)
{
	if (r == NULL)
		return;
	if (r->readable != NULL)
		event_free(r->readable);
	if (r->shared != NULL)
		shared_drop(r->shared);
	free(r);
}

static int
start_thread(struct resolver_job *job)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int r = pthread_attr_init(&attr);

	if (r != 0)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, run, job);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

int
resolver_start(struct resolver *r, uint32_t pool, const struct hosts *hosts, resolver_done done,
    void *context, struct resolver_job **ret)
{
	struct resolver_job *job;
	int error;

	if (r->running[pool] >= RUNNING_MAX)
		return -EAGAIN;
	job = calloc(1, sizeof(*job));
	if (job == NULL)
		return -ENOMEM;
	job->shared = r->shared;
	job->lookup = r->lookup;
	job->pool = pool;
	job->done = done;
	job->context = context;
	error = hosts_init(&job->hosts, hosts->host, hosts->hostaddr, hosts->port);
	if (error != 0)
		goto fail;
	pthread_mutex_lock(&r->shared->mutex);
	r->shared->users++;
	pthread_mutex_unlock(&r->shared->mutex);
	error = start_thread(job);
	if (error != 0) {
		shared_drop(r->shared);
		goto fail;
	}
	r->running[pool]++;
	*ret = job;
	return 0;

fail:
	job_free(job);
	return error;
}

void
resolver_abandon(struct resolver_job *job)
{
	job->done = NULL;
}
