/* SPDX-License-Identifier: PostgreSQL */
/*
 * A pool in the broker: its lease segment and the broker's private copy of every slot. The words in the
 * segment say who has a slot; what connection is in it is known here only, and nothing here is taken from
 * what clients can write.
 *
 * pool.c makes pools and decides how many connections there are; server.c moves one slot through its states.
 */
#ifndef PGLEASE_BROKER_POOL_H
#define PGLEASE_BROKER_POOL_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <libpq-fe.h>
#include <stdbool.h>

#include "backend.h"
#include "plain_answer.h"
#include "pulse.h"
#include "resets.h"
#include "segment.h"
#include "settings.h"
#include "target.h"

struct access;
struct cancels;
struct handover;
struct hangups;
struct params;
struct pool;
struct resolver;
struct resolver_job;

/* The broker's view of a slot. Who owns the slot word in each state: */
enum server_state {
	SERVER_NONE, /* no connection; the word is EMPTY */
	SERVER_CONNECTING, /* BROKER */
	SERVER_LENT, /* IDLE, GRANTED, LEASED or RETURNED: whoever the word says */
	SERVER_RESETTING, /* BROKER: the broker's own queries run on it */
	SERVER_ENDING, /* BROKER: shut down; its cancel has not returned yet */
	/* LEASED, and RETURNED until the broker has seen it: */
	SERVER_RENEWING, /* its lessee gets another connection, which is being opened */
	SERVER_VOID, /* that has failed: there is no connection */
};

/* What is remembered of a client's shells of this connection (keys.h). */
struct server_key {
	uint64_t incarnation;
	uint64_t attempt; /* 0: none */
	uint32_t key; /* 0: none */
};

/* RENEWING: who is told of its end, once; sqlstate and why are NULL when there is a connection. */
typedef void (*renewal_told)(void *context, const char *sqlstate, const char *why);
struct renewal {
	uint64_t sequence; /* of the lease that asked */
	renewal_told told;
	void *context;
};

/* For LOG_ABOUT(). */
#define ABOUT_POOL(of) .pool = (of)->settings->name
#define ABOUT_SLOT(of) ABOUT_POOL((of)->pool), .has_slot = true, .slot = (of)->slot

struct server {
	struct pool *pool;
	uint32_t slot;
	enum server_state state;
	uint64_t word; /* the slot's word as the broker left it, while the broker owns it */
	uint64_t generation;
	PGconn *conn; /* CONNECTING, RENEWING */
	struct backend backend; /* LENT, RESETTING, ENDING: the connection */
	struct params *params; /* CONNECTING, RENEWING */
	struct pooler *pooler; /* CONNECTING, RENEWING: while it is asked whose its backend is */
	struct resolver_job *lookup; /* CONNECTING, RENEWING: of its host names, before there is a conn */
	struct event io; /* CONNECTING, RENEWING, RESETTING */
	struct event deadline; /* CONNECTING, RENEWING, RESETTING */
	struct renewal renewal; /* RENEWING */
	unsigned reset_step; /* RESETTING */
	uint32_t pid; /* of the backend */
	uint32_t block; /* statistics block of its lessees */
	bool has_block;
	bool hung_up; /* the server closed it */
	bool going; /* ENDING: its end is left to the backend, and is seen (server_end) */
	bool retired; /* over age: RETIRE is set */
	bool drained; /* wanted back by a drain, perhaps one that was undone since: RETIRE is set */
	bool outdated; /* to be replaced as soon as nobody holds it (a reconnect) */
	enum broker_counter close_cause; /* ENDING */
	unsigned cancels; /* of this generation, in flight */
	uint64_t cancelling_at; /* since then there have been some */
	uint64_t connected_at;
	uint64_t expires_at; /* UINT64_MAX: never */
	/* A keepalive is no use: a slot whose idle_since is still lent_at counts as idle from idle_from on. */
	uint64_t lent_at, idle_from;
	/* RESETTING: idle since then, 0: not taken from IDLE; a keepalive; what is in the session: 0, SLOT_DIRTY or
	 * SLOT_OWED; and whether even that is in doubt. */
	uint64_t keep_since;
	bool keepalive;
	unsigned session;
	bool in_doubt;
	struct resets_answer answer; /* RESETTING: to a reset; to another query */
	struct plain_answer plain;
	/* The lease that the tick saw last, since when, and whether it has been reported. */
	uint64_t lease_seen, lease_since;
	bool lease_reported;
	uint64_t started_at; /* CONNECTING, RENEWING, RESETTING, ENDING: since when */
	struct server_key *keys;
	unsigned nkeys, keys_size;
	size_t baseline_size;
	char baseline[LAYOUT_BASELINE];
};

/* What all pools of an instance share. */
struct pool_context {
	struct event_base *base;
	struct hangups *hangups;
	struct resolver *resolver;
	struct cancels *cancels;
	struct takeover *takeover;
	struct event *attention; /* activated by pool_want_attention */
	bool quiet; /* a restart is prepared: nothing is begun (doc/protocol.md, H2) */
};

