/* SPDX-License-Identifier: PostgreSQL */
/*
 * Datagrams to the daemons that take log lines, by the path of their sockets. Owns one socket of this process, which is made at the
 * first of them and not connected: a daemon that was started anew is reached. Any thread.
 */
#ifndef PGLEASE_BROKER_DATAGRAM_H
#define PGLEASE_BROKER_DATAGRAM_H

#include <stddef.h>

/* 0, or -errno: it is lost. Never waits for one who does not read: -EAGAIN. */
int datagram_send(const char *path, const void *bytes, size_t size);

#endif
