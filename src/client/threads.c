/* SPDX-License-Identifier: PostgreSQL */
/* Rows of threads, and what happens when a thread ends. */
#include "threads.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "lease.h"
#include "rows.h"
#include "shell.h"
#include "slots.h"

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;
_Thread_local struct thread_row *threads_own;

/* Live pool states of this process; under the registry lock. */
static struct pool_state *registry;
static uint64_t last_id;

static bool
is_registered(const struct pool_state *state, uint64_t id)
{
	for (const struct pool_state *s = registry; s != NULL; s = s->next_registered)
		if (s == state && s->id == id)
			return true;
	return false;
}

/* A lease that ended with its thread. */
struct ended {
	uint32_t slot;
	uint64_t seq; /* 0: none; no LEASED word has this one */
};

/* S10, for the lease of the word as long as the row has it. */
static void
give_up(struct pool_state *state, uint32_t row, uint32_t slot)
{
	uint64_t w = slot_load(&state->seg, slot);

	while (word_state(w) == SLOT_LEASED && word_who(w) == row) {
		if (slot_return(&state->seg, slot, &w, SLOT_RETIRE)) {
			client_ring(state);
			break;
		}
	}
}

/* The thread ends: a lease that it holds is returned to the broker, then its row is free (R6). */
static struct ended
row_leave(struct thread_row *tr)
{
	struct pool_state *state = tr->state;
	_Atomic uint64_t *held = &state->seg.row[tr->row].held;
	uint64_t token = atomic_load(held), w;
	struct ended ended = {.seq = 0};

	/* Whoever takes the token away ends the lease for this process; of a revoked lease, too. */
	if (token != 0 && atomic_compare_exchange_strong(held, &token, 0)) {
		ended.slot = (uint32_t)(token >> WORD_SEQ_BITS) - 1;
		ended.seq = token & WORD_SEQ_MASK;
		lease_over(state);
	}
	/* Also without a token: another thread is about to give the lease up, but the row is not to be named any more. */
	if (tr->last_slot >= 0)
		give_up(state, tr->row, (uint32_t)tr->last_slot);
	w = row_load(&state->seg, tr->row);
	row_free(&state->seg, tr->row, &w); /* R6 */
	return ended;
}

static void
thread_ends(void *rows)
{
	/* First: destructors of the application that run later may acquire; they begin a new list. */
	threads_own = NULL;
	for (struct thread_row *tr = rows, *next; tr != NULL; tr = next) {
		struct ended ended = {.seq = 0};

		next = tr->next;
		/* After a fork the state is the parent's, its row too: its serial tells. */
		guard_lock();
		if (is_registered(tr->state, tr->id) && tr->state->serial == guard_serial()) {
			ended = row_leave(tr);
			atomic_fetch_add(&tr->state->leaving, ended.seq != 0);
		}
		guard_unlock();
		/* Not under the lock: it calls event procedures of the application's. */
		if (ended.seq != 0) {
			shell_lost(tr->state, ended.slot, ended.seq);
			atomic_fetch_sub(&tr->state->leaving, 1);
		}
		free(tr);
	}
}

static void
key_make(void)
{
	key_error = pthread_key_create(&key, thread_ends);
}

void
threads_register(struct pool_state *state)
{
	guard_lock();
	state->id = ++last_id;
	state->next_registered = registry;
	registry = state;
	guard_unlock();
}

void
threads_unregister(struct pool_state *state)
{
	guard_lock();
	for (struct pool_state **p = &registry; *p != NULL; p = &(*p)->next_registered) {
		if (*p == state) {
			*p = state->next_registered;
			break;
		}
	}
	guard_unlock();
	/* Threads that end at this moment are done with it soon; but a child has none of those that its parent had at the fork. */
	while (state->serial == guard_serial() && atomic_load(&state->leaving) != 0)
		sched_yield();
}

/* Whether the row is of a former state of this process's, and holds nothing: then it is free (R6). */
static bool
is_left_over(const struct thread_row *tr)
{
	struct pool_state *state = tr->state;
	uint64_t w;

	/* The serial first: in a child the rest may be gone. */
	if (state->serial != guard_serial() || !atomic_load(&state->former) || atomic_load(&state->seg.row[tr->row].held) != 0)
		return false;
	w = row_load(&state->seg, tr->row);
	if (word_state(w) == ROW_OWNED && word_who(w) == state->process->client)
		row_free(&state->seg, tr->row, &w); /* R6 */
	return true;
}

/* Forgets the thread's rows in pools that are closed, and in those whose states are former ones. */
static void
rows_purge(void)
{
	guard_lock();
	for (struct thread_row **p = &threads_own; *p != NULL;) {
		struct thread_row *tr = *p;

		if (is_registered(tr->state, tr->id) && !is_left_over(tr)) {
			p = &tr->next;
		} else {
			*p = tr->next;
			free(tr);
		}
	}
	guard_unlock();
	/* The key must never name one that was freed. */
	pthread_setspecific(key, threads_own);
}

int
threads_claim(struct pool_state *state, struct thread_row **ret_row)
{
	struct thread_row *tr = calloc(1, sizeof(*tr));
	uint64_t w;
	int row;

	if (tr == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	/* Each client starts at a place of its own, so that rows of one process are neighbours, and searches short. */
	row = row_claim(&state->seg, state->process->client,
	    (uint32_t)((uint64_t)state->process->client * state->seg.nrows / state->seg.nclients), &w);
	if (row < 0) {
		free(tr);
		return error_set(PGLEASE_ENOROWS,
		    "all %u lessee rows of pool %s are in use: raise max_clients, or hold fewer leases at a time",
		    state->seg.nrows, state->seg.header->pool_name);
	}
	atomic_store_explicit(&state->seg.row[row].tid, (uint32_t)gettid(), memory_order_relaxed);
	atomic_store(&state->seg.row[row].held, 0);
	*tr = (struct thread_row){.state = state, .id = state->id, .row = (uint32_t)row, .last_slot = -1};
	*ret_row = tr;
	return 0;
}

static int
row_new(struct pool_state *state, struct thread_row **ret_row)
{
	struct thread_row *tr;
	int r;

	pthread_once(&key_once, key_make);
	if (key_error != 0)
		return error_set_errno(PGLEASE_ESYSTEM, key_error, "cannot make a thread-specific key");
	rows_purge();
	r = threads_claim(state, &tr);
	if (r != 0)
		return r;
	tr->next = threads_own;
	threads_own = tr;
	pthread_setspecific(key, threads_own);
	*ret_row = tr;
	return 0;
}

int
threads_row(struct pool_state *state, struct thread_row **ret_row)
{
	for (struct thread_row *tr = threads_own; tr != NULL; tr = tr->next) {
		if (threads_is_free(tr, state)) {
			*ret_row = tr;
			return 0;
		}
	}
	return row_new(state, ret_row);
}
