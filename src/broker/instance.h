/* SPDX-License-Identifier: PostgreSQL */
/* The whole of a running broker: starts its parts in order, runs the loop, stops them in the opposite order. */
#ifndef PGLEASE_BROKER_INSTANCE_H
#define PGLEASE_BROKER_INSTANCE_H

#include "configuration.h"

struct handover;
struct instance;

#define INSTANCE_MAX_SET 64

/* How the broker was started, in absolute paths: so it is started again, in its own place. */
struct instance_origin {
	const char *program; /* NULL: not known */
	const char *file; /* the configuration; NULL: none */
	const char *name; /* of the instance, if it was given */
	bool background;
	/* Settings given besides the file's (configuration_set), by `pgleasectl set`. */
	const char *set[INSTANCE_MAX_SET];
	unsigned nset;
};

/* Called once in the loop, when the instance serves. */
typedef void (*instance_ready)(void *context);

struct instance_params {
	const struct configuration *configuration; /* it and `origin` must outlive the instance */
	struct instance_origin origin;
	instance_ready ready;
	void *context;
	struct handover *from; /* what the program has handed over in whose place this one is; NULL: none */
};

/* 0, or -1 with log_refuse(). What was taken over is then left as it is: the process is to end, as if it had been killed. */
int instance_start(const struct instance_params *params, struct instance **ret);
/* Runs until SIGTERM or SIGINT. */
void instance_run(struct instance *instance);
/* Removes everything that it made. Accepts NULL and half-started ones. */
void instance_stop(struct instance *instance);

#endif
