/* SPDX-License-Identifier: PostgreSQL */
/* Acquiring without blocking: what is got at once, what is waited for, and every way in which a request can end. */
#include "it.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMES 100
#define WAIT_MS 20000

static pglease_pool *pool;
static pglease_lease lease, held;
static pglease_request *request;
static PGconn *conn;

static unsigned
entries(const char *folder)
{
	DIR *dir = opendir(folder);
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static bool
is_readable(pglease_request *of, int timeout_ms)
{
	struct pollfd p = {.events = POLLIN};

	it_ok(pglease_acquire_fd(of, &p.fd));
	return poll(&p, 1, timeout_ms) == 1;
}

/* Waits for the request's end as an event loop would. */
static int
finish(pglease_request *of)
{
	int r;

	while ((r = pglease_acquire_finish(of, &lease, &conn)) == PGLEASE_EAGAIN)
		ck_assert(is_readable(of, WAIT_MS));
	return r;
}

START_TEST(what_is_ready_is_got_at_once)
{
	unsigned descriptors;

	/* The broker would have it for the moment of a reset. */
	it_start(1, 1, "reset_after = 1h\n");
	pool = it_attach();
	it_acquire(pool, &lease);
	it_release(&lease);
	descriptors = entries("/proc/self/fd");
	for (unsigned i = 0; i < TIMES; i++) {
		it_ok(pglease_acquire_start(pool, 0, &request));
		it_ok(pglease_acquire_finish(request, &lease, &conn));
		ck_assert_uint_eq(entries("/proc/self/task"), 1);
		ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
		it_release(&lease);
	}
	ck_assert_uint_eq(entries("/proc/self/fd"), descriptors);
}
END_TEST

START_TEST(its_descriptor_is_readable_when_it_is_there)
{
	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &held);
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	it_await_waiting(pool, 1);
	ck_assert(!is_readable(request, 0));
	ck_assert_int_eq(pglease_acquire_finish(request, &lease, &conn), PGLEASE_EAGAIN);
	it_release(&held);
	ck_assert(is_readable(request, WAIT_MS));
	it_ok(pglease_acquire_finish(request, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
	/* Asked for when it is over: it is readable from the beginning. */
	it_ok(pglease_acquire_start(pool, 0, &request));
	ck_assert(is_readable(request, 0));
	it_ok(pglease_acquire_finish(request, &lease, &conn));
	it_release(&lease);
}
END_TEST

START_TEST(the_first_lease_of_a_connection_too)
{
	pglease_request *requests[3];
	pglease_lease leases[3];

	it_start(1, 3, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < 3; i++)
		it_ok(pglease_acquire_start(pool, WAIT_MS, &requests[i]));
	for (unsigned i = 0; i < 3; i++) {
		it_ok(finish(requests[i]));
		leases[i] = lease;
		ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	}
	for (unsigned i = 0; i < 3; i++)
		it_release(&leases[i]);
	it_await_all_idle(pool);
}
END_TEST

START_TEST(what_goes_wrong_is_said_at_the_end)
{
	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &held);
	it_ok(pglease_acquire_start(pool, 50, &request));
	ck_assert_int_eq(finish(request), PGLEASE_ETIMEOUT);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "no connection free in pool app"));
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	it_await_waiting(pool, 1);
	ck_assert_int_eq(it_ctl("drain", "app", "0"), 4);
	ck_assert_int_eq(finish(request), PGLEASE_EDRAINING);
	ck_assert_int_eq(pglease_acquire_start(pool, WAIT_MS, &request), PGLEASE_EDRAINING);
	it_release(&held);
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	ck_assert_int_eq(pglease_acquire_start(NULL, 0, &request), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_acquire_start(pool, -2, &request), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_acquire_start(pool, 0, NULL), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_acquire_finish(NULL, &lease, &conn), PGLEASE_EINVAL);
	pglease_acquire_cancel(NULL);
}
END_TEST

