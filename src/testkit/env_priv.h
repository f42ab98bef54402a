/* SPDX-License-Identifier: PostgreSQL */
/* What the modules of src/testkit share: an environment, and how a failure is noted (child.h). */
#ifndef PGLEASE_TESTKIT_ENV_PRIV_H
#define PGLEASE_TESTKIT_ENV_PRIV_H

#include <stdbool.h>

#include "child.h"
#include "guardian.h"
#include "pglease_test.h"
#include "relay.h"
#include "upstream.h"

#define ENV_MAX_POOLS 64

/* A process that slows another one down. */
#define ENV_MAX_PACERS 8
struct pacer {
	pid_t pid; /* 0: none */
	enum pglease_test_target target;
	pid_t of;
};

struct pglease_test_env {
	struct pglease_test_env *next; /* of this process */
	pid_t owner; /* who made it, and alone may take it away */
	char folder[UPSTREAM_PATH], config[UPSTREAM_PATH + 16], log[UPSTREAM_PATH + 16], socket_dir[UPSTREAM_PATH + 16];
	char conninfo[UPSTREAM_PATH + 64], relay_conninfo[UPSTREAM_PATH + 64], standby_conninfo[UPSTREAM_PATH + 64], instance[48];
	char tmpdir[UPSTREAM_PATH + 16]; /* what TMPDIR names after pglease_test_environment */
	char *pool_name[ENV_MAX_POOLS];
	unsigned npools;
	bool has_upstream;
	struct upstream upstream, standby;
	struct child broker;
	struct guardian guardian;
	off_t log_offset;
	struct relay relay;
	uint64_t holds_seen;
	struct filler *filler;            /* faults_pool.c; NULL: no pool is filled */
	struct pacer pacer[ENV_MAX_PACERS];
	bool broker_paused, server_paused;
	pid_t backend[4096];     /* of the pools, as look_pools() saw them last */
	unsigned nbackends;
	struct look *marked;     /* what was there at the last mark; NULL: nothing is reported */
	pid_t marked_by;
	size_t memory_slack;
	struct report *report;   /* the last one, or NULL */
	unsigned ndatabases;     /* made: numbers their names */
	pglease *client;         /* the environment's own, or NULL */
	struct variable *before; /* environ.c: of the process's environment, what it was */
	char **foreign;          /* environ.c: what of it was libpq's when this one was made */
	bool own_conninfo;       /* a pool has one of the caller's, which may lean on the caller's environment */
};

/* env.c: the environments of this process, one after the other; NULL: the first, and beyond the last. */
struct pglease_test_env *env_next(const struct pglease_test_env *env);

/* environ.c */
int environ_set(struct pglease_test_env *env, const char *name, const char *value); /* NULL: unset */
void environ_restore(struct pglease_test_env *env);
int environ_note_foreign(struct pglease_test_env *env);
void environ_free_foreign(struct pglease_test_env *env);
/* The process's environment without these variables (NULL: all that are libpq's): environ itself where it has none, else to be
 * freed (not what it points to); NULL: out of memory. */
char **environ_without(char *const *foreign);
/* PQconnectdb without them; for as long as it takes, environ is another one, if it has any. */
PGconn *environ_connect(const char *conninfo, char *const *foreign);

/* faults.c: nothing is paused, slowed, filled any more. */
void faults_end(struct pglease_test_env *env);
/* CPU time of the server's processes that live; ns. */
uint64_t faults_server_cpu(const struct pglease_test_env *env);

#endif
