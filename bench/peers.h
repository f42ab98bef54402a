/* SPDX-License-Identifier: PostgreSQL */
/*
 * The poolers that pglease is compared with, each started on the env's PostgreSQL with a configuration of its own, in
 * the env's folder, and set for speed as its documentation says. Their packages may be missing: then there is a reason.
 * $PGBOUNCER and $PGPOOL name other programs than the packages'.
 */
#ifndef PGLEASE_BENCH_PEERS_H
#define PGLEASE_BENCH_PEERS_H

#include <sys/types.h>

#include "pglease_test.h"

enum peer_kind { PEER_PGBOUNCER, PEER_PGPOOL, PEERS };

struct peer;

/* As in tables and arguments: "pgbouncer". */
const char *peer_name(enum peer_kind kind);
/* NULL when it can be started, else why not ("not installed"). */
const char *peer_missing(enum peer_kind kind);
/*
 * NULL where its clients may stay connected and be more than its server connections, because it pools transactions; else why
 * not.
 */
const char *peer_only_sessions(enum peer_kind kind);
/* `slots` server connections, for `clients` clients at a time. Gives up (measure_die) when it does not start. */
struct peer *peer_start(enum peer_kind kind, pglease_test_env *env, unsigned slots, unsigned clients);
const char *peer_conninfo(const struct peer *peer);
/* Folder and port of its Unix socket, for PGHOST and PGPORT. */
const char *peer_host(const struct peer *peer);
const char *peer_port(const struct peer *peer);
/* Whose CPU time, with its children's, is the peer's. */
pid_t peer_pid(const struct peer *peer);
void peer_stop(struct peer *peer);

#endif
