/* SPDX-License-Identifier: PostgreSQL */
/* The strict reading of a reset's answer: the right one in any portions, and each way to be wrong. */
#include "unit.h"

#include <stdio.h>

#include "resets.h"

#define OFF_TIMEZONE 2u /* TimeZone is the second of the baseline */

static struct segment seg;

static void
prepare(void)
{
	static const char baseline[] = "client_encoding\0UTF8\0TimeZone\0Etc/UTC\0";

	seg = unit_segment(4, 8);
	memcpy(segment_baseline(&seg, 1), baseline, sizeof(baseline));
}

/* Messages of a server: a type and its body, each call one; `made` is what they make together. */
static bool asks;
static uint8_t made[8192];
static size_t made_size;

static void
say(char type, const void *body, size_t size)
{
	made[made_size] = (uint8_t)type;
	made[made_size + 1] = made[made_size + 2] = 0;
	made[made_size + 3] = (uint8_t)((size + 4) >> 8);
	made[made_size + 4] = (uint8_t)(size + 4);
	memcpy(made + made_size + 5, body, size);
	made_size += 5 + size;
}

#define SAY(type, body) say(type, body, sizeof(body))
#define READY(status) say('Z', status, 1)

static enum answer_verdict
read_in(size_t portion, enum reset_kind kind)
{
	struct resets_answer a;
	enum answer_verdict v = ANSWER_MORE;

	resets_answer_init(&a, &seg, 1, segment_baseline(&seg, 1), kind, asks);
	for (size_t at = 0; at < made_size && v == ANSWER_MORE; at += portion)
		v = resets_answer_feed(&a, made + at, made_size - at < portion ? made_size - at : portion);
	if (v == ANSWER_DONE)
		resets_done(&a);
	return v;
}

/* The same verdict whatever the portions are, but that the one byte too many may come after the verdict. */
static enum answer_verdict
verdict(enum reset_kind kind)
{
	enum answer_verdict whole = read_in(sizeof(made), kind);

	for (size_t portion = 1; portion < 40; portion++)
		ck_assert_int_eq(read_in(portion, kind), whole);
	made_size = 0;
	return whole;
}

START_TEST(the_right_answers)
{
	prepare();
	SAY('C', "DISCARD ALL");
	READY("I");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_DONE);

	SAY('N', "SWARNING\0Mthere is something\0");
	SAY('S', "TimeZone\0Etc/UTC");
	SAY('A', "\0\0\0\1channel\0payload");
	SAY('C', "DISCARD ALL");
	SAY('S', "client_encoding\0UTF8");
	READY("I");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_DONE);

	SAY('C', "CLOSE CURSOR ALL");
	SAY('C', "SET");
	SAY('C', "RESET");
	SAY('C', "UNLISTEN");
	SAY('T', "a row's description");
	SAY('D', "a row");
	SAY('C', "SELECT 1");
	SAY('C', "DISCARD TEMP");
	READY("I");
	ck_assert_int_eq(verdict(RESET_LIGHT), ANSWER_DONE);

	SAY('C', "UNLISTEN");
	READY("I");
	ck_assert_int_eq(verdict(RESET_UNLISTEN), ANSWER_DONE);

	SAY('C', "UNLISTEN");
	READY("I");
	SAY('C', "whatever");
	say('I', "", 0);
	SAY('T', "rows");
	SAY('C', "of any kind");
	READY("I");
	ck_assert_int_eq(verdict(RESET_SQL), ANSWER_DONE);
}
END_TEST

START_TEST(a_done_reset_is_counted)
{
	prepare();
	atomic_store(&seg.slot[1].session, 7);
	atomic_store(&seg.slot[1].off_baseline, OFF_TIMEZONE);
	SAY('S', "TimeZone\0Etc/UTC");
	SAY('C', "DISCARD ALL");
	READY("I");
	ck_assert_int_eq(read_in(sizeof(made), RESET_FULL), ANSWER_DONE);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].session), 8);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].off_baseline), 0);
	made_size = 0;
}
END_TEST

