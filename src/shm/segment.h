/* SPDX-License-Identifier: PostgreSQL */
/*
 * Making, checking and mapping a pool's lease segment. A struct segment is one process's private view: the mapping
 * and its own copy of the sizes and array addresses, which the other processes cannot change.
 */
#ifndef PGLEASE_SHM_SEGMENT_H
#define PGLEASE_SHM_SEGMENT_H

#include "clock.h"
#include "layout.h"

struct segment {
	struct segment_header *header;
	size_t size;
	uint32_t nslots, nrows, nclients, nblocks, queue_mask, nstatements;
	struct slot *slot;
	struct row *row;
	struct client_row *client;
	struct stats_block *block;
	struct histogram *connects; /* the broker's: times of the connects that succeeded; ns */
	char *baseline; /* nslots of LAYOUT_BASELINE bytes: name\0value\0 ... \0, in the order received */
	_Atomic uint64_t *queue;
	char *statements; /* nslots tables of layout_statements_size() bytes: statements.h */
};

struct segment_params {
	const char *instance_name, *pool_name, *user, *dbname;
	uint64_t instance_id;
	uint32_t pool, nslots, nrows, nclients;
	uint32_t nstatements; /* of a slot */
};

/*
 * Creates a sealed memfd (it can neither shrink nor grow), allocates its space, lays it out with all slots EMPTY and
 * state SEGMENT_NEW. On success *ret_fd is the close-on-exec descriptor to hand out; caller owns both. Returns 0 or
 * -errno (ENOSPC/ENOMEM when there is no memory for it: nobody is killed later for touching it).
 */
int segment_create(const struct segment_params *params, struct segment *ret_seg, int *ret_fd);
/*
 * Maps a segment that another process made. Checks seals, size, magic, version, hash and that every array lies
 * inside. The descriptor stays the caller's. Returns 0, -EPROTO when it is another layout, -EBADMSG when it is no
 * sound segment, or -errno.
 */
int segment_map(int fd, struct segment *ret_seg);
/* Read-only; everything else as segment_map. Writing through it faults. */
int segment_map_readonly(int fd, struct segment *ret_seg);
void segment_unmap(struct segment *seg); /* accepts a zeroed one */
/*
 * Empty pages, this process's own, in place of the mapping: for one that threads may still look at, who find no slot leased and no
 * row theirs. It is never of use again, and costs no memory that it does not write to.
 */
void segment_blank(struct segment *seg);

static inline char *
segment_baseline(const struct segment *seg, uint32_t slot)
{
	return seg->baseline + (size_t)slot * LAYOUT_BASELINE;
}

/*
 * Walks a baseline of LAYOUT_BASELINE bytes: start with *at = 0; the next parameter's name, NULL at its end. Safe against a
 * scribbled one.
 */
const char *baseline_next(const char *baseline, size_t *at, const char **ret_value);
/* The value of a parameter in it, or NULL; *ret_bit: its place, the 64th and all that follow sharing bit 63. */
const char *baseline_find(const char *baseline, const char *name, unsigned *ret_bit);

#endif
