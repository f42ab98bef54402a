/* SPDX-License-Identifier: PostgreSQL */
/*
 * One slot's connection through its states. server_set_state() is the one place where a server's state changes; slot
 * words change by slots.h and handoff.h only.
 *
 * A word that is not what the broker left (a client scribbled over it) never stops the broker: the transition fails,
 * and the tick takes the slot back by force.
 */
#include "server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "cancels.h"
#include "connect.h"
#include "handoff.h"
#include "hangups.h"
#include "keys.h"
#include "log.h"
#include "renew.h"
#include "reset.h"
#include "server_priv.h"
#include "slots.h"
#include "sqlstate.h"
#include "statements.h"
#include "takeover.h"

/* How often a swap is tried again when clients change the word all the time; then the tick tries again. */
#define TRIES 64

const char *
server_state_name(enum server_state state)
{
	static const char *const names[] = {"none", "connecting", "lent", "resetting", "ending", "renewing",
	    "void"};

	return names[state];
}

bool
server_is_out(const struct server *s)
{
	return s->state == SERVER_LENT || s->state == SERVER_RENEWING || s->state == SERVER_VOID;
}

bool
server_has_connection(const struct server *s)
{
	return s->state == SERVER_LENT || s->state == SERVER_RESETTING || s->state == SERVER_ENDING;
}

void
server_set_state(struct server *s, enum server_state to)
{
	enum server_state from = s->state;

	switch (to) {
	case SERVER_NONE:
		assert(from != SERVER_NONE);
		break;
	case SERVER_CONNECTING:
		assert(from == SERVER_NONE);
		break;
	case SERVER_LENT:
		assert(from == SERVER_CONNECTING || from == SERVER_RESETTING || from == SERVER_LENT ||
		       from == SERVER_RENEWING);
		break;
	case SERVER_RESETTING:
	case SERVER_ENDING:
		assert(from == SERVER_LENT);
		break;
	case SERVER_RENEWING:
		assert(from == SERVER_LENT || from == SERVER_VOID);
		break;
	case SERVER_VOID:
		assert(from == SERVER_RENEWING);
		break;
	}
	s->pool->connecting += (to == SERVER_CONNECTING) - (from == SERVER_CONNECTING);
	s->pool->voids += (to == SERVER_VOID) - (from == SERVER_VOID);
	s->pool->open += (to != SERVER_NONE) - (from != SERVER_NONE);
	s->state = to;
	log_event(LOG_LEVEL_DEBUG, LOG_ABOUT(ABOUT_SLOT(s)), "%s -> %s", server_state_name(from), server_state_name(to));
}

bool
server_take(struct server *s, uint64_t *w)
{
	if (!slot_take(&s->pool->seg, s->slot, w))
		return false;
	s->word = *w;
	return true;
}

bool
server_seize(struct server *s)
{
	uint64_t w = slot_load(&s->pool->seg, s->slot);

	for (unsigned i = 0; i < TRIES; i++) {
		if (word_state(w) == SLOT_BROKER) {
			s->word = w;
			return true;
		}
		if (server_take(s, &w))
			return true;
	}
	return false;
}

bool
server_open(struct server *s)
{
	struct pool *p = s->pool;

	if (!s->has_block && !pool_block_get(p, &s->block))
		return false;
	s->has_block = true;
	if (!server_seize(s)) /* S1 */
		return false;
	server_set_state(s, SERVER_CONNECTING);
	pool_slot_used(p, s->slot);
	s->hung_up = s->retired = s->drained = s->outdated = false;
	s->cancels = 0;
	s->started_at = clock_ns();
	connect_start(s);
	return true;
}

