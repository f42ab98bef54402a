/* SPDX-License-Identifier: PostgreSQL */
/* Giving slots up and taking grants; what is left by a granter that died at each step, and its repair. */
#include "unit.h"

#include "handoff.h"
#include "queue.h"
#include "rows.h"
#include "slots.h"

#define NOW UINT64_C(1000000000)
#define MS UINT64_C(1000000)

static struct segment seg;

/* Rows 0.. owned by clients 0.., slots all leased by row 0. */
static uint64_t
leased(uint32_t slot)
{
	uint64_t w = slot_load(&seg, slot);

	ck_assert(slot_take(&seg, slot, &w));
	ck_assert(slot_idle(&seg, slot, &w, WORD_NONE, 0));
	ck_assert(slot_lease(&seg, slot, &w, 0, 0));
	return w;
}

static void
setup(void)
{
	uint64_t w;

	seg = unit_segment(3, 5);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(row_claim(&seg, i, i, &w), (int)i);
}

static uint64_t
waiting(uint32_t row, uint64_t since)
{
	uint64_t w = row_load(&seg, row);

	ck_assert(row_wait(&seg, row, &w, since));
	ck_assert(queue_enter(&seg, row, word_seq(w), since));
	return word_seq(w);
}

static int
posts(uint32_t row)
{
	int value;

	sem_getvalue(&seg.row[row].sem, &value);
	return value;
}

START_TEST(without_waiters_it_is_idle_and_the_clients_own)
{
	uint64_t w;

	setup();
	w = leased(1);
	ck_assert_int_eq(handoff_give(&seg, 1, &w, 0, SLOT_DIRTY, NOW), HANDOFF_IDLE);
	ck_assert_uint_eq(word_state(w), SLOT_IDLE);
	ck_assert_uint_eq(word_who(w), 0);
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].idle_since), NOW);
}
END_TEST

START_TEST(a_fresh_waiter_is_woken_an_old_one_is_granted)
{
	uint64_t w, wait;

	setup();
	w = leased(1);
	wait = waiting(3, NOW - MS / 2);
	ck_assert_int_eq(handoff_give(&seg, 1, &w, 0, SLOT_DIRTY, NOW), HANDOFF_IDLE);
	ck_assert_int_eq(posts(3), 1);
	ck_assert(slot_lease(&seg, 1, &w, 0, 0)); /* barged */
	ck_assert_int_eq(handoff_give(&seg, 1, &w, 0, SLOT_DIRTY, NOW + MS), HANDOFF_GRANTED);
	ck_assert_uint_eq(word_state(w), SLOT_GRANTED);
	ck_assert_uint_eq(word_who(w), 3);
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY);
	ck_assert_uint_eq(word_state(row_load(&seg, 3)), ROW_GRANTED);
	ck_assert(!queue_maybe_waiting(&seg));
	ck_assert_int_eq(handoff_take_grant(&seg, 3, wait + 1, 3, &w), -1);
	ck_assert_int_eq(handoff_take_grant(&seg, 2, wait, 2, &w), -1);
	ck_assert_int_eq(handoff_take_grant(&seg, 3, wait, 3, &w), 1);
	ck_assert_uint_eq(word_state(w), SLOT_LEASED);
	ck_assert_int_eq(handoff_take_grant(&seg, 3, wait, 3, &w), -1);
}
END_TEST

START_TEST(a_grant_within_one_client_is_not_dirty)
{
	uint64_t w, row_w;

	setup();
	row_w = row_load(&seg, 3);
	ck_assert(row_free(&seg, 3, &row_w));
	ck_assert_int_eq(row_claim(&seg, 0, 3, &row_w), 3);
	w = leased(1);
	waiting(3, 0);
	ck_assert_int_eq(handoff_give(&seg, 1, &w, 0, SLOT_DIRTY, NOW), HANDOFF_GRANTED);
	ck_assert_uint_eq(word_flags(w), SLOT_OWN);
	/* But to a client that did not hold it before (WORD_NONE: a reset is owed), it is. */
	setup();
	w = leased(1);
	waiting(3, 0);
	ck_assert_int_eq(handoff_give(&seg, 1, &w, WORD_NONE, SLOT_DIRTY, NOW), HANDOFF_GRANTED);
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY);
}
END_TEST

