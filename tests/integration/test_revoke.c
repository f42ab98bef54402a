/* SPDX-License-Identifier: PostgreSQL */
/*
 * Leases that are taken away from processes that live: by lease_limit, by command, from a worker that is stopped; and the
 * limits of how many there may be.
 */
#include "it.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pglease_stats
stats_of(pglease_pool *pool)
{
	pglease_stats stats;

	it_ok(pglease_stats_get(pool, &stats));
	return stats;
}

/* The next query and the release say what happened; then the thread may lease again. */
static void
finds_itself_revoked(pglease_pool *pool, const pglease_lease *lease, PGconn *conn)
{
	PGresult *result = PQexec(conn, "select 1");

	ck_assert_int_ne(PQresultStatus(result), PGRES_TUPLES_OK);
	ck_assert_str_ne(PQerrorMessage(conn), "");
	PQclear(result);
	ck_assert_int_eq(pglease_release(lease), PGLEASE_ESTALE);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "revoked"));
}

/* Leases, says so, and when it is told to go on finds itself revoked; then leases again. */
static void
overstays(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);

	it_query(conn, "set my.mark = 'mine'");
	it_say(socket, 'l');
	it_hear(socket, 'g');
	finds_itself_revoked(pool, &lease, conn);
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select coalesce(current_setting('my.mark', true), '')"), "");
	it_release(&lease);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	it_say(socket, 'd');
	it_hear(socket, 'q');
}

START_TEST(a_lease_beyond_its_limit_is_revoked)
{
	struct it_worker worker;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	it_start(1, 1, "lease_limit = 300ms\n");
	worker = it_worker(overstays, NULL);
	it_hear(worker.socket, 'l');
	pool = it_attach();
	/* Waits for the limit: the slot's next connection. */
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select coalesce(current_setting('my.mark', true), '')"), "");
	it_release(&lease);
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'd');
	ck_assert_uint_eq(it_published("app", "revoked_limit"), 1);
	ck_assert_uint_eq(stats_of(pool).revoked, 1);
	ck_assert_uint_eq(stats_of(pool).opened, 2);
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

/* A worker that is stopped while it holds a lease disturbs nobody when it goes on: not the slot, not the totals. */
START_TEST(a_stopped_worker_is_fenced)
{
	struct it_worker worker;
	pglease_pool *pool;
	pglease_lease lease;
	pglease_stats before, after;
	PGconn *conn;
	int pid;

	it_start(1, 1, "lease_limit = 300ms\n");
	worker = it_worker(overstays, NULL);
	it_hear(worker.socket, 'l');
	ck_assert_int_eq(kill(worker.pid, SIGSTOP), 0);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	pid = PQbackendPID(conn);
	for (unsigned i = 0; i < 100; i++) {
		it_release(&lease);
		conn = it_acquire(pool, &lease);
	}
	before = stats_of(pool);
	it_say(worker.socket, 'g');
	ck_assert_int_eq(kill(worker.pid, SIGCONT), 0);
	/* It releases the lost lease and waits for this one. */
	it_await_waiting(pool, 1);
	after = stats_of(pool);
	ck_assert_uint_eq(after.acquired, before.acquired);
	ck_assert_uint_eq(after.released, before.released);
	ck_assert_int_eq(PQbackendPID(conn), pid);
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
	it_hear(worker.socket, 'd');
	it_say(worker.socket, 'q');
	it_join(&worker);
	after = stats_of(pool);
	ck_assert_uint_eq(after.acquired, before.acquired + 1);
	ck_assert_uint_eq(after.released, before.released + 2);
}
END_TEST

/* However often that happens: rows and statistics blocks come back. */
START_TEST(revocations_cost_nothing_for_good)
{
	pglease_pool *pool;
	pglease_stats stats;
	enum { TIMES = 100 };

	it_start(1, 1, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < TIMES; i++) {
		char slot[32];
		pglease_lease lease;
		PGconn *conn = it_acquire(pool, &lease);

		/* Not always the same: the next connection is made in another slot while the last one is ending. */
		snprintf(slot, sizeof(slot), "app/%u", lease.slot);
		ck_assert_int_eq(it_ctl("revoke", slot, NULL), 0);
		finds_itself_revoked(pool, &lease, conn);
	}
	stats = stats_of(pool);
	ck_assert_uint_eq(stats.revoked, TIMES);
	ck_assert_uint_eq(stats.acquired, TIMES);
	it_await_published("app", "revoked_admin", TIMES);
}
END_TEST

START_TEST(pgleasectl_revokes_a_slot_or_a_process)
{
	struct it_worker worker;
	pglease_pool *pool;
	char pid[16];

	it_start(1, 2, NULL);
	worker = it_worker(overstays, NULL);
	it_hear(worker.socket, 'l');
	pool = it_attach();
	snprintf(pid, sizeof(pid), "%d", (int)worker.pid);
	ck_assert_int_eq(it_ctl("revoke", pid, NULL), 0);
	ck_assert_int_eq(it_ctl("revoke", pid, NULL), 3); /* it holds none any more */
	it_say(worker.socket, 'g');
	it_hear(worker.socket, 'd');
	ck_assert_uint_eq(stats_of(pool).revoked, 1);
	ck_assert_int_eq(it_ctl("revoke", "app/0", NULL), 3);
	ck_assert_int_eq(it_ctl("revoke", "app/99", NULL), 3);
	ck_assert_int_eq(it_ctl("revoke", "app/", NULL), 3);
	ck_assert_int_eq(it_ctl("revoke", "none/0", NULL), 3);
	ck_assert_int_eq(it_ctl("revoke", "app", NULL), 3);
	ck_assert_int_eq(it_ctl("revoke", "-1", NULL), 1);
	ck_assert_int_eq(it_ctl("revoke", NULL, NULL), 1);
	it_say(worker.socket, 'q');
	it_join(&worker);
}
END_TEST

