/* SPDX-License-Identifier: PostgreSQL */
/* The whole of a running broker: starts its parts in order, runs the loop, stops them in the opposite order. */
#ifndef PGLEASE_BROKER_INSTANCE_H
#define PGLEASE_BROKER_INSTANCE_H

#include "configuration.h"

struct instance;

/* Called once in the loop, when the instance serves. */
typedef void (*instance_ready)(void *context);

/* 0, or -1 with log_refuse(). The configuration must outlive the instance. */
int instance_start(
    const struct configuration *configuration, instance_ready ready, void *context, struct instance **ret);
/* Runs until SIGTERM or SIGINT. */
void instance_run(struct instance *instance);
/* Removes everything that it made. Accepts NULL and half-started ones. */
void instance_stop(struct instance *instance);

#endif
