/* SPDX-License-Identifier: PostgreSQL */
/* Lessee rows that belong to no thread. */
#include "loose.h"

#include <stdlib.h>
#include <unistd.h>

#include "rows.h"

/* The thread's own number: gettid is a system call. A forked child's differs. */
static uint32_t
thread_id(void)
{
	static _Thread_local uint64_t serial;
	static _Thread_local uint32_t tid;

	if (serial != guard_serial()) {
		serial = guard_serial();
		tid = (uint32_t)gettid();
	}
	return tid;
}

static bool
try_take(struct thread_row *tr)
{
	const struct row *row = &tr->state->seg.row[tr->row];
	bool expected = false;

	if (atomic_load_explicit(&row->held, memory_order_relaxed) != 0 ||
	    !atomic_compare_exchange_strong(&tr->taken, &expected, true)) /* pairs with loose_put */
		return false;
	/* As in threads_row: written by the acquire before loose_put, and by whoever releases. */
	if (atomic_load_explicit(&row->held, memory_order_acquire) == 0)
		return true;
	atomic_store(&tr->taken, false);
	return false;
}

/*
 * The row that the thread had last is the first choice, for the slot that it had with it. The state's number is never used again:
 * while it is this state's, the row is there.
 */
static _Thread_local struct {
	uint64_t id;
	struct thread_row *tr;
} last;

int
loose_get(struct pool_state *state, struct thread_row **ret_row)
{
	struct thread_row *tr;
	int r;

	if (last.id == state->id && try_take(tr = last.tr))
		goto out;
	for (tr = atomic_load(&state->loose); tr != NULL; tr = tr->next)
		if (try_take(tr))
			goto out;
	r = threads_claim(state, &tr);
	if (r != 0)
		return r;
	atomic_store(&tr->taken, true);
	tr->next = atomic_load(&state->loose);
	/* Only added to: nobody sees an element that is not whole, and none goes away. */
	while (!atomic_compare_exchange_weak(&state->loose, &tr->next, tr))
		;
out:
	last.id = state->id;
	last.tr = tr;
	atomic_store(&tr->cancelled, false);
	loose_name(tr, -1);
	*ret_row = tr;
	return 0;
}

void
loose_name(struct thread_row *tr, int slot)
{
	const struct segment *seg = &tr->state->seg;

	atomic_store_explicit(&seg->row[tr->row].tid, thread_id(), memory_order_relaxed);
	/* After a revocation it is another's text on a screen (doc/promises.md, "Late stores"). */
	if (slot >= 0)
		atomic_store_explicit(&seg->slot[slot].holder_tid, thread_id(), memory_order_relaxed);
}

void
loose_put(struct thread_row *tr)
{
	atomic_store(&tr->taken, false);
}

static int
loose_row(void *context, struct pool_state *state, struct thread_row **ret)
{
	struct thread_row **tr = context;
	int r;

	if (*tr != NULL)
		loose_put(*tr);
	*tr = NULL;
	r = loose_get(state, tr);
	*ret = *tr;
	return r;
}

int
loose_acquire(pglease_pool *pool, const struct wish *wish, pglease_lease *ret_lease, PGconn **ret_conn)
{
	struct thread_row *tr = NULL;
	int r = lease_get(pool, wish, loose_row, &tr, ret_lease, ret_conn);

	if (tr != NULL)
		loose_put(tr);
	return r;
}

void
loose_free_all(struct pool_state *state)
{
	for (struct thread_row *tr = atomic_load(&state->loose), *next; tr != NULL; tr = next) {
		next = tr->next;
		free(tr);
	}
}
