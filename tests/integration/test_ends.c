/* SPDX-License-Identifier: PostgreSQL */
/* Leases that end otherwise than by their own thread's release, alone and while a cancel is in flight. */
#include "it.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define TIMES 100

static pglease_pool *pool;
static pglease_lease lease;
static PGconn *conn;

static void
in_a_thread(void *(*body)(void *))
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, body, NULL), 0);
	pthread_join(thread, NULL);
}

static void *
acquires(void *arg)
{
	conn = it_acquire(pool, &lease);
	return NULL;
}

static void *
acquires_and_is_revoked(void *arg)
{
	acquires(NULL);
	ck_assert_int_eq(it_ctl("revoke", "app/0", NULL), 0);
	return NULL;
}

static unsigned
descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

START_TEST(a_lease_counts_once_whoever_ends_it)
{
	it_start(1, 1, "max_leases_per_client = 1\n");
	pool = it_attach();
	in_a_thread(acquires);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE); /* it ended with its thread */
	it_acquire(pool, &lease);
	it_release(&lease);
	in_a_thread(acquires_and_is_revoked);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

START_TEST(a_thread_that_ends_without_noticing_leaks_nothing)
{
	unsigned before;

	it_start(1, 1, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < 2; i++)
		in_a_thread(acquires_and_is_revoked);
	before = descriptors();
	for (unsigned i = 0; i < 10; i++)
		in_a_thread(acquires_and_is_revoked);
	ck_assert_uint_le(descriptors(), before + 1);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

static void
ignore(void *arg, const char *message)
{
	ck_abort_msg("a notice for a thread that has ended: %s", message);
}

static atomic_bool go;
static unsigned delay; /* the moment of the end, against the cancel's */

static void *
cancels(void *cancel)
{
	char error[256];

	while (!atomic_load(&go))
		;
	PQcancel(cancel, error, sizeof(error));
	return NULL;
}

static void
a_moment(void)
{
	for (volatile unsigned i = 0; i < delay; i++)
		;
}

static PGcancel *cancel;

/* Ends with its answer in libpq's buffer and its own hooks on the PGconn. */
static void *
leaves_an_answer(void *arg)
{
	acquires(NULL);
	PQsetNoticeProcessor(conn, ignore, NULL);
	ck_assert_int_eq(PQsendQuery(conn, "select 'of the thread that ended'"), 1);
	while (PQconsumeInput(conn) && PQisBusy(conn))
		;
	cancel = PQgetCancel(conn);
	atomic_store(&go, true);
	a_moment();
	return NULL;
}

START_TEST(a_thread_ends_while_its_lease_is_cancelled)
{
	it_start(1, 1, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < TIMES; i++) {
		pthread_t victim, canceller;

		atomic_store(&go, false);
		delay = i % 50 * 20000;
		ck_assert_int_eq(pthread_create(&victim, NULL, leaves_an_answer, NULL), 0);
		while (!atomic_load(&go))
			;
		ck_assert_int_eq(pthread_create(&canceller, NULL, cancels, cancel), 0);
		pthread_join(victim, NULL);
		pthread_join(canceller, NULL);
		PQfreeCancel(cancel);
		conn = it_acquire(pool, &lease);
		ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
		ck_assert_ptr_null(PQgetResult(conn));
		it_query(conn, "do 'begin raise notice ''to nobody''; end'");
		ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
		it_release(&lease);
	}
}
END_TEST

START_TEST(broken_is_broken_while_a_cancel_is_in_flight)
{
	it_start(1, 1, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < TIMES; i++) {
		pthread_t canceller;
		int pid;

		acquires(NULL);
		pid = PQbackendPID(conn);
		cancel = PQgetCancel(conn);
		atomic_store(&go, true);
		delay = i % 50 * 20000;
		ck_assert_int_eq(pthread_create(&canceller, NULL, cancels, cancel), 0);
		a_moment();
		it_ok(pglease_release_as(&lease, PGLEASE_SESSION_BROKEN));
		pthread_join(canceller, NULL);
		PQfreeCancel(cancel);
		acquires(NULL);
		ck_assert_int_ne(PQbackendPID(conn), pid);
		it_release(&lease);
	}
}
END_TEST

IT_MAIN("ends", a_lease_counts_once_whoever_ends_it, a_thread_that_ends_without_noticing_leaks_nothing,
    a_thread_ends_while_its_lease_is_cancelled, broken_is_broken_while_a_cancel_is_in_flight)
