/* SPDX-License-Identifier: PostgreSQL */
/*
 * A look at all that a test could leak: a list of things, each with a key. What a later look has more of than an earlier
 * one was leaked in between. It lives in memory of its own, so that looking does not show in what is looked at.
 */
#ifndef PGLEASE_TESTKIT_LOOK_H
#define PGLEASE_TESTKIT_LOOK_H

#include <stdarg.h>

#include "env_priv.h"

struct thing {
	struct thing *next;
	enum pglease_test_leak_kind kind;
	bool passing; /* may be on its way out: to be looked at again */
	uint64_t bytes;
	const char *key, *what;
};

struct look {
	char *arena;
	size_t used, size;
	struct thing *things;
	char *unseen; /* what could not be looked at, and why; "" */
	uint64_t memory; /* in use; UINT64_MAX: unknown */
	unsigned shells; /* that the library keeps for later, each with a PGconn of its own */
};

int look_init(struct look *look);
void look_fini(struct look *look); /* accepts a zeroed one */
/* Notes a thing; `key` tells it from others of its kind, `format` says what it is. */
struct thing *look_note(struct look *look, enum pglease_test_leak_kind kind, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void look_unseen(struct look *look, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Each notes its kinds. */
void look_process(struct pglease_test_env *env, struct look *look); /* this process's, and its children */
void look_pools(struct pglease_test_env *env, struct look *look);   /* leases */
void look_server(struct pglease_test_env *env, struct look *look);  /* sessions; pools first */
void look_files(struct pglease_test_env *env, struct look *look);   /* temporary files, shared memory by name */

/* In use by malloc; bytes; UINT64_MAX: unknown. */
uint64_t look_memory(void);
/* Backends that serve the pools, as look_pools has seen them. */
bool look_is_pools(const struct pglease_test_env *env, pid_t backend);

#endif
