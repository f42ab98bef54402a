/* SPDX-License-Identifier: PostgreSQL */
#include "clock.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* A comparison that took longer was interrupted, and is worth nothing. */
#define LONG_LOOK_NS 500
/* A scale is taken over at least this long, so that what one look takes does not matter. */
#define SCALE_NS UINT64_C(5000000)
/* Of counters from 20 MHz to 20 GHz. */
#define MIN_SCALE ((UINT64_C(1) << 32) / 20)
#define MAX_SCALE ((UINT64_C(1) << 32) * 50)

uint64_t
clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

struct clock_compared clock_compared;

#if defined(__x86_64__)
/* Whether the counter is to be used at all. Set once, before threads. */
static _Atomic bool trusted;

static bool
kernel_uses_counter(void)
{
	char name[8] = "";
	int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, name, sizeof(name) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 && strcmp(name, "tsc\n") == 0;
}

void
clock_init(void)
{
	unsigned a, b, c, d;

	/* Advanced power management information: the counter runs at one rate in all states. */
	if (__get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1u << 8) != 0 && kernel_uses_counter())
		atomic_store_explicit(&trusted, true, memory_order_relaxed);
}

/* Release: after the odd version; pairs with the reader's acquire. */
static void
put(_Atomic uint64_t *at, uint64_t value)
{
	atomic_store_explicit(at, value, memory_order_release);
}

/* The scale since the comparison before; begins anew after what no clock should do (a machine that was asleep or moved). */
static void
take(struct clock_compared *c, uint64_t ticks, uint64_t ns)
{
	uint64_t since = ns - atomic_load_explicit(&c->ns, memory_order_relaxed);
	uint64_t before = atomic_load_explicit(&c->ticks, memory_order_relaxed);
	uint64_t old = atomic_load_explicit(&c->scale, memory_order_relaxed), scale = 0;

	if (before != 0 && ticks > before) {
		if (since < SCALE_NS)
			return;
		scale = (uint64_t)(((unsigned __int128)since << 32) / (ticks - before));
		if (scale < MIN_SCALE || scale > MAX_SCALE || (old != 0 && (scale > old ? scale - old : old - scale) > old / 1000))
			scale = 0;
	}
	put(&c->ticks, ticks);
	put(&c->ns, ns);
	put(&c->scale, scale);
	put(&c->span, scale != 0 ? (CLOCK_SPAN_NS << 32) / scale : 0);
}

uint64_t
clock_compare(void)
{
	struct clock_compared *c = &clock_compared;
	/* Acquire: what the writer before has left is seen by the one that swaps. */
	uint64_t version = atomic_load_explicit(&c->version, memory_order_acquire), begun, ticks, ns;

	if (!atomic_load_explicit(&trusted, memory_order_relaxed))
		return clock_ns();
	begun = clock_ns();
	ticks = __rdtsc();
	ns = clock_ns();
	if (ns - begun > LONG_LOOK_NS || (version & 1) != 0 ||
	    !atomic_compare_exchange_strong_explicit(
		&c->version, &version, version + 1, memory_order_acquire, memory_order_relaxed))
		return ns;
	take(c, ticks, begun + (ns - begun) / 2);
	atomic_store_explicit(&c->version, version + 2, memory_order_release);
	return ns;
}
#else
void
clock_init(void)
{
}

uint64_t
clock_compare(void)
{
	return clock_ns();
}
#endif
