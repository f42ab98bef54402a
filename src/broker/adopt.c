/* SPDX-License-Identifier: PostgreSQL */
/*
 * Adoption. A connection goes through START (start-up packets), SHELL (ReadyForQuery was sent; the request for the
 * descriptor is awaited) and is then closed. What is claimed is checked twice, and the second time counts: in the
 * step that sends the descriptor. A claim that has been served before is a renewal: its connection waits between the two
 * for the slot's other server connection, with the start-up packet still in its buffer.
 */
#include "adopt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cancel.h"
#include "descriptors.h"
#include "handover.h"
#include "keys.h"
#include "listener.h"
#include "log.h"
#include "peer.h"
#include "renew.h"
#include "server.h"
#include "slots.h"
#include "startup.h"

#define ADOPT_MAX 512
#define ADOPT_LIMIT UINT64_C(5000000000) /* for the whole of it */
#define STARVED_AGE UINT64_C(50000000) /* in progress for so long, one is let go when descriptors run out */
#define ADOPT_ENCRYPTION_REQUESTS 2 /* GSS, then SSL */

static const char request[] = WIRE_FD_REQUEST;
#define REQUEST_SIZE (sizeof(request) - 1)

struct handshake {
	TAILQ_ENTRY(handshake) all;
	struct adopt *adopt;
	int fd;
	struct event readable;
	bool shell; /* START is over */
	struct server *renewing; /* what it waits for, at the end of START; NULL: nothing */
	uint32_t encryption_requests;
	uint64_t since; /* accepted, or renewed */
	uint64_t until; /* then it is let go: what was held back by a restart has its time after that */
	struct startup_claim claim; /* SHELL */
	size_t used;
	uint8_t buf[STARTUP_MAX];
};

struct adopt {
	struct adopt_params params;
	struct listener *listener;
	TAILQ_HEAD(handshakes, handshake) all; /* oldest first */
	unsigned count;
	struct handshakes renewing; /* not in `all`: at most one for each slot, and a connect's time is not theirs */
};

static void
handshake_free(struct handshake *h)
{
	if (h->renewing != NULL) {
		TAILQ_REMOVE(&h->adopt->renewing, h, all);
		renew_abandon(h->renewing);
	} else {
		TAILQ_REMOVE(&h->adopt->all, h, all);
		h->adopt->count--;
	}
	event_del(&h->readable);
	if (h->fd >= 0)
		close(h->fd);
	explicit_bzero(h, sizeof(*h));
	free(h);
}