START_TEST(flags_and_lost_words_are_told)
{
	uint64_t w, old;

	setup();
	w = old = leased(1);
	ck_assert(slot_set_flags(&seg, 1, &w, SLOT_RETIRE, 0));
	w = old; /* the releaser has not seen the flag */
	ck_assert_int_eq(handoff_give(&seg, 1, &w, 0, SLOT_DIRTY, NOW), HANDOFF_BLOCKED);
	ck_assert(slot_return(&seg, 1, &w, 0));
	w = old;
	ck_assert_int_eq(handoff_give(&seg, 1, &w, 0, SLOT_DIRTY, NOW), HANDOFF_LOST);
	ck_assert_uint_eq(word_state(slot_load(&seg, 1)), SLOT_RETURNED);
}
END_TEST

START_TEST(with_nobody_about_it_is_one_step_and_else_none)
{
	uint64_t w, old;

	setup();
	w = leased(1);
	atomic_store(&seg.slot[1].turn_leases, 5);
	ck_assert(handoff_release_alone(&seg, 1, w, 0, SLOT_DIRTY, NOW));
	ck_assert(slot_load(&seg, 1) == word_next(w, SLOT_IDLE, SLOT_DIRTY, 0));
	ck_assert_uint_eq(atomic_load(&seg.slot[1].idle_since), NOW);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].turn_at), NOW);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].turn_leases), 0);
	ck_assert(!handoff_release_alone(&seg, 1, w, 0, SLOT_DIRTY, NOW)); /* it is another's */
	w = old = leased(2);
	ck_assert(slot_set_flags(&seg, 2, &w, SLOT_RETIRE, 0));
	ck_assert(!handoff_release_alone(&seg, 2, w, 0, SLOT_DIRTY, NOW));
	ck_assert(!handoff_release_alone(&seg, 2, old, 0, SLOT_DIRTY, NOW)); /* the releaser has not seen the flag */
	ck_assert(slot_load(&seg, 2) == w);
	w = leased(0);
	waiting(3, NOW - MS);
	ck_assert(!handoff_release_alone(&seg, 0, w, 0, SLOT_DIRTY, NOW));
	ck_assert(slot_load(&seg, 0) == w);
	ck_assert_int_eq(posts(3), 0);
}
END_TEST

START_TEST(granter_died_between_s9_and_r4)
{
	uint64_t w, wait;

	setup();
	w = leased(1);
	wait = waiting(3, 0);
	ck_assert(slot_grant(&seg, 1, &w, 3, wait, SLOT_DIRTY));
	/* died here */
	ck_assert_uint_eq(handoff_recover(&seg, NOW), 1);
	ck_assert_uint_eq(word_state(row_load(&seg, 3)), ROW_GRANTED);
	ck_assert_int_ge(posts(3), 1);
	ck_assert_int_eq(handoff_take_grant(&seg, 3, wait, 3, &w), 1);
}
END_TEST

START_TEST(granter_died_between_r4_and_its_post)
{
	uint64_t w, wait;

	setup();
	w = leased(1);
	wait = waiting(3, 0);
	ck_assert(slot_grant(&seg, 1, &w, 3, wait, SLOT_DIRTY));
	ck_assert(row_grant(&seg, 3, wait));
	atomic_store(&seg.row[3].posted, 1); /* or just before sem_post */
	ck_assert_int_eq(posts(3), 0);
	handoff_recover(&seg, NOW);
	ck_assert_int_ge(posts(3), 1);
}
END_TEST

START_TEST(granter_died_before_its_post_and_the_broker_has_taken_the_grant_back)
{
	uint64_t w, wait;

	setup();
	w = leased(1);
	wait = waiting(3, 0);
	ck_assert(slot_grant(&seg, 1, &w, 3, wait, SLOT_DIRTY));
	ck_assert(row_grant(&seg, 3, wait));
	/* died here, `posted` not set; no word names the row any more */
	ck_assert(slot_take(&seg, 1, &w)); /* S12 */
	handoff_recover(&seg, NOW);
	ck_assert_int_eq(posts(3), 1);
}
END_TEST