void
server_drop(struct server *s)
{
	struct pool *p = s->pool;

	if (s->state == SERVER_CONNECTING || s->state == SERVER_RENEWING)
		connect_stop(s);
	else if (s->state == SERVER_RESETTING)
		reset_stop(s);
	PQfinish(s->conn); /* of a connect that is given up */
	s->conn = NULL;
	if (s->backend.fd >= 0)
		hangups_unwatch(p->context->hangups, s->backend.fd);
	backend_close(&s->backend);
	explicit_bzero(s->baseline, sizeof(s->baseline));
	s->baseline_size = 0;
	s->keep_since = 0;
	/* As the word's owner; readers without the word print a wrong pid at worst. */
	atomic_store_explicit(&p->seg.slot[s->slot].server_pid, 0, memory_order_relaxed);
	s->pid = 0;
}

/* Makes the slot EMPTY. */
static void
release(struct server *s)
{
	struct pool *p = s->pool;
	bool renewing = s->state == SERVER_RENEWING;

	server_drop(s);
	keys_free(s);
	if (!slot_empty(&p->seg, s->slot, &s->word)) { /* S2 */
		log_event(LOG_LEVEL_WARNING, LOG_ABOUT(ABOUT_SLOT(s)), "its word was overwritten by a client");
		if (server_seize(s))
			slot_empty(&p->seg, s->slot, &s->word);
	}
	server_set_state(s, SERVER_NONE);
	pool_want_attention(p);
	if (renewing)
		renew_over(s);
}

void
server_connect_failed(struct server *s, const char *sqlstate, const char *error)
{
	char text[256];

	snprintf(text, sizeof(text), "%s", error); /* it may belong to the connection */
	if (s->state == SERVER_RENEWING) {
		renew_failed(s, sqlstate, text);
		return;
	}
	release(s);
	pool_upstream_fails(s->pool, sqlstate, text);
}

/* Up to a tenth earlier than max_lifetime, fixed now. */
static uint64_t
expiry(const struct server *s, uint64_t now)
{
	uint64_t lifetime = s->pool->settings->max_lifetime, random = 0;

	if (lifetime == 0)
		return UINT64_MAX;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = 0;
	return now + lifetime - random % (lifetime / 10 + 1);
}

int
server_publish(struct server *s)
{
	struct pool *p = s->pool;
	struct slot *slot = &p->seg.slot[s->slot];
	uint64_t now = clock_ns();
	int r;

	s->generation++;
	s->connected_at = now;
	s->expires_at = expiry(s, now);
	/* By the word's owner, between S1 and S3/S4, whose swap publishes them; or N4. */
	memcpy(segment_baseline(&p->seg, s->slot), s->baseline, s->baseline_size);
	atomic_store_explicit(&slot->generation, s->generation, memory_order_relaxed);
	atomic_store_explicit(&slot->session, (uint64_t)s->generation << 32, memory_order_relaxed);
	atomic_store_explicit(&slot->leases_before, slot_leases(&p->seg, s->slot) - block_leases(&p->seg, s->block),
	    memory_order_relaxed);
	atomic_store_explicit(&slot->block, s->block, memory_order_relaxed);
	atomic_store_explicit(&slot->server_pid, s->pid, memory_order_relaxed);
	atomic_store_explicit(&slot->expired, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->clean, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->off_baseline, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->unverified, 0, memory_order_relaxed);
	statements_forget(&p->seg, s->slot);
	atomic_store_explicit(&slot->connected_at, now, memory_order_relaxed);
	r = hangups_watch(p->context->hangups, s->backend.fd, p->index, s->slot, s->generation);
	if (r != 0)
		return r;
	pool_upstream_works(p);
	pool_count(p, COUNTER_OPENED);
	counter_add(&p->seg.header->broker_counter[COUNTER_CONNECT_NS], now - s->started_at);
	histogram_record(p->seg.connects, now - s->started_at);
	takeover_note(p->context->takeover, s);
	log_event(LOG_LEVEL_INFO, LOG_ABOUT(ABOUT_SLOT(s), .server_pid = s->pid),
	    "connected in %.1f ms, server pid %u", (double)(now - s->started_at) / 1e6, s->pid);
	return 0;
}