START_TEST(a_process_may_hold_so_many)
{
	pglease_pool *pool;
	pglease_lease a, b, c;
	PGconn *conn;

	it_start(3, 3, "max_leases_per_client = 2\n");
	pool = it_attach();
	it_acquire(pool, &a);
	it_acquire(pool, &b);
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &c, &conn), PGLEASE_ELIMIT);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "2 leases"));
	it_release(&a);
	ck_assert_int_eq(pglease_release(&a), PGLEASE_ESTALE); /* counts once */
	it_acquire(pool, &a);
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &c, &conn), PGLEASE_ELIMIT);
	it_await_published("app", "leased", 2);
	/* One that was taken away counts until its holder has noticed. */
	ck_assert_int_eq(it_ctl("revoke", "app/0", NULL) + it_ctl("revoke", "app/1", NULL) +
			     it_ctl("revoke", "app/2", NULL),
	    3); /* two leased, one refusal */
	ck_assert_int_eq(pglease_release(&a), PGLEASE_ESTALE);
	ck_assert_int_eq(pglease_release(&b), PGLEASE_ESTALE);
	it_acquire(pool, &a);
	it_acquire(pool, &b);
	it_release(&a);
	it_release(&b);
}
END_TEST

START_TEST(the_reserve_is_for_those_who_wait_long)
{
	pglease_pool *pool;
	pglease_lease a, b;

	it_start(1, 1, "reserve_connections = 1\nreserve_after = 30ms\nidle_timeout = 300ms\n");
	pool = it_attach();
	it_acquire(pool, &a);
	it_acquire(pool, &b);
	ck_assert_uint_eq(stats_of(pool).total, 2);
	ck_assert_uint_eq(stats_of(pool).max_connections, 1);
	it_release(&a);
	it_release(&b);
	it_await_published("app", "closed_idle", 1);
}
END_TEST

static void
holds_and_wants_more(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease first, second;
	PGconn *conn;

	it_acquire(pool, &first);
	it_say(socket, 'l');
	it_hear(socket, 'g');
	(void)!pglease_acquire(pool, 60000, &second, &conn);
}

START_TEST(a_deadlock_is_called_one)
{
	struct it_worker other;
	pglease_pool *pool;
	pglease_lease first, second;
	PGconn *conn;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_acquire(pool, &first);
	other = it_worker(holds_and_wants_more, NULL);
	it_hear(other.socket, 'l');
	/* The other holds a lease and does not wait: no deadlock yet. */
	ck_assert_int_eq(pglease_acquire(pool, 10, &second, &conn), PGLEASE_ETIMEOUT);
	ck_assert_ptr_null(strstr(pglease_error_message(), "deadlock"));
	it_say(other.socket, 'g');
	it_await_waiting(pool, 1);
	ck_assert_int_eq(pglease_acquire(pool, 10, &second, &conn), PGLEASE_ETIMEOUT);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "deadlock"));
	it_release(&first);
	it_kill(&other);
}
END_TEST

/* Who acquires through the function, not the macro, is named by address. */
START_TEST(a_leak_is_named_by_address)
{
	int (*acquire)(pglease_pool *, int, pglease_lease *, PGconn **) = (pglease_acquire);
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	it_start(1, 1, "leak_threshold = 30ms\n");
	pool = it_attach();
	ck_assert_int_eq(acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn), 0);
	ck_assert_msg(pglease_test_await_log(it_env, "+0x", 30000) == 0, "%s", pglease_test_error_message());
	it_release(&lease);
	ck_assert_int_eq(pglease_acquire_at(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn, "worker.py", 12), 0);
	ck_assert_msg(pglease_test_await_log(it_env, "it was acquired at worker.py:12", 30000) == 0, "%s", pglease_test_error_message());
	it_release(&lease);
}
END_TEST

/* The slot is leased again in the same process before the revoked lessee has noticed: each has a PGconn of its own. */
START_TEST(a_revoked_lessee_keeps_its_pgconn)
{
	pglease_pool *pool;
	pglease_lease lost[3], next;
	PGconn *conn[3], *now;
	PGresult *result;

	it_start(1, 1, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < 3; i++) {
		conn[i] = it_acquire(pool, &lost[i]);
		ck_assert_int_eq(it_ctl("revoke", "app/0", NULL), 0);
	}
	now = it_acquire(pool, &next);
	ck_assert_uint_eq(next.slot, lost[0].slot);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_ptr_ne(conn[i], now);
		result = PQexec(conn[i], "select 1");
		ck_assert_int_ne(PQresultStatus(result), PGRES_TUPLES_OK);
		PQclear(result);
	}
	ck_assert_int_eq(pglease_release(&lost[1]), PGLEASE_ESTALE);
	ck_assert_int_eq(pglease_release(&lost[1]), PGLEASE_ESTALE);
	ck_assert_str_eq(it_query(now, "select 'mine'"), "mine");
	it_release(&next);
	ck_assert_int_eq(pglease_release(&lost[0]), PGLEASE_ESTALE);
	now = it_acquire(pool, &next);
	ck_assert_str_eq(it_query(now, "select 'mine'"), "mine");
	it_release(&next); /* lost[2] is never released: the detach frees it all the same */
}
END_TEST

IT_MAIN("revoke", a_lease_beyond_its_limit_is_revoked, a_stopped_worker_is_fenced, revocations_cost_nothing_for_good,
    pgleasectl_revokes_a_slot_or_a_process, a_process_may_hold_so_many, the_reserve_is_for_those_who_wait_long,
    a_deadlock_is_called_one, a_leak_is_named_by_address, a_revoked_lessee_keeps_its_pgconn)
