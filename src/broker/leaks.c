/* SPDX-License-Identifier: PostgreSQL */
/*
 * Leak detection. How long a lease is held is told by the ticks that saw its sequence number, not by what its lessee has
 * written: what is there in the first moment is of the lease before. So a report comes up to a tick late, never early.
 * Who and where is text and numbers that clients can write: good for a message.
 */
#include "leaks.h"

#include "log.h"
#include "slots.h"
#include "stats.h"

static void
report(const struct server *s, unsigned client, uint64_t held)
{
	const struct client_row *row = &s->pool->seg.client[client];
	char program[sizeof(row->program)], site[SLOT_SITE];
	uint32_t pid = atomic_load_explicit(&row->pid, memory_order_relaxed);

	stats_copy_text(program, sizeof(program), row->program, sizeof(row->program));
	slot_site(&s->pool->seg, s->slot, site);
	log_event(LOG_LEVEL_WARNING,
	    LOG_ABOUT(ABOUT_SLOT(s), .client_pid = pid, .server_pid = s->pid,
	        .cause = broker_counter_info[COUNTER_LEAKS].name),
	    "a leak? its lease has been held for %.3g s by pid %u (%s), thread %u; it was acquired at %s",
	    (double)held / 1e9, pid, program,
	    atomic_load_explicit(&s->pool->seg.slot[s->slot].holder_tid, memory_order_relaxed),
	    site[0] != '\0' ? site : "an unknown place");
}

uint64_t
leaks_age(struct server *s, uint64_t w, uint64_t now)
{
	/* The slot's sequence moves with each change of its state. */
	if (s->lease_since == 0 || s->lease_seen != word_seq(w)) {
		s->lease_seen = word_seq(w);
		s->lease_since = now;
		s->lease_reported = false;
	}
	return now - s->lease_since;
}

void
leaks_look(struct server *s, unsigned client, uint64_t age)
{
	const struct pool_settings *settings_of = s->pool->settings;

	if (!settings_of->leak_detection || s->lease_reported || age < settings_of->leak_threshold)
		return;
	s->lease_reported = true;
	pool_count(s->pool, COUNTER_LEAKS);
	report(s, client, age);
}
