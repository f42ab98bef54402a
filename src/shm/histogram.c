/* SPDX-License-Identifier: PostgreSQL */
/* Log-linear histograms; see histogram.h for the bucketing and its error. */
#include "histogram.h"

#include <math.h>

uint64_t
histogram_bucket_low(unsigned bucket)
{
	unsigned exponent, sub;

	if (bucket < HISTOGRAM_SUB)
		return bucket;
	exponent = (bucket - HISTOGRAM_SUB) / HISTOGRAM_SUB + HISTOGRAM_SUB_BITS;
	sub = bucket % HISTOGRAM_SUB;
	return (UINT64_C(1) << exponent) + ((uint64_t)sub << (exponent - HISTOGRAM_SUB_BITS));
}

uint64_t
histogram_bucket_high(unsigned bucket)
{
	return histogram_bucket_low(bucket + 1);
}

void
histogram_add(struct histogram_sum *sum, const struct histogram *h)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t n = counter_get(&h->bucket[i]);

		sum->bucket[i] += n;
		sum->count += n;
	}
}

void
histogram_add_value(struct histogram_sum *sum, uint64_t value, uint64_t n)
{
	sum->bucket[histogram_bucket_of(value)] += n;
	sum->count += n;
}

uint64_t
histogram_bucket_middle(unsigned bucket)
{
	uint64_t low = histogram_bucket_low(bucket);

	return low + (histogram_bucket_high(bucket) - low - 1) / 2;
}

uint64_t
histogram_quantile(const struct histogram_sum *sum, double q)
{
	uint64_t rank, seen = 0;

	if (sum->count == 0)
		return 0;
	rank = counter_whole(ceil(q * (double)sum->count));
	if (rank == 0)
		rank = 1;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += sum->bucket[i];
		if (seen >= rank)
			return histogram_bucket_middle(i);
	}
	return histogram_bucket_middle(HISTOGRAM_BUCKETS - 1);
}

uint64_t
histogram_max(const struct histogram_sum *sum)
{
	for (unsigned i = HISTOGRAM_BUCKETS; i-- > 0;)
		if (sum->bucket[i] != 0)
			return histogram_bucket_middle(i);
	return 0;
}
