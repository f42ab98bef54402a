/* SPDX-License-Identifier: PostgreSQL */
/* The rules of alerts, one by one, with a clock of the test's own; and their rows in the lease segment. */
#include <pthread.h>
#include <string.h>

#include "alert_watch.h"
#include "unit.h"

#define SECOND UINT64_C(1000000000)
#define START (1000 * SECOND)

static struct alert_watch watch;
static struct alert_rules rules;
static struct alert_facts facts;
static alert_buckets times[ALERT_NTIMES];

/* An alert a rule: all others are off. */
static void
begin(enum alert_id id, uint64_t limit)
{
	memset(&watch, 0, sizeof(watch));
	memset(times, 0, sizeof(times));
	rules = (struct alert_rules){.window = 30 * SECOND, .raise_after = 5 * SECOND, .clear_after = 10 * SECOND};
	rules.limit[id] = limit;
	facts = (struct alert_facts){.now = START, .time = times};
	ck_assert_uint_eq(alert_watch_look(&watch, &rules, &facts), 0);
	ck_assert_int_eq(watch.alert[id].state, ALERT_OK);
}

/* A second later; true when this alert, and no other, has turned. */
static bool
look(enum alert_id id)
{
	uint32_t turned;

	facts.now += SECOND;
	turned = alert_watch_look(&watch, &rules, &facts);
	ck_assert_uint_eq(turned & ~(1u << id), 0);
	return turned != 0;
}

/* So many looks, and nothing turns. */
static void
stays(enum alert_id id, unsigned looks)
{
	for (unsigned i = 0; i < looks; i++)
		ck_assert_msg(!look(id), "it turned at look %u", i + 1);
}

/* It turns at the look with this number, not before; its state and count then. */
static void
turns(enum alert_id id, unsigned number, enum alert_state state, uint64_t count)
{
	stays(id, number - 1);
	ck_assert_msg(look(id), "it did not turn at look %u", number);
	ck_assert_int_eq(watch.alert[id].state, state);
	ck_assert_uint_eq(watch.alert[id].count, count);
	ck_assert_uint_eq(watch.alert[id].since, facts.now);
}

START_TEST(it_turns_after_its_time_and_not_before)
{
	begin(ALERT_MAXWAIT, SECOND);
	facts.maxwait = SECOND - 1;
	stays(ALERT_MAXWAIT, 20);
	facts.maxwait = SECOND;
	turns(ALERT_MAXWAIT, 6, ALERT_RAISED, 1); /* the sixth look sees that it has been so for five seconds */
	stays(ALERT_MAXWAIT, 20);
	ck_assert_uint_eq(watch.alert[ALERT_MAXWAIT].value, SECOND);
	ck_assert_uint_eq(watch.alert[ALERT_MAXWAIT].limit, SECOND);
	/* Between four fifths of the limit and the limit nothing changes, neither this nor that way. */
	facts.maxwait = SECOND - 1;
	stays(ALERT_MAXWAIT, 60);
	facts.maxwait = SECOND / 5 * 4;
	stays(ALERT_MAXWAIT, 60);
	facts.maxwait = SECOND / 5 * 4 - 1;
	turns(ALERT_MAXWAIT, 11, ALERT_OK, 1);
	facts.maxwait = 2 * SECOND;
	turns(ALERT_MAXWAIT, 6, ALERT_RAISED, 2);
}
END_TEST

START_TEST(a_break_begins_anew)
{
	begin(ALERT_MAXWAIT, SECOND);
	for (unsigned i = 0; i < 5; i++) {
		facts.maxwait = 9 * SECOND;
		stays(ALERT_MAXWAIT, 5);
		facts.maxwait = 0;
		stays(ALERT_MAXWAIT, 1);
	}
	/* So does a time in which nobody looked. */
	facts.maxwait = 9 * SECOND;
	stays(ALERT_MAXWAIT, 4);
	facts.now += 3 * SECOND;
	turns(ALERT_MAXWAIT, 6, ALERT_RAISED, 1);
	facts.maxwait = 0;
	for (unsigned i = 0; i < 5; i++) {
		facts.maxwait = 0;
		stays(ALERT_MAXWAIT, 10);
		facts.maxwait = SECOND;
		stays(ALERT_MAXWAIT, 1);
	}
}
END_TEST

START_TEST(without_times_it_turns_at_once)
{
	begin(ALERT_LEAKS, 1);
	rules.raise_after = rules.clear_after = 0;
	facts.leaks = 1;
	turns(ALERT_LEAKS, 1, ALERT_RAISED, 1);
	facts.leaks = 0;
	turns(ALERT_LEAKS, 1, ALERT_OK, 1);
	facts.leaks = 3;
	turns(ALERT_LEAKS, 1, ALERT_RAISED, 2);
	ck_assert_uint_eq(watch.alert[ALERT_LEAKS].value, 3);
}
END_TEST

