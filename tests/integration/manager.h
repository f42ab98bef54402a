/* SPDX-License-Identifier: PostgreSQL */
/*
 * A service manager of a test's own: it listens at the broker's control socket, starts the broker with descriptors that it passes,
 * hears what the broker says ($NOTIFY_SOCKET), and keeps what the broker stores. One for a process.
 */
#ifndef PGLEASE_TESTS_MANAGER_H
#define PGLEASE_TESTS_MANAGER_H

#include <stdbool.h>
#include <sys/types.h>

/* For the environment that is there, which must have no broker. */
void manager_start(void);
void manager_end(void);
/* A Unix socket at this path, below the environment's folder; it listens when `backlog` is not 0. */
int manager_socket(const char *path, int type, int backlog);
/* The path of the instance's control socket, whose folder it makes. Static buffer. */
const char *manager_control(void);

/* From now on passed with this name to each broker, besides what is in the store. The manager's. */
void manager_pass(int fd, const char *name);
/* Nothing is passed or stored any more: all of it is closed. */
void manager_forget(void);
/* Starts `pgleased -c` with the environment's configuration. */
pid_t manager_broker(void);
/* How it has ended: its wait status. */
int manager_reap(pid_t broker);
/* Waits until it has said a line that begins so; takes into the store what it says is to be stored meanwhile. */
void manager_hears(const char *line);
/* Descriptors in the store by this name. */
unsigned manager_stored(const char *name);
/* The end of the broker's log. Static buffer. */
const char *manager_log(void);

#endif