/* The answers fit into an empty socket's buffer: a peer for which they do not is let go. */
static bool
answer(struct handshake *h, const uint8_t *buf, size_t size)
{
	return size != 0 && send(h->fd, buf, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

static void
refuse(struct handshake *h, const char *sqlstate, const char *message)
{
	uint8_t buf[STARTUP_ANSWER];

	log_debug("adoption refused: %s", message);
	answer(h, buf, startup_error(sqlstate, message, buf, sizeof(buf)));
	handshake_free(h);
}

static bool
equal_in_constant_time(const uint8_t *a, const uint8_t *b, size_t size)
{
	uint8_t difference = 0;

	for (size_t i = 0; i < size; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

/* The slot that a claim names, if the claimant is who it says and holds it at this moment, by this word. */
static struct server *
find_lease(struct adopt *a, const struct startup_claim *claim, uint64_t *ret_w, struct client **ret_client,
    const char **ret_sqlstate, const char **ret_why)
{
	struct client *client = clients_get(a->params.clients, claim->client);
	struct pool *pool;
	struct server *server;
	uint64_t w;

	*ret_sqlstate = "28000";
	*ret_why = "this client is not attached to the broker: attach again";
	if (client == NULL || !equal_in_constant_time(claim->nonce, client_nonce(client), WIRE_NONCE))
		return NULL;
	*ret_sqlstate = "55000";
	*ret_why = "there is no such slot";
	pool = pool_find(a->params.pools, a->params.npools, claim->pool);
	if (pool == NULL)
		return NULL;
	if (claim->slot >= pool->seg.nslots)
		return NULL;
	server = &pool->server[claim->slot];
	*ret_why = "the lease is not held any more: release it and acquire again";
	w = slot_load(&pool->seg, claim->slot);
	if (!server_is_out(server) || word_state(w) != SLOT_LEASED || pool_word_client(pool, w) != claim->client)
		return NULL;
	*ret_w = w;
	*ret_client = client;
	return server;
}

/* The same for an adoption: it is the lease and the connection that the claim names. */
static struct server *
check_claim(struct adopt *a, const struct startup_claim *claim, struct client **ret_client,
    const char **ret_sqlstate, const char **ret_why)
{
	uint64_t w;
	struct server *server = find_lease(a, claim, &w, ret_client, ret_sqlstate, ret_why);

	if (server == NULL || server->state != SERVER_LENT || server->hung_up ||
	    server->generation != claim->generation || word_seq(w) != claim->sequence)
		return NULL;
	return server;
}

/* A forked child has its parent's PGconn and nonce, and not its lease. */
static bool
is_from(const struct handshake *h, const struct client *client)
{
	return peer_is(h->fd, client_pid(client), client_pidfd(client));
}

static void
count_refusal(struct adopt *a, const struct startup_claim *claim)
{
	struct pool *pool = pool_find(a->params.pools, a->params.npools, claim->pool);

	if (pool != NULL)
		pool_count(pool, COUNTER_ADOPTIONS_REFUSED);
}

/* The server's answers, up to ReadyForQuery. False when the handshake is over (freed). */
static bool
play_server(struct handshake *h, const struct startup *startup, struct server *server, const struct client *client)
{
	uint8_t buf[STARTUP_ANSWER];
	uint32_t key;

	if (keys_mint(server, client_incarnation(client), &key) != 0) {
		refuse(h, "53200", "the broker is out of memory");
		return false;
	}
	if (!answer(h, buf,
	        startup_answer(
	            startup, server->baseline, server->baseline_size, server->pid, key, buf, sizeof(buf)))) {
		handshake_free(h);
		return false;
	}
	h->shell = true;
	return true;
}

/* A handshake that has its start-up packet in its buffer begins nothing now: it is served later. */
static bool
is_held(const struct handshake *h)
{
	return h->adopt->params.context->quiet;
}

static void serve(struct handshake *h);

static void
consume(struct handshake *h, size_t n)
{
	h->used -= n;
	memmove(h->buf, h->buf + n, h->used);
}

/* The renewal that the handshake has waited for is over. */
static void
renewed(void *context, const char *sqlstate, const char *why)
{
	struct handshake *h = context;
	struct adopt *a = h->adopt;
	struct server *server = h->renewing;
	struct client *client;
	struct startup startup;

	h->renewing = NULL;
	TAILQ_REMOVE(&a->renewing, h, all);
	TAILQ_INSERT_TAIL(&a->all, h, all);
	a->count++;
	h->since = clock_ns();
	h->until = h->since + ADOPT_LIMIT;
	if (why != NULL) {
		refuse(h, sqlstate, why);
		return;
	}
	/* From here on it is an adoption like any other. */
	h->claim.generation = server->generation;
	h->claim.sequence = word_seq(slot_load(&server->pool->seg, server->slot));
	server = check_claim(a, &h->claim, &client, &sqlstate, &why);
	if (server == NULL) {
		count_refusal(a, &h->claim);
		refuse(h, sqlstate, why);
		return;
	}
	startup_parse(h->buf, h->used, &startup); /* once more: a STARTUP_PACKET */
	if (!play_server(h, &startup, server, client))
		return;
	consume(h, startup.used);
	serve(h);
}

/* WIRE_SLOT_OF_ATTEMPT: which slot that is, if any. Who the claimant is, is checked later. */
static void
find_attempt(const struct adopt *a, struct startup_claim *claim)
{
	const struct client *client = clients_get(a->params.clients, claim->client);
	const struct pool *pool = pool_find(a->params.pools, a->params.npools, claim->pool);

	if (client == NULL || pool == NULL)
		return;
	for (uint32_t slot = 0; slot < pool->seg.nslots; slot++) {
		if (keys_was_adopted(&pool->server[slot], client_incarnation(client), claim->attempt)) {
			claim->slot = slot;
			return;
		}
	}
}

/* A start-up packet. False when the handshake is over (freed) or waits, or is held. */
static bool
welcome(struct handshake *h, const struct startup *startup)
{
	struct adopt *a = h->adopt;
	const char *sqlstate, *why;
	struct client *client;
	struct server *server;
	uint64_t w;

	if (!startup_parse_claim(startup->options, &h->claim)) {
		refuse(h, "08P01",
		    "this socket only hands out leased connections: use libpglease, not a connection string");
		return false;
	}
	if (h->claim.slot == WIRE_SLOT_OF_ATTEMPT)
		find_attempt(a, &h->claim);
	server = find_lease(a, &h->claim, &w, &client, &sqlstate, &why);
	if (server != NULL && keys_was_adopted(server, client_incarnation(client), h->claim.attempt)) {
		if (!is_from(h, client)) {
			count_refusal(a, &h->claim);
			refuse(h, "28000", "the lease is another process's");
			return false;
		}
		if (is_held(h))
			return false;
		h->renewing = server;
		TAILQ_REMOVE(&a->all, h, all);
		a->count--;
		TAILQ_INSERT_TAIL(&a->renewing, h, all);
		renew_start(server, w, client_incarnation(client), renewed, h);
		return false;
	}
	server = check_claim(a, &h->claim, &client, &sqlstate, &why);
	if (server == NULL) {
		count_refusal(a, &h->claim);
		refuse(h, sqlstate, why);
		return false;
	}
	return play_server(h, startup, server, client);
}

/* The descriptor, to who holds the lease in this very step (of a renewal: N6); then the connection has served. */
static void
hand_out(struct handshake *h)
{
	struct client *client;
	const char *sqlstate, *why;
	struct server *server = check_claim(h->adopt, &h->claim, &client, &sqlstate, &why);
	char byte = server != NULL ? WIRE_FD_OK : WIRE_FD_REFUSED;

	if (wire_send(h->fd, &byte, 1, server != NULL ? server->backend.fd : -1) != 1)
		log_debug("adoption: the client is gone");
	else if (server == NULL)
		count_refusal(h->adopt, &h->claim);
	else {
		keys_adopted(server, client_incarnation(client), h->claim.attempt);
		pool_count(server->pool, COUNTER_ADOPTIONS_SERVED);
	}
	handshake_free(h);
}

/* After ReadyForQuery. False when the handshake is over (freed). */
static bool
step_shell(struct handshake *h)
{
	size_t n = h->used < REQUEST_SIZE ? h->used : REQUEST_SIZE;

	if (memcmp(h->buf, request, n) == 0 && h->used <= REQUEST_SIZE) {
		if (h->used < REQUEST_SIZE)
			return true;
		hand_out(h);
	} else if (h->buf[0] == 'X') {
		handshake_free(h);
	} else {
		refuse(h, "08P01",
		    "this PGconn is connected to the pglease broker, not to PostgreSQL: release the lease and "
		    "acquire again");
	}
	return false;
}

/* False when the handshake is over (freed), or waits or is held. */
static bool
step_start(struct handshake *h)
{
	struct startup startup;

	switch (startup_parse(h->buf, h->used, &startup)) {
	case STARTUP_MORE:
		return true;
	case STARTUP_SSL:
		if (++h->encryption_requests > ADOPT_ENCRYPTION_REQUESTS ||
		    !answer(h, (const uint8_t *)"N", 1)) {
			handshake_free(h);
			return false;
		}
		break;
	case STARTUP_CANCEL:
		if (is_held(h))
			return false;
		/* The requester waits for the connection's end, which comes when the real cancel has returned. */
		cancel_request(h->adopt->params.context->cancels, h->adopt->params.pools,
		    h->adopt->params.npools, h->adopt->params.clients,
		    &(struct cancel_request){
			.pid = startup.cancel_pid,
			.key = startup.cancel_key,
			.requester = h->fd,
			.accepted_at = h->since,
		    });
		h->fd = -1;
		handshake_free(h);
		return false;
	case STARTUP_PACKET:
		if (!welcome(h, &startup))
			return false;
		break;
	case STARTUP_BAD:
		if (startup.why != NULL)
			refuse(h, "08P01", startup.why);
		else
			handshake_free(h);
		return false;
	}
	consume(h, startup.used);
	return true;
}

/* Several packets may have come at once; each step takes one or leaves the bytes as they are. */
static void
serve(struct handshake *h)
{
	for (size_t before = 0; h->used != 0 && h->used != before;) {
		bool shell = h->shell;

		before = h->used;
		if (shell ? !step_shell(h) : !step_start(h))
			return;
		if (h->shell != shell)
			before = 0;
	}
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct handshake *h = arg;
	ssize_t n;

	n = recv(h->fd, h->buf + h->used, sizeof(h->buf) - h->used, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		handshake_free(h);
		return;
	}
	h->used += (size_t)n;
	if (h->renewing == NULL)
		serve(h);
}

static void
accepted(void *context, int fd)
{
	uint64_t now = clock_ns(); /* first: what a cancel's time is worth depends on it */
	struct adopt *a = context;
	struct handshake *h;

	/* Whoever connects and says nothing must not keep others out. */
	while (a->count != 0 && a->count >= descriptors_share(ADOPT_MAX))
		handshake_free(TAILQ_FIRST(&a->all));
	h = calloc(1, sizeof(*h));
	if (h == NULL) {
		close(fd);
		return;
	}
	h->adopt = a;
	h->fd = fd;
	TAILQ_INSERT_TAIL(&a->all, h, all);
	a->count++;
	h->since = now;
	h->until = now + ADOPT_LIMIT;
	if (event_assign(&h->readable, a->params.context->base, fd, EV_READ | EV_PERSIST, on_readable, h) !=
	        0 ||
	    event_add(&h->readable, NULL) != 0)
		handshake_free(h);
}

static void
starved(void *context)
{
	struct adopt *a = context;

	/* One that has just come is served in a moment. */
	if (!TAILQ_EMPTY(&a->all) && clock_ns() - TAILQ_FIRST(&a->all)->since > STARVED_AGE)
		handshake_free(TAILQ_FIRST(&a->all));
}

/* The words of struct handshake; `renewing` is none by now, and `until` begins anew in adopt_go_on(). */
static void
fields(struct handover *to, struct handshake *h)
{
	uint32_t used = (uint32_t)h->used;

	handover_fd(to, &h->fd);
	HANDOVER(to, h->shell);
	HANDOVER(to, h->encryption_requests);
	HANDOVER(to, h->since);
	HANDOVER(to, h->claim);
	handover_count(to, &used, sizeof(h->buf));
	handover_bytes(to, h->buf, used);
	h->used = used;
}

void
adopt_hold(struct adopt *a)
{
	struct handshake *h;

	while ((h = TAILQ_FIRST(&a->renewing)) != NULL) {
		struct server *server = h->renewing;

		h->renewing = NULL;
		TAILQ_REMOVE(&a->renewing, h, all);
		TAILQ_INSERT_TAIL(&a->all, h, all);
		a->count++;
		renew_abandon(server);
	}
}

void
adopt_hand_over(struct adopt *a, struct handover *to)
{
	uint32_t n = a->count;
	struct handshake *h;

	listener_hand_over(a->listener, to);
	handover_section(to, "handshakes");
	HANDOVER(to, n);
	TAILQ_FOREACH(h, &a->all, all)
		fields(to, h);
}

static int
take_handshakes(struct adopt *a, struct handover *from)
{
	uint32_t n = 0;

	handover_section(from, "handshakes");
	HANDOVER(from, n);
	for (uint32_t i = 0; i < n && handover_check(from, false) == 0; i++) {
		struct handshake *h = calloc(1, sizeof(*h));

		if (h == NULL)
			return log_refuse("out of memory");
		h->adopt = a;
		fields(from, h);
		TAILQ_INSERT_TAIL(&a->all, h, all);
		a->count++;
		if (event_assign(&h->readable, a->params.context->base, h->fd, EV_READ | EV_PERSIST, on_readable, h) != 0 ||
		    event_add(&h->readable, NULL) != 0)
			return log_refuse("the event loop takes no more descriptors");
	}
	return handover_check(from, false);
}

void
adopt_go_on(struct adopt *a)
{
	struct handshake *h, *next;

	for (h = TAILQ_FIRST(&a->all); h != NULL; h = next) {
		next = TAILQ_NEXT(h, all);
		h->until = clock_ns() + ADOPT_LIMIT;
		serve(h);
	}
}

int
adopt_new(const struct adopt_params *params, struct adopt **ret)
{
	struct adopt *a = calloc(1, sizeof(*a));
	char path[PATHS_MAX];
	int r;

	if (a == NULL)
		return log_refuse("out of memory");
	a->params = *params;
	TAILQ_INIT(&a->all);
	TAILQ_INIT(&a->renewing);
	r = paths_adopt_socket(params->socket_dir, path, sizeof(path));
	if (r == 0)
		r = listener_new(
		    params->context->base, path, SOCK_STREAM, accepted, starved, a, -1, params->from, &a->listener);
	if (r != 0) {
		free(a);
		return log_refuse("cannot listen in %s: %s", params->socket_dir, strerror(-r));
	}
	if (params->from != NULL && take_handshakes(a, params->from) != 0)
		return -1;
	*ret = a;
	return 0;
}

void
adopt_forget_pool(struct adopt *a, unsigned npools)
{
	a->params.npools = npools;
}

void
adopt_tick(struct adopt *a, uint64_t now)
{
	struct handshake *h;

	listener_tick(a->listener);
	/* They wait for the end of the restart; then adopt_go_on(). */
	if (a->params.context->quiet)
		return;
	/* Counted from the first byte to the last: whoever sends one byte now and then gains nothing. */
	while ((h = TAILQ_FIRST(&a->all)) != NULL && now > h->until)
		handshake_free(h);
}

void
adopt_free(struct adopt *a)
{
	if (a == NULL)
		return;
	listener_free(a->listener);
	while (!TAILQ_EMPTY(&a->all))
		handshake_free(TAILQ_FIRST(&a->all));
	while (!TAILQ_EMPTY(&a->renewing))
		handshake_free(TAILQ_FIRST(&a->renewing));
	free(a);
}
