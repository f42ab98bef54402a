/* SPDX-License-Identifier: PostgreSQL */
/* Finding an instance's broker and connecting to its control socket: the same for library and tools. */
#ifndef PGLEASE_SHM_DIAL_H
#define PGLEASE_SHM_DIAL_H

#include <stddef.h>

#include "paths.h"

/* What a failed dial_broker tried, for the message: "DIR (reason), DIR (reason)". */
#define DIAL_TRIED 600

/*
 * Looks in `given_dir` alone if that is not NULL or empty, else where paths_candidate_socket_dir says. In a
 * folder below /tmp that nobody named only a broker of this user's own or of root's is believed. On success
 * *ret_sock is a connected, non-blocking, close-on-exec socket, and `ret_dir` (PATHS_MAX bytes) its folder.
 * -EPERM when something was there that could not be used, -EMFILE or -ENFILE without a descriptor for it,
 * else -ENOENT; then `ret_tried` says what was tried.
 */
int dial_broker(
    const char *instance, const char *given_dir, char *ret_dir, int *ret_sock, char ret_tried[DIAL_TRIED]);

#endif
