/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a service manager is told, where there is one that listens (systemd's protocol, sd_notify(3); $NOTIFY_SOCKET), and where
 * pgleased was built with libsystemd; else all of this does nothing.
 */
#ifndef PGLEASE_BROKER_SERVICE_H
#define PGLEASE_BROKER_SERVICE_H

#include <stdint.h>

#include "pool.h"

/* The instance serves; also after a reload or restart. */
void service_ready(void);
void service_reloading(void);
void service_stopping(struct pool *const *pools, unsigned npools);
/*
 * Has the manager keep the pools' segments, for the next broker, should this one be killed (takeover_stored.c): in the place of those
 * that it keeps. It gives them all up by service_stopping().
 */
void service_store(struct pool *const *pools, unsigned npools);
/* A pool that has gone: it is not to be kept any more. */
void service_unstore(const struct pool *pool);
#define SERVICE_STORED_NAME (LAYOUT_NAME + 16)
void service_stored_name(const struct pool *pool, char buf[SERVICE_STORED_NAME]);
/* What it has passed of pools that there are no more. */
void service_drop_stored(void);
/*
 * At each tick of the loop: a line of the pools' state, once a second if it has changed; and that the loop runs, for the manager's
 * watchdog, twice in its time.
 */
void service_tick(struct pool *const *pools, unsigned npools, uint64_t now);

#endif
