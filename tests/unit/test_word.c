/* SPDX-License-Identifier: PostgreSQL */
#include "unit.h"

#include "word.h"

START_TEST(packs_and_unpacks_every_field)
{
	uint64_t w = word_pack(SLOT_LEASED, SLOT_DIRTY | SLOT_RETIRE, 0xabcd, UINT64_C(0x123456789a));

	ck_assert_uint_eq(word_state(w), SLOT_LEASED);
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY | SLOT_RETIRE);
	ck_assert_uint_eq(word_who(w), 0xabcd);
	ck_assert_uint_eq(word_seq(w), UINT64_C(0x123456789a));
}
END_TEST

START_TEST(next_counts_and_wraps_without_touching_its_neighbours)
{
	uint64_t w = word_pack(SLOT_IDLE, 0, 3, WORD_SEQ_MASK);
	uint64_t next = word_next(w, SLOT_LEASED, SLOT_DIRTY, 9);

	ck_assert_uint_eq(word_seq(next), 0);
	ck_assert_uint_eq(word_who(next), 9);
	ck_assert_uint_eq(word_state(next), SLOT_LEASED);
	ck_assert_uint_eq(word_seq(word_next(next, SLOT_IDLE, 0, 1)), 1);
}
END_TEST

START_TEST(flags_keep_the_sequence)
{
	uint64_t w = word_pack(SLOT_LEASED, 0, 5, 77);
	uint64_t flagged = word_with_flags(w, SLOT_CANCELLING);

	ck_assert_uint_ne(w, flagged);
	ck_assert_uint_eq(word_seq(flagged), 77);
	ck_assert_uint_eq(word_with_flags(flagged, 0), w);
}
END_TEST

START_TEST(names_are_known_or_invalid)
{
	ck_assert_str_eq(slot_state_name(SLOT_RETURNED), "returned");
	ck_assert_str_eq(slot_state_name(15), "invalid");
	ck_assert_str_eq(row_state_name(ROW_WAITING), "waiting");
	ck_assert_str_eq(row_state_name(4), "invalid");
}
END_TEST

UNIT_MAIN("word", packs_and_unpacks_every_field, next_counts_and_wraps_without_touching_its_neighbours,
    flags_keep_the_sequence, names_are_known_or_invalid)
