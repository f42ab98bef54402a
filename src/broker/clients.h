/* SPDX-License-Identifier: PostgreSQL */
/*
 * The table of attached processes: who they are (by the kernel's word, not theirs), and what happens when one is
 * gone. A client is known by its index in the rows, by an incarnation that is never used again, and by a nonce that
 * only it and the broker know. The control connection is control.c's; this table learns of its end by clients_end.
 */
#ifndef PGLEASE_BROKER_CLIENTS_H
#define PGLEASE_BROKER_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool.h"
#include "wire.h"

struct clients;
struct client;
struct handover;

enum client_end {
	CLIENT_DETACHED, /* it said so */
	CLIENT_LOST, /* its control connection ended, or had to be ended */
	CLIENT_DIED, /* its process is dead */
};

/* The process died: its control connection is to be closed; clients_end must not be called any more. */
typedef void (*client_died)(void *context);

struct client_params {
	pid_t pid; /* 0: it has none here, and is in another PID namespace */
	uid_t uid;
	int pidfd; /* the table's from now on */
	const char *program;
	client_died died;
	void *context;
};

int clients_new(
    struct event_base *base, struct pool **pools, unsigned npools, unsigned max, struct clients **ret);
/* To the broker that takes this one's place, and from the one before it (into an empty table): 0, or -1 with log_refuse(). */
void clients_hand_over(struct clients *clients, struct handover *to);
int clients_take_over(struct clients *clients, struct handover *from);
/* The rows of those that are attached, in a pool that is new: as in others of these, which they were attached to before. */
void clients_show_in(struct clients *clients, struct pool *pool, struct pool *const *pools, unsigned npools);
/* This pool ends; so many are left in the list. */
void clients_forget_pool(struct clients *clients, const struct pool *pool, unsigned npools);
/* The owner of one that was taken over. */
void client_set_owner(struct client *client, client_died died, void *context);
unsigned clients_attached(const struct clients *clients);
/* Forgets all without touching the pools: they have been stopped. */
void clients_free(struct clients *clients);

/* 0, or -ENOSPC when all indexes are in use, or another -errno; then the pidfd is still the caller's. */
int clients_attach(struct clients *clients, const struct client_params *params, struct client **ret);
/*
 * Takes away what it holds (doc/protocol.md, "Clients and death"). Its index is free again when its process is dead,
 * or at once when it has given up all its rows before. To its owner it is gone in any case.
 */
void clients_end(struct clients *clients, struct client *client, enum client_end end);

unsigned client_index(const struct client *client);
uint64_t client_incarnation(const struct client *client);
const uint8_t *client_nonce(const struct client *client);
pid_t client_pid(const struct client *client);
int client_pidfd(const struct client *client);
uid_t client_uid(const struct client *client);
/* Indexes that are in use by processes of this user, detached ones too. */
unsigned clients_of_user(const struct clients *clients, uid_t uid);

/* The attached client with this index, or NULL. Any index is a sound question. */
struct client *clients_get(const struct clients *clients, uint32_t index);
/* The same, or the detached one whose process lives: its rows are still its own. */
struct client *clients_get_detached(const struct clients *clients, uint32_t index);
struct client *clients_by_incarnation(const struct clients *clients, uint64_t incarnation);
/*
 * The writer of a block lost its lease (row_token) but lives: the block goes back when its row says that it has ended the
 * lease, or when the process is dead. False: no memory.
 */
bool client_owe_block(struct client *client, struct pool *pool, uint32_t block, uint32_t row, uint64_t token);
/* Takes back the blocks that have become free. */
void clients_tick(struct clients *clients);

#endif
