/* SPDX-License-Identifier: PostgreSQL */
/*
 * The embedded PostgreSQL's files: where they are, making the cluster, and a server that a killed broker left behind.
 * Running the server is embedded.c's matter. All functions block; they are for the broker's start.
 */
#ifndef PGLEASE_BROKER_CLUSTER_H
#define PGLEASE_BROKER_CLUSTER_H

#include <sys/types.h>

#include "paths.h"
#include "process.h"

struct cluster {
	const char *user; /* NULL: the broker's own */
	uid_t uid;
	gid_t gid;
	char folder[PATHS_MAX]; /* data_dir */
	char data[PATHS_MAX + 16]; /* <data_dir>/postgres */
	char log[PATHS_MAX + 16]; /* <data_dir>/postgres.log */
	char sockets[PATHS_MAX + 16]; /* <socket_dir>/postgres */
	char bin[PATHS_MAX]; /* of PostgreSQL's programs */
};

/* Finds user and paths, makes folders and, if there is none yet, the cluster. 0, or -1 with log_refuse(). */
int cluster_prepare(
    struct cluster *cluster, const char *instance, const char *data_dir, const char *socket_dir);
/* Stops a server that still runs on these files. 0, or -1 with log_refuse(). */
int cluster_stop_leftover(const struct cluster *cluster);
/* Removes the folder of its socket. */
void cluster_remove_sockets(const struct cluster *cluster);
/* The last line of a log file, flattened; empty when there is none. */
void cluster_last_line(const char *path, char *buf, size_t size);

#endif
