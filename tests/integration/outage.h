/* SPDX-License-Identifier: PostgreSQL */
/* What the tests of a server that goes away share: what its workers are to see of it. */
#ifndef PGLEASE_TESTS_OUTAGE_H
#define PGLEASE_TESTS_OUTAGE_H

#include "it.h"

/* How soon the pool tries again; and every lease looks at its socket. */
#define OUTAGE_QUICK "validation_bypass = 0\nretry_min = 20ms\nretry_max = 100ms\nacquire_timeout = 1h\n"

#define OUTAGE_HOUR_MS 3600000

#define outage_ok(call) ck_assert_msg((call) == 0, "%s: %s", #call, pglease_test_error_message())

/* A lease comes, and its connection answers. */
void outage_assert_serves(pglease_pool *pool);
/* The query fails, and libpq has these words of the server or the system. */
void outage_assert_lost(PGconn *conn, const char *words);
/* For it_await(): the pool has no connection, and has tried to get one. */
bool outage_has_tried(const pglease_stats *stats, const void *arg);

/* A worker: says 'a', waits for a lease without end, and says 'u' if it was told that the server refuses. */
void outage_wait_and_be_told(int socket, const void *arg);

#endif
