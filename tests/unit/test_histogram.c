/* SPDX-License-Identifier: PostgreSQL */
#include "unit.h"

#include <string.h>

#include "histogram.h"

START_TEST(buckets_meet_without_gap_or_overlap)
{
	ck_assert_uint_eq(histogram_bucket_low(0), 0);
	for (unsigned b = 0; b + 1 < HISTOGRAM_BUCKETS; b++) {
		ck_assert_uint_eq(histogram_bucket_high(b), histogram_bucket_low(b + 1));
		ck_assert_uint_eq(histogram_bucket_of(histogram_bucket_low(b)), b);
		ck_assert_uint_eq(histogram_bucket_of(histogram_bucket_high(b) - 1), b);
	}
	ck_assert_uint_eq(histogram_bucket_of(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
	ck_assert_uint_eq(histogram_bucket_of((UINT64_C(1) << HISTOGRAM_MAX_BITS) - 1), HISTOGRAM_BUCKETS - 1);
}
END_TEST

START_TEST(relative_error_is_at_most_one_in_64)
{
	struct histogram *h = calloc(1, sizeof(*h));

	for (uint64_t v = 1; v < UINT64_C(1) << 39; v = v * 17 / 16 + 1) {
		struct histogram_sum sum = {0};
		uint64_t got, off;

		memset(h, 0, sizeof(*h));
		histogram_record(h, v);
		histogram_add(&sum, h);
		got = histogram_quantile(&sum, 0.5);
		off = got > v ? got - v : v - got;
		ck_assert_msg(off * 64 <= v, "value %llu read as %llu", (unsigned long long)v, (unsigned long long)got);
	}
	free(h);
}
END_TEST

START_TEST(quantiles_are_the_ranked_observations)
{
	struct histogram *h = calloc(1, sizeof(*h));
	struct histogram_sum sum = {0};

	for (uint64_t v = 1; v <= 20; v++) /* below 32 every value has a bucket of its own */
		histogram_record(h, v);
	histogram_add(&sum, h);
	ck_assert_uint_eq(sum.count, 20);
	ck_assert_uint_eq(histogram_quantile(&sum, 0.5), 10);
	ck_assert_uint_eq(histogram_quantile(&sum, 0.95), 19);
	ck_assert_uint_eq(histogram_quantile(&sum, 1.0), 20);
	ck_assert_uint_eq(histogram_max(&sum), 20);
	histogram_add_value(&sum, 0, 20);
	ck_assert_uint_eq(histogram_quantile(&sum, 0.5), 0);
	free(h);
}
END_TEST

START_TEST(empty_is_zero)
{
	struct histogram_sum sum = {0};

	ck_assert_uint_eq(histogram_quantile(&sum, 0.99), 0);
	ck_assert_uint_eq(histogram_max(&sum), 0);
}
END_TEST

UNIT_MAIN("histogram", buckets_meet_without_gap_or_overlap, relative_error_is_at_most_one_in_64,
    quantiles_are_the_ranked_observations, empty_is_zero)
