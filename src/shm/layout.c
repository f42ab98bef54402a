/* SPDX-License-Identifier: PostgreSQL */
/* The fingerprint of the layout: two programs that disagree on it must not share a segment. */
#include "layout.h"

static uint32_t
mix(uint32_t hash, uint32_t byte)
{
	return (hash ^ byte) * 16777619u;
}

static uint32_t
mix_names(uint32_t hash, const struct counter_info *info, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (const char *c = info[i].name;; c++) {
			hash = mix(hash, (unsigned char)*c);
			if (*c == '\0')
				break;
		}
	return hash;
}

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
	    RESET_NPOLICIES,
	    RESET_NKINDS,
	    STATS_NRATES,
	    SLOT_NSTATES,
	    ROW_NSTATES,
	    sizeof(struct segment_header),
	    offsetof(struct segment_header, magic),
	    offsetof(struct segment_header, version),
	    offsetof(struct segment_header, hash),
	    offsetof(struct segment_header, size),
	    offsetof(struct segment_header, instance_id),
	    offsetof(struct segment_header, state),
	    offsetof(struct segment_header, pool),
	    offsetof(struct segment_header, broker_pid),
	    offsetof(struct segment_header, nslots),
	    offsetof(struct segment_header, nrows),
	    offsetof(struct segment_header, nclients),
	    offsetof(struct segment_header, nblocks),
	    offsetof(struct segment_header, queue_size),
	    offsetof(struct segment_header, nstatements),
	    offsetof(struct segment_header, slots),
	    offsetof(struct segment_header, rows),
	    offsetof(struct segment_header, clients),
	    offsetof(struct segment_header, blocks),
	    offsetof(struct segment_header, baselines),
	    offsetof(struct segment_header, queue),
	    offsetof(struct segment_header, statements),
	    offsetof(struct segment_header, connects),
	    offsetof(struct segment_header, instance_name),
	    offsetof(struct segment_header, pool_name),
	    offsetof(struct segment_header, user),
	    offsetof(struct segment_header, dbname),
	    offsetof(struct segment_header, acquire_timeout_ns),
	    offsetof(struct segment_header, grant_after_ns),
	    offsetof(struct segment_header, turn_ns),
	    offsetof(struct segment_header, turn_leases),
	    offsetof(struct segment_header, broker_down),
	    offsetof(struct segment_header, watcher),
	    offsetof(struct segment_header, kept_at),
	    offsetof(struct segment_header, bypass_ns),
	    offsetof(struct segment_header, reset_timeout_ns),
	    offsetof(struct segment_header, connect_timeout_ns),
	    offsetof(struct segment_header, max_connections),
	    offsetof(struct segment_header, upstream_down),
	    offsetof(struct segment_header, pooling_off),
	    offsetof(struct segment_header, monitoring_off),
	    offsetof(struct segment_header, reset_policy),
	    offsetof(struct segment_header, reset_kind),
	    offsetof(struct segment_header, max_leases),
	    offsetof(struct segment_header, fail_fast),
	    offsetof(struct segment_header, reset_watch),
	    offsetof(struct segment_header, reset_wanted_at),
	    offsetof(struct segment_header, head),
	    offsetof(struct segment_header, tail),
	    offsetof(struct segment_header, idle_bitmap),
	    offsetof(struct segment_header, client_counter),
	    offsetof(struct segment_header, broker_counter),
	    offsetof(struct segment_header, slots_used),
	    offsetof(struct segment_header, spares_used),
	    offsetof(struct segment_header, attached),
	    offsetof(struct segment_header, peak),
	    offsetof(struct segment_header, health),
	    offsetof(struct segment_header, ticked_at),
	    offsetof(struct segment_header, broker_memory),
	    offsetof(struct segment_header, rate),
	    offsetof(struct segment_header, upstream_error),
	    offsetof(struct segment_header, reset_sql),
	    offsetof(struct segment_header, alert),
	    sizeof(struct alert_row),
	    offsetof(struct alert_row, state),
	    offsetof(struct alert_row, value),
	    offsetof(struct alert_row, limit),
	    offsetof(struct alert_row, since),
	    offsetof(struct alert_row, count),
	    sizeof(struct slot),
	    offsetof(struct slot, word),
	    offsetof(struct slot, generation),
	    offsetof(struct slot, grant_wait),
	    offsetof(struct slot, idle_since),
	    offsetof(struct slot, session),
	    offsetof(struct slot, leases_before),
	    offsetof(struct slot, block),
	    offsetof(struct slot, server_pid),
	    offsetof(struct slot, expired),
	    offsetof(struct slot, clean),
	    offsetof(struct slot, leased_at),
	    offsetof(struct slot, holder_tid),
	    offsetof(struct slot, site_line),
	    offsetof(struct slot, connected_at),
	    offsetof(struct slot, turn_at),
	    offsetof(struct slot, site_file),
	    offsetof(struct slot, owed),
	    offsetof(struct slot, unverified),
	    offsetof(struct slot, turn_leases),
	    offsetof(struct slot, asked_at),
	    offsetof(struct slot, off_baseline),
	    sizeof(struct row),
	    offsetof(struct row, word),
	    offsetof(struct row, ticket),
	    offsetof(struct row, wait_since),
	    offsetof(struct row, posted),
	    offsetof(struct row, hint_slot),
	    offsetof(struct row, sem),
	    offsetof(struct row, tid),
	    offsetof(struct row, held),
	    offsetof(struct row, place_since),
	    offsetof(struct row, released_at),
	    sizeof(struct client_row),
	    offsetof(struct client_row, incarnation),
	    offsetof(struct client_row, pid),
	    offsetof(struct client_row, uid),
	    offsetof(struct client_row, attached_at),
	    offsetof(struct client_row, program),
	    sizeof(struct stats_block),
	    offsetof(struct stats_block, counter),
	    offsetof(struct stats_block, wait),
	    offsetof(struct stats_block, hold),
	    offsetof(struct stats_block, query),
	    offsetof(struct stats_block, transaction),
	    sizeof(struct statement_table),
	    offsetof(struct statement_table, epoch),
	    offsetof(struct statement_table, clock),
	    offsetof(struct statement_table, doubted),
	    offsetof(struct statement_table, count),
	    sizeof(struct statement),
	    offsetof(struct statement, hi),
	    offsetof(struct statement, lo),
	    offsetof(struct statement, used),
	};
	uint32_t hash = 2166136261u;

	for (unsigned i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		for (unsigned shift = 0; shift < 32; shift += 8)
			hash = mix(hash, (facts[i] >> shift) & 0xff);
	/* What a counter is called is what it means. */
	hash = mix_names(hash, slot_counter_info, SLOT_NCOUNTERS);
	hash = mix_names(hash, client_counter_info, CLIENT_NCOUNTERS);
	return mix_names(hash, broker_counter_info, BROKER_NCOUNTERS);
}
