/* SPDX-License-Identifier: PostgreSQL */
/*
 * Log-linear histograms of nanoseconds in integer arithmetic (the bucketing of HdrHistogram and DDSketch's
 * interpolated mapping, base 2): values below 32 have a bucket each, above that each doubling is cut into 32 equal
 * sub-buckets. A value taken from the middle of its bucket is off by at most 1/64 (1.6 %). Values of 2^40 ns
 * (18 minutes) and more share the last bucket.
 *
 * One writer at a time (the lessee, by its lease) with plain relaxed stores; any number of readers.
 */
#ifndef PGLEASE_SHM_HISTOGRAM_H
#define PGLEASE_SHM_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "counters.h"

#define HISTOGRAM_SUB_BITS 5
#define HISTOGRAM_SUB (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_MAX_BITS 40
#define HISTOGRAM_BUCKETS (HISTOGRAM_SUB + (HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS) * HISTOGRAM_SUB)

struct histogram {
	_Atomic uint64_t bucket[HISTOGRAM_BUCKETS];
};

/* A reader's private sum of histograms. */
struct histogram_sum {
	uint64_t bucket[HISTOGRAM_BUCKETS];
	uint64_t count;
};

static inline unsigned
histogram_bucket_of(uint64_t value)
{
	unsigned exponent;

	if (value < HISTOGRAM_SUB)
		return (unsigned)value;
	exponent = 63u - (unsigned)__builtin_clzll(value);
	if (exponent >= HISTOGRAM_MAX_BITS)
		return HISTOGRAM_BUCKETS - 1;
	return HISTOGRAM_SUB + (exponent - HISTOGRAM_SUB_BITS) * HISTOGRAM_SUB +
	       (unsigned)((value >> (exponent - HISTOGRAM_SUB_BITS)) & (HISTOGRAM_SUB - 1));
}
/* First value of a bucket, and the first beyond it. */
uint64_t histogram_bucket_low(unsigned bucket);
uint64_t histogram_bucket_high(unsigned bucket);
/* What stands for the bucket's values. */
uint64_t histogram_bucket_middle(unsigned bucket);

static inline void
histogram_record(struct histogram *h, uint64_t value)
{
	counter_add(&h->bucket[histogram_bucket_of(value)], 1);
}
void histogram_add(struct histogram_sum *sum, const struct histogram *h);
/* Adds `n` observations of `value` (what was counted without being recorded). */
void histogram_add_value(struct histogram_sum *sum, uint64_t value, uint64_t n);
/*
 * The value at quantile q (0 < q <= 1): middle of the bucket in which the ceil(q * count)-th smallest observation
 * lies; 0 when there is none.
 */
uint64_t histogram_quantile(const struct histogram_sum *sum, double q);
uint64_t histogram_max(const struct histogram_sum *sum);

#endif
