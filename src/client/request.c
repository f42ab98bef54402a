/* SPDX-License-Identifier: PostgreSQL */
/*
 * Acquires for event loops. What can be had at once is had by the start itself. Everything else blocks somewhere (the
 * semaphore of a waiter, an adoption, a reset), so a helper thread does it: an ordinary acquire, for a row that belongs to the
 * request. All libpq calls on the PGconn are the helper's until it is done, and then whoever finishes; pthread_join is between.
 *
 * A request and its thread belong to one process: a child has neither.
 */
#include "request.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loose.h"
#include "reattach.h"
#include "rows.h"

#define HELPER_STACK (256 * 1024) /* an adoption looks up a user's name */

enum phase { PHASE_PENDING, PHASE_DONE };

struct pglease_request {
	struct pglease_request *next; /* of the pool's; guard_lock() */
	pglease_pool *pool;
	bool has_ended;  /* its attachment */
	uint64_t serial; /* of the process */
	/* guard_lock(), as long as there is a helper: it takes a row of another state when the broker has gone. */
	struct thread_row *tr;
	_Atomic bool cancelled;
	struct wish wish;
#ifdef PGLEASE_PRELOAD
	struct library *library; /* the helper is in the same */
#endif
	pthread_t helper;
	bool has_helper;
	bool has_fd;    /* `fd` is its own */
	_Atomic int fd; /* an eventfd, once somebody has asked for it; else -1; or the caller's socket */
	/* Who stores DONE looks at `fd` after that; who stores `fd` looks at the phase after that: one of them writes to it. */
	_Atomic uint32_t phase;
	/* With DONE. */
	int code;
	pglease_lease lease;
	PGconn *conn;
	char message[512];
};

static void
ring(int fd)
{
	uint64_t one = 1;

	static_assert(sizeof(one) == REQUEST_RING, "what an eventfd takes");
	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* The row, of this state, in which the request goes on. */
static int
row_for(void *context, struct pool_state *state, struct thread_row **ret)
{
	struct pglease_request *q = context;
	struct thread_row *tr = q->tr, *before = NULL;
	bool cancelled;
	int r;

	if (tr == NULL || tr->state != state) {
		r = loose_get(state, &tr);
		if (r != 0)
			return r;
		before = q->tr;
	}
	/* The thread that asked does not wait: it is in no deadlock. */
	loose_name(tr, -1);
	guard_lock();
	cancelled = atomic_load(&q->cancelled);
	q->tr = tr;
	guard_unlock();
	if (before != NULL)
		loose_put(before);
	*ret = tr;
	return cancelled ? error_set(PGLEASE_EAGAIN, "the request was cancelled") : 0;
}

static void *
help(void *arg)
{
	struct pglease_request *q = arg;
	int fd;

#ifdef PGLEASE_PRELOAD
	library_now = q->library;
#endif
	q->code = lease_get(q->pool, &q->wish, row_for, q, &q->lease, &q->conn);
	if (q->code != 0)
		snprintf(q->message, sizeof(q->message), "%s", pglease_error_message());
	atomic_store(&q->phase, PHASE_DONE);
	fd = atomic_load(&q->fd);
	/* Not closed before this thread has been joined. */
	if (fd >= 0)
		ring(fd);
	return NULL;
}

/* The helper gets none of the application's signals. */
static int
start_helper(struct pglease_request *q)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	int r = pthread_attr_init(&attributes);

	if (r != 0)
		return error_set_errno(PGLEASE_ESYSTEM, r, "cannot start a thread");
	pthread_attr_setstacksize(&attributes, HELPER_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&q->helper, &attributes, help, q);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (r != 0)
		return error_set_errno(PGLEASE_ESYSTEM, r, "cannot start a thread that waits for the connection");
	q->has_helper = true;
	return 0;
}

static void
enlist(struct pglease_request *q)
{
	guard_lock();
	q->next = q->pool->requests;
	q->pool->requests = q;
	guard_unlock();
}

/* Out of the list, if it is there. */
static void
delist(struct pglease_request *q)
{
	guard_lock();
	for (struct pglease_request **p = &q->pool->requests; *p != NULL; p = &(*p)->next) {
		if (*p == q) {
			*p = q->next;
			break;
		}
	}
	guard_unlock();
}

static void
join(struct pglease_request *q)
{
	if (q->has_helper)
		pthread_join(q->helper, NULL);
	q->has_helper = false;
}

/* Ends it before its time: nothing is left of it but the handle. */
static void
end(struct pglease_request *q)
{
	if (atomic_load(&q->phase) != PHASE_DONE) {
		guard_lock();
		atomic_store(&q->cancelled, true);
		/* First the flag, then the post: claim.c. */
		if (q->tr != NULL) {
			atomic_store(&q->tr->cancelled, true);
			row_post(&q->tr->state->seg, q->tr->row, true);
		}
		guard_unlock();
	}
	join(q);
	/* It may have been granted a slot, or have it in full. */
	if (q->code == 0)
		(void)!pglease_release_as(&q->lease, PGLEASE_SESSION_CLEAN);
	if (q->tr != NULL)
		loose_put(q->tr);
	q->has_ended = true;
}

