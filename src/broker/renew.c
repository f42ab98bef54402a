/* SPDX-License-Identifier: PostgreSQL */
/*
 * Renewals. The word is the lessee's all the time; so every step that follows a wait looks at it again. Telling is the
 * last thing that any function here does: whoever is told may ask for the descriptor at once.
 */
#include "renew.h"

#include <string.h>

#include "connect.h"
#include "keys.h"
#include "log.h"
#include "server_priv.h"
#include "slots.h"
#include "sqlstate.h"

/* How often a swap is tried again when a client changes the word's flags all the time. */
#define TRIES 64
#define LAPSED "the lease has ended meanwhile: release it and acquire again"

static void
tell(struct server *s, const char *sqlstate, const char *why)
{
	struct renewal renewal = s->renewal;

	s->renewal = (struct renewal){.told = NULL};
	if (renewal.told != NULL)
		renewal.told(renewal.context, sqlstate, why);
}

static bool
is_lease(uint64_t w, uint64_t sequence)
{
	return word_state(w) == SLOT_LEASED && word_seq(w) == sequence;
}

/* Flags of the lease that `w` is. False when it has ended. */
static bool
change_flags(struct server *s, uint64_t w, unsigned set, unsigned clear)
{
	uint64_t sequence = word_seq(w);

	for (unsigned i = 0; i < TRIES && is_lease(w, sequence); i++)
		if (slot_set_flags(&s->pool->seg, s->slot, &w, set, clear))
			return true;
	return false;
}

/* N2 */
static void
end_session(struct server *s, uint64_t incarnation)
{
	struct pool *p = s->pool;

	pool_count(p, COUNTER_CLOSED_RENEWED);
	log_event(LOG_LEVEL_INFO,
	    LOG_ABOUT(ABOUT_SLOT(s), .server_pid = s->pid, .cause = broker_counter_info[COUNTER_CLOSED_RENEWED].name),
	    "closed server pid %u: %s", s->pid, broker_counter_info[COUNTER_CLOSED_RENEWED].help);
	/* Whether it is sent or not: the server notices the closed connection at the latest when its statement ends. */
	if (!s->hung_up)
		server_cancel_what_runs(s);
	server_drop(s);
	keys_keep_attempt(s, incarnation);
	/* Those in flight are of the old generation; cancel_returned() leaves them out. */
	s->cancels = 0;
}

void
renew_start(struct server *s, uint64_t w, uint64_t incarnation, renewal_told told, void *context)
{
	if (s->state == SERVER_RENEWING) {
		tell(s, "55000", "another PQreset of this lease has come after this one");
		s->renewal = (struct renewal){.sequence = word_seq(w), .told = told, .context = context};
		return;
	}
	if (!change_flags(s, w, SLOT_RETIRE, SLOT_CANCELLING)) { /* N1 */
		told(context, "55000", LAPSED);
		return;
	}
	if (s->state == SERVER_LENT)
		end_session(s, incarnation);
	server_set_state(s, SERVER_RENEWING);
	s->renewal = (struct renewal){.sequence = word_seq(w), .told = told, .context = context};
	s->started_at = clock_ns();
	connect_start(s); /* N3 */
}

/* The connect is given up. The slot stays its lessee's; the tick closes it if it is not. */
static void
become_void(struct server *s)
{
	server_drop(s);
	server_set_state(s, SERVER_VOID);
	pool_want_attention(s->pool);
}

void
renew_abandon(struct server *s)
{
	s->renewal = (struct renewal){.told = NULL};
	log_event(LOG_LEVEL_INFO, LOG_ABOUT(ABOUT_SLOT(s)), "its lessee does not wait for its other connection any more");
	become_void(s);
}

void
renew_connected(struct server *s)
{
	struct pool *p = s->pool;
	uint64_t w = slot_load(&p->seg, s->slot);
	int r;

	if (!is_lease(w, s->renewal.sequence)) {
		become_void(s);
		tell(s, "55000", LAPSED);
		return;
	}
	s->hung_up = s->retired = s->outdated = false;
	s->drained = p->draining;
	r = server_publish(s); /* N4 */
	if (r != 0) {
		renew_failed(s, SQLSTATE_NONE, strerror(-r));
		return;
	}
	/* N5: F4. If the lease has ended since, the tick settles the slot, as any that was returned. */
	change_flags(s, w, 0, SLOT_SESSION | (s->drained ? 0 : SLOT_RETIRE));
	server_set_state(s, SERVER_LENT);
	tell(s, NULL, NULL);
}

void
renew_failed(struct server *s, const char *sqlstate, const char *error)
{
	char why[512];

	snprintf(why, sizeof(why), "no other connection to the server: %s", error);
	log_flatten(why);
	become_void(s);
	/* While connects fail a client that asks again and again does not move the time of the next try. */
	if (clock_ns() >= s->pool->retry_at)
		pool_upstream_fails(s->pool, sqlstate, error);
	tell(s, sqlstate, why);
}

void
renew_over(struct server *s)
{
	if (s->pool->stopping)
		tell(s, "57P01", "the broker is stopping");
	else
		tell(s, "55000", LAPSED);
}
