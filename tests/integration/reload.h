/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the tests of reloads share that change pools: a broker with the pools `app` and `two`, on the environment's server, whose sessions
 * are known there by their pool's name.
 */
#ifndef PGLEASE_TESTS_RELOAD_H
#define PGLEASE_TESTS_RELOAD_H

#include "restart.h"
#include "survive.h"

extern pglease_pool *pool, *two;
extern pglease_lease lease, other;
extern PGconn *conn;

/* Pools app and two of these lines; NULL: there is no second one. This process is attached, and has them open. */
void reload_start(const char *instance, const char *app, const char *second);
/* A section of these lines: one of a few buffers. */
const char *reload_section(const char *name, const char *lines);
/* The file: lines of the instance's section, and one pool or two. */
void reload_configure(const char *instance, const char *app, const char *second);
/* pgleasectl reload: it succeeds. */
void reload_now(void);

/* Sessions of the pool that the server has; waits for so many. */
unsigned reload_sessions(const char *name);
void reload_await_sessions(const char *name, unsigned n);
uint64_t reload_acquired(pglease_pool *p);
/* An acquire is told that there is no pool `two`; gives a lease (`other`), and it is released. */
void reload_assert_no_pool(pglease_pool *p);
void reload_assert_serves(pglease_pool *p);

#endif
