/* SPDX-License-Identifier: PostgreSQL */
/* Rows, the queue of waiters, and the posts. */
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "queue.h"
#include "rows.h"

static struct segment seg;

static uint64_t
wait_on(uint32_t row)
{
	uint64_t w = row_load(&seg, row);

	ck_assert(row_wait(&seg, row, &w, 100 + row));
	ck_assert(queue_enter(&seg, row, word_seq(w), 100 + row));
	return w;
}

static void
own_rows(unsigned n)
{
	uint64_t w;

	for (unsigned i = 0; i < n; i++)
		ck_assert_int_eq(row_claim(&seg, i % 2, i, &w), (int)i);
}

static int
oldest(void)
{
	uint32_t row;
	uint64_t wait;

	return queue_oldest(&seg, &row, &wait) ? (int)row : -1;
}

static int
posts(uint32_t row)
{
	int value;

	sem_getvalue(&seg.row[row].sem, &value);
	return value;
}

START_TEST(rows_are_claimed_once_and_freed)
{
	uint64_t w;

	seg = unit_segment(2, 3);
	own_rows(3);
	ck_assert_int_eq(row_claim(&seg, 1, 0, &w), -1);
	w = row_load(&seg, 1);
	ck_assert(row_free(&seg, 1, &w));
	ck_assert(!row_free(&seg, 1, &w));
	ck_assert_int_eq(row_claim(&seg, 4, 2, &w), 1);
	ck_assert_uint_eq(word_who(w), 4);
}
END_TEST

START_TEST(a_wait_is_a_number_of_its_own)
{
	uint64_t w, first;

	seg = unit_segment(2, 3);
	own_rows(1);
	w = wait_on(0);
	first = word_seq(w);
	ck_assert(!row_wait(&seg, 0, &w, 0));
	ck_assert(!row_grant(&seg, 0, first + 1));
	ck_assert(row_own(&seg, 0, &w));
	ck_assert(row_grant_is_stale(&seg, 0, first));
	ck_assert(!row_grant(&seg, 0, first)); /* it gave up: R4 fails */
	w = wait_on(0);
	ck_assert_uint_ne(word_seq(w), first);
	ck_assert(!row_grant(&seg, 0, first));
	ck_assert(row_grant(&seg, 0, word_seq(w)));
	ck_assert(!row_grant_is_stale(&seg, 0, word_seq(w)));
	ck_assert(!row_grant(&seg, 0, word_seq(w)));
}
END_TEST

START_TEST(waiters_come_out_in_arrival_order)
{
	uint64_t w[4];

	seg = unit_segment(2, 4);
	own_rows(4);
	ck_assert(!queue_maybe_waiting(&seg));
	ck_assert_int_eq(oldest(), -1);
	w[2] = wait_on(2);
	w[0] = wait_on(0);
	w[3] = wait_on(3);
	w[1] = wait_on(1);
	for (unsigned i = 0; i < 4; i++) {
		static const int order[] = {2, 0, 3, 1};
		uint32_t row = (uint32_t)order[i];

		ck_assert_int_eq(oldest(), order[i]);
		ck_assert(row_grant(&seg, row, word_seq(w[row])));
		queue_served(&seg, row, word_seq(w[row]));
	}
	ck_assert(!queue_maybe_waiting(&seg));
}
END_TEST

START_TEST(who_comes_back_in_time_keeps_its_place)
{
	uint64_t w;

	seg = unit_segment(2, 3);
	own_rows(3);
	wait_on(0);
	w = wait_on(1);
	wait_on(2);
	ck_assert(row_own(&seg, 1, &w));
	queue_leave(&seg, 1, word_seq(w) - 1);
	w = wait_on(1);
	w = row_load(&seg, 0);
	ck_assert(row_own(&seg, 0, &w));
	queue_leave(&seg, 0, word_seq(w) - 1);
	ck_assert_int_eq(oldest(), 1); /* before 2, which came after its first wait */
	/* 0 is passed: its place is gone. */
	wait_on(0);
	w = row_load(&seg, 1);
	ck_assert(row_own(&seg, 1, &w));
	queue_served(&seg, 1, word_seq(w) - 1);
	ck_assert_int_eq(oldest(), 2);
	ck_assert_uint_eq(queue_count(&seg, NULL), 2);
}
END_TEST

START_TEST(time_outs_without_end_do_not_fill_the_ring)
{
	seg = unit_segment(2, 3);
	own_rows(3);
	wait_on(0); /* stands at the head all the time */
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t w = wait_on(1);

		ck_assert(row_own(&seg, 1, &w));
		queue_leave(&seg, 1, word_seq(w) - 1);
	}
	ck_assert_int_eq(oldest(), 0);
}
END_TEST

