/* SPDX-License-Identifier: PostgreSQL */
/* Transitions of one slot word: what is allowed, what is not, and what each leaves in the word. */
#include "unit.h"

#include "slots.h"

#define CLIENT 3
#define ROW 5

static struct segment seg;

/* Slot 0 in any state, by legal transitions only. */
static uint64_t
in_state(unsigned state)
{
	uint64_t w;

	seg = unit_segment(70, 8);
	w = slot_load(&seg, 0);
	if (state == SLOT_EMPTY)
		return w;
	ck_assert(slot_take(&seg, 0, &w));
	if (state == SLOT_BROKER)
		return w;
	if (state == SLOT_GRANTED) {
		ck_assert(slot_grant(&seg, 0, &w, ROW, 11, SLOT_DIRTY));
		return w;
	}
	ck_assert(slot_idle(&seg, 0, &w, WORD_NONE, 0));
	if (state == SLOT_IDLE)
		return w;
	ck_assert(slot_lease(&seg, 0, &w, ROW, CLIENT));
	if (state == SLOT_LEASED)
		return w;
	ck_assert(slot_return(&seg, 0, &w, 0));
	return w;
}

START_TEST(only_the_transitions_of_the_protocol)
{
	/* rows: from; columns: take, empty, idle, grant, lease, return */
	static const bool allowed[SLOT_NSTATES][6] = {
	    [SLOT_EMPTY] = {1, 0, 0, 0, 0, 0},
	    [SLOT_BROKER] = {0, 1, 1, 1, 0, 0},
	    [SLOT_IDLE] = {1, 0, 0, 0, 1, 0},
	    [SLOT_GRANTED] = {1, 0, 1, 0, 1, 0},
	    [SLOT_LEASED] = {1, 0, 1, 1, 0, 1},
	    [SLOT_RETURNED] = {1, 0, 0, 0, 0, 0},
	};

	for (unsigned from = 0; from < SLOT_NSTATES; from++) {
		for (unsigned op = 0; op < 6; op++) {
			uint64_t w = in_state(from), before = w;
			bool done = false;

			switch (op) {
			case 0:
				done = slot_take(&seg, 0, &w);
				break;
			case 1:
				done = slot_empty(&seg, 0, &w);
				break;
			case 2:
				done = slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY);
				break;
			case 3:
				done = slot_grant(&seg, 0, &w, ROW, 1, SLOT_DIRTY);
				break;
			case 4:
				done = slot_lease(&seg, 0, &w, ROW, CLIENT);
				break;
			default:
				done = slot_return(&seg, 0, &w, 0);
				break;
			}
			ck_assert_msg(done == allowed[from][op], "from %s, operation %u", slot_state_name(from), op);
			ck_assert_uint_eq(word_seq(slot_load(&seg, 0)), word_seq(before) + done);
			ck_assert_uint_eq(slot_load(&seg, 0), w);
			segment_unmap(&seg);
		}
	}
}
END_TEST

START_TEST(an_old_word_fails_and_shows_the_new_one)
{
	uint64_t old = in_state(SLOT_LEASED), w = old;

	ck_assert(slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY));
	w = old; /* a second release with the first one's word */
	ck_assert(!slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY));
	ck_assert_uint_eq(w, slot_load(&seg, 0));
	w = slot_load(&seg, 0);
	ck_assert(slot_lease(&seg, 0, &w, ROW, CLIENT)); /* the same row leases again */
	ck_assert_uint_ne(w, old);
	ck_assert(!slot_idle(&seg, 0, &old, CLIENT, SLOT_DIRTY));
}
END_TEST

