/* SPDX-License-Identifier: PostgreSQL */
/*
 * Acquires, with or without a broker (doc/protocol.md, "When the broker dies"): a lease is looked for in the state that the pool has,
 * again and again while the broker is gone, until its next one, a connection that the process has a PGconn for, or the deadline
 * is there.
 */
#include <errno.h>
#include <time.h>

#include "former.h"
#include "lease.h"
#include "reattach.h"

static int
is_without_broker(int code)
{
	return code == LEASE_AGAIN || code == PGLEASE_EGONE || code == PGLEASE_ENOBROKER;
}

static uint64_t
deadline_of(const pglease_pool *pool, const struct wish *wish)
{
	/* Relaxed: a setting. */
	return wish->pool_timeout
		   ? wish->start + atomic_load_explicit(&pool->acquire_timeout_ns, memory_order_relaxed)
		   : wish->deadline;
}

/*
 * What the next broker has said to this process, if that is final and has been said since then, or at least (`is_over`) more than that there
 * is none. Else 0. What was said before may have been another broker's word.
 */
static int
refusal(pglease_pool *pool, bool is_over, uint64_t since)
{
	int code = 0;

	if (pthread_mutex_trylock(pool->client->mutex) != 0)
		return 0;
	if ((pool->refused_at >= since && (pool->refusal == PGLEASE_ENOPOOL || pool->refusal == PGLEASE_EPERM || pool->refusal == PGLEASE_EVERSION)) ||
	    (is_over && pool->refusal != PGLEASE_EGONE && pool->refusal != PGLEASE_ENOBROKER))
		code = pool->refusal;
	if (code != 0)
		error_set(code, "%s", pool->why);
	pthread_mutex_unlock(pool->client->mutex);
	return code;
}

static int
say_none(const pglease_pool *pool, const struct pool_state *state, const struct wish *wish, uint64_t now)
{
	/* Its last tick. */
	uint64_t seen = atomic_load_explicit(&state->seg.header->ticked_at, memory_order_relaxed);

	return error_set(PGLEASE_ENOBROKER,
	    "no broker of instance %s for %.3g s, and no connection of pool %s that this process has at hand within %.3g s; start pgleased",
	    pool->client->instance, (double)clock_since(now, seen) / 1e9, pool->name,
	    (double)clock_since(now, wish->start) / 1e9);
}

/* Relaxed: an old one is the broker's of a moment ago. */
static bool
ticks(const struct pool_state *state, uint64_t now)
{
	return clock_since(now, atomic_load_explicit(&state->seg.header->ticked_at, memory_order_relaxed)) < BEAT_NS;
}

static void
sleep_until(uint64_t at)
{
	struct timespec ts = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

/* After a try that began then and failed for want of a broker, or of what only one can do: 0 when it is time for the next one. */
static int
next_try(pglease_pool *pool, struct pool_state *state, const struct wish *wish, uint64_t begun, int code)
{
	uint64_t now = clock_ns(), deadline = deadline_of(pool, wish), at = begun + REATTACH_NS;
	bool fails = wish->has_other_way ||
		     atomic_load_explicit(&pool->broker_down, memory_order_relaxed) == BROKER_DOWN_FAIL;
	bool is_over = now >= deadline || (fails && code != LEASE_AGAIN);
	int r = state != NULL ? refusal(pool, is_over, wish->start) : 0;

	if (r == 0 && is_over)
		r = state != NULL ? say_none(pool, state, wish, now) : code; /* in a child: the message is there */
	if (r != 0) {
		if (state != NULL && !wish->is_look)
			lease_count_failure(state, r);
		return r;
	}
	if (wish->cancelled != NULL && atomic_load(wish->cancelled))
		return error_set(PGLEASE_EAGAIN, "the request was cancelled");
	if (at > deadline)
		at = deadline;
	if (at > now)
		sleep_until(at);
	return 0;
}

int
lease_get(pglease_pool *pool, const struct wish *wish, lease_row row, void *context, pglease_lease *ret_lease,
    PGconn **ret_conn)
{
	for (;;) {
		uint64_t begun = clock_quick_ns();
		struct pool_state *state = NULL;
		struct thread_row *tr;
		int r = client_pool_state(pool, &state);
		bool is_known = r == 0 && process_is_gone(state->process);

		/* The broker lives, and does not take this process back: what it claimed would be revoked. */
		if (r == 0 && is_known && ticks(state, begun) && refusal(pool, true, 0) != 0)
			r = PGLEASE_EGONE;
		if (r == 0 && (r = row(context, state, &tr)) != 0) {
			if (r != PGLEASE_EAGAIN) /* cancelled */
				lease_count_failure(state, r);
			return r;
		}
		if (r == 0)
			r = lease_take(pool, state, tr, wish, ret_lease, ret_conn);
		if (r == LEASE_MOVED) {
			r = reattach_moved(pool, state);
			if (r == 0)
				continue;
			if (!is_without_broker(r) && !wish->is_look)
				lease_count_failure(state, r);
		}
		if (!is_without_broker(r))
			return r;
		/* Somebody has found another broker; or it is known only now: what needs none has not been looked for. */
		if (state != NULL && (atomic_load(&pool->state) != state ||
					 (!is_known && (reattach_is_news(state) || process_is_gone(state->process)))))
			continue;
		r = next_try(pool, state, wish, begun, r);
		if (r != 0)
			return r;
	}
}
