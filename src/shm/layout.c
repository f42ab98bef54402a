/* SPDX-License-Identifier: PostgreSQL */
/* The fingerprint of the layout: two programs that disagree on it must not share a segment. */
#include "layout.h"

uint32_t
layout_hash(void)
{
	static const uint32_t facts[] = {
	    LAYOUT_VERSION,
	    LAYOUT_LINE,
	    LAYOUT_MAX_SLOTS,
	    LAYOUT_BASELINE,
	    LAYOUT_MAX_STATEMENTS,
	    HISTOGRAM_BUCKETS,
	    SLOT_NCOUNTERS,
	    CLIENT_NCOUNTERS,
	    BROKER_NCOUNTERS,
	    sizeof(struct segment_header),
	    offsetof(struct segment_header, nstatements),
	    offsetof(struct segment_header, slots),
	    offsetof(struct segment_header, acquire_timeout_ns),
	    offsetof(struct segment_header, connect_timeout_ns),
	    offsetof(struct segment_header, pooling_off),
	    offsetof(struct segment_header, monitoring_off),
	    offsetof(struct segment_header, reset_policy),
	    offsetof(struct segment_header, max_leases),
	    offsetof(struct segment_header, reset_watch),
	    offsetof(struct segment_header, reset_sql),
	    RESET_NKINDS,
	    offsetof(struct segment_header, head),
	    offsetof(struct segment_header, idle_bitmap),
	    offsetof(struct segment_header, client_counter),
	    offsetof(struct segment_header, broker_counter),
	    offsetof(struct segment_header, upstream_error),
	    sizeof(struct slot),
	    offsetof(struct slot, grant_wait),
	    offsetof(struct slot, block),
	    offsetof(struct slot, expired),
	    offsetof(struct slot, clean),
	    offsetof(struct slot, owed),
	    offsetof(struct slot, unverified),
	    offsetof(struct slot, off_baseline),
	    offsetof(struct slot, site_file),
	    sizeof(struct row),
	    offsetof(struct row, posted),
	    offsetof(struct row, sem),
	    offsetof(struct row, held),
	    offsetof(struct row, place_since),
	    sizeof(struct client_row),
	    offsetof(struct client_row, program),
	    sizeof(struct stats_block),
	    offsetof(struct stats_block, wait),
	    offsetof(struct stats_block, hold),
	    sizeof(struct statement_table),
	    offsetof(struct statement_table, doubted),
	    sizeof(struct statement),
	    offsetof(struct statement, used),
	};
	uint32_t hash = 2166136261u;

	for (unsigned i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		for (unsigned shift = 0; shift < 32; shift += 8) {
			hash ^= (facts[i] >> shift) & 0xff;
			hash *= 16777619u;
		}
	}
	return hash;
}
