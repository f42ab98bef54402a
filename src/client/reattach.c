/* SPDX-License-Identifier: PostgreSQL */
/* When a process attaches anew, and what becomes of the attachment before. */
#include "reattach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "former.h"

#define LOOK_NS UINT64_C(100000000)
/* A broker that takes the connection and says nothing holds up one thread for so long, and is then left alone for as long. */
#define PATIENCE_MS 1000
/* While leases can go on without a broker: somebody who does not answer delays them for so long in each second. */
#define LOOK_MS 100
#define REOPEN_NS (50 * MS)
#define MS UINT64_C(1000000)

bool
reattach_is_due(const struct pool_state *state, uint64_t now)
{
	const struct segment_header *h = state->seg.header;

	/* Relaxed: what is not seen now is seen the next time. */
	return process_is_gone(state->process) ||
	       clock_since(now, atomic_load_explicit(&h->ticked_at, memory_order_relaxed)) > BEAT_NS ||
	       atomic_load_explicit(&h->state, memory_order_relaxed) == SEGMENT_CLOSED ||
	       atomic_load_explicit(&h->state, memory_order_relaxed) == SEGMENT_GOING;
}

/* The pool has gone from the segment, and the broker lives. */
static bool
has_moved(const struct pool_state *state)
{
	return atomic_load(&state->seg.header->state) == SEGMENT_GOING && !process_is_gone(state->process);
}

bool
reattach_is_ahead(const pglease_pool *pool)
{
	const struct pool_state *state = atomic_load(&pool->state);

	return state != NULL && state->serial != guard_serial();
}

bool
reattach_look(const struct pool_state *state, uint64_t now)
{
	struct process *process = state->process;
	uint64_t at = atomic_load_explicit(&process->look_at, memory_order_relaxed);

	if (process_is_gone(process))
		return true;
	/* Relaxed: it only spares system calls. */
	if (now < at || !atomic_compare_exchange_strong_explicit(
			    &process->look_at, &at, now + LOOK_NS, memory_order_relaxed, memory_order_relaxed))
		return false;
	return reattach_is_news(state);
}

bool
reattach_is_news(const struct pool_state *state)
{
	return !process_is_gone(state->process) && client_is_cut_off(state->process) &&
	       !atomic_exchange(&state->process->gone, true);
}

/*
 * The new control connection gets the number of the old one: a thread that has just seen that it is ours, and rings there, tells a broker
 * to look at a pool, and not a file of the application's that has got the number since.
 */
static void
keep_number(const struct process *old, struct process *process)
{
	if (!fd_is(old->control, &old->control_id) || dup3(process->control, old->control, O_CLOEXEC) < 0)
		return;
	close(process->control);
	process->control = old->control;
}

static int
attach_anew(struct pglease *client)
{
	struct process *old = atomic_load(&client->process), *process;
	bool forked = old->serial != guard_serial();
	int r = attach_dead_fd(client);

	if (r != 0 || (r = attach_process(client, &process)) != 0)
		return r;
	if (!forked) {
		atomic_store(&old->gone, true);
		keep_number(old, process);
	} else if (fd_is(old->control, &old->control_id)) {
		close(old->control);
	}
	old->next = client->former;
	client->former = old;
	atomic_store(&client->process, process);
	return 0;
}

/* With the thread's message. */
static void
note_refusal(struct pglease_pool *pool, int code)
{
	pool->refusal = code;
	pool->refused_at = clock_ns();
	pool->refused_by = guard_serial();
	if (code != 0)
		snprintf(pool->why, sizeof(pool->why), "%s", pglease_error_message());
}

static void
note_refusals(struct pglease_pool *pool, int code)
{
	for (; pool != NULL; pool = pool->next)
		note_refusal(pool, code);
}

/* A state of the present process in place of one that is inherited or cut off. */
static int
open_anew(struct pglease *client, struct pglease_pool *pool, struct process *process)
{
	struct pool_state *before = atomic_load(&pool->state), *state = NULL;
	int r = attach_pool(client, pool->name, process, &state);

	note_refusal(pool, r);
	if (r != 0)
		return r;
	if (before->serial == guard_serial()) {
		former_add(pool, before);
		former_note(pool, state);
		atomic_store(&pool->state, state);
		return 0;
	}
	former_note(pool, state);
	atomic_store(&pool->state, state);
	/* Its sessions, rows and leases stay the parent's. Not freed: another thread of the child may be looking at its serial. Once a fork. */
	former_forget(pool);
	attach_abandon(before);
	return 0;
}

static int
attach_again(struct pglease *client)
{
	struct process *process = atomic_load(&client->process);
	int r = 0, failed = 0;

	if (process->serial != guard_serial() || process_is_gone(process) || client_is_cut_off(process))
		r = attach_anew(client);
	if (r != 0) {
		/* That the folder cannot be looked into is not what a broker says. */
		note_refusals(client->pools, r != PGLEASE_EPERM ? r : PGLEASE_ENOBROKER);
		return r;
	}
	process = atomic_load(&client->process);
	for (struct pglease_pool *pool = client->pools; pool != NULL; pool = pool->next) {
		if (atomic_load(&pool->state)->process == process)
			continue;
		r = open_anew(client, pool, process);
		if (r != 0)
			failed = r;
		if (r == PGLEASE_EGONE || r == PGLEASE_ENOBROKER) {
			note_refusals(pool->next, r); /* it has gone meanwhile, or says nothing: the others are not asked for */
			break;
		}
	}
	return failed;
}

