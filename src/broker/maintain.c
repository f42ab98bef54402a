/* SPDX-License-Identifier: PostgreSQL */
/*
 * One pass over a pool's slots: what was returned, granted and never completed, over age, idle for long, leased by
 * nobody, or scribbled over. An idle pass costs one load for each slot and changes nothing.
 */
#include "maintain.h"

#include "dirty.h"
#include "handoff.h"
#include "leaks.h"
#include "log.h"
#include "queue.h"
#include "revoke.h"
#include "rows.h"
#include "server.h"
#include "slots.h"

/* Whether it has been idle since `since` for longer than `limit` (0: off). */
static bool
is_over(uint64_t since, uint64_t limit, uint64_t now)
{
	/* A client may have written it: one in the future counts as now. */
	return limit != 0 && since < now && now - since > limit;
}

static void
look_at_idle(struct server *s, uint64_t w, uint64_t now)
{
	const struct pool_settings *settings_of = s->pool->settings;
	uint64_t tried = atomic_load_explicit(&s->pool->seg.slot[s->slot].idle_since, memory_order_relaxed);
	uint64_t since = server_idle_since(s);
	enum broker_counter cause;

	if (s->hung_up) {
		cause = COUNTER_CLOSED_UPSTREAM;
	} else if (now >= s->expires_at) {
		cause = COUNTER_CLOSED_LIFETIME;
	} else if (s->outdated) {
		/* One after the other, so that the others serve meanwhile; and none while its place could not be filled. */
		if (s->pool->has_replaced || s->pool->connecting != 0 || s->pool->failures != 0)
			return;
		s->pool->has_replaced = true;
		cause = COUNTER_CLOSED_ADMIN;
	} else if (s->pool->open > settings_of->max_connections + settings_of->reserve_connections) {
		cause = COUNTER_CLOSED_ADMIN; /* a reload has lowered it */
	} else if (s->pool->open > settings_of->min_connections && is_over(since, settings_of->idle_timeout, now)) {
		cause = COUNTER_CLOSED_IDLE;
	} else {
		unsigned session = word_session(w);
		/* What a client that is gone has left (locks, LISTENs) nobody leases for free: it is reset at once. */
		bool abandoned = session == SLOT_DIRTY && word_who(w) == WORD_NONE;

		/* A client may have written `tried`: of one in the future nothing is doubted, as nothing is over. */
		bool doubted = tried < s->pool->suspected_at;

		if ((abandoned || doubted || is_over(tried, settings_of->keepalive, now)) && server_take(s, &w)) /* S5 */
			server_refresh(s, session, since, !abandoned);
		return;
	}
	if (server_take(s, &w)) /* S5 */
		server_close(s, cause);
}

static void
look_at_granted(struct server *s, uint64_t w, uint64_t now)
{
	if (s->hung_up || (word_flags(w) & SLOT_RETIRE) != 0) {
		if (server_take(s, &w)) /* S12 */
			server_close(s, s->hung_up ? COUNTER_CLOSED_UPSTREAM : COUNTER_CLOSED_LIFETIME);
		return;
	}
	if (handoff_repair(&s->pool->seg, s->slot, now))
		pool_count(s->pool, COUNTER_GRANTS_REPAIRED);
}

