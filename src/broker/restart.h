/* SPDX-License-Identifier: PostgreSQL */
/*
 * Having another program take the broker's place: H1 to H5 of "Restart" in doc/protocol.md. What it does with what it is given
 * is instance.c's matter.
 */
#ifndef PGLEASE_BROKER_RESTART_H
#define PGLEASE_BROKER_RESTART_H

#include <stdint.h>

struct handover;
struct instance;

/*
 * Begins; a command_restart of that instance (commands.h). It ends in the other program, or with commands_restarted() and nothing
 * changed.
 */
const char *restart_begin(void *instance, int64_t limit, const char *who);
/*
 * A reload: this program itself takes its place, with the configuration as it is now. Also without anybody who waits for its end.
 */
const char *restart_reload(void *instance, const char *who);
/* The same, with one more setting given besides the file (configuration_set); a reload forgets them, a restart does not. */
const char *restart_set(void *instance, const char *assignment, const char *who);
/* Another end has come, for this reason. Does nothing when none is under way. */
void restart_abandon(struct instance *instance, const char *why);
/* The words of the instance itself, to and from another program's; *since: when H2 began. */
void restart_instance_fields(struct instance *instance, uint64_t *since, struct handover *handover);
/* SIGTERM, SIGINT and SIGHUP wait: one that comes between two programs must find a handler. */
void restart_hold_signals(int hold);

#endif
