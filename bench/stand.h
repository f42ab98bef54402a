/* SPDX-License-Identifier: PostgreSQL */
/* What the benchmarks stand on: the test kit's private PostgreSQL and broker, with errors that end the program. */
#ifndef PGLEASE_BENCH_STAND_H
#define PGLEASE_BENCH_STAND_H

#include "fixture.h"
#include "pglease.h"

struct fixture *stand_start(const struct fixture_options *options);
void stand_stop(struct fixture *fixture);
/* This process, to the fixture's broker. */
void stand_attach(const struct fixture *fixture, const char *pool, pglease **ret_client, pglease_pool **ret_pool);
/* A direct connection to the fixture's PostgreSQL, or to what `conninfo` names. */
PGconn *stand_connect(const char *conninfo);
/* pgbench's tables, at this scale. */
void stand_tables(struct fixture *fixture, unsigned scale);
/* The result must be of this kind. */
void stand_check(PGresult *result, ExecStatusType expected);

#endif