struct pool {
	const struct pool_context *context;
	const struct pool_settings *settings;
	struct target target;
	struct access *access; /* who may open it */
	uint64_t made_by; /* a number that follows from the settings that its connections are made by (SETTING_RECONNECTS) */
	uint64_t remade_by; /* likewise, from what makes another segment (pools_made_by) */
	uint32_t index; /* its number, by which clients, cancels and hang-ups name it: no place in a list */
	struct segment seg;
	int fd;
	struct server *server; /* seg.nslots */
	uint32_t *spare_block;
	uint32_t nspares;
	unsigned open; /* servers that are not NONE */
	unsigned connecting; /* of these, CONNECTING */
	unsigned voids; /* of these, VOID */
	bool attention; /* a client rang, or something changed: look at it before the next tick */
	bool draining; /* no new leases, no new connections, until pool_resume */
	bool paused; /* it drains, but who wants a lease waits */
	bool disabled; /* no new leases, until pool_enable */
	bool has_replaced; /* an idle connection in this pass: one at a time (maintain.c) */
	bool stopping;
	bool is_new; /* made by this program, and not open yet */
	/* It is in no configuration any more, and ends when it has no connection; its leases are revoked then. */
	bool going;
	uint64_t going_until;
	struct pool_settings *own_settings; /* going: what `settings` is */
	unsigned elders; /* connections of those of its name that are going: they count against max_connections */
	/* The upstream's health. */
	unsigned upstream; /* enum upstream */
	unsigned failures; /* connects in a row that failed */
	uint64_t failing_since, failed_at; /* the first and the last of these; CLOCK_MONOTONIC ns */
	uint32_t connect_timeouts; /* connects that ended at connect_timeout */
	uint64_t retry_at; /* no connect before this time */
	uint64_t suspected_at; /* when its connections were last doubted; 0: never */
	bool no_block_told; /* the log has said that no statistics block is free */
	struct pulse pulse;
	struct event dirty_timer; /* dirty.c */
	unsigned dirty_quiet;
};

struct pool_params {
	const struct pool_context *context;
	const struct pool_settings *settings;
	const char *conninfo; /* the settings', or the embedded server's; outlives the pool */
	const char *instance;
	uint64_t instance_id;
	uint32_t index, max_clients;
	bool monitoring_off;
	struct handover *from; /* NULL: a new pool */
};

/* 0, or -1 with log_refuse(): one that was taken over is then to be left as it is. */
int pool_new(const struct pool_params *params, struct pool **ret);
/* The pool with this number; NULL: there is none. */
struct pool *pool_find(struct pool *const *pools, unsigned npools, uint32_t index);
/* From now on there are leases of it; or what its flags say. */
void pool_open(struct pool *pool, uint64_t now);
/*
 * No new leases, and never again: marks the segment GOING, wakes all waiters, who look for the pool that has its name now, closes what is not
 * leased, and asks for the rest (F2). `until`: CLOCK_MONOTONIC ns, for whoever ends it.
 */
void pool_go(struct pool *pool, uint64_t until);
/*
 * No new leases: marks the segment DRAINING, wakes all waiters, closes what is not leased and asks for the
 * rest (F2). It is drained when nothing is open any more. Does nothing to one that drains already.
 */
void pool_drain(struct pool *pool);
/* The same, but whoever wants a lease waits. Of a pool that drains, nothing changes. */
void pool_pause(struct pool *pool);
/* Undoes both; connections that are leased still come back once, and are replaced. */
void pool_resume(struct pool *pool);
/* No new leases: who wants one is refused. Connections and leases that are out stay as they are. */
void pool_disable(struct pool *pool);
void pool_enable(struct pool *pool);
/* Each connection that there is, is replaced when it is idle or comes back. */
void pool_reconnect(struct pool *pool);
/* Connections that wait for that. */
unsigned pool_count_outdated(const struct pool *pool);
/* Leases that are out at this moment. */
unsigned pool_count_leases(const struct pool *pool);
/*
 * Marks the segment CLOSED, wakes all waiters, ends leases (their cancels are sent: serve these before
 * pool_free) and closes the other connections.
 */
void pool_stop(struct pool *pool);
/* To the next one's pool_new. All servers have been given up, or are quiet. */
void pool_hand_over(struct pool *pool, struct handover *to);
/* Closes what is left. */
void pool_free(struct pool *pool);

/* The client whose row a GRANTED or LEASED word names, or WORD_NONE. */
unsigned pool_word_client(const struct pool *pool, uint64_t word);
/* Every waiter looks whether it is still to wait. */
void pool_wake_waiters(struct pool *pool);
/*
 * One of its connections was lost, or the server does not answer: every idle connection that has not been tried since is, soon.
 * At most once a second.
 */
void pool_suspect(struct pool *pool, uint64_t now);
/* The pool is looked at (maintain.c) soon, before the next tick. */
void pool_want_attention(struct pool *pool);
/* Opens connections: up to min_connections, and as many more as waiters ask for. */
void pool_grow(struct pool *pool, uint64_t now);
/* One connect succeeded, or failed with this SQLSTATE and text. */
void pool_upstream_works(struct pool *pool);
void pool_upstream_fails(struct pool *pool, const char *sqlstate, const char *error);
void pool_count(struct pool *pool, enum broker_counter counter);

/* A slot is used for the first time, or again: readers of the statistics look that far. */
void pool_slot_used(struct pool *pool, uint32_t slot);
/* A statistics block for a slot; false when none is free. */
bool pool_block_get(struct pool *pool, uint32_t *ret);
/* The writer of a block is dead: it may be written again. */
void pool_block_put(struct pool *pool, uint32_t block);

#endif
