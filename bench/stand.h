/* SPDX-License-Identifier: PostgreSQL */
/* What the benchmarks stand on: the test kit's private PostgreSQL and broker, with errors that end the program. */
#ifndef PGLEASE_BENCH_STAND_H
#define PGLEASE_BENCH_STAND_H

#include "pglease_test.h"
#include "pglease.h"

pglease_test_env *stand_start(const pglease_test_options *options);
void stand_stop(pglease_test_env *env);
/* This process, to the env's broker. */
void stand_attach(const pglease_test_env *env, const char *pool, pglease **ret_client, pglease_pool **ret_pool);
/* A direct connection to the env's PostgreSQL, or to what `conninfo` names. */
PGconn *stand_connect(const char *conninfo);
/* pgbench's tables, at this scale. */
void stand_tables(pglease_test_env *env, unsigned scale);
/* The result must be of this kind. */
void stand_check(PGresult *result, ExecStatusType expected);

#endif