static void
look_at_leased(struct server *s, uint64_t w, const struct clients *clients, uint64_t now)
{
	unsigned client = pool_word_client(s->pool, w);
	uint64_t age;

	/*
	 * By a row of nobody who is attached: a process that was detached and goes on ("Clients and death", (1) at each
	 * tick). (R1 comes before S6 and R6 after the release, so no lessee ever looks like this; if it released
	 * meanwhile, the swap fails.)
	 */
	if (clients_get(clients, client) == NULL) {
		if (revoke_lease(s, w, clients_get_detached(clients, client), false, COUNTER_REVOKED_DETACH))
			log_event(LOG_LEVEL_WARNING,
			    LOG_ABOUT(ABOUT_SLOT(s), .cause = broker_counter_info[COUNTER_REVOKED_DETACH].name),
			    "lease revoked: its lessee is not attached any more");
		return;
	}
	if ((s->hung_up || s->outdated || now >= s->expires_at || server_cancel_is_late(s, now)) &&
	    (word_flags(w) & SLOT_RETIRE) == 0) {
		if (s->hung_up)
			server_hung_up(s);
		else if (server_cancel_is_late(s, now))
			server_wants_back(s, w); /* the cancel may still come: nobody else gets this session */
		else if (now >= s->expires_at)
			server_retire(s, w);
		else
			server_outdate(s); /* claimed while it was idle */
		return;
	}
	age = leaks_age(s, w, now);
	leaks_look(s, client, age);
	if (s->pool->settings->lease_limit != 0 && age > s->pool->settings->lease_limit) {
		revoke_slot(s, clients, 0, COUNTER_REVOKED_LIMIT);
		return;
	}
	/* The flag of a cancel that is over, or that never was. */
	if ((word_flags(w) & SLOT_CANCELLING) != 0 && s->cancels == 0)
		slot_set_flags(&s->pool->seg, s->slot, &w, 0, SLOT_CANCELLING); /* F1 */
}

static void
look_at_out(struct server *s, uint64_t w, const struct clients *clients, uint64_t now)
{
	unsigned state = word_state(w);

	/* Without its connection it can only be returned (N1). */
	if (s->state != SERVER_LENT && (state == SLOT_IDLE || state == SLOT_GRANTED))
		state = SLOT_BROKER;
	switch (state) {
	case SLOT_IDLE:
		look_at_idle(s, w, now);
		break;
	case SLOT_GRANTED:
		look_at_granted(s, w, now);
		break;
	case SLOT_LEASED:
		look_at_leased(s, w, clients, now);
		break;
	case SLOT_RETURNED:
		server_settle(s, w);
		break;
	default:
		/* A client has written over the word: who has the connection is not known any more. */
		log_event(LOG_LEVEL_WARNING, LOG_ABOUT(ABOUT_SLOT(s)), "its word was overwritten by a client");
		if (server_seize(s))
			server_end(s, COUNTER_CLOSED_BROKEN);
		break;
	}
}

void
maintain_pool(struct pool *p, const struct clients *clients, uint64_t now)
{
	unsigned lent = 0;
	uint32_t down;

	p->attention = p->has_replaced = false;
	for (uint32_t i = 0; i < p->seg.nslots; i++) {
		struct server *s = &p->server[i];
		uint64_t w = slot_load(&p->seg, i);

		switch (s->state) {
		case SERVER_NONE:
			/* A slot without a connection that a client has written over. */
			if (word_state(w) != SLOT_EMPTY && server_seize(s))
				slot_empty(&p->seg, i, &s->word); /* S2 */
			break;
		case SERVER_LENT:
		case SERVER_RENEWING:
		case SERVER_VOID:
			look_at_out(s, w, clients, now);
			if (p->draining && s->state == SERVER_LENT)
				server_drain(s); /* claimed by someone who had not seen the state */
			lent += s->state == SERVER_LENT;
			break;
		case SERVER_ENDING:
			if (clock_since(now, s->started_at) > SERVER_CANCEL_LIMIT)
				server_close(s, s->close_cause);
			break;
		case SERVER_RESETTING: /* it is back in a moment */
			lent++;
			break;
		case SERVER_CONNECTING:
			break;
		}
	}
	if (queue_maybe_waiting(&p->seg))
		handoff_wake_all(&p->seg);
	pool_grow(p, now);
	if (p->has_replaced)
		pool_want_attention(p);
	dirty_look(p, now);
	/*
	 * "Down" is for those who would wait in vain: connects fail and there is no connection. Sequentially consistent, before the
	 * posts: a waiter clears `posted` and looks then (claim.c), so that it sees one or the other.
	 */
	down = p->failures != 0 && lent == 0;
	if (atomic_exchange(&p->seg.header->upstream_down, down) != down && down && p->settings->fail_fast)
		pool_wake_waiters(p);
}
