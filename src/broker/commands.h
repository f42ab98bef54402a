/* SPDX-License-Identifier: PostgreSQL */
/*
 * Control commands: who may give them, what each does, and those whose end is waited for. Nothing here
 * blocks: a drain is begun, and answered when the loop finds it over. The connections are control.c's.
 */
#ifndef PGLEASE_BROKER_COMMANDS_H
#define PGLEASE_BROKER_COMMANDS_H

#include "clients.h"
#include "pool.h"
#include "wire.h"

struct commands;
struct handover;

struct command_restarted {
	unsigned clients, connections, restarts;
	uint64_t gap; /* ns */
};

/* Sends a result to whoever asked. False: the asker is gone, as it always is after the last one. */
typedef bool (*command_answer)(void *asker, const struct wire_result *result);
/* Drains all pools and ends the broker, after `timeout` ns at the latest. */
typedef void (*command_stop)(void *context, uint64_t timeout, const char *why);

/*
 * Another program takes the broker's place: begins it, within `timeout` ns (negative: as it finds right). NULL, or why not. Its end
 * is commands_restarted().
 */
typedef const char *(*command_restart)(void *context, int64_t timeout, const char *who);

struct commands_params {
	struct pool **pools;
	unsigned npools, nall; /* with those that are going (pools.h) */
	struct clients *clients;
	const struct instance_settings *settings;
	command_answer answer;
	command_stop stop;
	command_restart restart;
	const char *(*reload)(void *context, const char *who); /* the same, of this program itself */
	const char *(*set)(void *context, const char *assignment, const char *who); /* the same, with this setting */
	void *context; /* of all */
};

/* Who asks, by the kernel's word. */
struct command_peer {
	pid_t pid;
	uid_t uid;
	bool allowed; /* by admin_users, admin_groups */
};

/* NULL when there is no memory. */
struct commands *commands_new(const struct commands_params *params);
/* Accepts NULL. */
void commands_free(struct commands *commands);

/* Does it, and answers at once or later. False: the asker is gone. */
bool commands_run(struct commands *commands, void *asker, const struct command_peer *peer,
    const struct wire_command *command);
/* The instance stops: nothing can be resumed any more. */
void commands_stopping(struct commands *commands);
/*
 * Answers who has asked for the restart, if he is still there: `why` when it has failed, NULL when this is the successor, which
 * says how many clients and connections go on, and how long they were without a broker (ns).
 */
void commands_restarted(struct commands *commands, const char *why, const struct command_restarted *how);
/* What a reload has made of a pool: told whoever asked for it. */
enum command_change { POOL_COMES, POOL_GOES, POOL_IS_MADE_ANEW };
void commands_tell_change(struct commands *commands, const struct pool *pool, enum command_change change);
/* A pool has ended: so many are left in the list. */
void commands_forget_pool(struct commands *commands, unsigned nall);
/* A reason, of several, why it fails. */
void commands_say(struct commands *commands, const char *why);
/* What an asker waits for, to and from another broker's: `asker` is the session there, and here. */
void commands_hand_over(struct commands *commands, void *asker, struct handover *to);
int commands_take_over(struct commands *commands, void *asker, struct handover *from);
/* The asker is gone. What it began goes on. */
void commands_forget(struct commands *commands, void *asker);
/* Answers what has ended since the last look. */
void commands_look(struct commands *commands, uint64_t now);

#endif