void
server_connected(struct server *s)
{
	int r;

	if (s->state == SERVER_RENEWING) {
		renew_connected(s);
		return;
	}
	r = server_publish(s);
	if (r != 0)
		server_connect_failed(s, SQLSTATE_NONE, strerror(-r));
	else
		server_lend(s);
	/* The next one of a reconnect. */
	pool_want_attention(s->pool);
}

void
server_lend(struct server *s)
{
	struct pool *p = s->pool;

	if (p->draining) { /* it was being reset when the drain began */
		server_close(s, COUNTER_CLOSED_ADMIN);
		return;
	}
	server_set_state(s, SERVER_LENT);
	s->lent_at = clock_ns();
	s->idle_from = s->keep_since != 0 ? s->keep_since : s->lent_at;
	s->keep_since = 0;
	switch (handoff_give(&p->seg, s->slot, &s->word, WORD_NONE, 0, s->lent_at)) { /* S3, S4 */
	case HANDOFF_GRANTED:
		pool_count(p, COUNTER_BROKER_GRANTS);
		break;
	case HANDOFF_IDLE:
		break;
	case HANDOFF_LOST:
	case HANDOFF_BLOCKED:
		log_event(LOG_LEVEL_WARNING, LOG_ABOUT(ABOUT_SLOT(s)), "its word was overwritten by a client");
		pool_want_attention(p);
		break;
	}
}

static void
start_reset(struct server *s, unsigned session, bool in_doubt)
{
	server_set_state(s, SERVER_RESETTING);
	s->session = session;
	s->in_doubt = in_doubt;
	s->started_at = clock_ns();
	reset_start(s);
}

void
server_reset(struct server *s, bool owed)
{
	s->keepalive = false;
	start_reset(s, owed ? SLOT_OWED : SLOT_DIRTY, !owed);
}

void
server_refresh(struct server *s, unsigned session, uint64_t since, bool keepalive)
{
	s->keep_since = since;
	s->keepalive = keepalive;
	start_reset(s, session, false);
}

uint64_t
server_idle_since(const struct server *s)
{
	uint64_t since = atomic_load_explicit(&s->pool->seg.slot[s->slot].idle_since, memory_order_relaxed);

	return since == s->lent_at ? s->idle_from : since;
}

void
server_was_reset(struct server *s, const char *error)
{
	struct pool *p = s->pool;

	if (error != NULL || s->hung_up) {
		if (s->keepalive)
			pool_suspect(p, clock_ns());
		else
			pool_count(p, COUNTER_BROKER_RESETS_FAILED);
		log_event(LOG_LEVEL_INFO,
		    LOG_ABOUT(ABOUT_SLOT(s), .server_pid = s->pid, .cause = s->keepalive ? "keepalive" : "reset"),
		    "server pid %u is replaced: its %s failed: %s", s->pid, s->keepalive ? "keepalive" : "reset",
		    error != NULL ? error : "the server closed the connection");
		server_close(s, s->hung_up ? COUNTER_CLOSED_UPSTREAM : COUNTER_CLOSED_BROKEN);
		return;
	}
	if (s->keepalive)
		pool_count(p, COUNTER_KEEPALIVES);
	if (s->session != 0) {
		pool_count(p, COUNTER_BROKER_RESETS);
		if (s->answer.kind != RESET_NONE)
			pool_count(p, COUNTER_BROKER_RESETS_FULL + (enum broker_counter)s->answer.kind);
	}
	server_lend(s);
}

void
server_close(struct server *s, enum broker_counter cause)
{
	struct pool *p = s->pool;

	if (server_has_connection(s)) {
		if (s->state != SERVER_ENDING) /* counted when it began */
			pool_count(p, cause);
		log_event(LOG_LEVEL_INFO,
		    LOG_ABOUT(ABOUT_SLOT(s), .server_pid = s->pid, .cause = broker_counter_info[cause].name),
		    "closed server pid %u: %s", s->pid, broker_counter_info[cause].help);
	}
	release(s);
}

