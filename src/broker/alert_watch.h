/* SPDX-License-Identifier: PostgreSQL */
/*
 * The judgement of a pool's alerts (alert.h): a look a second at what has happened in the last alert_window. Pure: facts and a clock
 * come from the caller, who also does what follows from it. doc/design.md, "Alerts", has the reasons.
 *
 * Window: counters and histograms now, compared with those of about alert_window ago; never with the start. Six samples are kept
 * of one, so that it is up to a sixth longer.
 *
 * What is above: a value that is measured at one moment, or averaged, when it reaches the limit. A share of events (failures of
 * acquires; times of at least the limit, of all times) when it does so beyond chance: there are enough events, three of
 * them are bad, and they are more than the limit's share by three standard deviations of what chance would make of just that share (the
 * score test, whose inverse is Wilson's interval); of connects, which are few, by 1.645.
 *
 * Turning: raised when it has been above for alert_raise_after without a break; cleared when the value has been below four
 * fifths of the limit, or unknown because nothing happens any more, for alert_clear_after. A look that comes more than three
 * seconds after the one before breaks both: nobody knows what was in between.
 */
#ifndef PGLEASE_BROKER_ALERT_WATCH_H
#define PGLEASE_BROKER_ALERT_WATCH_H

#include <stdint.h>

#include "alert.h"
#include "histogram.h"

#define ALERT_STEPS 6 /* samples to a window */
#define ALERT_SAMPLES (ALERT_STEPS + 2)

/* Times whose distribution is judged. */
enum alert_time { ALERT_TIME_CONNECT, ALERT_TIME_WAIT, ALERT_TIME_QUERY, ALERT_NTIMES };

/* Observations by bucket (histogram.h), since whenever, modulo 2^32: what is compared are differences. */
typedef uint32_t alert_buckets[HISTOGRAM_BUCKETS];

struct alert_facts {
	uint64_t now; /* ns; never goes back */
	/* So far. */
	uint64_t acquired, failed;       /* acquires that gave a lease, and that did not */
	uint64_t usage_sum, usage_looks; /* leased connections by max_connections, in millionths, and how many make the sum */
	const alert_buckets *time;       /* ALERT_NTIMES */
	/* Now. */
	uint64_t maxwait;  /* ns; the greatest since the look before */
	uint64_t memory;   /* bytes; 0: unknown */
	uint64_t leaks;    /* leases */
	uint64_t failing;  /* ns from the first failed connect to the last; 0: the last one succeeded */
	uint64_t health;   /* enum health_level */
};

/* Of the settings. */
struct alert_rules {
	uint64_t limit[ALERT_N]; /* 0: off; its value is known all the same */
	uint64_t window, raise_after, clear_after; /* ns */
};

struct alert_watch {
	struct alert alert[ALERT_N];
	uint64_t turning[ALERT_N]; /* since when it is as it must be to be turned; 0: it is not */
	uint64_t looked_at;        /* 0: never */
	unsigned last;             /* the newest sample; all are there from the first look on */
	struct alert_sample {
		uint64_t at;
		uint64_t acquired, failed, usage_sum, usage_looks;
		alert_buckets time[ALERT_NTIMES];
	} sample[ALERT_SAMPLES];
};

/* The ids whose state has changed, as bits; the state, and its value and limit, are in watch->alert. Zeroed: a new watch. */
uint32_t alert_watch_look(struct alert_watch *watch, const struct alert_rules *rules, const struct alert_facts *facts);

#endif
