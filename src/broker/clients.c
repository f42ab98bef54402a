/* SPDX-License-Identifier: PostgreSQL */
/*
 * The client table. A client is ATTACHED until its control connection ends or its process dies. If the connection ends
 * first it is DETACHED: fenced off, but its index and its rows stay its own until the process is dead, because it may
 * be one instruction before a swap. One that has freed its rows leaves its index at once, and becomes a GHOST, out of the
 * table, if it may still write to statistics blocks, which wait for the process's end.
 */
#include "clients.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "handover.h"
#include "log.h"
#include "revoke.h"
#include "server.h"

/* A statistics block that a revoked lessee may still write to, until its row holds another lease or none. */
struct owed {
	struct pool *pool;
	uint32_t block, row;
	uint64_t token; /* row_token() of the lost lease; 0: the row had not said it: until the process is dead */
};

enum client_state { CLIENT_ATTACHED, CLIENT_IS_DETACHED, CLIENT_GHOST };

struct client {
	struct clients *clients;
	enum client_state state;
	struct client *next; /* ghosts */
	uint32_t index;
	uint64_t incarnation;
	uint8_t nonce[WIRE_NONCE];
	pid_t pid;
	uid_t uid;
	int pidfd;
	struct event dead;
	client_died died;
	void *context;
	struct owed *owed;
	unsigned nowed, owed_size;
};

struct clients {
	struct event_base *base;
	struct pool **pools;
	unsigned npools;
	unsigned attached;
	unsigned max, next; /* next: where the search for a free index begins, so that one is reused late */
	uint64_t last_incarnation; /* begins at random */
	struct client **by_index;
	struct client *ghosts;
};

int
clients_new(struct event_base *base, struct pool **pools, unsigned npools, unsigned max, struct clients **ret)
{
	struct clients *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->base = base;
	c->pools = pools;
	c->npools = npools;
	c->max = max;
	c->by_index = calloc(max, sizeof(struct client *));
	/* A lease says by its incarnation which broker's it is: no two brokers give the same. Never 0, and no end in sight. */
	if (c->by_index == NULL ||
	    getrandom(&c->last_incarnation, sizeof(c->last_incarnation), 0) != sizeof(c->last_incarnation)) {
		free(c->by_index);
		free(c);
		return -ENOMEM;
	}
	c->last_incarnation >>= 1;
	*ret = c;
	return 0;
}

static void
client_free(struct client *client)
{
	event_del(&client->dead);
	close(client->pidfd);
	explicit_bzero(client->nonce, sizeof(client->nonce));
	free(client->owed);
	free(client);
}

void
clients_free(struct clients *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < c->max; i++)
		if (c->by_index[i] != NULL)
			client_free(c->by_index[i]);
	while (c->ghosts != NULL) {
		struct client *ghost = c->ghosts;

		c->ghosts = ghost->next;
		client_free(ghost);
	}
	free(c->by_index);
	free(c);
}

/* The rows are for monitors and messages; the broker believes its own table only. */
static void
publish(struct clients *c, const struct client *client, const char *program)
{
	c->attached += program != NULL ? 1u : -1u;
	for (unsigned i = 0; i < c->npools; i++) {
		struct client_row *row = &c->pools[i]->seg.client[client->index];

		atomic_store_explicit(&c->pools[i]->seg.header->attached, c->attached, memory_order_relaxed);
		if (program == NULL) {
			atomic_store_explicit(&row->incarnation, 0, memory_order_release);
			continue;
		}
		atomic_store_explicit(&row->pid, (uint32_t)client->pid, memory_order_relaxed);
		atomic_store_explicit(&row->uid, (uint32_t)client->uid, memory_order_relaxed);
		atomic_store_explicit(&row->attached_at, clock_ns(), memory_order_relaxed);
		snprintf(row->program, sizeof(row->program), "%s", program);
		/* Last, with release: a reader that sees the incarnation sees the rest. */
		atomic_store_explicit(&row->incarnation, client->incarnation, memory_order_release);
	}
}

