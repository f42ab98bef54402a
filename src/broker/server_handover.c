/* SPDX-License-Identifier: PostgreSQL */
/*
 * Handing over what the broker knows of a slot. What it says of things under way (a connect, a reset, a cancel) is not
 * among it: there are none by then (doc/protocol.md, H3).
 */
#include "server.h"

#include <stdlib.h>
#include <string.h>

#include "hangups.h"
#include "log.h"
#include "reset.h"
#include "server_priv.h"
#include "slots.h"

/* More than any client has: one for each that was ever attached since the connection was made. */
#define KEYS_MAX ((uint32_t)1 << 24)

static void
backend_fields(struct handover *h, struct backend *b)
{
	handover_fd(h, &b->fd);
	HANDOVER(h, b->is_local);
	HANDOVER(h, b->key);
	HANDOVER(h, b->address);
	HANDOVER(h, b->address_size);
}

static void
keys_fields(struct handover *h, struct server *s)
{
	uint32_t n = s->nkeys;

	handover_count(h, &n, KEYS_MAX);
	if (handover_reads(h) && n != 0) {
		s->keys = calloc(n, sizeof(*s->keys));
		if (s->keys == NULL)
			n = 0; /* what follows does not match, which is told */
		s->nkeys = s->keys_size = n;
	}
	for (uint32_t i = 0; i < n; i++)
		HANDOVER(h, s->keys[i]);
}

/* The words of pool.h's struct server, in its order. */
static void
fields(struct handover *h, struct server *s)
{
	uint32_t state = s->state, size = (uint32_t)s->baseline_size;

	handover_count(h, &state, SERVER_VOID);
	HANDOVER(h, s->generation);
	backend_fields(h, &s->backend);
	HANDOVER(h, s->pid);
	HANDOVER(h, s->block);
	HANDOVER(h, s->has_block);
	HANDOVER(h, s->hung_up);
	HANDOVER(h, s->retired);
	HANDOVER(h, s->drained);
	HANDOVER(h, s->outdated);
	HANDOVER(h, s->connected_at);
	HANDOVER(h, s->expires_at);
	HANDOVER(h, s->lent_at);
	HANDOVER(h, s->idle_from);
	HANDOVER(h, s->lease_seen);
	HANDOVER(h, s->lease_since);
	HANDOVER(h, s->lease_reported);
	keys_fields(h, s);
	handover_count(h, &size, sizeof(s->baseline));
	s->baseline_size = size;
	handover_bytes(h, s->baseline, size);
	s->state = state;
}

void
server_hand_over(struct server *s, struct handover *h)
{
	fields(h, s);
}

int
server_take_over(struct server *s, struct handover *h)
{
	struct pool *p = s->pool;
	int r;

	fields(h, s);
	if (handover_check(h, false) != 0)
		return -1;
	/* As server_set_state() counts them. */
	p->open += s->state != SERVER_NONE;
	p->voids += s->state == SERVER_VOID;
	if (s->state != SERVER_NONE && s->state != SERVER_LENT && s->state != SERVER_VOID)
		return log_refuse("the state that was handed over cannot be used: slot %u of pool %s is %s", s->slot,
		    p->settings->name, server_state_name(s->state));
	if (s->state != SERVER_LENT || s->hung_up)
		return 0;
	r = hangups_watch(p->context->hangups, s->backend.fd, p->index, s->slot, s->generation);
	return r == 0 ? 0 : log_refuse("pool %s: slot %u cannot be watched: %s", p->settings->name, s->slot, strerror(-r));
}

/* Out: whatever the word says, the connection serves no lease after the present one (F2). */
static void
let_none_follow(struct server *s)
{
	uint64_t w = slot_load(&s->pool->seg, s->slot);

	s->drained = true;
	if (word_state(w) == SLOT_LEASED)
		server_wants_back(s, w);
}

void
server_give_up(struct server *s)
{
	uint64_t w;

	switch (s->state) {
	case SERVER_NONE:
	case SERVER_VOID:
		return;
	case SERVER_CONNECTING:
		server_close(s, COUNTER_CLOSED_ADMIN);
		return;
	case SERVER_RESETTING:
		reset_stop(s);
		server_was_reset(s, "the broker restarts");
		return;
	case SERVER_ENDING:
		server_close(s, s->close_cause);
		return;
	case SERVER_RENEWING: /* adopt_hold() has let go of it */
		return;
	case SERVER_LENT:
		break;
	}
	if (s->cancels != 0) {
		let_none_follow(s);
		return;
	}
	if (s->backend.conn == NULL)
		return;
	w = slot_load(&s->pool->seg, s->slot);
	while (word_state(w) == SLOT_IDLE || word_state(w) == SLOT_GRANTED) {
		if (server_take(s, &w)) { /* S5, S12 */
			server_close(s, COUNTER_CLOSED_ADMIN);
			return;
		}
	}
	let_none_follow(s);
}

bool
server_is_quiet(const struct server *s)
{
	return (s->state == SERVER_NONE || s->state == SERVER_LENT || s->state == SERVER_VOID) && s->cancels == 0;
}
