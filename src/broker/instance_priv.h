/* SPDX-License-Identifier: PostgreSQL */
/* The running broker, for instance.c, which starts and stops it, and restart.c, which has another program take its place. */
#ifndef PGLEASE_BROKER_INSTANCE_PRIV_H
#define PGLEASE_BROKER_INSTANCE_PRIV_H

#include "instance.h"
#include "pool.h"
#include "stats.h"

struct restart;

struct instance {
	const struct configuration *config;
	struct instance_origin origin;
	uint64_t id, started_at;
	uint32_t restarts; /* programs that were in this one's place */
	char socket_dir[PATHS_MAX];
	int passed; /* the control socket, by a service manager; -1: none */
	struct sockdir *sockdir;
	struct pidfile *pidfile;
	struct pool_context shared;
	struct event *tick, *sigterm, *sigint, *sighup;
	struct embedded *embedded;
	/* The configuration's, in its order; from npools to nall those that are going. pools.h */
	struct pool *pools[LAYOUT_MAX_POOLS];
	const struct segment *segments[LAYOUT_MAX_POOLS];
	unsigned npools, nall;
	uint32_t next_index; /* the number of the next pool that comes, if none has it */
	struct clients *clients;
	struct adopt *adopt;
	struct control *control;
	struct commands *commands;
	struct publisher *publisher;
	struct stats_limits limits[LAYOUT_MAX_POOLS]; /* what the publisher tells of the settings */
	struct recorder *recorder; /* NULL: no history */
	struct alerts *alerts;
	int publish_error;
	struct http *http; /* NULL: none */
	instance_ready ready;
	void *ready_context;
	bool stopping;
	uint64_t stop_at; /* stopping: when it ends, drained or not */
	struct restart *restart; /* NULL: none is under way */
};

/* As many as it may come to need, before anything else takes one. 0, or -1 with log_refuse(). */
int instance_take_descriptors(struct instance *instance);
/* 0, or -1 with log_refuse(). instance_stop() removes what was made. */
int instance_make_parts(struct instance *instance, struct handover *from);
/* A command_stop (commands.h). */
void instance_begin_stop(void *instance, uint64_t timeout, const char *why);

#endif