START_TEST(grant_to_a_waiter_that_gave_up_is_taken_back_and_passed_on)
{
	uint64_t w, wait, row_w;

	setup();
	w = leased(1);
	wait = waiting(3, 0);
	waiting(4, 0);
	ck_assert(slot_grant(&seg, 1, &w, 3, wait, SLOT_OWN));
	row_w = row_load(&seg, 3);
	ck_assert(row_own(&seg, 3, &row_w)); /* timed out */
	ck_assert(handoff_repair(&seg, 1, NOW));
	w = slot_load(&seg, 1);
	ck_assert_uint_eq(word_state(w), SLOT_IDLE);
	ck_assert_uint_eq(word_who(w), WORD_NONE);
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY); /* row 3's client will not have it */
	ck_assert_int_eq(posts(4), 1);
	ck_assert(!handoff_repair(&seg, 1, NOW));
}
END_TEST

START_TEST(releaser_died_before_the_wake_path)
{
	uint64_t w;

	setup();
	w = leased(1);
	waiting(3, NOW);
	ck_assert(slot_idle(&seg, 1, &w, 0, SLOT_DIRTY));
	handoff_recover(&seg, NOW);
	ck_assert_int_eq(posts(3), 1);
}
END_TEST

static bool
watches(uint32_t row, uint64_t wait, uint64_t now)
{
	return handoff_watch(&seg, row, wait, handoff_is_keeping(&seg, now));
}

/* Who leases again at once keeps the slot for a turn, and then hands it over to whoever has waited for longest, however short. */
START_TEST(a_turn_begins_with_a_grant_and_ends_with_one)
{
	uint64_t w, wait;

	setup();
	w = leased(1);
	atomic_store(&seg.slot[1].turn_at, NOW);
	wait = waiting(3, NOW);
	atomic_store(&seg.header->kept_at, NOW);
	ck_assert(watches(3, wait, NOW));
	ck_assert_uint_eq(handoff_next_client(&seg, 1, NOW + MS / 10, true), WORD_NONE);
	ck_assert_int_eq(handoff_release(&seg, 1, &w, 0, SLOT_DIRTY, NOW + MS / 10, true), HANDOFF_IDLE);
	ck_assert_int_eq(posts(3), 0);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].turn_leases), 1);
	ck_assert(slot_lease(&seg, 1, &w, 0, 0));
	/* By number, and by time. */
	atomic_store(&seg.slot[1].turn_leases, 3);
	ck_assert_uint_eq(handoff_next_client(&seg, 1, NOW + MS / 10, true), 3);
	atomic_store(&seg.slot[1].turn_leases, 2);
	ck_assert_uint_eq(handoff_next_client(&seg, 1, NOW + MS / 10, true), WORD_NONE);
	ck_assert_uint_eq(handoff_next_client(&seg, 1, NOW + MS / 2, true), 3);
	ck_assert_int_eq(handoff_release(&seg, 1, &w, 0, SLOT_DIRTY, NOW + MS / 2, true), HANDOFF_GRANTED);
	ck_assert_int_eq(handoff_take_grant(&seg, 3, wait, 3, &w), 1);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].turn_at), NOW + MS / 2);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].turn_leases), 0);
	/* With nobody waiting a turn is always at its beginning. */
	ck_assert_int_eq(handoff_release(&seg, 1, &w, 3, SLOT_DIRTY, NOW + 9 * MS, true), HANDOFF_IDLE);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].turn_at), NOW + 9 * MS);
}
END_TEST

