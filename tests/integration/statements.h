/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the tests of pglease_exec_cached share: a pool of one connection whose resets keep what is prepared, a
 * peer process that leases it in turn, and a look at what the server has prepared.
 */
#ifndef PGLEASE_TESTS_STATEMENTS_H
#define PGLEASE_TESTS_STATEMENTS_H

#include "it.h"

/* One connection, reset `light` between processes; the test's own client, attached. `extra`: more settings. */
pglease_pool *statements_start(const char *extra);
/* The same with these settings only. */
pglease_pool *statements_start_with(const char *settings);

/* The first field; the test fails on an error. `param`: its one parameter, or NULL for none. Static buffer. */
const char *statements_value(PGconn *conn, const char *sql, const char *param);
/* It fails with this SQLSTATE. */
void statements_fails(PGconn *conn, const char *sql, const char *param, const char *sqlstate);
/* How often the server has executed the one that is prepared for this text; -1: none is. */
int statements_executions(PGconn *conn, const char *sql);
/* The name of the one that is prepared for this text, and when it was prepared. Static buffer. */
const char *statements_identity(PGconn *conn, const char *sql);
/* How many of the library's are prepared. */
int statements_count(PGconn *conn);
/* Counters, straight from the segment. */
uint64_t statements_prepared(void);
uint64_t statements_reused(void);
uint64_t statements_evicted(void);

/*
 * A process that leases too. It is told what to do by letters: a acquires, r releases, a digit does that step
 * of its list with the connection.
 */
typedef void (*statements_step)(PGconn *conn);
struct it_worker statements_peer(const statements_step steps[]);
void statements_tell(const struct it_worker *peer, const char *letters);
void statements_dismiss(struct it_worker *peer);

#endif