START_TEST(a_parameter_that_does_not_come_back)
{
	prepare();
	atomic_store(&seg.slot[1].off_baseline, OFF_TIMEZONE);
	SAY('C', "DISCARD ALL");
	READY("I");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('S', "client_encoding\0UTF8"); /* another one */
	SAY('C', "DISCARD ALL");
	READY("I");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
}
END_TEST

/* Each a list of messages that a reset of this kind must not be answered with. */
START_TEST(wrong_answers)
{
	prepare();
	READY("I"); /* nothing was done */
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('C', "DISCARD TEMP");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('C', "DISCARD ALL");
	SAY('C', "DISCARD ALL");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	say('C', "DISCARD ALL", 11); /* without its zero */
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('C', "DISCARD ALL");
	READY("T"); /* in a transaction */
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('C', "DISCARD ALL");
	say('Z', "II", 2);
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('E', "SERROR\0C25001\0");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('S', "TimeZone\0Asia/Tokyo");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('S', "what_is_that\0on");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('T', "rows of somebody");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	SAY('G', "COPY"); /* reset_sql must not begin a COPY */
	ck_assert_int_eq(verdict(RESET_SQL), ANSWER_BAD);
	SAY('C', "UNLISTEN");
	READY("I");
	READY("I"); /* nothing came for reset_sql */
	ck_assert_int_eq(verdict(RESET_SQL), ANSWER_BAD);
	SAY('C', "SET");
	ck_assert_int_eq(verdict(RESET_LIGHT), ANSWER_BAD);
	memcpy(made, "C\0\0\0\3", made_size = 5); /* no message has this length */
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
	memcpy(made, "C\177\377\377\377", made_size = 5);
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
}
END_TEST

static const char row_utf8[] = "\0\1\0\0\0\4UTF8", row_utc[] = "\0\1\0\0\0\7Etc/UTC", row_tokyo[] = "\0\1\0\0\0\12Asia/Tokyo";

#define ROW(row) say('D', row, sizeof(row) - 1)

START_TEST(the_answer_to_the_question)
{
	prepare();
	asks = true;
	atomic_store(&seg.slot[1].off_baseline, OFF_TIMEZONE); /* the values tell better than a missing report */
	atomic_store(&seg.slot[1].unverified, 1);
	SAY('C', "DISCARD ALL");
	READY("I");
	SAY('T', "a row's description");
	ROW(row_utf8);
	ROW(row_utc);
	SAY('C', "SELECT 2");
	READY("I");
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_DONE);
	ck_assert_uint_eq(atomic_load(&seg.slot[1].unverified), 0);
	ck_assert_uint_gt(atomic_load(&seg.slot[1].asked_at), 0);

	ROW(row_utf8);
	ROW(row_utc);
	SAY('C', "SELECT 2");
	READY("I");
	ck_assert_int_eq(verdict(RESET_NONE), ANSWER_DONE);

	ROW(row_utf8);
	ROW(row_tokyo);
	ck_assert_int_eq(verdict(RESET_NONE), ANSWER_BAD);
	ROW(row_utf8);
	SAY('C', "SELECT 1");
	READY("I"); /* one is missing */
	ck_assert_int_eq(verdict(RESET_NONE), ANSWER_BAD);
	ROW(row_utf8);
	ROW(row_utc);
	ROW(row_utc); /* one too many */
	ck_assert_int_eq(verdict(RESET_NONE), ANSWER_BAD);
	SAY('D', "\0\1\0\0\0\100UTF8"); /* longer than it is */
	ck_assert_int_eq(verdict(RESET_NONE), ANSWER_BAD);
	SAY('C', "DISCARD ALL");
	READY("I"); /* the question is not answered yet */
	ck_assert_int_eq(read_in(sizeof(made), RESET_FULL), ANSWER_MORE);
	made_size = 0;
	asks = false;
	ROW(row_utf8); /* nobody asked */
	ck_assert_int_eq(verdict(RESET_FULL), ANSWER_BAD);
}
END_TEST

