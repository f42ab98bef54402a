/* SPDX-License-Identifier: PostgreSQL */
/* The quick clock agrees with the kernel's, in threads and children, whatever state its comparison was left in. */
#include "unit.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

/* What the kernel's clock may be corrected by in a span, and as much for the looks themselves. */
#define TOLERANCE_NS 20000
#define SPANS 4

/* Read between two looks at the kernel's clock, it lies between them. False if not; *ret_ns: the second look. */
static bool
agrees(uint64_t *ret_ns)
{
	uint64_t before = clock_ns(), quick = clock_quick_ns();

	*ret_ns = clock_ns();
	return quick + TOLERANCE_NS >= before && quick <= *ret_ns + TOLERANCE_NS;
}

/* For some spans from now. The number of disagreements. */
static uint64_t
disagreements(void)
{
	uint64_t start = clock_ns(), now = start, n = 0;

	while (now - start < SPANS * CLOCK_SPAN_NS)
		n += !agrees(&now);
	return n;
}

START_TEST(before_init_it_is_the_kernels)
{
	ck_assert_uint_eq(disagreements(), 0);
	ck_assert_uint_eq(atomic_load(&clock_compared.version), 0);
}
END_TEST

START_TEST(agrees_with_the_kernels)
{
	clock_init();
	ck_assert_uint_eq(disagreements(), 0);
}
END_TEST

static void *
look_on(void *arg)
{
	*(uint64_t *)arg = disagreements();
	return NULL;
}

START_TEST(in_threads)
{
	enum { THREADS = 4 };
	uint64_t wrong[THREADS];
	pthread_t thread[THREADS];

	clock_init();
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, look_on, &wrong[i]), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		ck_assert_uint_eq(wrong[i], 0);
	}
}
END_TEST

/* A child that was forked while a thread compared: nobody will end that comparison. */
START_TEST(in_a_child_with_half_a_comparison)
{
	int status;
	pid_t pid;

	clock_init();
	ck_assert_uint_eq(disagreements(), 0);
	pid = check_fork();
	if (pid == 0) {
		atomic_fetch_add(&clock_compared.version, 1 - (atomic_load(&clock_compared.version) & 1));
		_exit(disagreements() != 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

/* The counter jumped, as after a sleep or a move to another machine: it is noticed with the next comparison at the latest. */
START_TEST(after_a_jump)
{
	uint64_t now, start;

	clock_init();
	ck_assert_uint_eq(disagreements(), 0);
	if (atomic_load(&clock_compared.scale) == 0)
		return; /* the kernel's clock is used: there is no counter to jump */
	atomic_fetch_sub(&clock_compared.ticks, UINT64_C(1) << 40);
	ck_assert_uint_eq(disagreements(), 0);
	/* Backwards. */
	atomic_fetch_add(&clock_compared.ticks, UINT64_C(1) << 40);
	ck_assert_uint_eq(disagreements(), 0);
	/* A comparison of before a sleep in which the kernel's clock stood still. */
	atomic_fetch_sub(&clock_compared.ns, UINT64_C(1) << 30);
	start = clock_ns();
	do
		agrees(&now);
	while (now - start < 2 * CLOCK_SPAN_NS);
	ck_assert_uint_eq(disagreements(), 0);
}
END_TEST

START_TEST(since_is_never_negative)
{
	ck_assert_uint_eq(clock_since(5, 3), 2);
	ck_assert_uint_eq(clock_since(3, 5), 0);
	ck_assert_uint_eq(clock_since(3, 3), 0);
}
END_TEST

UNIT_MAIN("clock", before_init_it_is_the_kernels, agrees_with_the_kernels, in_threads, in_a_child_with_half_a_comparison,
    after_a_jump, since_is_never_negative)
