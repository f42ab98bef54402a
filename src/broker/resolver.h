/* SPDX-License-Identifier: PostgreSQL */
/*
 * Looking up host names without blocking the loop: each look-up has a thread of its own, for nothing ends a look-up that
 * hangs. Its end is reported in the loop. How many may hang is bounded for each pool, so that none stands in another's
 * way.
 */
#ifndef PGLEASE_BROKER_RESOLVER_H
#define PGLEASE_BROKER_RESOLVER_H

#include <event2/event.h>
#include <stdint.h>

#include "hosts.h"

struct resolver;
struct resolver_job;

/* The look-up's end: hosts with addresses, or NULL and the reason. Both are good until it returns. */
typedef void (*resolver_done)(void *context, const struct hosts *hosts, const char *error);

/* `lookup`: getaddrinfo, but for tests. 0 or -errno. */
int resolver_new(struct event_base *base, hosts_lookup lookup, struct resolver **ret);
/* Forgets all. Threads that still hang keep what they need, and end with the process. Accepts NULL. */
void resolver_free(struct resolver *resolver);

/* 0; -EAGAIN when too many look-ups of this pool are under way; or another -errno. `done` is not called before it returns. */
int resolver_start(struct resolver *resolver, uint32_t pool, const struct hosts *hosts, resolver_done done,
    void *context, struct resolver_job **ret);
/* Its end will not be reported. */
void resolver_abandon(struct resolver_job *job);

#endif
