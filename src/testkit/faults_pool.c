/* SPDX-License-Identifier: PostgreSQL */
/* A pool that is full: its connections are leased by a client of the kit's own. */
#include "env_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "clock.h"

#define PATIENCE_MS 20000
/* Who holds a lease for longer than that keeps it. */
#define OTHERS_KEEP_MS 1000
#define SLICE_MS 50

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

/* One lease, waited for at most so long; 0 or the library's code. */
static int
add(struct filler *filler, pglease_pool *pool, int timeout_ms)
{
	PGconn *conn;
	int r = pglease_acquire(pool, timeout_ms, &filler->lease[filler->n], &conn);

	filler->n += r == 0;
	return r;
}

/*
 * Until it holds them all, or others hold the rest: for so long that they are not about to come back. To fill a pool wholly it queues up,
 * for workers may leave nothing idle; what is to stay free it does not take even for a moment.
 */
static int
fill(pglease_test_env *env, struct filler *filler, const char *name, unsigned leave)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	unsigned want, unchanged = 0;
	uint64_t deadline = clock_ns() + PATIENCE_MS * UINT64_C(1000000);
	pglease_stats stats;
	pglease_pool *pool;

	options.socket_dir = env->socket_dir;
	options.program = "pglease-test filler";
	if (pglease_attach(env->instance, &options, &filler->client) || pglease_pool_open(filler->client, name, &pool) ||
	    pglease_stats_get(pool, &stats))
		return child_fail(ECONNREFUSED, "%s", pglease_error_message());
	if (leave >= stats.max_connections)
		return 0;
	want = stats.max_connections - leave;
	filler->lease = calloc(want, sizeof(*filler->lease));
	if (filler->lease == NULL)
		return child_fail(ENOMEM, "out of memory");
	while (filler->n < want && unchanged < OTHERS_KEEP_MS / SLICE_MS) {
		int r = PGLEASE_ETIMEOUT;

		if (pglease_stats_get(pool, &stats))
			return child_fail(ECONNREFUSED, "%s", pglease_error_message());
		if (stats.active < want || leave == 0)
			r = add(filler, pool, SLICE_MS);
		else
			poll(NULL, 0, SLICE_MS);
		if (r != 0 && (r != PGLEASE_ETIMEOUT || clock_ns() > deadline))
			return child_fail(ETIMEDOUT, "%u of %u connections: %s", filler->n, want, pglease_error_message());
		unchanged = r != 0 && stats.active >= want ? unchanged + 1 : 0;
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
