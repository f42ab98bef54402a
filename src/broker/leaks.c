/* SPDX-License-Identifier: PostgreSQL */
/*
 * Leak detection. How long a lease is held is told by the ticks that saw its sequence number, not by what its lessee has
 * written: what is there in the first moment is of the lease before. So a report comes up to a tick late, never early.
 * Who and where is text and numbers that clients can write: good for a message.
 */
#include "leaks.h"

#include "log.h"
#include "stats.h"

static void
report(const struct server *s, unsigned client, uint64_t held)
{
	const struct slot *slot = &s->pool->seg.slot[s->slot];
	const struct client_row *row = &s->pool->seg.client[client];
	char program[sizeof(row->program)], file[LAYOUT_SITE], site[LAYOUT_SITE + 24] = "at an unknown place";
	uint32_t line = atomic_load_explicit(&slot->site_line, memory_order_relaxed);

	stats_copy_text(program, sizeof(program), row->program, sizeof(row->program));
	stats_copy_text(file, sizeof(file), slot->site_file, sizeof(slot->site_file));
	if (file[0] != '\0' && line != 0)
		snprintf(site, sizeof(site), "at %s:%u", file, line);
	log_warning(
	    "pool %s: slot %u: a leak? its lease has been held for %.3g s by pid %u (%s), thread %u; it was "
	    "acquired %s",
	    s->pool->settings->name, s->slot, (double)held / 1e9,
	    atomic_load_explicit(&row->pid, memory_order_relaxed), program,
	    atomic_load_explicit(&slot->holder_tid, memory_order_relaxed), site);
}

void
leaks_look(struct server *s, uint64_t w, unsigned client, uint64_t now)
{
	const struct pool_settings *settings_of = s->pool->settings;

	if (!settings_of->leak_detection)
		return;
	/* The slot's sequence moves with each change of its state. */
	if (s->lease_since == 0 || s->lease_seen != word_seq(w)) {
		s->lease_seen = word_seq(w);
		s->lease_since = now;
		s->lease_reported = false;
		return;
	}
	if (s->lease_reported || now - s->lease_since < settings_of->leak_threshold)
		return;
	s->lease_reported = true;
	pool_count(s->pool, COUNTER_LEAKS);
	report(s, client, now - s->lease_since);
}