int
server_cancel_what_runs(struct server *s)
{
	struct cancels_ticket ticket = {
	    .pool = s->pool->index,
	    .slot = s->slot,
	    .generation = s->generation,
	    .requester = -1,
	    .insist = true,
	    .local_pid = s->backend.is_local ? (pid_t)s->pid : 0,
	};

	return cancels_submit(s->pool->context->cancels, &s->backend, &ticket);
}

static void
end(struct server *s, enum broker_counter cause, bool dead)
{
	if (s->state != SERVER_LENT) { /* a lease without a connection is taken back */
		pool_count(s->pool, cause);
		server_close(s, cause);
		return;
	}
	if (s->hung_up) { /* nothing runs any more */
		server_close(s, cause);
		return;
	}
	pool_count(s->pool, cause);
	server_set_state(s, SERVER_ENDING);
	s->close_cause = cause;
	s->started_at = clock_ns();
	s->going = dead;
	/* The fence: whoever holds the descriptor can neither read nor write from now on. */
	shutdown(s->backend.fd, dead ? SHUT_WR : SHUT_RDWR);
	server_cancel_begin(s);
	if (server_cancel_what_runs(s) != 0)
		server_cancel_done(s); /* the server notices the closed connection when its statement ends */
}

void
server_end(struct server *s, enum broker_counter cause)
{
	end(s, cause, false);
}

void
server_end_of_dead(struct server *s, enum broker_counter cause)
{
	end(s, cause, true);
}

void
server_settle(struct server *s, uint64_t w)
{
	unsigned flags = word_flags(w);
	bool owed = (flags & SLOT_OWED) != 0, pooling = s->pool->settings->pooling != 0;

	/* Until a cancel has returned it may hit whatever runs; a session that has ended, or has to, no more. */
	if (s->cancels != 0 && !s->hung_up && !server_cancel_is_late(s, clock_ns()))
		return;
	if (!server_take(s, &w)) /* S14 */
		return;
	if (s->state != SERVER_LENT) { /* there is nothing to settle */
		server_close(s, COUNTER_CLOSED_BROKEN);
		return;
	}
	/* Written by the lessee before S10; scribbled, it lets a statement run on until the server sees the end. */
	if (!pooling && atomic_load_explicit(&s->pool->seg.slot[s->slot].clean, memory_order_relaxed) != 0) {
		server_close(s, COUNTER_CLOSED_UNPOOLED);
		return;
	}
	/*
	 * A lessee returns what is broken or in doubt (RETIRE) or wanted back. Only when a cancel made it return the slot, or a
	 * reset that is not answered yet, may the session be sound: then the reset tells.
	 */
	if ((flags & (SLOT_CANCELLING | SLOT_OWED)) != 0 && (flags & SLOT_RETIRE) == 0 && pooling &&
	    s->cancels == 0 && !s->hung_up && !s->retired && !s->drained && !s->outdated)
		server_reset(s, owed);
	else if (s->hung_up)
		server_end(s, COUNTER_CLOSED_UPSTREAM);
	else if (s->cancels != 0) /* one more would not come either */
		server_close(s, COUNTER_CLOSED_BROKEN);
	else
		server_end(s, s->drained || s->outdated ? COUNTER_CLOSED_ADMIN
		              : s->retired           ? COUNTER_CLOSED_LIFETIME
		                                     : COUNTER_CLOSED_BROKEN);
}

void
server_wants_back(struct server *s, uint64_t w)
{
	for (unsigned i = 0; i < TRIES && word_state(w) == SLOT_LEASED && (word_flags(w) & SLOT_RETIRE) == 0;
	     i++)
		if (slot_set_flags(&s->pool->seg, s->slot, &w, SLOT_RETIRE, 0)) /* F2 */
			return;
}

