/* SPDX-License-Identifier: PostgreSQL */
/*
 * Records the history of each pool (history.h): looks at the pools at each tick, and writes a row a second and a row a minute. At a
 * clean stop the histories are saved in the data folder, from where the next start has them again.
 *
 * Rows are taken at the first tick of a second of the wall clock. When that clock is set, the next row comes after half a second at
 * the earliest, and one and a half at the latest; likewise with minutes.
 */
#ifndef PGLEASE_BROKER_RECORDER_H
#define PGLEASE_BROKER_RECORDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "segment.h"

struct handover;
struct publisher;
struct pool;
struct recorder;

struct recorder_params {
	const char *instance;
	uint64_t instance_id;
	const char *data_dir; /* the setting; empty: the default folder */
	bool save;
	uint32_t seconds; /* rows of a second each */
	mode_t mode;
	const gid_t *group; /* NULL: the broker's own */
	const struct segment *const *pools; /* they must outlive the recorder */
	struct pool *const *of; /* whose they are */
	unsigned npools;
	const struct publisher *publisher; /* of the same pools; likewise */
	struct handover *from; /* NULL: histories are made, or taken over from a broker that died */
};

/* 0, or -1 with log_refuse(). The caller holds the instance's stats segment. */
int recorder_new(const struct recorder_params *params, struct recorder **ret);
/*
 * Removes the histories that a broker of the instance that was killed has left of other pools than these (of all, if there are none): nobody
 * would. For when the instance is ready: one that cannot start, or has the wrong configuration, changes nothing. The caller holds the
 * instance's stats segment.
 */
void recorder_remove_others(const char *instance, const struct segment *const *pools, unsigned npools);
/* To the broker that takes this one's place. */
void recorder_hand_over(struct recorder *recorder, struct handover *to);
/* Accepts NULL: no history is kept. */
void recorder_tick(struct recorder *recorder);
/* A descriptor of a pool's history that can only read, the recorder's; -1: there is none. Accepts NULL. */
int recorder_reader(const struct recorder *recorder, unsigned pool);
int recorder_reader_of(const struct recorder *recorder, const char *pool); /* by its name */
/* Bytes of all histories. Accepts NULL. */
uint64_t recorder_size(const struct recorder *recorder);
/*
 * Writes the last rows, saves, and removes the objects; but if the instance has never run (it could not start), nothing is changed:
 * what a broker before it left stays as it is. Accepts NULL.
 */
void recorder_free(struct recorder *recorder, bool has_run);

#endif
