/* SPDX-License-Identifier: PostgreSQL */
/* Times at the command line. */
#include <errno.h>
#include <time.h>

#include "time_text.h"
#include "unit.h"

#define SECOND UINT64_C(1000000000)
/* 2026-11-25 12:00:00 in Berlin (+01:00), which is 11:00 UTC. */
#define NOON (UINT64_C(1795604400) * SECOND)

static void
zone(void)
{
	ck_assert_int_eq(setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1), 0);
	tzset();
}

static uint64_t
parsed(const char *text)
{
	uint64_t ns = 1;

	ck_assert_msg(time_text_parse(text, NOON, &ns) == 0, "%s", text);
	return ns;
}

START_TEST(test_times)
{
	zone();
	ck_assert_uint_eq(parsed("now"), NOON);
	ck_assert_uint_eq(parsed("30s"), NOON - 30 * SECOND);
	ck_assert_uint_eq(parsed("10min"), NOON - 600 * SECOND);
	ck_assert_uint_eq(parsed("2h"), NOON - 7200 * SECOND);
	ck_assert_uint_eq(parsed("1.5h"), NOON - 5400 * SECOND);
	ck_assert_uint_eq(parsed("1d"), NOON - 86400 * SECOND);
	ck_assert_uint_eq(parsed("0s"), NOON);
	/* Of the day, here. */
	ck_assert_uint_eq(parsed("12:00"), NOON);
	ck_assert_uint_eq(parsed("11:59:30"), NOON - 30 * SECOND);
	ck_assert_uint_eq(parsed("12:01"), NOON - (86400 - 60) * SECOND); /* it was yesterday */
	ck_assert_uint_eq(parsed("00:00"), NOON - 43200 * SECOND);
	/* Dates and RFC 3339. */
	ck_assert_uint_eq(parsed("2026-11-25"), NOON - 43200 * SECOND);
	ck_assert_uint_eq(parsed("2026-11-25 12:00"), NOON);
	ck_assert_uint_eq(parsed("2026-11-25T12:00:00"), NOON);
	ck_assert_uint_eq(parsed("2026-11-25T11:00:00Z"), NOON);
	ck_assert_uint_eq(parsed("2026-11-25t11:00:00z"), NOON);
	ck_assert_uint_eq(parsed("2026-11-25T06:30:00-04:30"), NOON);
	ck_assert_uint_eq(parsed("2026-11-25T20:00+0900"), NOON);
	ck_assert_uint_eq(parsed("2026-11-25T11:00:00.25Z"), NOON + SECOND / 4);
	ck_assert_uint_eq(parsed("2026-11-25T11:00:00.123456789123Z"), NOON + 123456789);
	ck_assert_uint_eq(parsed("1970-01-01T00:00:00Z"), 0);
	ck_assert_uint_eq(parsed("2024-02-29T00:00Z"), UINT64_C(1709164800) * SECOND);
	/* Summer time: two hours before UTC. */
	ck_assert_uint_eq(parsed("2026-07-01 12:00"), UINT64_C(1782900000) * SECOND);
}
END_TEST

START_TEST(test_bad_times)
{
	static const char *const bad[] = {"", " ", "10", "10m", "min", "-10min", "+10min", "1e99d", "11d 2h", "nan", "infs",
	    "0x10s", "99999999999d", "yesterday", "12", "12:", "24:00", "12:60", "12:00:61", "12:00:00x", "1:00", "12:00Z",
	    "2026-11-25T", "2026-11-25Z", "2026-11-25T11", "2026-11-25T11:00+", "2026-11-25T11:00+1", "2026-11-25T11:00:00.Z",
	    "2026-11-25T11:00Zx", "2026-11-25x11:00", "2026-02-29", "2100-02-29", "2026-04-31", "2026-00-10", "2026-13-01",
	    "2026-11-00", "20261125", "1969-12-31", "9999-01-01", "26-11-25", "now ", "NOW", "2026-11"};
	uint64_t ns = 1;

	zone();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(time_text_parse(bad[i], NOON, &ns) == -EINVAL && ns == 1, "'%s'", bad[i]);
}
END_TEST

START_TEST(test_lengths)
{
	uint64_t ns = 1;

	ck_assert_int_eq(time_text_length("1min", &ns), 0);
	ck_assert_uint_eq(ns, 60 * SECOND);
	ck_assert_int_eq(time_text_length("250ms", &ns), 0);
	ck_assert_uint_eq(ns, SECOND / 4);
	ck_assert_int_eq(time_text_length("2 h", &ns), 0);
	ck_assert_uint_eq(ns, 7200 * SECOND);
	ck_assert_int_eq(time_text_length("now", &ns), -EINVAL);
	ck_assert_int_eq(time_text_length("12:00", &ns), -EINVAL);
}
END_TEST

UNIT_MAIN("stat_time", test_times, test_bad_times, test_lengths)
