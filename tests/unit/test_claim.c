/* SPDX-License-Identifier: PostgreSQL */
/* What a waiter does with a slot that it was granted and does not need: the broker hears of what is dirty. */
#include "unit.h"

#include <sys/socket.h>

#include "claim.h"
#include "handoff.h"
#include "rows.h"
#include "slots.h"

#define FOR_EVER UINT64_C(60000000000) /* ns; a guard */

static struct segment seg;
static struct process process;
static struct pool_state state;

/*
 * The broker sleeps; a waiter finds that it was granted both slots, whose granters died between S9 and R4, and whose session
 * is `session`. Whether the broker is rung.
 */
static bool
rings(unsigned session)
{
	struct thread_row tr = {.state = &state, .last_slot = -1};
	struct claim claim = {.slot = 0};
	uint64_t w, start = clock_ns();
	unsigned idle = 0;
	char byte;
	int pair[2], row;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	seg = unit_segment(2, 64);
	atomic_store(&seg.header->state, SEGMENT_OPEN);
	atomic_store(&seg.header->max_connections, 0); /* a waiter does not ask for more */
	process = (struct process){.client = 0, .control = pair[0], .control_id = fd_identify(pair[0])};
	state = (struct pool_state){.process = &process, .seg = seg};
	atomic_store(&seg.header->reset_watch, 1);
	row = row_claim(&seg, 0, 0, &w);
	ck_assert_int_ge(row, 0);
	tr.row = (uint32_t)row;
	for (uint32_t slot = 0; slot < 2; slot++) {
		uint64_t slot_w = slot_load(&seg, slot);

		ck_assert(slot_take(&seg, slot, &slot_w));
		ck_assert(slot_grant(&seg, slot, &slot_w, tr.row, word_seq(w) + 1, session)); /* the row's next wait */
	}
	ck_assert_int_eq(claim_wait(&state, &tr, start, start + FOR_EVER, &claim), 0);
	for (uint32_t slot = 0; slot < 2; slot++)
		idle += word_state(slot_load(&seg, slot)) == SLOT_IDLE;
	ck_assert_uint_eq(idle, 1);
	return recv(pair[1], &byte, 1, MSG_DONTWAIT) > 0;
}

START_TEST(the_broker_is_told_of_a_dirty_slot_that_is_given_on)
{
	ck_assert(rings(SLOT_DIRTY));
	ck_assert_uint_eq(atomic_load(&seg.header->reset_watch), 0);
}
END_TEST

START_TEST(nobody_is_told_of_a_clean_one)
{
	ck_assert(!rings(0));
	ck_assert_uint_eq(atomic_load(&seg.header->reset_watch), 1);
}
END_TEST

UNIT_MAIN("claim", the_broker_is_told_of_a_dirty_slot_that_is_given_on, nobody_is_told_of_a_clean_one)
