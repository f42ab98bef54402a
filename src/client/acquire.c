/* SPDX-License-Identifier: PostgreSQL */
/* pglease_acquire and its kin: arguments, time-outs, and from where they were called; the lease itself is lease.c's. */
#include <stdint.h>

#include "client_priv.h"
#include "lease.h"
#include "threads.h"
#include "warm.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define FOR_EVER_S UINT64_C(31536000)

static int
own_row(void *context, struct pool_state *state, struct thread_row **ret)
{
	return threads_row(state, ret);
}

static int
acquire_by(pglease_pool *pool, const struct wish *wish, pglease_lease *ret_lease, PGconn **ret_conn)
{
	return lease_get(pool, wish, own_row, NULL, ret_lease, ret_conn);
}

static int
check_arguments(const pglease_lease *ret_lease, PGconn *const *ret_conn)
{
	if (ret_lease == NULL || ret_conn == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", ret_lease == NULL ? "ret_lease" : "ret_conn");
	return 0;
}

int
lease_wish(pglease_pool *pool, int timeout_ms, struct wish *ret)
{
	if (pool == NULL)
		return error_set(PGLEASE_EINVAL, "pool is NULL");
	if (timeout_ms < PGLEASE_TIMEOUT_POOL)
		return error_set(PGLEASE_EINVAL, "timeout_ms is %d: give milliseconds, or PGLEASE_TIMEOUT_POOL (-1)",
		    timeout_ms);
	ret->start = clock_quick_ns();
	ret->deadline = ret->start + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * NS_PER_MS;
	ret->pool_timeout = timeout_ms == PGLEASE_TIMEOUT_POOL;
	return 0;
}

static __attribute__((noinline)) int
acquire_any(pglease_pool *pool, int timeout_ms, pglease_lease *ret_lease, PGconn **ret_conn, const struct site *site)
{
	struct wish wish = {.site = *site};
	int r = lease_wish(pool, timeout_ms, &wish);

	if (r == 0)
		r = check_arguments(ret_lease, ret_conn);
	return r != 0 ? r : acquire_by(pool, &wish, ret_lease, ret_conn);
}

static inline int
acquire_within(pglease_pool *pool, int timeout_ms, pglease_lease *ret_lease, PGconn **ret_conn, const struct site *site)
{
	if (pool != NULL && timeout_ms >= PGLEASE_TIMEOUT_POOL && ret_lease != NULL && ret_conn != NULL &&
	    warm_acquire(pool, site, ret_lease, ret_conn))
		return 0;
	return acquire_any(pool, timeout_ms, ret_lease, ret_conn, site);
}

static int
acquire_until(pglease_pool *pool, const struct timespec *deadline, pglease_lease *ret_lease, PGconn **ret_conn,
    const struct site *site)
{
	struct wish wish = {.site = *site};
	int r = lease_wish(pool, 0, &wish);

	if (r == 0)
		r = check_arguments(ret_lease, ret_conn);
	if (r != 0)
		return r;
	if (deadline == NULL || deadline->tv_nsec < 0 || deadline->tv_nsec >= 1000000000)
		return error_set(PGLEASE_EINVAL, "deadline is %s", deadline == NULL ? "NULL" : "not a valid timespec");
	/* A year or more from now is for ever. */
	if (deadline->tv_sec < 0)
		wish.deadline = 0;
	else if ((uint64_t)deadline->tv_sec > wish.start / NS_PER_S + FOR_EVER_S)
		wish.deadline = wish.start + FOR_EVER_S * NS_PER_S;
	else
		wish.deadline = (uint64_t)deadline->tv_sec * NS_PER_S + (uint64_t)deadline->tv_nsec;
	if (wish.deadline < wish.start)
		wish.deadline = wish.start;
	return acquire_by(pool, &wish, ret_lease, ret_conn);
}

#define SITE(file_, line_) \
	&(const struct site) \
	{ \
		.file = (file_), .line = (line_), .caller = __builtin_return_address(0) \
	}

int
pglease_acquire_at(pglease_pool *pool, int timeout_ms, pglease_lease *ret_lease, PGconn **ret_conn, const char *file,
    int line)
{
	return acquire_within(pool, timeout_ms, ret_lease, ret_conn, SITE(file, line));
}

int
(pglease_acquire)(pglease_pool *pool, int timeout_ms, pglease_lease *ret_lease, PGconn **ret_conn)
{
	return acquire_within(pool, timeout_ms, ret_lease, ret_conn, SITE(NULL, 0));
}

int
pglease_acquire_until_at(pglease_pool *pool, const struct timespec *deadline, pglease_lease *ret_lease,
    PGconn **ret_conn, const char *file, int line)
{
	return acquire_until(pool, deadline, ret_lease, ret_conn, SITE(file, line));
}

int
(pglease_acquire_until)(
    pglease_pool *pool, const struct timespec *deadline, pglease_lease *ret_lease, PGconn **ret_conn)
{
	return acquire_until(pool, deadline, ret_lease, ret_conn, SITE(NULL, 0));
}
