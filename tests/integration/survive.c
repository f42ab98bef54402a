/* SPDX-License-Identifier: PostgreSQL */
/* See survive.h. */
#include "survive.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

/* Those remembered: their pids, as an array and in words. */
static char pids[1024] = "{}";

void
survive_kill(void)
{
	ck_assert_msg(pglease_test_broker_kill(it_env) == 0, "%s", pglease_test_error_message());
}

void
survive_start(void)
{
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
}

void
survive_stop(void)
{
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
}

void
survive_note_sessions(void)
{
	ck_assert_msg(pglease_test_sql(it_env,
			  "select coalesce(array_agg(pid), '{}') from pg_stat_activity where backend_type = 'client backend' "
			  "and pid <> pg_backend_pid()",
			  pids, sizeof(pids)) == 0,
	    "%s", pglease_test_error_message());
	ck_assert_str_ne(pids, "{}");
}

static int
count(void)
{
	char sql[1200], n[16];

	snprintf(sql, sizeof(sql), "select count(*) from pg_stat_activity where pid = any ('%s')", pids);
	ck_assert_msg(pglease_test_sql(it_env, sql, n, sizeof(n)) == 0, "%s", pglease_test_error_message());
	return atoi(n);
}

static int
are_left(void *context)
{
	return count() == (int)*(const unsigned *)context;
}

void
survive_await_sessions(unsigned left)
{
	if (pglease_test_await(are_left, &left, IT_PATIENCE_MS) != 0)
		ck_abort_msg("%d of the old sessions %s are there, expected %u", count(), pids, left);
}

bool
survive_is_old(const PGconn *conn)
{
	char pid[16];
	const char *at;

	snprintf(pid, sizeof(pid), "%d", PQbackendPID(conn));
	at = strstr(pids, pid);
	return at != NULL && strchr("{,", at[-1]) != NULL && strchr(",}", at[strlen(pid)]) != NULL;
}

static int
is_new(void *context)
{
	pglease_pool *pool = context;
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);
	bool old = survive_is_old(conn);

	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	return !old;
}

void
survive_await_new(pglease_pool *pool)
{
	ck_assert_msg(pglease_test_await(is_new, pool, IT_PATIENCE_MS) == 0, "the new broker is never found");
}

int
survive_finish(pglease_request *request, pglease_lease *ret_lease, PGconn **ret_conn)
{
	struct pollfd p = {.events = POLLIN};
	int r;

	while ((r = pglease_acquire_finish(request, ret_lease, ret_conn)) == PGLEASE_EAGAIN) {
		it_ok(pglease_acquire_fd(request, &p.fd));
		ck_assert_int_eq(poll(&p, 1, IT_PATIENCE_MS), 1);
	}
	return r;
}