/* Of each exchange from here on; a child may have inherited what a thread of its parent's had set. Under the mutex. */
static void
set_patience(struct pglease *client, uint32_t ms)
{
	client->patience_ms = client->timeout_ms < ms ? client->timeout_ms : ms;
}

int
reattach(struct pglease *client, uint32_t patience_ms)
{
	int r;

	set_patience(client, patience_ms);
	r = attach_again(client);
	set_patience(client, UINT32_MAX);
	return r;
}

/* Asks the broker for the pool of that name that there is now. Under the mutex. */
static int
reopen(struct pglease *client, struct pglease_pool *pool)
{
	struct pool_state *before = atomic_load(&pool->state);
	struct process *process = atomic_load(&client->process);
	int r;

	if (before->process != process) /* it has attached again meanwhile, and this pool has been refused */
		return PGLEASE_EGONE;
	set_patience(client, PATIENCE_MS);
	r = open_anew(client, pool, process);
	set_patience(client, UINT32_MAX);
	atomic_store_explicit(&pool->reopen_at, clock_ns() + REOPEN_NS, memory_order_relaxed);
	pool->reopened = r;
	if (r == PGLEASE_ENOPOOL)
		former_let_go(before);
	return r;
}

int
reattach_moved(pglease_pool *pool, const struct pool_state *state)
{
	struct pglease *client = pool->client;
	int r = 0;

	pthread_mutex_lock(client->mutex);
	/* Who has waited for another thread's try, which nobody has answered, makes none of his own. */
	if (pool->reopened == PGLEASE_ENOBROKER && clock_ns() < atomic_load_explicit(&pool->reopen_at, memory_order_relaxed))
		r = error_set(PGLEASE_ENOBROKER, "the broker of %s does not answer: is it stopped or overloaded?", client->instance);
	else if (atomic_load(&pool->state) == state)
		r = reopen(client, pool);
	pthread_mutex_unlock(client->mutex);
	return r;
}

/* The state of a pool of this process's, whose broker may have gone: the one to use from here on. */
static struct pool_state *
look_for_another(pglease_pool *pool, struct pool_state *state, uint64_t now)
{
	struct pglease *client = pool->client;

	if (has_moved(state) && now >= atomic_load_explicit(&pool->reopen_at, memory_order_relaxed) &&
	    pthread_mutex_trylock(client->mutex) == 0) {
		if (atomic_load(&pool->state) == state)
			(void)!reopen(client, pool);
		pthread_mutex_unlock(client->mutex);
		return atomic_load(&pool->state);
	}
	if (reattach_look(state, now) && now >= atomic_load_explicit(&client->try_at, memory_order_relaxed) &&
	    pthread_mutex_trylock(client->mutex) == 0) {
		if (atomic_load(&pool->state) == state) {
			(void)!reattach(client, LOOK_MS);
			/* Whatever came of it: somebody who does not answer has taken long. */
			atomic_store_explicit(&client->try_at,
			    clock_ns() + (clock_ns() - now > REATTACH_NS ? PATIENCE_MS * MS : REATTACH_NS), memory_order_relaxed);
		}
		pthread_mutex_unlock(client->mutex);
	}
	return atomic_load(&pool->state);
}

/*
 * What came of this process's last try is the answer to who has waited for it, and to who comes soon after it: else k threads would make k
 * tries, one after the other, each as long as a broker says nothing. Under the mutex.
 */
static bool
is_answered(const pglease_pool *pool, uint64_t asked)
{
	return pool->refusal == PGLEASE_ENOBROKER && pool->refused_by == guard_serial() &&
	       (pool->refused_at >= asked || clock_since(clock_ns(), pool->refused_at) < REATTACH_NS);
}

int
client_pool_state(pglease_pool *pool, struct pool_state **ret_state)
{
	/* Acquire: pairs with the store that published the state's contents. */
	struct pool_state *state = atomic_load_explicit(&pool->state, memory_order_acquire);
	struct pglease *client = pool->client;
	uint64_t now;
	int r = 0;

	if (state == NULL)
		return error_set(PGLEASE_EINVAL, "pool %s: its attachment has ended (pglease_detach)", pool->name);
	if (state->serial == guard_serial()) {
		now = clock_quick_ns();
		if (reattach_is_due(state, now))
			state = look_for_another(pool, state, now);
		former_look(pool, now);
		*ret_state = state;
		return 0;
	}
	now = clock_ns();
	pthread_mutex_lock(client->mutex);
	if (reattach_is_ahead(pool) && !is_answered(pool, now))
		(void)!reattach(client, PATIENCE_MS); /* what became of this pool is noted there */
	state = atomic_load(&pool->state);
	if (state->serial != guard_serial()) /* nor was it ever cut off from a broker that has ended meanwhile */
		r = error_set(pool->refusal != PGLEASE_EGONE ? pool->refusal : PGLEASE_ENOBROKER, "%s", pool->why);
	pthread_mutex_unlock(client->mutex);
	if (r == 0)
		*ret_state = state;
	return r;
}
