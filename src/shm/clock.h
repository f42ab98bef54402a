/* SPDX-License-Identifier: PostgreSQL */
/*
 * Time. clock_ns() is CLOCK_MONOTONIC. clock_quick_ns() is the same from the processor's time-stamp counter, for what is
 * measured at each lease and query: a third of the cost, wrong by about a microsecond at most while the kernel's rate is steady.
 *
 * The counter is used where the processor says that it is invariant and the kernel itself keeps time by it; there the kernel
 * has made sure that it agrees between cores. It is compared with CLOCK_MONOTONIC again after each CLOCK_SPAN_NS, so that it follows
 * what the kernel corrects: only a change of rate within a span is missed (NTP's 500 parts per million would be 10 us). Elsewhere clock_quick_ns() is clock_ns().
 *
 * Two processes' quick clocks, or one's before and after a comparison, may differ: a time may seem to lie after one taken
 * later. So whoever subtracts uses clock_since().
 */
#ifndef PGLEASE_SHM_CLOCK_H
#define PGLEASE_SHM_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define CLOCK_SPAN_NS UINT64_C(20000000)

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t clock_ns(void);

/*
 * One comparison: at `ticks` it was `ns`, and a tick takes `scale` / 2^32 ns; of use for `span` ticks. Read by any thread,
 * written by the one that made `version` odd. A fork in between leaves it odd in the child: clock_ns() from then on.
 */
struct clock_compared {
	_Atomic uint64_t version, ticks, ns, scale, span;
};
extern struct clock_compared clock_compared;

/* Looks whether the counter can be trusted. Before the first use, which without it is clock_ns(); once is enough. */
void clock_init(void);
/* Compares anew, if nobody else does at this moment. The time. */
uint64_t clock_compare(void);

static inline uint64_t
clock_quick_ns(void)
{
#if defined(__x86_64__)
	struct clock_compared *c = &clock_compared;
	/*
	 * All acquire: the first pairs with the release of the even version in clock_compare(), the others with put(): who has read
	 * any new value sees, in the last load, that the version has moved.
	 */
	uint64_t version = atomic_load_explicit(&c->version, memory_order_acquire);
	uint64_t ticks = __rdtsc() - atomic_load_explicit(&c->ticks, memory_order_acquire);
	uint64_t ns = atomic_load_explicit(&c->ns, memory_order_acquire) +
		      ((ticks * atomic_load_explicit(&c->scale, memory_order_acquire)) >> 32);
	uint64_t span = atomic_load_explicit(&c->span, memory_order_acquire);

	/* Before the span, too: then the difference is huge. */
	if (__builtin_expect(
		ticks < span && (version & 1) == 0 && atomic_load_explicit(&c->version, memory_order_relaxed) == version, 1))
		return ns;
	return clock_compare();
#else
	return clock_ns();
#endif
}

/* How long before `now` it was; 0 when it was not. */
static inline uint64_t
clock_since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
}

#endif
