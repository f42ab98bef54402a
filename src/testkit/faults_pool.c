/* SPDX-License-Identifier: PostgreSQL */
/* A pool that is full: its connections are leased by a client of the kit's own. */
#include "env_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define PATIENCE_MS 10000

struct filler {
	pglease *client;
	pglease_lease *lease;
	unsigned n;
};

void
pglease_test_unfill(pglease_test_env *env)
{
	struct filler *filler = env->filler;

	if (filler == NULL)
		return;
	env->filler = NULL;
	for (unsigned i = 0; i < filler->n; i++)
		pglease_release_as(&filler->lease[i], PGLEASE_SESSION_CLEAN);
	pglease_detach(filler->client);
	free(filler->lease);
	free(filler);
}

static int
fill(pglease_test_env *env, struct filler *filler, const char *name, unsigned leave)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	struct timespec deadline;
	pglease_stats stats;
	pglease_pool *pool;
	unsigned want;

	options.socket_dir = env->socket_dir;
	options.program = "pglease-test filler";
	if (pglease_attach(env->instance, &options, &filler->client) || pglease_pool_open(filler->client, name, &pool) ||
	    pglease_stats_get(pool, &stats))
		return child_fail(ECONNREFUSED, "%s", pglease_error_message());
	if (leave + stats.active >= stats.max_connections)
		return 0; /* as full as it should be */
	want = stats.max_connections - leave - stats.active;
	filler->lease = calloc(want, sizeof(*filler->lease));
	if (filler->lease == NULL)
		return child_fail(ENOMEM, "out of memory");
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += PATIENCE_MS / 1000;
	while (filler->n < want) {
		PGconn *conn;

		if (pglease_acquire_until(pool, &deadline, &filler->lease[filler->n], &conn))
			return child_fail(ETIMEDOUT, "%u of %u connections: %s", filler->n, want, pglease_error_message());
		filler->n++;
	}
	return 0;
}

int
pglease_test_fill(pglease_test_env *env, const char *pool, unsigned leave)
{
	int r;

	pglease_test_unfill(env);
	env->filler = calloc(1, sizeof(*env->filler));
	if (env->filler == NULL)
		return child_fail(ENOMEM, "out of memory");
	r = fill(env, env->filler, pool, leave);
	if (r)
		pglease_test_unfill(env); /* the reason stays */
	return r;
}