/* As a restart with other settings may do. */
START_TEST(other_limits_take_its_place)
{
	begin(ALERT_MEMORY_USAGE, 100);
	facts.memory = 150;
	turns(ALERT_MEMORY_USAGE, 6, ALERT_RAISED, 1);
	rules.limit[ALERT_MEMORY_USAGE] = 120;
	stays(ALERT_MEMORY_USAGE, 20);
	ck_assert_uint_eq(watch.alert[ALERT_MEMORY_USAGE].limit, 120);
	rules.limit[ALERT_MEMORY_USAGE] = 0;
	turns(ALERT_MEMORY_USAGE, 1, ALERT_OFF, 1);
	stays(ALERT_MEMORY_USAGE, 20);
	ck_assert_uint_eq(watch.alert[ALERT_MEMORY_USAGE].value, 150); /* it is known all the same */
	ck_assert_uint_eq(watch.alert[ALERT_MEMORY_USAGE].limit, ALERT_NONE);
	rules.limit[ALERT_MEMORY_USAGE] = 150;
	turns(ALERT_MEMORY_USAGE, 6, ALERT_RAISED, 2);
	/* Unknown is no reason to go on. */
	facts.memory = 0;
	turns(ALERT_MEMORY_USAGE, 11, ALERT_OK, 2);
	ck_assert_uint_eq(watch.alert[ALERT_MEMORY_USAGE].value, ALERT_NONE);
}
END_TEST

START_TEST(gauges_are_judged_by_their_own_number)
{
	begin(ALERT_UPSTREAM_DOWN, 5 * SECOND);
	facts.maxwait = facts.memory = facts.leaks = 99 * SECOND;
	stays(ALERT_UPSTREAM_DOWN, 10);
	facts.failing = 5 * SECOND;
	turns(ALERT_UPSTREAM_DOWN, 6, ALERT_RAISED, 1);

	begin(ALERT_HEALTH, 2);
	facts.health = 1;
	stays(ALERT_HEALTH, 10);
	facts.health = 2;
	turns(ALERT_HEALTH, 6, ALERT_RAISED, 1);

	/* The mean of the window: half of it full makes a half. */
	begin(ALERT_POOL_USAGE, 900000);
	for (unsigned i = 0; i < 60; i++) {
		facts.usage_looks += 10;
		facts.usage_sum += i % 2 == 0 ? 10 * 1000000 : 0;
		stays(ALERT_POOL_USAGE, 1);
	}
	ck_assert_uint_eq(watch.alert[ALERT_POOL_USAGE].value / 100000, 5);
	/* Four fifths of it full, and a fifth half: nine tenths; and five seconds. */
	for (unsigned i = 0; i < 40; i++) {
		facts.usage_looks += 10;
		facts.usage_sum += 10 * 1000000;
		ck_assert(!look(ALERT_POOL_USAGE) || (i >= 24 + 5 - 1 && i <= 28 + 5));
	}
	ck_assert_int_eq(watch.alert[ALERT_POOL_USAGE].state, ALERT_RAISED);
}
END_TEST

/* So many acquires in each of so many seconds, of which so many fail; whether it has turned. */
static bool
acquires(unsigned seconds, unsigned good, unsigned bad)
{
	bool turned = false;

	for (unsigned i = 0; i < seconds; i++) {
		facts.acquired += good;
		facts.failed += bad;
		turned |= look(ALERT_FAILURE_RATE);
	}
	return turned;
}

START_TEST(a_share_needs_enough_of_them)
{
	/* 19, all of which fail. */
	begin(ALERT_FAILURE_RATE, 50000);
	ck_assert(!acquires(19, 0, 1) && !acquires(60, 0, 0));
	/* 20, of which two fail; three. */
	begin(ALERT_FAILURE_RATE, 50000);
	ck_assert(!acquires(1, 18, 2) && !acquires(60, 0, 0));
	begin(ALERT_FAILURE_RATE, 50000);
	ck_assert(!acquires(1, 16, 4));
	ck_assert(acquires(6, 0, 0));
	ck_assert_uint_eq(watch.alert[ALERT_FAILURE_RATE].value, 200000);
	/* Nothing happens any more: the window empties, and then it takes its time. */
	ck_assert(!acquires(30, 0, 0));
	ck_assert(acquires(20, 0, 0));
	ck_assert_int_eq(watch.alert[ALERT_FAILURE_RATE].state, ALERT_OK);
	ck_assert_uint_eq(watch.alert[ALERT_FAILURE_RATE].value, ALERT_NONE);
}
END_TEST