/* A waiter has the watch while slots are being kept, and as long as no other waiter has it. */
START_TEST(the_watch_is_taken_and_given_up)
{
	uint64_t w, wait, other;

	setup();
	w = leased(1);
	wait = waiting(3, NOW);
	other = waiting(4, NOW);
	ck_assert(!watches(3, wait, NOW));
	/* The first slot to be kept wakes somebody, and says that it was. */
	atomic_store(&seg.slot[1].turn_at, NOW);
	ck_assert_int_eq(handoff_release(&seg, 1, &w, 0, SLOT_DIRTY, NOW + MS / 10, true), HANDOFF_IDLE);
	ck_assert_int_eq(posts(3), 1);
	ck_assert_uint_eq(atomic_load(&seg.header->kept_at), NOW + MS / 10);
	ck_assert(watches(3, wait, NOW + MS));
	ck_assert(watches(3, wait, NOW + 2 * MS));
	ck_assert(!watches(4, other, NOW + 2 * MS));
	ck_assert(!watches(3, wait, NOW + 20 * MS));
	ck_assert_uint_eq(atomic_load(&seg.header->watcher), 0);
	/* One that does not wait any more has none. */
	atomic_store(&seg.header->kept_at, NOW + 20 * MS);
	ck_assert(watches(3, wait, NOW + 20 * MS));
	w = row_load(&seg, 3);
	ck_assert(row_own(&seg, 3, &w));
	ck_assert(watches(4, other, NOW + 20 * MS));
}
END_TEST

START_TEST(who_does_not_return_or_is_not_watched_wakes)
{
	uint64_t w, wait;

	setup();
	w = leased(1);
	atomic_store(&seg.slot[1].turn_at, NOW);
	wait = waiting(3, NOW);
	atomic_store(&seg.header->watcher, row_token(3, wait));
	ck_assert_int_eq(handoff_release(&seg, 1, &w, 0, SLOT_DIRTY, NOW + MS / 10, false), HANDOFF_IDLE);
	ck_assert_int_eq(posts(3), 1);

	setup();
	w = leased(1);
	atomic_store(&seg.slot[1].turn_at, NOW);
	wait = waiting(3, NOW);
	for (unsigned i = 0; i < 4; i++) {
		/* Nobody; another wait; a row that does not wait; scribbled. */
		const uint64_t tokens[] = {0, row_token(3, wait + 1), row_token(2, 1), UINT64_MAX};

		atomic_store(&seg.header->kept_at, NOW);
		atomic_store(&seg.header->watcher, tokens[i]);
		ck_assert(watches(3, wait, NOW));
		atomic_store(&seg.header->watcher, tokens[i]);
	}
	ck_assert_int_eq(handoff_release(&seg, 1, &w, 0, SLOT_DIRTY, NOW + MS / 10, true), HANDOFF_IDLE);
	ck_assert_int_eq(posts(3), 1);

	/* Turns of one lease: each release is the next one's. */
	setup();
	atomic_store(&seg.header->turn_leases, 1);
	w = leased(1);
	atomic_store(&seg.slot[1].turn_at, NOW);
	waiting(3, NOW);
	ck_assert_int_eq(handoff_release(&seg, 1, &w, 0, SLOT_DIRTY, NOW, true), HANDOFF_GRANTED);
}
END_TEST

START_TEST(a_grant_to_a_row_that_is_not_there_is_taken_back)
{
	uint64_t w;

	setup();
	w = leased(1);
	ck_assert(slot_grant(&seg, 1, &w, 4000, 1, SLOT_DIRTY)); /* scribbled */
	ck_assert(handoff_repair(&seg, 1, NOW));
	ck_assert_uint_eq(word_state(slot_load(&seg, 1)), SLOT_IDLE);
}
END_TEST

UNIT_MAIN("handoff", without_waiters_it_is_idle_and_the_clients_own, a_fresh_waiter_is_woken_an_old_one_is_granted,
    a_grant_within_one_client_is_not_dirty, flags_and_lost_words_are_told, with_nobody_about_it_is_one_step_and_else_none,
    granter_died_between_s9_and_r4,
    granter_died_between_r4_and_its_post, granter_died_before_its_post_and_the_broker_has_taken_the_grant_back,
    grant_to_a_waiter_that_gave_up_is_taken_back_and_passed_on, releaser_died_before_the_wake_path,
    a_turn_begins_with_a_grant_and_ends_with_one, the_watch_is_taken_and_given_up, who_does_not_return_or_is_not_watched_wakes,
    a_grant_to_a_row_that_is_not_there_is_taken_back)
