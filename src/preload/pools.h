/* SPDX-License-Identifier: PostgreSQL */
/*
 * Which pool stands for what a program wants, as the broker says, and this process's attachments: one for each libpq. Nothing
 * of it happens before a program connects.
 */
#ifndef PGLEASE_PRELOAD_POOLS_H
#define PGLEASE_PRELOAD_POOLS_H

#include "pglease.h"
#include "wanted.h"

/* A pool of an attachment, in use: the attachment stays until pools_done. */
struct pool_use {
	struct attachment *attachment;
	pglease_pool *pool;
	uint32_t number; /* struct wire_match: only its leases are meant, for they stand for what was matched; 0: any pool of the name */
};

enum pools_answer {
	POOLS_NONE,   /* no pool stands for it: it is none of our business */
	POOLS_FOUND,
	POOLS_FAILED, /* one does, or may; but the broker cannot be had: pglease_error_message() */
};
enum pools_answer pools_find(struct library *lib, const struct wanted *wanted, struct pool_use *ret);
void pools_done(const struct pool_use *use);
/* The broker has not got that pool any more: the next pools_find asks it what it has, and attaches anew. */
void pools_gone(struct library *lib, const struct pool_use *use);
/* Whether a lease of the used pool is what was found: a reload may have put another user's or database's in its place meanwhile. */
bool pools_is_meant(const struct pool_use *use, const pglease_lease *lease);
/* It was not: the next pools_find asks the broker what it has. */
void pools_changed(void);

#endif