START_TEST(a_byte_after_the_answer)
{
	prepare();
	SAY('C', "DISCARD ALL");
	READY("I");
	made[made_size++] = 'N';
	ck_assert_int_eq(read_in(sizeof(made), RESET_FULL), ANSWER_BAD);
	made_size = 0;
}
END_TEST

START_TEST(an_endless_answer)
{
	struct resets_answer a;
	enum answer_verdict v = ANSWER_MORE;
	unsigned rounds = 0;

	prepare();
	resets_answer_init(&a, &seg, 1, segment_baseline(&seg, 1), RESET_FULL, false);
	for (unsigned i = 0; i < 100; i++)
		SAY('N', "SNOTICE\0Mand another\0");
	for (; v == ANSWER_MORE && rounds < 100000; rounds++)
		v = resets_answer_feed(&a, made, made_size);
	ck_assert_int_eq(v, ANSWER_BAD);
	made_size = 0;
}
END_TEST

static struct resets_told told;

static enum answer_verdict
read_behind(enum reset_kind kind, bool question)
{
	enum answer_verdict first = ANSWER_MORE;

	for (size_t portion = made_size; portion > 0; portion = portion > 40 ? 40 : portion - 1) {
		struct resets_answer a;
		enum answer_verdict v = ANSWER_MORE;

		resets_answer_init(&a, &seg, 1, segment_baseline(&seg, 1), kind, question);
		resets_answer_sets(&a, &told);
		for (size_t at = 0; at < made_size && v == ANSWER_MORE; at += portion)
			v = resets_answer_feed(&a, made + at, made_size - at < portion ? made_size - at : portion);
		if (portion == made_size)
			first = v;
		ck_assert_int_eq(v, first);
	}
	made_size = 0;
	return first;
}

START_TEST(statements_behind)
{
	prepare();
	SAY('C', "DISCARD ALL");
	SAY('S', "TimeZone\0Etc/UTC");
	READY("I");
	SAY('C', "SET");
	SAY('T', "a row's description");
	SAY('D', "a row");
	SAY('C', "SELECT 1");
	SAY('S', "TimeZone\0Asia/Tokyo");
	SAY('N', "SNOTICE\0Mand another\0");
	SAY('S', "TimeZone\0Europe/Paris");
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_DONE);
	ck_assert(!told.refused);
	ck_assert_str_eq(resets_told_find(&told, "TimeZone"), "Europe/Paris");
	ck_assert_ptr_null(resets_told_find(&told, "client_encoding"));

	/* Without a reset before; and behind a question. */
	SAY('C', "SET");
	READY("I");
	ck_assert_int_eq(read_behind(RESET_NONE, false), ANSWER_DONE);
	ck_assert_ptr_null(resets_told_find(&told, "TimeZone"));
	SAY('C', "DISCARD ALL");
	READY("I");
	say('D', "\0\1\0\0\0\4UTF8", 10);
	say('D', "\0\1\0\0\0\7Etc/UTC", 13);
	SAY('C', "SELECT 2");
	READY("I");
	SAY('C', "SET");
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, true), ANSWER_DONE);

	/* Refused: the session is as it was. */
	SAY('C', "DISCARD ALL");
	READY("I");
	SAY('E', "SERROR\0C22023\0Mno\0");
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_DONE);
	ck_assert(told.refused);

	/* Not the reset's answer: as strict as ever. */
	SAY('E', "SERROR\0C22023\0Mno\0");
	READY("I");
	SAY('C', "SET");
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_BAD);
	SAY('C', "DISCARD ALL");
	SAY('S', "TimeZone\0Asia/Tokyo");
	READY("I");
	SAY('C', "SET");
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_BAD);
	atomic_store(&seg.slot[1].off_baseline, OFF_TIMEZONE);
	SAY('C', "DISCARD ALL");
	READY("I");
	SAY('S', "TimeZone\0Etc/UTC"); /* too late: of the statements */
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_BAD);
	atomic_store(&seg.slot[1].off_baseline, 0);

	/* Nor one of such statements. */
	SAY('C', "DISCARD ALL");
	READY("I");
	READY("T"); /* a transaction left open */
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_BAD);
	SAY('C', "DISCARD ALL");
	READY("I");
	SAY('S', "unheard_of\0value");
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_BAD);
	SAY('C', "DISCARD ALL");
	READY("I");
	SAY('S', "TimeZone\0Etc\0UTC");
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_BAD);
	SAY('C', "DISCARD ALL");
	READY("I");
	SAY('G', "\0\0"); /* COPY */
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_BAD);
}
END_TEST