void
server_hung_up(struct server *s)
{
	uint64_t w = slot_load(&s->pool->seg, s->slot);

	s->hung_up = true;
	if (s->state != SERVER_ENDING) /* this one has been ended on purpose */
		pool_suspect(s->pool, clock_ns());
	if (s->state == SERVER_ENDING && s->going)
		server_close(s, s->close_cause);
	if (s->state != SERVER_LENT)
		return; /* a reset notices by itself; an ending one is on its way */
	for (unsigned i = 0; i < TRIES; i++) {
		switch (word_state(w)) {
		case SLOT_IDLE:
		case SLOT_GRANTED:
			if (server_take(s, &w)) { /* S5, S12 */
				server_close(s, COUNTER_CLOSED_UPSTREAM);
				return;
			}
			break;
		case SLOT_LEASED:
			server_wants_back(s, w);
			return;
		default:
			pool_want_attention(s->pool);
			return;
		}
	}
}

void
server_retire(struct server *s, uint64_t w)
{
	s->retired = true;
	/* Lessees read it relaxed at release; RETIRE in the word is what compels them. */
	atomic_store_explicit(&s->pool->seg.slot[s->slot].expired, 1, memory_order_relaxed);
	server_wants_back(s, w);
}

void
server_drain(struct server *s)
{
	uint64_t w = slot_load(&s->pool->seg, s->slot);

	if (s->state == SERVER_CONNECTING) {
		server_close(s, COUNTER_CLOSED_ADMIN);
		return;
	}
	if (s->state != SERVER_LENT)
		return; /* a reset ends in server_lend, which closes it; an ending one is on its way */
	for (unsigned i = 0; i < TRIES; i++) {
		switch (word_state(w)) {
		case SLOT_IDLE:
		case SLOT_GRANTED:
			if (server_take(s, &w)) { /* S5, S12 */
				server_close(s, COUNTER_CLOSED_ADMIN);
				return;
			}
			break;
		case SLOT_LEASED:
			s->drained = true;
			server_wants_back(s, w);
			return;
		default: /* RETURNED: the tick settles it */
			return;
		}
	}
}

void
server_outdate(struct server *s)
{
	uint64_t w = slot_load(&s->pool->seg, s->slot);

	if (s->state == SERVER_CONNECTING) {
		server_close(s, COUNTER_CLOSED_ADMIN);
		return;
	}
	/* One that is being renewed is another soon; one that is ending goes. */
	if (s->state != SERVER_LENT && s->state != SERVER_RESETTING)
		return;
	s->outdated = true;
	if (s->state == SERVER_LENT && word_state(w) == SLOT_LEASED)
		server_wants_back(s, w);
}

void
server_cancel_begin(struct server *s)
{
	if (s->cancels++ == 0)
		s->cancelling_at = clock_ns();
}

bool
server_cancel_is_late(const struct server *s, uint64_t now)
{
	return s->cancels != 0 && clock_since(now, s->cancelling_at) > SERVER_CANCEL_LIMIT;
}

void
server_cancel_done(struct server *s)
{
	uint64_t w;

	assert(s->cancels > 0);
	if (--s->cancels != 0)
		return;
	if (s->state == SERVER_ENDING) {
		server_close(s, s->close_cause);
		return;
	}
	/* While a restart waits for quiet nothing is begun (H2). */
	if (s->state != SERVER_LENT || s->pool->context->quiet)
		return;
	w = slot_load(&s->pool->seg, s->slot);
	for (unsigned i = 0; i < TRIES; i++) {
		if (word_state(w) == SLOT_RETURNED) {
			server_settle(s, w);
			return;
		}
		/* No lease can have followed the cancelled one: S8 and S9 are not allowed from CANCELLING. */
		if (word_state(w) != SLOT_LEASED || (word_flags(w) & SLOT_CANCELLING) == 0 ||
		    slot_set_flags(&s->pool->seg, s->slot, &w, 0, SLOT_CANCELLING)) /* F1 */
			return;
	}
}
