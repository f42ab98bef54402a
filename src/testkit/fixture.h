/* SPDX-License-Identifier: PostgreSQL */
/* The names that pglease_test.h had before it was for users: for programs of ours that have not moved yet. */
#ifndef PGLEASE_TESTKIT_FIXTURE_H
#define PGLEASE_TESTKIT_FIXTURE_H

#include <stdbool.h>

#include "pglease_test.h"

struct fixture;
#define fixture_pool pglease_test_pool
#define fixture_options pglease_test_options
#define FIXTURE_ENV(f) ((pglease_test_env *)(f))
#define fixture_error pglease_test_error_message
#define fixture_stop(f) pglease_test_env_free(FIXTURE_ENV(f))
#define fixture_sql(f, sql, buf, size) pglease_test_sql(FIXTURE_ENV(f), sql, buf, size)
#define fixture_run(f, program, args) pglease_test_program(FIXTURE_ENV(f), program, args)
#define fixture_await_log(f, text, ms) pglease_test_await_log(FIXTURE_ENV(f), text, ms)
#define fixture_watch(f, pid, sig) pglease_test_watch(FIXTURE_ENV(f), pid, sig)
#define fixture_broker_start(f) pglease_test_broker_start(FIXTURE_ENV(f))
#define fixture_broker_stop(f) pglease_test_broker_stop(FIXTURE_ENV(f))
#define fixture_broker_kill(f) pglease_test_broker_kill(FIXTURE_ENV(f))
#define fixture_broker_pid(f) pglease_test_broker_pid(FIXTURE_ENV(f))
#define fixture_server_start(f) pglease_test_server_start(FIXTURE_ENV(f))
#define fixture_server_stop(f) pglease_test_server_stop(FIXTURE_ENV(f))
#define fixture_server_pid(f) pglease_test_server_pid(FIXTURE_ENV(f))
#define fixture_standby_start(f) pglease_test_standby_start(FIXTURE_ENV(f))
#define fixture_standby_conninfo(f) pglease_test_standby_conninfo(FIXTURE_ENV(f))
#define fixture_instance(f) pglease_test_instance(FIXTURE_ENV(f))
#define fixture_socket_dir(f) pglease_test_socket_dir(FIXTURE_ENV(f))
#define fixture_folder(f) pglease_test_folder(FIXTURE_ENV(f))
#define fixture_config(f) pglease_test_config(FIXTURE_ENV(f))
#define fixture_log(f) pglease_test_log(FIXTURE_ENV(f))
#define fixture_conninfo(f) pglease_test_conninfo(FIXTURE_ENV(f))
#define fixture_connect(f) pglease_test_connect(FIXTURE_ENV(f))

static inline int
fixture_start(const struct pglease_test_options *options, struct fixture **ret)
{
	struct pglease_test_options sized = *options;

	sized.size = sizeof(sized);
	sized.no_leak_check = 1;
	return pglease_test_env_new(&sized, (pglease_test_env **)ret);
}

#endif