START_TEST(holes_of_the_dead_are_passed)
{
	seg = unit_segment(2, 3);
	own_rows(2);
	atomic_fetch_add(&seg.header->tail, 1); /* died between Q1 and Q2 */
	wait_on(1);
	atomic_fetch_add(&seg.header->tail, 2);
	ck_assert_int_eq(oldest(), 1);
}
END_TEST

START_TEST(a_full_ring_says_so_and_recovers)
{
	uint64_t w, wait;

	seg = unit_segment(2, 2);
	own_rows(2);
	w = wait_on(0);
	atomic_fetch_add(&seg.header->tail, seg.queue_mask); /* holes behind a waiter: as full as can be */
	wait = row_load(&seg, 1);
	ck_assert(row_wait(&seg, 1, &wait, 0));
	ck_assert(!queue_enter(&seg, 1, word_seq(wait), 0));
	ck_assert(row_own(&seg, 0, &w));
	queue_served(&seg, 0, word_seq(w) - 1);
	ck_assert(queue_enter(&seg, 1, word_seq(wait), 0));
	ck_assert_int_eq(oldest(), 1);
}
END_TEST

START_TEST(each_wake_goes_to_another_waiter)
{
	seg = unit_segment(2, 3);
	own_rows(3);
	ck_assert(!queue_wake(&seg));
	wait_on(1);
	wait_on(0);
	ck_assert(queue_wake(&seg));
	ck_assert_int_eq(posts(1), 1);
	ck_assert_int_eq(posts(0), 0);
	ck_assert(queue_wake(&seg)); /* 1 has one pending */
	ck_assert_int_eq(posts(0), 1);
	ck_assert(!queue_wake(&seg));
	atomic_store(&seg.row[1].posted, 0); /* it looks again */
	ck_assert(queue_wake(&seg));
	ck_assert_int_eq(posts(1), 2);
	queue_repost(&seg);
	ck_assert_int_eq(posts(1), 3);
	ck_assert_int_eq(posts(0), 2);
}
END_TEST

START_TEST(a_scribbled_queue_holds_nobody)
{
	seg = unit_segment(2, 3);
	own_rows(1);
	atomic_store(&seg.header->head, 5);
	atomic_store(&seg.header->tail, UINT64_MAX);
	for (uint32_t i = 0; i <= seg.queue_mask; i++)
		atomic_store(&seg.queue[i], UINT64_MAX >> i);
	oldest();
	queue_wake(&seg);
	queue_enter(&seg, 0, 1, 0);
	queue_wake_again(&seg, 100);
	ck_assert_uint_le(queue_count(&seg, NULL), 3);
}
END_TEST

static void *
sleep_on_it(void *ret)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 60;
	*(int *)ret = sem_clockwait(&seg.row[0].sem, CLOCK_MONOTONIC, &until);
	return NULL;
}

START_TEST(a_post_wakes_a_sleeper)
{
	pthread_t thread;
	int result = -1, sleepers = 0;

	seg = unit_segment(2, 3);
	ck_assert_int_eq(pthread_create(&thread, NULL, sleep_on_it, &result), 0);
	/* glibc counts sleepers in the semaphore's upper half: it sleeps when it is counted. */
	while (sleepers == 0) {
		sleepers = (int)(atomic_load((_Atomic uint64_t *)(void *)&seg.row[0].sem) >> 32);
		sched_yield();
	}
	ck_assert(row_post(&seg, 0, false));
	pthread_join(thread, NULL);
	ck_assert_int_eq(result, 0);
	ck_assert_int_eq(posts(0), 0);
	ck_assert(row_post(&seg, 0, true));
	ck_assert_int_eq(posts(0), 1);
	ck_assert_int_eq(sem_trywait(&seg.row[0].sem), 0);
}
END_TEST

START_TEST(a_scribbled_semaphore_aborts_nobody)
{
	seg = unit_segment(2, 3);
	memset(&seg.row[0].sem, 0xff, sizeof(sem_t)); /* full, sleepers, and a futex of no kind */
	row_post(&seg, 0, true);
	memset(&seg.row[0].sem, 0xff, sizeof(sem_t));
	memset(&seg.row[0].sem, 0, 4);
	row_post(&seg, 0, true);
	ck_assert_int_eq(posts(0), 1);
}
END_TEST

UNIT_MAIN("queue", rows_are_claimed_once_and_freed, a_wait_is_a_number_of_its_own, waiters_come_out_in_arrival_order,
    who_comes_back_in_time_keeps_its_place, time_outs_without_end_do_not_fill_the_ring, holes_of_the_dead_are_passed,
    a_post_wakes_a_sleeper, a_scribbled_semaphore_aborts_nobody, a_full_ring_says_so_and_recovers, each_wake_goes_to_another_waiter, a_scribbled_queue_holds_nobody)