void
clients_show_in(struct clients *c, struct pool *pool, struct pool *const *pools, unsigned npools)
{
	const struct pool *old = NULL;

	for (unsigned i = 0; i < npools && old == NULL; i++)
		if (pools[i] != pool && !pools[i]->is_new && pools[i]->seg.nclients == pool->seg.nclients)
			old = pools[i];
	atomic_store_explicit(&pool->seg.header->attached, c->attached, memory_order_relaxed);
	for (unsigned i = 0; i < c->max && old != NULL; i++) {
		const struct client *client = clients_get(c, i);
		const struct client_row *from = &old->seg.client[i];
		struct client_row *row = &pool->seg.client[i];

		if (client == NULL)
			continue;
		atomic_store_explicit(&row->pid, (uint32_t)client->pid, memory_order_relaxed);
		atomic_store_explicit(&row->uid, (uint32_t)client->uid, memory_order_relaxed);
		atomic_store_explicit(&row->attached_at, atomic_load_explicit(&from->attached_at, memory_order_relaxed),
		    memory_order_relaxed);
		/* A client can write there: it is for people, and ends here. */
		snprintf(row->program, sizeof(row->program), "%.*s", (int)strnlen(from->program, sizeof(from->program)), from->program);
		log_flatten(row->program);
		/* As in publish(). */
		atomic_store_explicit(&row->incarnation, client->incarnation, memory_order_release);
	}
}

static void
forget_owed(struct client *client, const struct pool *pool)
{
	unsigned left = 0;

	for (unsigned i = 0; i < client->nowed; i++)
		if (client->owed[i].pool != pool)
			client->owed[left++] = client->owed[i];
	client->nowed = left;
}

void
clients_forget_pool(struct clients *c, const struct pool *pool, unsigned npools)
{
	c->npools = npools;
	for (unsigned i = 0; i < c->max; i++)
		if (c->by_index[i] != NULL)
			forget_owed(c->by_index[i], pool);
	for (struct client *ghost = c->ghosts; ghost != NULL; ghost = ghost->next)
		forget_owed(ghost, pool);
}

static void
give_blocks_back(struct client *client)
{
	for (unsigned i = 0; i < client->nowed; i++) {
		pool_block_put(client->owed[i].pool, client->owed[i].block);
		pool_want_attention(client->owed[i].pool);
	}
	client->nowed = 0;
}

static void
remove_ghost(struct clients *c, struct client *ghost)
{
	struct client **at = &c->ghosts;

	while (*at != ghost)
		at = &(*at)->next;
	*at = ghost->next;
}

/* The process of a client that was detached before is dead. */
static void
bury(struct clients *c, struct client *client)
{
	if (client->state == CLIENT_GHOST) {
		remove_ghost(c, client);
	} else {
		revoke_leases(c->pools, c->npools, client, true, COUNTER_REVOKED_DEATH);
		revoke_rows(c->pools, c->npools, client);
		c->by_index[client->index] = NULL;
	}
	give_blocks_back(client);
	client_free(client);
}

static void
on_dead(evutil_socket_t fd, short what, void *arg)
{
	struct client *client = arg;

	if (client->state != CLIENT_ATTACHED) {
		bury(client->clients, client);
		return;
	}
	if (client->died != NULL)
		client->died(client->context);
	clients_end(client->clients, client, CLIENT_DIED);
}

int
clients_attach(struct clients *c, const struct client_params *params, struct client **ret)
{
	struct client *client;
	unsigned i;

	for (i = 0; i < c->max && c->by_index[(c->next + i) % c->max] != NULL; i++)
		;
	if (i == c->max)
		return -ENOSPC;
	client = calloc(1, sizeof(*client));
	if (client == NULL)
		return -ENOMEM;
	if (getrandom(client->nonce, sizeof(client->nonce), 0) != sizeof(client->nonce) ||
	    event_assign(&client->dead, c->base, params->pidfd, EV_READ, on_dead, client) != 0 ||
	    event_add(&client->dead, NULL) != 0) {
		free(client);
		return -ENOMEM;
	}
	client->clients = c;
	client->index = (c->next + i) % c->max;
	client->incarnation = ++c->last_incarnation;
	client->pid = params->pid;
	client->uid = params->uid;
	client->pidfd = params->pidfd;
	client->died = params->died;
	client->context = params->context;
	c->by_index[client->index] = client;
	c->next = (client->index + 1) % c->max;
	publish(c, client, params->program);
	*ret = client;
	return 0;
}

