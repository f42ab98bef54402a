/* SPDX-License-Identifier: PostgreSQL */
/* Programs that know only libpq, run against the environment's pool, with the library preloaded or not. */
#ifndef PGLEASE_TESTS_PROGRAM_H
#define PGLEASE_TESTS_PROGRAM_H

#include "it.h"

/* The environment for them: PGHOST and the like name the environment's PostgreSQL. Once, after it_start. */
void program_environment(void);
/* The path of a program or file in the build folder, or in the source's. In one of a few buffers. */
const char *program_built(const char *name);
const char *program_source(const char *name);

/*
 * Runs argv, by pglease-run if `leased`, to its end; its exit status, and what it wrote to both outputs: program_output().
 * A signal fails the test.
 */
int program_run(bool leased, const char *const argv[]);
const char *program_output(void);
/* The same, and it must end with 0. */
void program_ok(bool leased, const char *const argv[]);

#define PROGRAM(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
