/* SPDX-License-Identifier: PostgreSQL */
/* Orders to the relay, and what it has counted: the public names of relay.h. */
#include "env_priv.h"

#include <errno.h>
#include <string.h>

const char *
pglease_test_relay_conninfo(const pglease_test_env *env)
{
	return env->relay_conninfo;
}

int
pglease_test_relay_pass(pglease_test_env *env)
{
	return relay_tell(&env->relay, RELAY_PASS, 0, 0, "");
}

int
pglease_test_relay_stall(pglease_test_env *env)
{
	return relay_tell(&env->relay, RELAY_STALL, 0, 0, "");
}

int
pglease_test_relay_drop(pglease_test_env *env)
{
	return relay_tell(&env->relay, RELAY_DROP, 0, 0, "");
}

int
pglease_test_relay_delay(pglease_test_env *env, unsigned ms)
{
	return relay_tell(&env->relay, RELAY_DELAY, ms, 0, "");
}

int
pglease_test_relay_cut(pglease_test_env *env)
{
	return relay_tell(&env->relay, RELAY_CUT, 0, 0, "");
}

int
pglease_test_relay_refuse(pglease_test_env *env, unsigned n, const char *sqlstate)
{
	if (sqlstate != NULL && strlen(sqlstate) != 5)
		return child_fail(EINVAL, "'%s' is no SQLSTATE: it has five characters", sqlstate);
	return relay_tell(&env->relay, RELAY_REFUSE, n, 0, sqlstate != NULL ? sqlstate : "");
}

int
pglease_test_relay_hold(pglease_test_env *env, unsigned bytes, int until_asked)
{
	return relay_tell(&env->relay, RELAY_HOLD, bytes, until_asked, "");
}

static uint64_t
counted(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static int
has_held(void *context)
{
	pglease_test_env *env = context;

	return counted(&env->relay.counts->holds) > env->holds_seen;
}

int
pglease_test_relay_await_held(pglease_test_env *env, int timeout_ms)
{
	int r;

	if (env->relay.counts == NULL)
		return child_fail(EINVAL, "the environment was made without the option `relay`");
	r = pglease_test_await(has_held, env, timeout_ms);
	if (r)
		return child_fail(-r, "the relay held nothing within %d ms", timeout_ms);
	env->holds_seen++;
	return 0;
}

uint64_t
pglease_test_relay_refused(const pglease_test_env *env)
{
	return env->relay.counts != NULL ? counted(&env->relay.counts->refused) : 0;
}

uint64_t
pglease_test_relay_round_trips(const pglease_test_env *env)
{
	return env->relay.counts != NULL ? counted(&env->relay.counts->round_trips) : 0;
}
