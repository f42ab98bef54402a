/* SPDX-License-Identifier: PostgreSQL */
/*
 * Control commands: the one list of verbs, and asking a broker for one, on a connection of its own. The
 * broker's side is src/broker/commands.c.
 */
#ifndef PGLEASE_SHM_COMMAND_H
#define PGLEASE_SHM_COMMAND_H

#include "wire.h"

/* clang-format off */
/*
 * id and verb; what its argument is ("" for none, in brackets if it may be left out); what it does. Those that PgBouncer has mean
 * what they mean there.
 */
#define COMMAND_VERBS(X) \
	X(status,     "status",     "",       "shows the state of every pool") \
	X(show,       "show",       "config[/POOL]", "shows every setting of the instance, or of a pool, with its value") \
	X(pause,      "pause",      "[POOL]", "closes the connections as they come back; whoever wants a lease waits") \
	X(drain,      "drain",      "[POOL]", "the same, but whoever wants a lease is refused") \
	X(kill,       "kill",       "POOL",   "takes all leases of a pool away, and pauses it") \
	X(resume,     "resume",     "[POOL]", "undoes a pause, kill or drain") \
	X(disable,    "disable",    "POOL",   "refuses new leases; connections and leases stay as they are") \
	X(enable,     "enable",     "POOL",   "undoes that") \
	X(reconnect,  "reconnect",  "[POOL]", "replaces every connection as it comes back") \
	X(wait_close, "wait-close", "[POOL]", "returns when a reconnect has replaced all of them") \
	X(revoke,     "revoke",     "POOL/SLOT|PID", "takes a lease, or all of a process, away from its holder") \
	X(set,        "set",        "[POOL/]KEY=VALUE", "gives a setting a value until the next reload") \
	X(reload,     "reload",     "",       "reads the configuration again: all of it, or, if anything is wrong, nothing") \
	X(restart,    "restart",    "",       "has another program, perhaps a newer version, take the broker's place; no lease notices") \
	X(stop,       "stop",       "",       "drains all pools and ends the broker; returns when it has gone")
/* clang-format on */

struct command_verb {
	const char *name;
	const char *argument;
	const char *help;
};

extern const struct command_verb command_verbs[];
extern const unsigned command_nverbs;
/* The verb, or NULL. */
const struct command_verb *command_find(const char *name);

/* Called for each result that is not the last. */
typedef void (*command_progress)(void *context, const struct wire_result *result);

/*
 * Asks for `verb` over a connected control socket (dial.h) and waits for the last result. Strings must fit
 * the message (wire.h). 0, or -ETIMEDOUT when the broker is silent for longer than it said, -EPIPE when it
 * closed the connection, -EPROTO when it sent something else, or another -errno; *ret_last is set on 0
 * only, its text is zero-terminated.
 */
int command_ask(int sock, const char *verb, const char *argument, int timeout_ms, uint32_t flags,
    command_progress progress, void *context, struct wire_result *ret_last);

#endif