START_TEST(flags_stop_a_release_and_go_with_the_return)
{
	uint64_t w = in_state(SLOT_LEASED);

	ck_assert(slot_set_flags(&seg, 0, &w, SLOT_CANCELLING, 0));
	ck_assert(!slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY));
	ck_assert(!slot_grant(&seg, 0, &w, 1, 1, SLOT_DIRTY));
	ck_assert(slot_return(&seg, 0, &w, 0));
	ck_assert_uint_eq(word_flags(w), SLOT_CANCELLING);
	segment_unmap(&seg);

	w = in_state(SLOT_LEASED);
	ck_assert(slot_set_flags(&seg, 0, &w, SLOT_RETIRE, 0));
	ck_assert(!slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY));
	ck_assert(slot_set_flags(&seg, 0, &w, 0, SLOT_RETIRE));
	ck_assert(slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY));
}
END_TEST

START_TEST(dirt_is_forgotten_only_for_the_client_that_made_it)
{
	uint64_t w = in_state(SLOT_LEASED);

	ck_assert(slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY));
	ck_assert(slot_lease(&seg, 0, &w, ROW, CLIENT));
	ck_assert_uint_eq(word_flags(w), 0);
	ck_assert(slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY));
	ck_assert(slot_lease(&seg, 0, &w, ROW, CLIENT + 1));
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY);
	ck_assert(slot_idle(&seg, 0, &w, CLIENT, SLOT_DIRTY));
	ck_assert(slot_forget_client(&seg, 0, &w)); /* F3: the index may be another process's from now on */
	ck_assert(slot_lease(&seg, 0, &w, ROW, CLIENT));
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY);
}
END_TEST

START_TEST(a_grant_is_for_its_row_only)
{
	uint64_t w = in_state(SLOT_GRANTED);

	ck_assert_uint_eq(atomic_load(&seg.slot[0].grant_wait), 11);
	ck_assert(!slot_lease(&seg, 0, &w, ROW + 1, CLIENT));
	ck_assert(slot_lease(&seg, 0, &w, ROW, CLIENT));
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY);
}
END_TEST

static void
make_idle(uint32_t slot)
{
	uint64_t w = slot_load(&seg, slot);

	ck_assert(slot_take(&seg, slot, &w));
	ck_assert(slot_idle(&seg, slot, &w, WORD_NONE, 0));
}

START_TEST(search_prefers_then_goes_round_then_is_thorough)
{
	uint64_t w;

	seg = unit_segment(70, 8);
	ck_assert_int_eq(slot_find_idle(&seg, -1, 0, true, &w), -1);
	make_idle(2);
	make_idle(40);
	make_idle(69);
	ck_assert_int_eq(slot_find_idle(&seg, 40, 0, false, &w), 40);
	ck_assert_int_eq(slot_find_idle(&seg, 1, 0, false, &w), 2);
	ck_assert_int_eq(slot_find_idle(&seg, -1, 3, false, &w), 40);
	ck_assert_int_eq(slot_find_idle(&seg, -1, 41, false, &w), 69);
	w = slot_load(&seg, 69);
	ck_assert(slot_lease(&seg, 69, &w, ROW, CLIENT));
	ck_assert_int_eq(slot_find_idle(&seg, -1, 41, false, &w), 2); /* once round */
	/* The bitmap is a hint: without it only the thorough search finds. */
	atomic_store(&seg.header->idle_bitmap[0], 0);
	ck_assert_int_eq(slot_find_idle(&seg, -1, 0, false, &w), -1);
	ck_assert_int_eq(slot_find_idle(&seg, -1, 0, true, &w), 2);
	/* Scribbled: bits of slots that are not there. */
	atomic_store(&seg.header->idle_bitmap[1], ~UINT64_C(0));
	ck_assert_int_eq(slot_find_idle(&seg, 9999, 9999, true, &w), 2);
}
END_TEST

UNIT_MAIN("slots", only_the_transitions_of_the_protocol, an_old_word_fails_and_shows_the_new_one,
    flags_stop_a_release_and_go_with_the_return, dirt_is_forgotten_only_for_the_client_that_made_it,
    a_grant_is_for_its_row_only, search_prefers_then_goes_round_then_is_thorough)
