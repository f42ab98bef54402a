/* SPDX-License-Identifier: PostgreSQL */
/* A slot's table of prepared statements: what it knows, its bound, and what a scribbled one may cost. */
#include "unit.h"

#include <string.h>

#include "statements.h"

#define LIMIT 20
#define SLOT 1

static struct segment seg;

static void
start(uint32_t limit)
{
	struct segment_params params = {
	    .instance_name = "unit",
	    .pool_name = "app",
	    .user = "u",
	    .dbname = "d",
	    .nslots = 3,
	    .nrows = 4,
	    .nclients = 4,
	    .nstatements = limit,
	};
	int fd;

	ck_assert_int_eq(segment_create(&params, &seg, &fd), 0);
	close(fd);
}

/* Statement `n`; those of one `home` begin their search at the same entry. */
static struct statement_ref
find_at(uint32_t slot, uint64_t n, uint64_t where)
{
	struct statement_ref ref;

	statements_find(&seg, slot, (n + 1) * UINT64_C(0x9e3779b97f4a7c15), where << 32 | n, &ref);
	return ref;
}

static struct statement_ref
find(uint64_t n)
{
	/* Spread as a hash is. */
	return find_at(SLOT, n, n * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

static void
add(struct statement_ref ref)
{
	ck_assert_int_eq(ref.state, STATEMENT_UNKNOWN);
	statements_add(&seg, SLOT, &ref);
}

static void
put_to_use(uint64_t n)
{
	struct statement_ref ref = find(n);

	statements_used(&seg, SLOT, &ref);
}

static void
take_out(struct statement_ref ref)
{
	statements_remove(&seg, SLOT, &ref);
}

START_TEST(what_was_added_is_found_until_it_is_removed)
{
	start(LIMIT);
	add(find(1));
	add(find(2));
	ck_assert_int_eq(find(1).state, STATEMENT_KNOWN);
	ck_assert_int_eq(find(2).state, STATEMENT_KNOWN);
	ck_assert_int_eq(find(3).state, STATEMENT_UNKNOWN);
	/* Half a number is another number; so is the same one in another slot. */
	ck_assert_int_eq(find_at(SLOT, 1, 77).state, STATEMENT_UNKNOWN);
	ck_assert_int_eq(find_at(0, 1, UINT64_C(0x9e3779b97f4a7c15) >> 32).state, STATEMENT_UNKNOWN);
	ck_assert_int_eq(find_at(2, 1, UINT64_C(0x9e3779b97f4a7c15) >> 32).state, STATEMENT_UNKNOWN);
	take_out(find(1));
	take_out(find(1)); /* once more: nothing */
	ck_assert_int_eq(find(1).state, STATEMENT_UNKNOWN);
	ck_assert_int_eq(find(2).state, STATEMENT_KNOWN);
	segment_unmap(&seg);
}
END_TEST

/* All on one chain, around the table's end: each removal must leave all others to be found. */
START_TEST(a_removal_hides_nothing)
{
	for (unsigned order = 0; order < 3; order++) {
		bool there[LIMIT];

		start(LIMIT);
		for (uint64_t n = 0; n < LIMIT; n++) {
			/* Two homes, of which one lies within the other's chain. */
			add(find_at(SLOT, n, n % 3 == 0 ? UINT32_MAX : UINT32_MAX - UINT32_MAX / 16));
			there[n] = true;
		}
		for (unsigned i = 0; i < LIMIT; i++) {
			uint64_t gone = order == 0 ? i : order == 1 ? LIMIT - 1 - i : i * 7 % LIMIT;

			take_out(find_at(SLOT, gone, gone % 3 == 0 ? UINT32_MAX : UINT32_MAX - UINT32_MAX / 16));
			there[gone] = false;
			for (uint64_t n = 0; n < LIMIT; n++)
				ck_assert_int_eq(
				    find_at(SLOT, n, n % 3 == 0 ? UINT32_MAX : UINT32_MAX - UINT32_MAX / 16).state,
				    there[n] ? STATEMENT_KNOWN : STATEMENT_UNKNOWN);
		}
		segment_unmap(&seg);
	}
}
END_TEST

START_TEST(a_full_table_gives_up_the_least_recently_used)
{
	struct statement_ref victim;

	start(LIMIT);
	for (uint64_t n = 0; n < LIMIT; n++) {
		ck_assert(!statements_victim(&seg, SLOT, &victim));
		add(find(n));
	}
	put_to_use(0);
	put_to_use(2);
	for (uint64_t n = LIMIT; n < 3 * LIMIT; n++) {
		static const uint64_t first[] = {1, 3, 4};
		uint64_t i = n - LIMIT;
		struct statement_ref expected;

		ck_assert(statements_victim(&seg, SLOT, &victim));
		/* 1, 3, 4 ... 19, then 0 and 2, which were used after these, then the new ones in their order. */
		expected = find(i < 3 ? first[i] : i < LIMIT - 2 ? i + 2 : i == LIMIT - 2 ? 0 : i == LIMIT - 1 ? 2 : i);
		ck_assert_int_eq(expected.state, STATEMENT_KNOWN);
		ck_assert_uint_eq(victim.hi, expected.hi);
		ck_assert_uint_eq(victim.lo, expected.lo);
		ck_assert_int_eq(victim.state, STATEMENT_KNOWN);
		take_out(victim);
		ck_assert(!statements_victim(&seg, SLOT, &victim));
		add(find(n));
	}
	segment_unmap(&seg);
}
END_TEST

START_TEST(one_statement_and_a_thousand)
{
	static const uint32_t limits[] = {1, 2, LAYOUT_MAX_STATEMENTS};

	for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct statement_ref victim;

		start(limits[i]);
		for (uint64_t n = 0; n < 3 * limits[i]; n++) {
			if (statements_victim(&seg, SLOT, &victim)) {
				ck_assert_uint_ge(n, limits[i]);
				ck_assert_uint_eq(victim.hi, find(n - limits[i]).hi);
				take_out(victim);
			}
			add(find(n));
		}
		for (uint64_t n = 0; n < 3 * limits[i]; n++)
			ck_assert_int_eq(find(n).state, n < 2 * limits[i] ? STATEMENT_UNKNOWN : STATEMENT_KNOWN);
		segment_unmap(&seg);
	}
}
END_TEST

START_TEST(doubt_ends_for_each_when_it_works)
{
	start(LIMIT);
	add(find(1));
	add(find(2));
	statements_doubt(&seg, SLOT);
	add(find(3));
	ck_assert_int_eq(find(1).state, STATEMENT_DOUBTED);
	ck_assert_int_eq(find(2).state, STATEMENT_DOUBTED);
	ck_assert_int_eq(find(3).state, STATEMENT_KNOWN);
	put_to_use(2);
	ck_assert_int_eq(find(1).state, STATEMENT_DOUBTED);
	ck_assert_int_eq(find(2).state, STATEMENT_KNOWN);
	segment_unmap(&seg);
}
END_TEST

START_TEST(stale_until_prepared_anew)
{
	struct statement_ref ref;

	start(LIMIT);
	add(find(1));
	add(find(2));
	ref = find(1);
	statements_set_stale(&seg, SLOT, &ref);
	ck_assert_int_eq(find(1).state, STATEMENT_STALE);
	ck_assert_int_eq(find(2).state, STATEMENT_KNOWN);
	/* It may have been deallocated since. */
	statements_doubt(&seg, SLOT);
	ck_assert_int_eq(find(1).state, STATEMENT_DOUBTED);
	take_out(find(1));
	add(find(1));
	ck_assert_int_eq(find(1).state, STATEMENT_KNOWN);
	segment_unmap(&seg);
}
END_TEST

START_TEST(a_session_without_them_and_what_comes_too_late)
{
	struct statement_ref old, victim;

	start(LIMIT);
	for (uint64_t n = 0; n < LIMIT - 1; n++)
		add(find(n));
	old = find(LIMIT);
	statements_forget(&seg, SLOT);
	for (uint64_t n = 0; n < LIMIT; n++)
		ck_assert_int_eq(find(n).state, STATEMENT_UNKNOWN);
	/* From a lease of the session before. */
	statements_add(&seg, SLOT, &old);
	ck_assert_int_eq(find(LIMIT).state, STATEMENT_UNKNOWN);
	/* Room for as many as ever. */
	for (uint64_t n = 0; n < LIMIT; n++) {
		ck_assert(!statements_victim(&seg, SLOT, &victim));
		add(find(n));
	}
	old = find(0);
	old.epoch--;
	statements_remove(&seg, SLOT, &old);
	statements_set_stale(&seg, SLOT, &old);
	ck_assert_int_eq(find(0).state, STATEMENT_KNOWN);
	segment_unmap(&seg);
}
END_TEST

START_TEST(a_late_store_is_found_by_nobody)
{
	struct statement_table *table;
	uint64_t n = 5;

	/* A revoked lessee looked at the epoch, slept, and stores: as if the epoch moved within statements_add. */
	start(LIMIT);
	table = (struct statement_table *)(seg.statements + SLOT * layout_statements_size(LIMIT));
	add(find(n));
	atomic_fetch_add(&table->epoch, 1);
	ck_assert_int_eq(find(n).state, STATEMENT_UNKNOWN);
	add(find(n));
	ck_assert_int_eq(find(n).state, STATEMENT_KNOWN);
	segment_unmap(&seg);
}
END_TEST

START_TEST(none_are_kept)
{
	start(0);
	ck_assert_uint_eq(seg.nstatements, 0);
	statements_forget(&seg, SLOT); /* writes nowhere: the segment ends where the tables would be */
	segment_unmap(&seg);
}
END_TEST

/* Whatever is in the table: every call comes back, and only this slot's table is written. */
START_TEST(scribbles_do_not_hurt)
{
	static const int fills[] = {0xff, 0x01, 0x80, 0x00};
	size_t size = layout_statements_size(LIMIT);

	for (unsigned i = 0; i < sizeof(fills) / sizeof(fills[0]); i++) {
		for (unsigned header = 0; header < 2; header++) {
			struct statement_ref ref, victim;
			char *table, *before;

			start(LIMIT);
			table = seg.statements + SLOT * size;
			memset(seg.statements, 0x5a, 3 * size);
			before = malloc(size);
			ck_assert_ptr_nonnull(before);
			memcpy(before, seg.statements, size);
			memset(header ? table : table + sizeof(struct statement_table), fills[i],
			    header ? size : size - sizeof(struct statement_table));
			for (uint64_t n = 0; n < 3 * LIMIT; n++) {
				ref = find(n);
				statements_used(&seg, SLOT, &ref);
				statements_set_stale(&seg, SLOT, &ref);
				if (statements_victim(&seg, SLOT, &victim))
					statements_remove(&seg, SLOT, &victim);
				statements_add(&seg, SLOT, &ref);
				statements_doubt(&seg, SLOT);
			}
			statements_forget(&seg, SLOT);
			ck_assert_int_eq(memcmp(seg.statements, before, size), 0);
			ck_assert_int_eq(memcmp(seg.statements + 2 * size, before, size), 0);
			ck_assert_int_eq(find(1).state, STATEMENT_UNKNOWN);
			add(find(1));
			ck_assert_int_ne(find(1).state, STATEMENT_UNKNOWN);
			free(before);
			segment_unmap(&seg);
		}
	}
}
END_TEST

UNIT_MAIN("statements", what_was_added_is_found_until_it_is_removed, a_removal_hides_nothing,
    a_full_table_gives_up_the_least_recently_used, one_statement_and_a_thousand, doubt_ends_for_each_when_it_works,
    stale_until_prepared_anew, a_session_without_them_and_what_comes_too_late, a_late_store_is_found_by_nobody,
    none_are_kept, scribbles_do_not_hurt)