START_TEST(a_limit_counts_requests_too)
{
	it_start(1, 2, "max_leases_per_client = 1\n");
	pool = it_attach();
	/* The first one is not ready at once: it is counted once all the same. */
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	it_ok(finish(request));
	it_release(&lease);
	it_acquire(pool, &held);
	ck_assert_int_eq(pglease_acquire_start(pool, WAIT_MS, &request), PGLEASE_ELIMIT);
	it_release(&held);
	for (unsigned i = 0; i < 3; i++) {
		it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
		it_ok(finish(request));
		it_release(&lease);
	}
}
END_TEST

/* A thread that was joined stays in /proc for a moment: it is awaited there. */
static int
is_alone(void *context)
{
	return entries("/proc/self/task") == 1;
}

START_TEST(one_that_is_cancelled_leaves_nothing)
{
	unsigned descriptors;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &held);
	descriptors = entries("/proc/self/fd");
	for (unsigned i = 0; i < TIMES; i++) {
		int fd;

		it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
		it_ok(pglease_acquire_fd(request, &fd));
		if (i % 2 == 0)
			it_await_waiting(pool, 1);
		pglease_acquire_cancel(request);
		ck_assert_int_eq(pglease_test_await(is_alone, NULL, IT_PATIENCE_MS), 0);
	}
	ck_assert_uint_eq(entries("/proc/self/fd"), descriptors);
	it_await_waiting(pool, 0);
	it_release(&held);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

/* Takes the one connection and gives it back, again and again, until it is told to stop. */
static void
busy(int socket, const void *arg)
{
	pglease_pool *p = it_attach();

	it_say(socket, 'h');
	for (struct pollfd told = {.fd = socket, .events = POLLIN}; poll(&told, 1, 0) == 0;) {
		it_acquire(p, &lease);
		it_release(&lease);
	}
}

START_TEST(a_grant_to_a_cancelled_request_is_not_lost)
{
	struct it_worker worker;
	pglease_stats stats;

	it_start(1, 1, "grant_after = 0\n");
	worker = it_worker(busy, NULL);
	it_hear(worker.socket, 'h');
	pool = it_attach();
	for (unsigned i = 0; i < TIMES * 3; i++) {
		it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
		for (unsigned n = 0; n < i * 100; n++)
			__asm__ volatile("");
		pglease_acquire_cancel(request);
	}
	it_say(worker.socket, 'q');
	it_join(&worker);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.total, 1);
	ck_assert_uint_eq(stats.acquired, stats.released + stats.returned);
	ck_assert_uint_eq(stats.timeouts + stats.failures, 0);
	ck_assert_uint_eq(stats.opened, 1);
}
END_TEST

static void *
starts(void *arg)
{
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	return NULL;
}

static void *
finishes(void *arg)
{
	it_ok(finish(request));
	return NULL;
}

static void *
releases(void *arg)
{
	it_release(&lease);
	return NULL;
}

static void
in_a_thread(void *(*body)(void *))
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, body, NULL), 0);
	pthread_join(thread, NULL);
}

START_TEST(a_lease_of_a_request_is_no_threads)
{
	pglease_stats stats;

	it_start(1, 1, NULL);
	pool = it_attach();
	for (unsigned i = 0; i < 3; i++) {
		in_a_thread(starts);
		in_a_thread(finishes);
		ck_assert_str_eq(it_query(conn, "select 'still there'"), "still there");
		in_a_thread(releases);
	}
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.released, 3);
	ck_assert_uint_eq(stats.revoked, 0);
}
END_TEST

START_TEST(its_thread_takes_no_signal)
{
	sigset_t one, pending;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &held);
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	it_await_waiting(pool, 1);
	sigemptyset(&one);
	sigaddset(&one, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	/* Its default is to end the process, were there a thread to take it. */
	kill(getpid(), SIGUSR1);
	sigpending(&pending);
	ck_assert(sigismember(&pending, SIGUSR1));
	signal(SIGUSR1, SIG_IGN);
	it_release(&held);
	it_ok(finish(request));
	it_release(&lease);
}
END_TEST