START_TEST(a_share_is_above_beyond_chance)
{
	/* Of 300 in a window six in a hundred fail: it might be chance; of 30,000 it is not. */
	begin(ALERT_FAILURE_RATE, 50000);
	for (unsigned i = 0; i < 30; i++)
		ck_assert(!acquires(4, 10, 0) && !acquires(1, 7, 3));
	ck_assert_uint_gt(watch.alert[ALERT_FAILURE_RATE].value, 50000);
	begin(ALERT_FAILURE_RATE, 50000);
	ck_assert(acquires(30, 940, 60));
	/* Of less than the threshold any number may fail. */
	begin(ALERT_FAILURE_RATE, 50000);
	ck_assert(!acquires(300, 951, 49));
	/* A threshold of all of them can be reached. */
	begin(ALERT_FAILURE_RATE, 1000000);
	ck_assert(!acquires(60, 1, 999));
	begin(ALERT_FAILURE_RATE, 1000000);
	ck_assert(acquires(10, 0, 1000));
}
END_TEST

START_TEST(only_the_window_counts)
{
	/* An hour of good ones does not hide what is bad now. */
	begin(ALERT_FAILURE_RATE, 50000);
	ck_assert(!acquires(3600, 1000, 0));
	ck_assert(acquires(20, 500, 500));
	/* Nor does it stay raised for what was bad: a window, and the time to clear. */
	ck_assert(!acquires(20, 1000, 0));
	ck_assert(acquires(40, 1000, 0));
	/* What was before the first look counts for nothing. */
	memset(&watch, 0, sizeof(watch));
	facts.failed += 1000000;
	facts.now += SECOND;
	ck_assert_uint_eq(alert_watch_look(&watch, &rules, &facts), 0);
	ck_assert(!acquires(60, 10, 0));
	/* Nor does a counter that a client has set back, or on, make more of it than one window. */
	facts.failed = 0;
	ck_assert(!acquires(60, 10, 0));
}
END_TEST

static void
times_of(enum alert_time time, unsigned n, uint64_t ns)
{
	times[time][histogram_bucket_of(ns)] += n;
}

START_TEST(times_are_judged_by_their_share)
{
	/* Half of the connects; three at least. */
	begin(ALERT_CONNECTION_TIME, 5 * SECOND);
	times_of(ALERT_TIME_CONNECT, 2, 9 * SECOND);
	stays(ALERT_CONNECTION_TIME, 60);
	begin(ALERT_CONNECTION_TIME, 5 * SECOND);
	times_of(ALERT_TIME_CONNECT, 3, 5 * SECOND);
	turns(ALERT_CONNECTION_TIME, 6, ALERT_RAISED, 1);
	ck_assert_uint_eq(watch.alert[ALERT_CONNECTION_TIME].value, 5 * SECOND);
	begin(ALERT_CONNECTION_TIME, 5 * SECOND);
	times_of(ALERT_TIME_CONNECT, 3, 9 * SECOND);
	times_of(ALERT_TIME_CONNECT, 4, SECOND / 100);
	stays(ALERT_CONNECTION_TIME, 60);

	/* One lease in twenty. */
	begin(ALERT_WAIT_TIME, SECOND);
	for (unsigned i = 0; i < 120; i++) {
		times_of(ALERT_TIME_WAIT, 96, 0);
		times_of(ALERT_TIME_WAIT, 4, 3 * SECOND);
		stays(ALERT_WAIT_TIME, 1);
	}
	ck_assert_uint_eq(watch.alert[ALERT_WAIT_TIME].value, 0);
	begin(ALERT_WAIT_TIME, SECOND);
	for (unsigned i = 0; i < 15 && watch.alert[ALERT_WAIT_TIME].state != ALERT_RAISED; i++) {
		times_of(ALERT_TIME_WAIT, 80, 0);
		times_of(ALERT_TIME_WAIT, 20, 3 * SECOND);
		look(ALERT_WAIT_TIME);
	}
	ck_assert_int_eq(watch.alert[ALERT_WAIT_TIME].state, ALERT_RAISED);
	ck_assert_uint_gt(watch.alert[ALERT_WAIT_TIME].value, 2 * SECOND);

	/* One query in a hundred; a slow one among twenty is none. */
	begin(ALERT_QUERY_TIME_P99, SECOND / 10);
	times_of(ALERT_TIME_QUERY, 19, 1000000);
	times_of(ALERT_TIME_QUERY, 1, 30 * SECOND);
	stays(ALERT_QUERY_TIME_P99, 60);
	times_of(ALERT_TIME_QUERY, 97, 1000000);
	times_of(ALERT_TIME_QUERY, 1, SECOND);
	stays(ALERT_QUERY_TIME_P99, 1);
	times_of(ALERT_TIME_QUERY, 5, SECOND);
	turns(ALERT_QUERY_TIME_P99, 6, ALERT_RAISED, 1);
	/* The window, which may be a sixth longer, empties; and ten seconds more. */
	stays(ALERT_QUERY_TIME_P99, 34);
	for (unsigned i = 0; i < 6; i++)
		look(ALERT_QUERY_TIME_P99);
	ck_assert_int_eq(watch.alert[ALERT_QUERY_TIME_P99].state, ALERT_OK);
}
END_TEST

