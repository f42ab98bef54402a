/* SPDX-License-Identifier: PostgreSQL */
/*
 * Watches server connections that others use, for hang-up only. Such a socket must not be watched for readability
 * (each reply of the server would wake the broker), and libevent's EV_CLOSED does not report a reset connection
 * (EPOLLERR), so this is an epoll set of its own inside the loop. Each watch reports once.
 *
 * The descriptor is shared with other processes: it does not leave the set when the broker closes it, so
 * hangups_unwatch must come before close.
 */
#ifndef PGLEASE_BROKER_HANGUPS_H
#define PGLEASE_BROKER_HANGUPS_H

#include <stdint.h>

struct event_base;
struct hangups;

/* The ids are what hangups_watch was given; the generation modulo 2^32. */
typedef void (*hangups_report)(void *context, uint32_t pool, uint32_t slot, uint32_t generation);

int hangups_new(struct event_base *base, hangups_report report, void *context, struct hangups **ret);
void hangups_free(struct hangups *hangups);
/* 0 or -errno. A hang-up that is there already is reported too. */
int hangups_watch(struct hangups *hangups, int fd, uint32_t pool, uint32_t slot, uint64_t generation);
void hangups_unwatch(struct hangups *hangups, int fd);

#endif
