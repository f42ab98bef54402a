/* SPDX-License-Identifier: PostgreSQL */
/*
 * Revocation. The order of steps is the protocol's; every step is a swap from the word seen, so a client that is not
 * quite dead yet and moves at the same time makes it fail, and the word is looked at again.
 */
#include "revoke.h"

#include "handoff.h"
#include "keys.h"
#include "log.h"
#include "rows.h"
#include "server.h"
#include "slots.h"

/* A detached process that changes its words all the time cannot hold the broker: the tick finishes the work. */
#define TRIES 64

/*
 * A paused lessee may still write to the slot's statistics block: unless it is dead for sure, the slot gets another
 * one, and the old one waits for the process's end.
 */
static void
change_block(struct server *s, uint64_t leased, struct client *client, bool dead)
{
	if (dead || !s->has_block)
		return;
	if (client == NULL || !client_owe_block(client, s->pool, s->block, word_who(leased),
				  row_token(s->slot, word_seq(leased))))
		return; /* the writer is unknown: the block stays, and its totals may be set back a little */
	s->has_block = pool_block_get(s->pool, &s->block);
}

bool
revoke_lease(struct server *s, uint64_t w, struct client *client, bool dead, enum broker_counter cause)
{
	uint64_t leased = w;

	if (!server_is_out(s) || !server_take(s, &w)) /* S13 */
		return false;
	change_block(s, leased, client, dead);
	if (dead)
		server_end_of_dead(s, cause);
	else
		server_end(s, cause);
	return true;
}

/* Step 1 for one slot. True when a lease was revoked. */
static bool
take_back(struct server *s, struct client *client, bool dead, enum broker_counter cause)
{
	struct pool *p = s->pool;
	char site[SLOT_SITE];
	uint32_t pid = s->pid;

	slot_site(&p->seg, s->slot, site);
	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t w = slot_load(&p->seg, s->slot);

		if (word_state(w) != SLOT_LEASED || pool_word_client(p, w) != client_index(client))
			return false;
		if (!revoke_lease(s, w, client, dead, cause))
			continue;
		log_event(LOG_LEVEL_INFO,
		    LOG_ABOUT(ABOUT_SLOT(s), .client_pid = client_pid(client), .server_pid = pid,
		        .cause = broker_counter_info[cause].name),
		    "lease revoked from client %u (pid %ld), server pid %u; it was acquired at %s", client_index(client),
		    (long)client_pid(client), pid, site[0] != '\0' ? site : "an unknown place");
		return true;
	}
	return false;
}

unsigned
revoke_leases(
    struct pool **pools, unsigned npools, struct client *client, bool dead, enum broker_counter cause)
{
	unsigned revoked = 0;

	for (unsigned n = 0; n < npools; n++) {
		struct pool *p = pools[n];

		for (uint32_t i = 0; i < p->seg.nslots; i++) {
			revoked += take_back(&p->server[i], client, dead, cause); /* step 1 */
			keys_forget(&p->server[i], client_incarnation(client));
		}
	}
	return revoked;
}

static void
count_repaired(struct pool *p, uint32_t repaired)
{
	counter_add(&p->seg.header->broker_counter[COUNTER_GRANTS_REPAIRED], repaired);
}

void
revoke_recover(struct pool **pools, unsigned npools)
{
	for (unsigned n = 0; n < npools; n++) {
		count_repaired(pools[n], handoff_recover(&pools[n]->seg, clock_ns())); /* steps 3, 5 */
		pool_want_attention(pools[n]);
	}
}

static bool
is_row_of(uint64_t w, const struct client *client)
{
	return word_state(w) != ROW_FREE && word_who(w) == client_index(client);
}

unsigned
revoke_slot(struct server *s, const struct clients *clients, pid_t pid, enum broker_counter cause)
{
	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t w = slot_load(&s->pool->seg, s->slot);
		struct client *client = clients_get(clients, pool_word_client(s->pool, w));
		uint32_t server_pid = s->pid;

		if (word_state(w) != SLOT_LEASED || client == NULL || (pid != 0 && client_pid(client) != pid))
			return 0;
		if (!revoke_lease(s, w, client, false, cause))
			continue;
		log_event(LOG_LEVEL_WARNING,
		    LOG_ABOUT(ABOUT_SLOT(s), .client_pid = client_pid(client), .server_pid = server_pid,
		        .cause = broker_counter_info[cause].name),
		    "lease revoked from pid %ld: %s; server pid %u", (long)client_pid(client),
		    broker_counter_info[cause].help, server_pid);
		return 1;
	}
	return 0;
}

bool
revoke_has_rows(struct pool **pools, unsigned npools, const struct client *client)
{
	for (unsigned n = 0; n < npools; n++)
		for (uint32_t row = 0; row < pools[n]->seg.nrows; row++)
			if (is_row_of(row_load(&pools[n]->seg, row), client))
				return true;
	return false;
}

void
revoke_rows(struct pool **pools, unsigned npools, const struct client *client)
{
	for (unsigned n = 0; n < npools; n++) {
		struct pool *p = pools[n];
		uint32_t repaired = 0;

		for (uint32_t row = 0; row < p->seg.nrows; row++) { /* step 2 */
			uint64_t w = row_load(&p->seg, row);

			for (unsigned i = 0; i < TRIES && is_row_of(w, client); i++)
				if (row_free(&p->seg, row, &w)) /* R7 */
					break;
		}
		for (uint32_t i = 0; i < p->seg.nslots; i++) { /* steps 3, 4 */
			uint64_t w;

			repaired += handoff_repair(&p->seg, i, clock_ns());
			w = slot_load(&p->seg, i);
			for (unsigned tries = 0; tries < TRIES && word_state(w) == SLOT_IDLE &&
			                         word_who(w) == client_index(client);
			     tries++)
				if (slot_forget_client(&p->seg, i, &w)) /* F3 */
					break;
		}
		count_repaired(p, repaired);
	}
	revoke_recover(pools, npools); /* step 5 */
}