void
request_end_all(struct pglease_pool *pool)
{
	for (;;) {
		struct pglease_request *q;

		guard_lock();
		q = pool->requests;
		if (q != NULL)
			pool->requests = q->next;
		guard_unlock();
		if (q == NULL)
			return;
		if (q->serial == guard_serial())
			end(q);
		else
			q->has_ended = true; /* the parent's */
	}
}

static void
request_free(struct pglease_request *q)
{
	int fd = atomic_load(&q->fd);

	if (fd >= 0 && q->has_fd)
		close(fd);
	free(q);
}

int
request_start(pglease_pool *pool, const struct wish *wish, int ring_fd, pglease_request **ret_request)
{
	struct pglease_request *q = calloc(1, sizeof(*q));
	struct pool_state *state;
	int r;

	if (q == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	q->pool = pool;
	q->wish = *wish;
	q->wish.cancelled = &q->cancelled;
#ifdef PGLEASE_PRELOAD
	q->library = library_now;
#endif
	q->has_fd = ring_fd < 0;
	atomic_store(&q->fd, ring_fd);
	q->serial = guard_serial();
	/* A child attaches first, which may take as long as the broker likes: the helper does it. Nothing is ready before. */
	r = reattach_is_ahead(pool) ? PGLEASE_EAGAIN : client_pool_state(pool, &state);
	if (r == 0) {
		r = loose_get(state, &q->tr);
		if (r != 0) {
			lease_count_failure(state, r);
			goto fail;
		}
		r = lease_take_ready(pool, state, q->tr, &q->wish, &q->lease, &q->conn);
	}
	if (r == 0)
		atomic_store(&q->phase, PHASE_DONE);
	else if (r == PGLEASE_EAGAIN)
		r = start_helper(q);
	if (r != 0) {
		if (q->tr != NULL)
			loose_put(q->tr);
		goto fail;
	}
	enlist(q);
	*ret_request = q;
	return 0;

fail:
	free(q);
	return r;
}

int
pglease_acquire_fd(pglease_request *request, int *ret_fd)
{
	int fd;

	if (request == NULL || ret_fd == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", request == NULL ? "request" : "ret_fd");
	/* Nobody would ring there. */
	if (request->serial != guard_serial())
		return error_set(PGLEASE_EFORKED, "the request is the parent's");
	fd = atomic_load(&request->fd);
	if (fd < 0) {
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0)
			return error_set_errno(PGLEASE_ESYSTEM, errno, "cannot make a descriptor for a request");
		atomic_store(&request->fd, fd); /* pairs with help() */
		if (atomic_load(&request->phase) == PHASE_DONE)
			ring(fd);
	}
	*ret_fd = fd;
	return 0;
}

int
pglease_acquire_finish(pglease_request *request, pglease_lease *ret_lease, PGconn **ret_conn)
{
	struct pglease_request *q = request;
	int r;

	if (q == NULL || ret_lease == NULL || ret_conn == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL",
		    q == NULL ? "request" : ret_lease == NULL ? "ret_lease" : "ret_conn");
	if (q->serial != guard_serial()) {
		pglease_acquire_cancel(q);
		return error_set(PGLEASE_EFORKED, "the request is the parent's");
	}
	if (q->has_ended) {
		r = error_set(PGLEASE_EINVAL, "the request's attachment has ended (pglease_detach)");
		request_free(q);
		return r;
	}
	if (atomic_load(&q->phase) != PHASE_DONE)
		return error_set(PGLEASE_EAGAIN, "the connection is not there yet");
	join(q);
	delist(q);
	r = q->code;
	if (r == 0) {
		loose_name(q->tr, (int)q->lease.slot);
		*ret_lease = q->lease;
		*ret_conn = q->conn;
	} else {
		error_set(r, "%s", q->message);
	}
	if (q->tr != NULL)
		loose_put(q->tr);
	request_free(q);
	return r;
}

void
pglease_acquire_cancel(pglease_request *request)
{
	if (request == NULL)
		return;
	if (!request->has_ended)
		delist(request);
	if (request->serial == guard_serial() && !request->has_ended)
		end(request);
	request_free(request);
}

int
pglease_acquire_start_at(pglease_pool *pool, int timeout_ms, pglease_request **ret_request, const char *file, int line)
{
	struct wish wish = {.site = {.file = file, .line = line, .caller = __builtin_return_address(0)}};
	int r;

	if (ret_request == NULL)
		return error_set(PGLEASE_EINVAL, "ret_request is NULL");
	r = lease_wish(pool, timeout_ms, &wish);
	return r != 0 ? r : request_start(pool, &wish, -1, ret_request);
}

int
(pglease_acquire_start)(pglease_pool *pool, int timeout_ms, pglease_request **ret_request)
{
	struct wish wish = {.site = {.caller = __builtin_return_address(0)}};
	int r;

	if (ret_request == NULL)
		return error_set(PGLEASE_EINVAL, "ret_request is NULL");
	r = lease_wish(pool, timeout_ms, &wish);
	return r != 0 ? r : request_start(pool, &wish, -1, ret_request);
}
