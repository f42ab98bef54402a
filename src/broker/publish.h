/* SPDX-License-Identifier: PostgreSQL */
/*
 * What monitors see: the broker reads its lease segments at each tick and publishes them in the stats segment
 * (src/shm/stats.h). The publisher only reads the lease segments, and believes none of their indices.
 */
#ifndef PGLEASE_BROKER_PUBLISH_H
#define PGLEASE_BROKER_PUBLISH_H

#include <stdint.h>
#include <sys/types.h>

#include "segment.h"
#include "stats.h"

struct handover;
struct publisher;

struct publisher_params {
	const char *instance;
	const char *socket_dir;
	uint64_t instance_id;
	mode_t mode; /* stats_mode */
	bool off; /* monitoring = no: only that is published, and the state */
	const gid_t *group; /* monitor_group; NULL: the broker's own */
	const struct segment *const
	    *pools; /* sizes the tables; the same pools must be given to publisher_publish */
	const uint32_t *numbers; /* of each pool (struct pool's index), for who takes this one's place; NULL: their order */
	const struct stats_limits *limits; /* of each pool, kept; NULL: not known */
	uint32_t clients_max;
	const bool *pool_is_local; /* of each pool: the server is on this host; NULL: none is */
	unsigned npools;
	struct handover *from; /* NULL: a new stats segment */
};

/*
 * Creates the stats segment. Returns 0; -EBUSY when a living broker has that name, -EACCES when another
 * user's segment is in the way, -ECHRNG when the broker may not give it to that group, -ENOSPC when /dev/shm is full, or another -errno. On failure *ret_error is
 * one line that says what happened and what to do (static or the publisher module's own memory, valid until
 * the next call; never NULL).
 */
int publisher_new(const struct publisher_params *params, struct publisher **ret, const char **ret_error);
/* What histories take (recorder.h): published with all else. */
void publisher_history_size(struct publisher *publisher, uint64_t bytes);
/* Publishes all pools; `state` is the instance's (enum segment_state). Returns 0 or -errno. */
int publisher_publish(
    struct publisher *publisher, uint32_t state, const struct segment *const *pools, unsigned npools);
/* The broker's resident memory as last published; bytes; 0: unknown. */
uint64_t publisher_own_memory(const struct publisher *publisher);
/* What processes use, as last seen (resources.h): the broker itself, all clients, a pool's backends. */
void publisher_own_use(const struct publisher *publisher, struct stats_process *ret);
const struct stats_process *publisher_clients_use(const struct publisher *publisher);
const struct stats_process *publisher_servers_use(const struct publisher *publisher, unsigned pool);
/* To the broker that takes this one's place. */
void publisher_hand_over(struct publisher *publisher, struct handover *to);
/* A copy of what was last published; no rows before that, or with monitoring off. 0 or -ENOMEM. */
int publisher_snapshot(const struct publisher *publisher, struct stats_snapshot *ret);
/* Removes the stats segment. Accepts NULL. */
void publisher_free(struct publisher *publisher);

#endif
