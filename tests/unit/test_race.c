/* SPDX-License-Identifier: PostgreSQL */
/*
 * Threads over one segment: the lease path, the wait path, time-outs, grants and hand-overs, without broker and server.
 * Each lease changes a plain variable of its slot, so ThreadSanitizer sees whether the slot word orders what one lessee
 * did before what the next one does.
 */
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "claim.h"
#include "handoff.h"
#include "queue.h"
#include "rows.h"
#include "slots.h"

#define SLOTS 2
#define THREADS 6
#define CLIENTS 2
#define LEASES 2000 /* tries of each thread */

static struct segment seg;
static struct process process[CLIENTS];
static struct pool_state state[CLIENTS];

/* What the lessee of a slot alone may touch: plain on purpose. */
static struct {
	unsigned holder, leases;
} plain[SLOTS];

struct thread {
	pthread_t id;
	unsigned number;
	unsigned had, timed_out, waited, granted, wrong;
	uint32_t seed;
};

static uint32_t
random_of(struct thread *t)
{
	t->seed = t->seed * 1664525u + 1013904223u;
	return t->seed >> 8;
}

static void
hold(struct thread *t, const struct claim *claim)
{
	t->wrong += plain[claim->slot].holder != 0;
	plain[claim->slot].holder = t->number + 1;
	plain[claim->slot].leases++;
	/* Others run meanwhile, and find the slots taken. */
	for (unsigned i = random_of(t) % 30; i > 0; i--)
		sched_yield();
	t->wrong += plain[claim->slot].holder != t->number + 1;
	plain[claim->slot].holder = 0;
}

static void *
run(void *arg)
{
	struct thread *t = arg;
	struct pool_state *s = &state[t->number % CLIENTS];
	struct thread_row tr = {.state = s, .last_slot = -1};
	uint64_t w;
	int row = row_claim(&seg, s->process->client, t->number, &w);

	if (row < 0) {
		t->wrong++;
		return NULL;
	}
	tr.row = (uint32_t)row;
	for (unsigned n = 0; n < LEASES; n++) {
		struct claim claim = {.slot = 0};
		enum handoff_result r;
		uint64_t start = clock_ns();

		/* Deadlines from at once to long after a grant is due. */
		if (!claim_idle(s, &tr, false, &claim) &&
		    claim_wait(s, &tr, start, start + random_of(t) % 4000000, &claim) != 0) {
			t->timed_out++;
			continue;
		}
		tr.last_slot = (int)claim.slot;
		t->had++;
		t->waited += claim.waited;
		t->granted += claim.granted;
		hold(t, &claim);
		/* As a common release begins. */
		if (handoff_release_alone(&seg, claim.slot, claim.w, s->process->client, SLOT_DIRTY, clock_ns()))
			continue;
		/* Half of them keep the slot within their turn; then they come back, or do not. */
		r = handoff_release(&seg, claim.slot, &claim.w, s->process->client, SLOT_DIRTY, clock_ns(), n % 2 != 0);
		t->wrong += r != HANDOFF_IDLE && r != HANDOFF_GRANTED;
	}
	w = row_load(&seg, tr.row);
	t->wrong += word_state(w) != ROW_OWNED || !row_free(&seg, tr.row, &w);
	return NULL;
}

/* With the first every waiter is due for a grant, with the last none ever: the others are woken. */
#define ALWAYS_DUE 1
#define MIXED 100000
#define NEVER_DUE UINT64_C(3600000000000)

static void
setup(int control, uint64_t grant_after)
{
	seg = unit_segment(SLOTS, 64);
	atomic_store(&seg.header->state, SEGMENT_OPEN);
	atomic_store(&seg.header->grant_after_ns, grant_after);
	atomic_store(&seg.header->turn_ns, MIXED);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		uint64_t w = slot_load(&seg, slot);

		ck_assert(slot_take(&seg, slot, &w));
		ck_assert(slot_idle(&seg, slot, &w, WORD_NONE, 0));
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		process[i] = (struct process){.client = i, .control = control, .control_id = fd_identify(control)};
		state[i] = (struct pool_state){.process = &process[i], .seg = seg};
	}
}

/* Each slot has one lessee at a time, and none is lost. */
static void
race(uint64_t grant_after)
{
	struct thread thread[THREADS];
	unsigned had = 0, leases = 0, waited = 0, granted = 0;
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	setup(pair[0], grant_after);
	for (unsigned i = 0; i < THREADS; i++) {
		thread[i] = (struct thread){.number = i, .seed = i + 1};
		ck_assert_int_eq(pthread_create(&thread[i].id, NULL, run, &thread[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(thread[i].id, NULL);
		ck_assert_uint_eq(thread[i].wrong, 0);
		ck_assert_uint_eq(thread[i].had + thread[i].timed_out, LEASES);
		had += thread[i].had;
		waited += thread[i].waited;
		granted += thread[i].granted;
	}
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		ck_assert_uint_eq(word_state(slot_load(&seg, slot)), SLOT_IDLE);
		leases += plain[slot].leases;
	}
	ck_assert_uint_eq(leases, had);
	/* Both ways out of the wait path were taken. */
	if (grant_after == ALWAYS_DUE)
		ck_assert_uint_gt(granted, 0);
	if (grant_after == NEVER_DUE)
		ck_assert_uint_gt(waited, granted);
	ck_assert_uint_eq(queue_count(&seg, NULL), 0);
	for (uint32_t row = 0; row < seg.nrows; row++)
		ck_assert_uint_eq(word_state(row_load(&seg, row)), ROW_FREE);
}

START_TEST(with_grants_and_wakes)
{
	race(MIXED);
}
END_TEST

START_TEST(with_every_waiter_due)
{
	race(ALWAYS_DUE);
}
END_TEST

START_TEST(with_no_waiter_due)
{
	race(NEVER_DUE);
}
END_TEST

UNIT_MAIN("race", with_grants_and_wakes, with_every_waiter_due, with_no_waiter_due)