START_TEST(more_than_can_be_told)
{
	static const char name[] = "TimeZone";
	char body[600];

	prepare();
	memset(body, 'x', sizeof(body));
	memcpy(body, name, sizeof(name));
	body[sizeof(body) - 1] = '\0';
	SAY('C', "DISCARD ALL");
	READY("I");
	for (unsigned i = 0; i < 4; i++)
		say('S', body, sizeof(body));
	READY("I");
	ck_assert_int_eq(read_behind(RESET_FULL, false), ANSWER_BAD);
}
END_TEST

START_TEST(the_messages)
{
	static const char unlisten[] = "Q\0\0\0\017UNLISTEN *", mine[] = "Q\0\0\0\014my sql!";
	static char longest[2 * LAYOUT_RESET_SQL];
	uint8_t buf[RESETS_MESSAGE];

	ck_assert_uint_eq(resets_message(RESET_FULL, "", NULL, buf), 17);
	ck_assert_int_eq(memcmp(buf, "Q\0\0\0\020DISCARD ALL", 17), 0);
	ck_assert_uint_eq(resets_message(RESET_SQL, "my sql!", NULL, buf), sizeof(unlisten) + sizeof(mine));
	ck_assert_int_eq(memcmp(buf, unlisten, sizeof(unlisten)), 0);
	ck_assert_int_eq(memcmp(buf + sizeof(unlisten), mine, sizeof(mine)), 0);
	ck_assert_uint_eq(resets_message(RESET_NONE, "", NULL, buf), 0);
	prepare();
	ck_assert_uint_gt(resets_message(RESET_NONE, "", segment_baseline(&seg, 1), buf), 60);
	ck_assert_ptr_nonnull(strstr((const char *)buf + 5, "'{client_encoding,TimeZone}'"));
	/* No question from a baseline that is none, and none that would be more than a question. */
	ck_assert_uint_eq(resets_message(RESET_FULL, "", segment_baseline(&seg, 2), buf), 0);
	memcpy(segment_baseline(&seg, 2), "a'b\0value\0", 11);
	ck_assert_uint_eq(resets_message(RESET_FULL, "", segment_baseline(&seg, 2), buf), 0);
	memset(longest, 'x', sizeof(longest) - 1);
	ck_assert_uint_le(resets_message(RESET_SQL, longest, NULL, buf), sizeof(buf));
	ck_assert_uint_le(resets_message(RESET_LIGHT, "", NULL, buf), sizeof(buf));
}
END_TEST

START_TEST(what_keeps_prepared_statements)
{
	ck_assert(!resets_keep_statements(RESET_FULL, ""));
	ck_assert(resets_keep_statements(RESET_LIGHT, ""));
	ck_assert(resets_keep_statements(RESET_UNLISTEN, ""));
	ck_assert(resets_keep_statements(RESET_SQL, "reset all"));
	ck_assert(!resets_keep_statements(RESET_SQL, "reset all; Deallocate All"));
	ck_assert(!resets_keep_statements(RESET_SQL, "discard all"));
}
END_TEST

UNIT_MAIN("resets", the_right_answers, a_done_reset_is_counted, a_parameter_that_does_not_come_back, wrong_answers,
    the_answer_to_the_question, a_byte_after_the_answer, an_endless_answer, statements_behind,
    more_than_can_be_told, the_messages, what_keeps_prepared_statements)