START_TEST(a_child_has_none_of_its_parents_requests)
{
	pid_t child;
	int status;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &held);
	for (unsigned i = 0; i < 2; i++) {
		it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
		it_await_waiting(pool, 1);
		child = fork();
		if (child == 0) {
			int fd;

			if (pglease_acquire_fd(request, &fd) != PGLEASE_EFORKED)
				_exit(2);
			if (i == 0)
				_exit(pglease_acquire_finish(request, &lease, &conn) == PGLEASE_EFORKED ? 0 : 1);
			pglease_acquire_cancel(request);
			pglease_detach(it_client());
			_exit(0);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_int_eq(status, 0);
		it_release(&held);
		it_ok(finish(request));
		held = lease;
	}
	it_release(&held);
}
END_TEST

/* Attaches for itself, so that the environment's own attachment can look on. */
static pglease_pool *
attach(pglease **ret_client)
{
	pglease_pool *p;

	it_ok(pglease_attach(NULL, NULL, ret_client));
	it_ok(pglease_pool_open(*ret_client, "app", &p));
	return p;
}

START_TEST(a_detach_ends_what_is_pending)
{
	pglease_request *waits, *has;
	pglease_pool *mine;
	pglease_stats stats;
	pglease *client;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_acquire(pool, &held);
	mine = attach(&client);
	it_ok(pglease_acquire_start(mine, WAIT_MS, &has));
	ck_assert(is_readable(has, WAIT_MS));
	it_ok(pglease_acquire_start(mine, WAIT_MS, &waits));
	it_await_waiting(pool, 1);
	pglease_detach(client);
	it_await_waiting(pool, 0);
	ck_assert_int_eq(pglease_acquire_finish(waits, &lease, &conn), PGLEASE_EINVAL);
	pglease_acquire_cancel(has);
	it_acquire(pool, &lease);
	it_release(&lease);
	it_release(&held);
	it_await_all_idle(pool);
	/* Now: what is published may be from before the second one. */
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 2);
}
END_TEST

/* Workers that are killed: what they have started is at one point or another. */
static void
waits(int socket, const void *arg)
{
	it_ok(pglease_acquire_start(it_attach(), WAIT_MS, &request));
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

static void
has_it(int socket, const void *arg)
{
	it_ok(pglease_acquire_start(it_attach(), WAIT_MS, &request));
	ck_assert(is_readable(request, WAIT_MS));
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

static void
has_finished(int socket, const void *arg)
{
	it_ok(pglease_acquire_start(it_attach(), WAIT_MS, &request));
	it_ok(finish(request));
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

START_TEST(killed_while_it_waits)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_acquire(pool, &held);
	worker = it_worker(waits, NULL);
	it_hear(worker.socket, 'h');
	it_await_waiting(pool, 1);
	it_kill(&worker);
	it_await_waiting(pool, 0);
	it_release(&held);
	it_acquire(pool, &lease);
	it_release(&lease);
	it_await_all_idle(pool);
}
END_TEST

static bool
revoked_one(const pglease_stats *stats, const void *arg)
{
	return stats->revoked == 1 && stats->idle == 1;
}

static void
killed_with_a_lease(it_body body)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	pool = it_attach();
	worker = it_worker(body, NULL);
	it_hear(worker.socket, 'h');
	it_kill(&worker);
	it_await(pool, revoked_one, NULL, "the revocation");
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
}

START_TEST(killed_before_it_has_asked)
{
	killed_with_a_lease(has_it);
}
END_TEST

START_TEST(killed_with_its_lease)
{
	killed_with_a_lease(has_finished);
}
END_TEST

IT_MAIN("request", what_is_ready_is_got_at_once, its_descriptor_is_readable_when_it_is_there,
    the_first_lease_of_a_connection_too, what_goes_wrong_is_said_at_the_end, a_limit_counts_requests_too,
    one_that_is_cancelled_leaves_nothing, a_grant_to_a_cancelled_request_is_not_lost,
    a_lease_of_a_request_is_no_threads, its_thread_takes_no_signal, a_child_has_none_of_its_parents_requests,
    a_detach_ends_what_is_pending, killed_while_it_waits, killed_before_it_has_asked, killed_with_its_lease)
