/* SPDX-License-Identifier: PostgreSQL */
/*
 * Threads that send cancel requests. The loop's thread owns `waiting` and `running`; the threads share only `done`
 * with it, under the mutex, and write the eventfd.
 */
#include "cancels.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cancel_send.h"
#include "handover.h"
#include "log.h"
#include "segment.h"

/* Of each pool: one whose server does not answer must not keep another's cancels waiting. */
#define CANCELS_RUNNING 16
#define CANCELS_QUEUED 1024
#define CANCELS_STACK (256 * 1024)
/* The rests between the rounds of a cancel that insists, ms: together longer than a busy server is late. */
static const unsigned rests[] = {20, 100, 500, 2500, 10000};

struct job {
	struct job *next;
	struct cancels *cancels;
	struct cancel_target target;
	PGcancel *cancel; /* in its place, when libpq has to do it */
	struct cancels_ticket ticket;
	int sent;
	unsigned round;      /* of those who insist: times sent */
	struct event again;  /* resting until the next round */
	char error[256];
};

struct cancels {
	struct event_base *base;
	struct event *readable;
	int eventfd;
	cancels_done report;
	void *context;
	pthread_attr_t attr;
	bool has_attr, stopping;
	unsigned running, running_of[LAYOUT_MAX_POOLS], queued_of[LAYOUT_MAX_POOLS];
	struct job *waiting, **waiting_end; /* not started */
	struct job *resting;                /* between two rounds */
	pthread_mutex_t mutex;
	struct job *done; /* under the mutex */
};

static void
job_free(struct job *job)
{
	PQfreeCancel(job->cancel);
	explicit_bzero(&job->target.key, sizeof(job->target.key));
	free(job);
}

