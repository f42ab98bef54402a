/* SPDX-License-Identifier: PostgreSQL */
/* Cancel requests of clients. */
#include "cancel.h"

#include <sys/socket.h>
#include <unistd.h>

#include "keys.h"
#include "log.h"
#include "server.h"
#include "slots.h"

#define TRIES 64
/* Of one lease, in flight: one is enough to cancel what runs, and each holds a descriptor. */
#define CANCELS_MAX 8

/* The connection that this key was minted for. Backend pids of two upstreams may be equal. */
static struct server *
find_server(struct pool **pools, unsigned npools, uint32_t pid, uint32_t key, uint64_t *ret_incarnation)
{
	if (pid == 0 || key == 0)
		return NULL;
	for (unsigned i = 0; i < npools; i++) {
		for (uint32_t slot = 0; slot < pools[i]->seg.nslots; slot++) {
			struct server *s = &pools[i]->server[slot];

			if (s->state == SERVER_LENT && s->pid == pid &&
			    (*ret_incarnation = keys_owner(s, key)) != 0)
				return s;
		}
	}
	return NULL;
}

static bool
is_leased_by(const struct server *s, uint64_t w, const struct client *client)
{
	return word_state(w) == SLOT_LEASED && pool_word_client(s->pool, w) == client_index(client);
}

/* The key is the client's own: nobody else needs to have it. Its process may have changed its user since it attached. */
static bool
may_cancel(int requester, const struct client *client)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(requester, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
	       (peer.uid == client_uid(client) || (peer.pid != 0 && peer.pid == client_pid(client)));
}

/*
 * Whether a request that was accepted then can mean the lease that the slot's word names: it has begun, and not only
 * after that; and it is not being given up. Relaxed: idle_since was stored before the word was swapped, leased_at before
 * the application had the lease, and so before it could connect.
 */
static bool
is_meant(const struct server *s, uint64_t accepted_at)
{
	const struct slot *slot = &s->pool->seg.slot[s->slot];
	uint64_t begun = atomic_load_explicit(&slot->leased_at, memory_order_relaxed);

	return begun >= atomic_load_explicit(&slot->idle_since, memory_order_relaxed) && accepted_at >= begun;
}

/* Step 1: the flag first, then the check, so that the lease cannot pass on in between. */
static bool
mark(struct server *s, const struct client *client, uint64_t accepted_at)
{
	uint64_t w = slot_load(&s->pool->seg, s->slot);

	/* The swap, from the word that was read before the times, proves that they are this lease's. */
	for (unsigned i = 0; i < TRIES && is_leased_by(s, w, client) && is_meant(s, accepted_at); i++) {
		if ((word_flags(w) & SLOT_CANCELLING) == 0 &&
		    !slot_set_flags(&s->pool->seg, s->slot, &w, SLOT_CANCELLING, 0)) /* F1 */
			continue;
		if (is_leased_by(s, w, client))
			return true;
		/* Its row is another client's now: nobody's lease is in flight unless an older cancel is. */
		if (s->cancels == 0)
			slot_set_flags(&s->pool->seg, s->slot, &w, 0, SLOT_CANCELLING); /* F1 */
		return false;
	}
	return false;
}

void
cancel_request(struct cancels *cancels, struct pool **pools, unsigned npools, const struct clients *clients,
    const struct cancel_request *request)
{
	uint64_t incarnation = 0;
	struct server *s = find_server(pools, npools, request->pid, request->key, &incarnation);
	struct client *client = s == NULL ? NULL : clients_by_incarnation(clients, incarnation);
	struct cancels_ticket ticket;

	if (client == NULL || !may_cancel(request->requester, client) ||
	    !mark(s, client, request->accepted_at)) {
		/* Without a slot there is no pool to count it for: it counts for the first one. */
		pool_count(s != NULL ? s->pool : pools[0], COUNTER_CANCELS_REFUSED);
		log_debug("cancel request refused: %s", s == NULL ? "unknown key" : "its lease has ended, or it is another user's");
		close(request->requester);
		return;
	}
	ticket = (struct cancels_ticket){
	    .pool = s->pool->index,
	    .slot = s->slot,
	    .generation = s->generation,
	    .requester = request->requester,
	};
	pool_count(s->pool, COUNTER_CANCELS);
	log_event(LOG_LEVEL_DEBUG, LOG_ABOUT(ABOUT_SLOT(s), .client_pid = client_pid(client)),
	    "cancel for client %u", client_index(client));
	server_cancel_begin(s);
	if (s->cancels > CANCELS_MAX || cancels_submit(cancels, &s->backend, &ticket) != 0) {
		log_event(LOG_LEVEL_WARNING, LOG_ABOUT(ABOUT_SLOT(s)), "too many cancel requests: one is dropped");
		server_cancel_done(s);
		close(request->requester);
	}
}

void
cancel_returned(struct pool **pools, unsigned npools, const struct cancels_ticket *ticket)
{
	struct pool *pool = pool_find(pools, npools, ticket->pool);
	struct server *s = pool != NULL ? &pool->server[ticket->slot] : NULL;

	/* The connection may have been closed meanwhile, and its pool have ended. */
	if (s == NULL || s->generation != ticket->generation || !server_has_connection(s))
		return;
	server_cancel_done(s);
}
