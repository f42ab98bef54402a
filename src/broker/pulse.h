/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the broker writes into each lease segment at each tick, for readers that ask nobody: that it is there, the pool's
 * health (health.h), its rates and its peak (struct segment_header, "what readers of the statistics want to know").
 */
#ifndef PGLEASE_BROKER_PULSE_H
#define PGLEASE_BROKER_PULSE_H

#include <stdint.h>

#include "totals.h"

#define PULSE_SAMPLES 61 /* one a second: a minute between the first and the last */
#define PULSE_RATE_SECONDS 10

enum pulse_value { /* the rates' counters, and then the others that are compared over time */
	PULSE_FAILED = STATS_NRATES,
	PULSE_NVALUES,
};

/* The last minute's counters, in a ring. */
struct pulse {
	struct pulse_sample {
		uint64_t at; /* CLOCK_MONOTONIC ns */
		uint64_t value[PULSE_NVALUES];
	} sample[PULSE_SAMPLES];
	unsigned count, last; /* samples taken, at most all; the newest */
};

struct pulse_params {
	uint64_t now;           /* CLOCK_MONOTONIC ns */
	uint64_t broker_memory; /* resident; bytes; 0: unknown */
	uint32_t connects_fail; /* 1: the pool's last connect failed */
};

void pulse_beat(struct pulse *pulse, struct segment *seg, const struct pulse_params *params);

#endif