/* The words of struct client. */
static void
client_fields(struct handover *h, struct client *client)
{
	uint32_t state = client->state, nowed = client->nowed, pool;
	struct clients *c = client->clients;

	handover_count(h, &state, CLIENT_GHOST);
	client->state = state;
	HANDOVER(h, client->index);
	HANDOVER(h, client->incarnation);
	HANDOVER(h, client->nonce);
	HANDOVER(h, client->pid);
	HANDOVER(h, client->uid);
	handover_fd(h, &client->pidfd);
	handover_count(h, &nowed, c->npools * 2 * LAYOUT_MAX_SLOTS);
	if (handover_reads(h) && nowed != 0) {
		client->owed = calloc(nowed, sizeof(*client->owed));
		if (client->owed == NULL)
			nowed = 0; /* what follows does not match, which is told */
		client->nowed = client->owed_size = nowed;
	}
	for (uint32_t i = 0; i < nowed; i++) {
		struct owed *o = &client->owed[i];

		pool = o->pool != NULL ? o->pool->index : 0;
		HANDOVER(h, pool);
		o->pool = pool_find(c->pools, c->npools, pool);
		if (o->pool == NULL) {
			handover_fail(h);
			client->nowed = 0;
			return;
		}
		HANDOVER(h, o->block);
		HANDOVER(h, o->row);
		HANDOVER(h, o->token);
	}
}

/* The words of struct clients, without the clients. */
static void
table_fields(struct handover *h, struct clients *c, uint32_t *count)
{
	handover_section(h, "clients");
	HANDOVER(h, c->next);
	HANDOVER(h, c->last_incarnation);
	HANDOVER(h, c->attached);
	handover_bytes(h, count, sizeof(*count));
}

void
clients_hand_over(struct clients *c, struct handover *to)
{
	uint32_t count = 0;

	for (unsigned i = 0; i < c->max; i++)
		count += c->by_index[i] != NULL;
	for (struct client *ghost = c->ghosts; ghost != NULL; ghost = ghost->next)
		count++;
	table_fields(to, c, &count);
	for (unsigned i = 0; i < c->max; i++)
		if (c->by_index[i] != NULL)
			client_fields(to, c->by_index[i]);
	for (struct client *ghost = c->ghosts; ghost != NULL; ghost = ghost->next)
		client_fields(to, ghost);
}

/* False when it cannot be: it is freed. */
static bool
take_client(struct clients *c, struct handover *from)
{
	struct client *client = calloc(1, sizeof(*client));

	if (client == NULL)
		return false;
	client->clients = c;
	client->pidfd = -1;
	client_fields(from, client);
	if (handover_check(from, false) != 0 || client->index >= c->max ||
	    (client->state != CLIENT_GHOST && c->by_index[client->index] != NULL) ||
	    event_assign(&client->dead, c->base, client->pidfd, EV_READ, on_dead, client) != 0 ||
	    event_add(&client->dead, NULL) != 0) {
		free(client->owed);
		free(client);
		return false;
	}
	if (client->state == CLIENT_GHOST) {
		client->next = c->ghosts;
		c->ghosts = client;
	} else {
		c->by_index[client->index] = client;
	}
	return true;
}

int
clients_take_over(struct clients *c, struct handover *from)
{
	uint32_t count = 0;

	table_fields(from, c, &count);
	for (uint32_t i = 0; i < count && handover_check(from, false) == 0; i++)
		if (!take_client(c, from))
			return log_refuse("a client that was handed over cannot be watched");
	return handover_check(from, false);
}

void
client_set_owner(struct client *client, client_died died, void *context)
{
	client->died = died;
	client->context = context;
}

unsigned
clients_attached(const struct clients *c)
{
	return c->attached;
}

static bool
is_dead(const struct client *client)
{
	struct pollfd poll_fd = {.fd = client->pidfd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) == 1;
}

/*
 * Whether the process is on its way out: its descriptors close a moment before its pidfd says so. For the log and the
 * counters only; blocks wait for the pidfd.
 */
static bool
is_exiting(const struct client *client)
{
	char path[64], text[512];
	const char *at;
	unsigned long flags = 0;
	size_t n;
	FILE *f;

	if (client->pid == 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)client->pid);
	f = fopen(path, "re");
	if (f == NULL)
		return true;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	if (n == 0) /* its parent has seen its end between opening and reading */
		return true;
	text[n] = '\0';
	/* pid (comm) state ppid pgrp session tty tpgid flags: comm may hold anything but ends at the last ')'. */
	at = strrchr(text, ')');
	if (at == NULL || sscanf(at, ") %*c %*d %*d %*d %*d %*d %lu", &flags) != 1)
		return false;
	return (flags & 0x4) != 0; /* PF_EXITING */
}

static const char *
end_name(enum client_end end)
{
	switch (end) {
	case CLIENT_DETACHED:
		return "detached";
	case CLIENT_LOST:
		return "lost its control connection";
	case CLIENT_DIED:
		break;
	}
	return "died";
}