/* Of a job that is counted as running: the loop is told. */
static void
deliver(struct job *job)
{
	struct cancels *c = job->cancels;
	uint64_t one = 1;

	pthread_mutex_lock(&c->mutex);
	job->next = c->done;
	c->done = job;
	/* Inside the lock: when the loop has counted this thread as done, it uses nothing of `c` any more. */
	while (write(c->eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_mutex_unlock(&c->mutex);
}

static void *
run(void *arg)
{
	struct job *job = arg;
	const char *step;
	int r;

	if (job->cancel != NULL) {
		job->sent = PQcancel(job->cancel, job->error, sizeof(job->error));
	} else {
		r = cancel_send(&job->target, &step);
		job->sent = r == 0;
		if (r != 0)
			snprintf(job->error, sizeof(job->error), "%s: %s", step, strerror(-r));
	}
	deliver(job);
	return NULL;
}

static int
start(struct job *job)
{
	sigset_t all, old;
	pthread_t thread;
	int r;

	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &job->cancels->attr, run, job);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

static void
enqueue(struct cancels *c, struct job *job)
{
	job->next = NULL;
	*c->waiting_end = job;
	c->waiting_end = &job->next;
	c->queued_of[job->ticket.pool]++;
}

static void start_waiting(struct cancels *c);

static void
on_rested(evutil_socket_t fd, short what, void *arg)
{
	struct job *job = arg, **at = &job->cancels->resting;
	struct cancels *c = job->cancels;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	enqueue(c, job);
	start_waiting(c);
}

static bool
rest(struct cancels *c, struct job *job)
{
	unsigned ms = rests[job->round];
	struct timeval timeout = {.tv_sec = ms / 1000, .tv_usec = (int)(ms % 1000) * 1000};

	if (event_assign(&job->again, c->base, -1, 0, on_rested, job) != 0 || event_add(&job->again, &timeout) != 0)
		return false;
	job->round++;
	job->next = c->resting;
	c->resting = job;
	return true;
}

/* A pid that was given to another process meanwhile costs cancels that nobody takes: their key is the old backend's. */
static bool
is_gone(const struct cancels_ticket *ticket)
{
	return ticket->local_pid > 0 && kill(ticket->local_pid, 0) != 0 && errno == ESRCH;
}

static void
finish(struct cancels *c, struct job *job)
{
	if (job->round == 0) {
		if (!job->sent)
			log_warning("a cancel request for slot %u of pool %u was not taken: %s", job->ticket.slot,
			    job->ticket.pool, job->error);
		c->report(c->context, &job->ticket, job->sent);
		if (job->ticket.requester >= 0)
			close(job->ticket.requester);
		job->ticket.requester = -1;
	}
	if (c->stopping || !job->sent || !job->ticket.insist || job->round == sizeof(rests) / sizeof(rests[0]) ||
	    is_gone(&job->ticket) || !rest(c, job))
		job_free(job);
}

/* The first one of a pool that has fewer than this many running, out of the queue; or NULL. */
static struct job *
take_waiting(struct cancels *c, unsigned limit)
{
	for (struct job **at = &c->waiting; *at != NULL; at = &(*at)->next) {
		struct job *job = *at;

		if (c->running_of[job->ticket.pool] >= limit)
			continue;
		*at = job->next;
		if (c->waiting_end == &job->next)
			c->waiting_end = at;
		c->queued_of[job->ticket.pool]--;
		return job;
	}
	return NULL;
}

static void
start_waiting(struct cancels *c)
{
	struct job *job;

	/* Out of the queue first: once it runs, its `next` is the thread's. */
	while ((job = take_waiting(c, CANCELS_RUNNING)) != NULL) {
		int r = start(job);

		if (r != 0 && c->running != 0) { /* no thread to be had now: when another one ends */
			job->next = c->waiting;
			if (c->waiting == NULL)
				c->waiting_end = &job->next;
			c->waiting = job;
			c->queued_of[job->ticket.pool]++;
			return;
		}
		c->running++;
		c->running_of[job->ticket.pool]++;
		if (r != 0) {
			/* Told by the loop, as if it had run: who submits it is not told before that has returned. */
			snprintf(
			    job->error, sizeof(job->error), "no thread can be started: %s", strerror(-r));
			deliver(job);
		}
	}
}

static void
collect(struct cancels *c)
{
	struct job *done;
	uint64_t n;

	if (read(c->eventfd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_error("cancel threads: eventfd: %m");
	pthread_mutex_lock(&c->mutex);
	done = c->done;
	c->done = NULL;
	pthread_mutex_unlock(&c->mutex);
	while (done != NULL) {
		struct job *job = done;

		done = job->next;
		c->running--;
		c->running_of[job->ticket.pool]--;
		finish(c, job);
	}
}

static void
on_done(evutil_socket_t fd, short what, void *arg)
{
	struct cancels *c = arg;

	collect(c);
	start_waiting(c);
}

int
cancels_new(struct event_base *base, cancels_done done, void *context, struct cancels **ret)
{
	struct cancels *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->base = base;
	c->report = done;
	c->context = context;
	c->waiting_end = &c->waiting;
	pthread_mutex_init(&c->mutex, NULL);
	c->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->eventfd < 0)
		goto fail;
	if (pthread_attr_init(&c->attr) != 0)
		goto fail;
	c->has_attr = true;
	if (pthread_attr_setstacksize(&c->attr, CANCELS_STACK) != 0 ||
	    pthread_attr_setdetachstate(&c->attr, PTHREAD_CREATE_DETACHED) != 0)
		goto fail;
	c->readable = event_new(base, c->eventfd, EV_READ | EV_PERSIST, on_done, c);
	if (c->readable == NULL || event_add(c->readable, NULL) != 0)
		goto fail;
	*ret = c;
	return 0;

fail:
	cancels_free(c, 0);
	return -ENOMEM;
}

void
cancels_free(struct cancels *c, unsigned wait_ms)
{
	uint64_t end = clock_ns() + (uint64_t)wait_ms * 1000000;
	struct job *job;

	if (c == NULL)
		return;
	c->stopping = true;
	while ((job = take_waiting(c, UINT_MAX)) != NULL) {
		if (job->ticket.requester >= 0)
			close(job->ticket.requester);
		job_free(job);
	}
	while ((job = c->resting) != NULL) {
		c->resting = job->next;
		event_del(&job->again);
		job_free(job);
	}
	while (c->running > 0) {
		struct pollfd poll_fd = {.fd = c->eventfd, .events = POLLIN};
		uint64_t now = clock_ns();

		if (now >= end || (poll(&poll_fd, 1, (int)((end - now) / 1000000) + 1) < 0 && errno != EINTR))
			return; /* a thread still uses it: the process ends with it */
		if ((poll_fd.revents & POLLIN) != 0)
			collect(c);
	}
	if (c->readable != NULL)
		event_free(c->readable);
	if (c->eventfd >= 0)
		close(c->eventfd);
	if (c->has_attr)
		pthread_attr_destroy(&c->attr);
	/* The last thread may still be leaving the lock. */
	pthread_mutex_lock(&c->mutex);
	pthread_mutex_unlock(&c->mutex);
	pthread_mutex_destroy(&c->mutex);
	free(c);
}

unsigned
cancels_under_way(const struct cancels *c)
{
	unsigned n = c->running;

	for (const struct job *job = c->waiting; job != NULL; job = job->next)
		n++;
	return n;
}

/* The words of struct job, of one that insists. */
static void
job_fields(struct handover *h, struct job *job)
{
	HANDOVER(h, job->ticket);
	HANDOVER(h, job->target);
	handover_count(h, &job->round, sizeof(rests) / sizeof(rests[0]));
}

static uint32_t
hand_over_list(struct job *first, struct handover *to)
{
	uint32_t n = 0;

	for (struct job *job = first; job != NULL; job = job->next) {
		if (job->cancel != NULL || !job->ticket.insist)
			continue;
		n++;
		if (to != NULL)
			job_fields(to, job);
	}
	return n;
}

void
cancels_hand_over(struct cancels *c, struct handover *to)
{
	uint32_t n = hand_over_list(c->waiting, NULL) + hand_over_list(c->resting, NULL);

	handover_section(to, "cancels");
	HANDOVER(to, n);
	hand_over_list(c->waiting, to);
	hand_over_list(c->resting, to);
}

int
cancels_take_over(struct cancels *c, struct handover *from)
{
	uint32_t n = 0;

	handover_section(from, "cancels");
	HANDOVER(from, n);
	for (uint32_t i = 0; i < n && handover_check(from, false) == 0; i++) {
		struct job *job = calloc(1, sizeof(*job));

		if (job == NULL)
			return log_refuse("out of memory");
		job->cancels = c;
		job_fields(from, job);
		job->ticket.requester = -1;
		if (job->ticket.pool >= LAYOUT_MAX_POOLS)
			job->ticket.pool = 0;
		/* Its rest begins anew; who waits for what it cancels has been told. */
		if (job->round > 0)
			job->round--;
		if (!rest(c, job))
			job_free(job);
	}
	return handover_check(from, false);
}

int
cancels_submit(struct cancels *c, const struct backend *backend, const struct cancels_ticket *ticket)
{
	struct job *job;

	if (c->queued_of[ticket->pool] >= CANCELS_QUEUED)
		return -EAGAIN;
	if (backend->conn == NULL && backend->key.size == 0)
		return -ENOTSUP;
	job = calloc(1, sizeof(*job));
	if (job == NULL)
		return -ENOMEM;
	job->cancels = c;
	job->ticket = *ticket;
	if (backend->conn == NULL) {
		cancel_target_init(backend, &job->target);
	} else if ((job->cancel = PQgetCancel(backend->conn)) == NULL) {
		free(job);
		return -ENOMEM;
	}
	enqueue(c, job);
	start_waiting(c);
	return 0;
}