START_TEST(rows_are_whole)
{
	struct segment seg = unit_segment(4, 8);
	struct alert in = {.state = ALERT_RAISED, .value = 7, .limit = 5, .since = 3, .count = 2}, out = {.value = 99};

	ck_assert(alert_read(&seg, ALERT_LEAKS, &out)); /* zeroed: off */
	ck_assert_int_eq(out.state, ALERT_OFF);
	alert_publish(&seg, ALERT_LEAKS, &in);
	ck_assert(alert_read(&seg, ALERT_LEAKS, &out));
	ck_assert_int_eq(out.state, ALERT_RAISED);
	ck_assert_uint_eq(out.value, 7);
	ck_assert_uint_eq(out.limit, 5);
	ck_assert_uint_eq(out.since, 3);
	ck_assert_uint_eq(out.count, 2);
	/* A broker that died there; the next one goes on. */
	atomic_fetch_add(&seg.header->alert[ALERT_LEAKS].sequence, 1);
	out.value = 99;
	ck_assert(!alert_read(&seg, ALERT_LEAKS, &out));
	ck_assert_uint_eq(out.value, 99);
	alert_publish(&seg, ALERT_LEAKS, &in);
	ck_assert(alert_read(&seg, ALERT_LEAKS, &out));
	/* A client that writes there. */
	atomic_store(&seg.header->alert[ALERT_LEAKS].state, 77);
	ck_assert(!alert_read(&seg, ALERT_LEAKS, &out));
	segment_unmap(&seg);
}
END_TEST

static void *
publish_on(void *arg)
{
	struct segment *seg = arg;

	for (uint64_t i = 1; i < 200000; i++) {
		struct alert alert = {.state = i % 2 == 0 ? ALERT_OK : ALERT_RAISED, .value = i, .limit = i, .since = i, .count = i};

		alert_publish(seg, ALERT_MAXWAIT, &alert);
	}
	return NULL;
}

START_TEST(readers_see_no_mixture)
{
	struct segment seg = unit_segment(4, 8);
	struct alert alert = {.count = 0};
	uint64_t last = 0, whole = 0;
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, publish_on, &seg), 0);
	while (last < 199999) {
		if (!alert_read(&seg, ALERT_MAXWAIT, &alert) || alert.count == 0)
			continue;
		ck_assert(alert.value == alert.count && alert.limit == alert.count && alert.since == alert.count);
		ck_assert_int_eq(alert.state, alert.count % 2 == 0 ? ALERT_OK : ALERT_RAISED);
		ck_assert_uint_ge(alert.count, last);
		last = alert.count;
		whole++;
	}
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_gt(whole, 0);
	segment_unmap(&seg);
}
END_TEST

START_TEST(values_are_shown_in_their_units)
{
	char text[ALERT_VALUE];

	ck_assert_uint_eq(alert_millionths(ALERT_MAXWAIT, 1500 * 1000000), 1500000);
	ck_assert_uint_eq(alert_millionths(ALERT_FAILURE_RATE, 50000), 50000);
	ck_assert_uint_eq(alert_millionths(ALERT_LEAKS, 3), 3000000);
	ck_assert_uint_eq(alert_millionths(ALERT_MEMORY_USAGE, 104857600), UINT64_C(104857600000000));
	ck_assert_uint_eq(alert_millionths(ALERT_MEMORY_USAGE, ALERT_NONE), ALERT_NONE);
	ck_assert_uint_eq(alert_millionths(ALERT_MEMORY_USAGE, UINT64_MAX / 2), ALERT_NONE - 1);
	alert_show(ALERT_MAXWAIT, 1500 * 1000000, text);
	ck_assert_str_eq(text, "1.5 s");
	alert_show(ALERT_FAILURE_RATE, 312500, text);
	ck_assert_str_eq(text, "0.312");
	alert_show(ALERT_MEMORY_USAGE, 104857600, text);
	ck_assert_str_eq(text, "100 MB");
	alert_show(ALERT_LEAKS, 2, text);
	ck_assert_str_eq(text, "2");
	alert_show(ALERT_LEAKS, ALERT_NONE, text);
	ck_assert_str_eq(text, "unknown");
}
END_TEST

UNIT_MAIN("alert_watch", it_turns_after_its_time_and_not_before, a_break_begins_anew, without_times_it_turns_at_once,
    other_limits_take_its_place, gauges_are_judged_by_their_own_number, a_share_needs_enough_of_them,
    a_share_is_above_beyond_chance, only_the_window_counts, times_are_judged_by_their_share, rows_are_whole,
    readers_see_no_mixture, values_are_shown_in_their_units)