void
clients_end(struct clients *c, struct client *client, enum client_end end)
{
	bool dead = is_dead(client);
	unsigned leases;

	if (end == CLIENT_LOST && (dead || is_exiting(client)))
		end = CLIENT_DIED;
	publish(c, client, NULL);
	leases = revoke_leases(c->pools, c->npools, client, dead,
	    end == CLIENT_DIED ? COUNTER_REVOKED_DEATH : COUNTER_REVOKED_DETACH);
	if (end == CLIENT_DETACHED && leases == 0)
		log_event(LOG_LEVEL_DEBUG, LOG_ABOUT(.client_pid = client->pid, .cause = "detached"),
		    "client %u (pid %ld) detached", client->index, (long)client->pid);
	else
		log_event(LOG_LEVEL_INFO,
		    LOG_ABOUT(.client_pid = client->pid,
		        .cause = broker_counter_info[end == CLIENT_DIED ? COUNTER_REVOKED_DEATH : COUNTER_REVOKED_DETACH].name),
		    "client %u (pid %ld) %s: %u leases revoked", client->index, (long)client->pid, end_name(end), leases);
	/* Only who said goodbye has freed its rows on purpose; another's threads may be about to claim one. */
	if (!dead && (end != CLIENT_DETACHED || revoke_has_rows(c->pools, c->npools, client))) {
		revoke_recover(c->pools, c->npools);
		client->state = CLIENT_IS_DETACHED; /* bury() goes on when the process is dead */
		return;
	}
	revoke_rows(c->pools, c->npools, client);
	c->by_index[client->index] = NULL;
	if (dead)
		give_blocks_back(client);
	if (client->nowed == 0) {
		client_free(client);
		return;
	}
	client->state = CLIENT_GHOST;
	client->next = c->ghosts;
	c->ghosts = client;
}

static bool
is_paid(const struct owed *o)
{
	/* Acquire: pairs with the lessee's release store of `held`, after which it writes to the block no more. */
	return o->token != 0 &&
	       atomic_load_explicit(&o->pool->seg.row[o->row].held, memory_order_acquire) != o->token;
}

void
clients_tick(struct clients *c)
{
	for (unsigned n = 0; n < c->max; n++) {
		struct client *client = c->by_index[n];
		unsigned left = 0;

		if (client == NULL || client->nowed == 0)
			continue;
		for (unsigned i = 0; i < client->nowed; i++) {
			struct owed *o = &client->owed[i];

			if (is_paid(o)) {
				pool_block_put(o->pool, o->block);
				pool_want_attention(o->pool);
			} else {
				client->owed[left++] = *o;
			}
		}
		client->nowed = left;
	}
}

bool
client_owe_block(struct client *client, struct pool *pool, uint32_t block, uint32_t row, uint64_t token)
{
	/* The row's word is checked by those who call. */
	bool said = row < pool->seg.nrows && atomic_load(&pool->seg.row[row].held) == token;

	if (client->nowed == client->owed_size) {
		unsigned size = client->owed_size == 0 ? 4 : 2 * client->owed_size;
		struct owed *owed = reallocarray(client->owed, size, sizeof(*owed));

		if (owed == NULL)
			return false;
		client->owed = owed;
		client->owed_size = size;
	}
	client->owed[client->nowed++] = (struct owed){
	    .pool = pool, .block = block, .row = row, .token = said ? token : 0};
	return true;
}

unsigned
clients_of_user(const struct clients *c, uid_t uid)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->max; i++)
		n += c->by_index[i] != NULL && c->by_index[i]->uid == uid;
	return n;
}

struct client *
clients_get(const struct clients *c, uint32_t index)
{
	struct client *client = index < c->max ? c->by_index[index] : NULL;

	return client != NULL && client->state == CLIENT_ATTACHED ? client : NULL;
}

struct client *
clients_get_detached(const struct clients *c, uint32_t index)
{
	return index < c->max ? c->by_index[index] : NULL;
}

struct client *
clients_by_incarnation(const struct clients *c, uint64_t incarnation)
{
	for (unsigned i = 0; i < c->max; i++)
		if (clients_get(c, i) != NULL && c->by_index[i]->incarnation == incarnation)
			return c->by_index[i];
	return NULL;
}

unsigned
client_index(const struct client *client)
{
	return client->index;
}

uint64_t
client_incarnation(const struct client *client)
{
	return client->incarnation;
}

const uint8_t *
client_nonce(const struct client *client)
{
	return client->nonce;
}

pid_t
client_pid(const struct client *client)
{
	return client->pid;
}

int
client_pidfd(const struct client *client)
{
	return client->pidfd;
}

uid_t
client_uid(const struct client *client)
{
	return client->uid;
}
