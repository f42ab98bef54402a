/* SPDX-License-Identifier: PostgreSQL */
/*
 * A private PostgreSQL for tests: reached only through a Unix socket in a folder of mode 0700, without fsync,
 * made quickly from a template (template.h).
 */
#ifndef PGLEASE_TESTKIT_UPSTREAM_H
#define PGLEASE_TESTKIT_UPSTREAM_H

#include <stddef.h>

#include "guardian.h"
#include "child.h"

#define UPSTREAM_PATH 160

struct upstream {
	struct child_user user; /* whom the server runs as */
	struct child server;
	bool replication; /* can have a standby, or is one. Set it before upstream_start */
	char bindir[UPSTREAM_PATH];
	char listen[64]; /* listen_addresses; empty: Unix sockets only. Set it before upstream_start */
	char template[UPSTREAM_PATH]; /* what its data folder is a clone of; empty: of nothing */
	char data[UPSTREAM_PATH], socket_dir[UPSTREAM_PATH], log[UPSTREAM_PATH];
};

/* $TMPDIR, or /tmp when that is unset or too long for socket paths. */
const char *upstream_tmpdir(void);
/* The folder of PostgreSQL's programs: $PGLEASE_PG_BINDIR, else the newest one that is installed. */
int upstream_bindir(char *buf, size_t size);

/*
 * Makes a cluster in `folder` (exists, empty but for what the caller made, belongs to the server's user), with what
 * `setup` (SQL, or NULL) leaves in it.
 */
int upstream_create(
    const char *folder, const char *setup, const struct guardian *guardian, struct upstream *ret);
/* A copy of a running server with `replication`, in the same folder: a standby of it. One for each primary. */
int upstream_standby(const struct upstream *primary, const char *folder, struct upstream *ret);
/* Starts the server and waits until it takes connections. */
int upstream_start(struct upstream *upstream, const struct guardian *guardian);
/* Fast shutdown; waits for it. Does nothing when the server is not running. */
int upstream_stop(struct upstream *upstream);

/* As upstream_stop, without a checkpoint: for one whose data nobody wants. */
int upstream_quit(struct upstream *upstream);
/* A folder of that user's alone: made, or found so; one that somebody else put there is refused. */
int upstream_own_folder(const char *path, const struct child_user *user);

#endif
