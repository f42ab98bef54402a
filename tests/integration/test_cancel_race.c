/* SPDX-License-Identifier: PostgreSQL */
/*
 * Many cancels around the moment of release. Processes cancel their own leases, by PQcancel in other threads, while they
 * release them. Whoever has the slot next, this process or another, must never be cancelled. What can be told apart decides
 * what a process may do meanwhile ("Cancel" in doc/protocol.md):
 *
 * - PQcancel connects when it likes: then the process waits for it before it leases again, and the race is with others;
 * - the broker has accepted PQcancel's connection before the release, and the packet comes at any time ("early"): then it
 *   leases again at once.
 *
 * PGLEASE_CANCELS: how many in all; as a default few, for `make check`.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "it.h"
#include "script.h"

#define TESTS 2
#define PROCESSES 4 /* of a kind, at most */
#define CANCELS 1500 /* of each test */
#define AT_ONCE 6 /* cancels of one lease */
#define DELAYS 600 /* us: about as long as a query and its release */

/* What the processes tell the test. */
struct shared {
	_Atomic bool stop;
	_Atomic unsigned fired, hit, queries;
};
static struct shared *shared;
static unsigned share; /* of each process that cancels */

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static void
spin(unsigned us)
{
	uint64_t until = now_ns() + us * UINT64_C(1000);

	while (now_ns() < until)
		;
}

/* Another delay each time, so that the cancels come before, at and after the release. */
static unsigned
delay(unsigned n)
{
	return n * 37 % DELAYS;
}

/* Whether it was cancelled; the test fails on any other error. */
static bool
query(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	bool cancelled = state != NULL && strcmp(state, "57014") == 0;

	ck_assert_msg(cancelled || PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(conn));
	PQclear(result);
	shared->queries++;
	return cancelled;
}

static const char *const queries[] = {"select 1", "select count(*) from generate_series(1, 1000)", "select pg_sleep(0.008)"};

static void
not_mine(PGconn *conn, unsigned n)
{
	ck_assert_msg(!query(conn, queries[n % 3]), "a lease that nobody has cancelled was cancelled");
}

/* A thread that cancels, once each time it is told to. */
struct canceller {
	pthread_t thread;
	sem_t go, accepted, send, done;
	PGcancel *cancel; /* NULL: the end */
	unsigned delay;
	bool early; /* connects at once, and sends later */
};
static _Thread_local struct canceller *connecting;

/* Before libc's: libpq's connect() of a PQcancel that is early returns when the packet is to be sent. */
__attribute__((visibility("default"))) int
connect(int sock, const struct sockaddr *address, socklen_t length)
{
	struct canceller *c = connecting;
	int r = (int)syscall(SYS_connect, sock, address, length), error = errno;

	if (c != NULL) {
		struct script_packet p;

		ck_assert_int_eq(r, 0);
		script_code(&p, SCRIPT_SSL);
		script_send_packet(sock, &p);
		script_expect(sock, "N", 1);
		sem_post(&c->accepted);
		sem_wait(&c->send);
		spin(c->delay);
	}
	errno = error;
	return r;
}

static void *
canceller_run(void *arg)
{
	struct canceller *c = arg;
	char error[256];

	for (;;) {
		sem_wait(&c->go);
		if (c->cancel == NULL)
			return NULL;
		if (c->early)
			connecting = c;
		else
			spin(c->delay);
		ck_assert_msg(PQcancel(c->cancel, error, sizeof(error)) == 1, "%s", error);
		connecting = NULL;
		sem_post(&c->done);
	}
}

static void
await_all(struct canceller cancellers[AT_ONCE], size_t sem)
{
	for (unsigned i = 0; i < AT_ONCE; i++)
		sem_wait((sem_t *)((char *)&cancellers[i] + sem));
}

/* One lease that is cancelled, and the next one of this process. */
static void
round_of(pglease_pool *pool, struct canceller cancellers[AT_ONCE], unsigned n, bool early)
{
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);
	PGcancel *cancel = PQgetCancel(conn);

	for (unsigned i = 0; i < AT_ONCE; i++) {
		cancellers[i].cancel = cancel;
		cancellers[i].delay = delay(n * AT_ONCE + i);
		sem_post(&cancellers[i].go);
	}
	if (early) {
		await_all(cancellers, offsetof(struct canceller, accepted));
		for (unsigned i = 0; i < AT_ONCE; i++)
			sem_post(&cancellers[i].send);
	}
	shared->hit += query(conn, queries[n % 3]);
	it_release(&lease);
	if (!early)
		await_all(cancellers, offsetof(struct canceller, done));
	conn = it_acquire(pool, &lease);
	not_mine(conn, n + 2); /* long after a short one, for the cancels to come in */
	if (early) {
		await_all(cancellers, offsetof(struct canceller, done));
		not_mine(conn, 0);
	}
	it_release(&lease);
	PQfreeCancel(cancel);
	shared->fired += AT_ONCE;
}

static void
cancels(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	bool early = arg != NULL;
	struct canceller cancellers[AT_ONCE];

	for (unsigned i = 0; i < AT_ONCE; i++) {
		struct canceller *c = &cancellers[i];

		c->early = early;
		sem_init(&c->go, 0, 0);
		sem_init(&c->accepted, 0, 0);
		sem_init(&c->send, 0, 0);
		sem_init(&c->done, 0, 0);
		ck_assert_int_eq(pthread_create(&c->thread, NULL, canceller_run, c), 0);
	}
	for (unsigned n = 0; n < share / AT_ONCE; n++)
		round_of(pool, cancellers, n, early);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		cancellers[i].cancel = NULL;
		sem_post(&cancellers[i].go);
		pthread_join(cancellers[i].thread, NULL);
	}
}

static void
bystander(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();

	for (unsigned n = 0; !shared->stop; n++) {
		pglease_lease lease;

		not_mine(it_acquire(pool, &lease), n);
		it_release(&lease);
	}
}

/* The broker's numbers come a moment later. */
static int
all_answered(void *context)
{
	uint64_t *answered = context;

	*answered = it_published("app", "cancels") + it_published("app", "cancels_refused");
	return *answered == shared->fired;
}

static void
await_answered(void)
{
	uint64_t answered = 0;

	(void)pglease_test_await(all_answered, &answered, IT_PATIENCE_MS);
	ck_assert_uint_eq(answered, shared->fired);
}

/* These many processes that cancel, and others that do not, on so many slots. */
static void
race(unsigned cancellers, bool early, unsigned others, unsigned slots)
{
	const char *wanted = getenv("PGLEASE_CANCELS");
	unsigned total = wanted != NULL ? (unsigned)strtoul(wanted, NULL, 10) / TESTS : CANCELS;
	struct it_worker running[PROCESSES], bystanders[PROCESSES];
	uint64_t begun = now_ns(), forwarded;

	share = (total + cancellers - 1) / cancellers;
	share = (share + AT_ONCE - 1) / AT_ONCE * AT_ONCE; /* whole rounds */
	ck_assert_uint_gt(share, 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	it_start(slots, slots, NULL);
	for (unsigned i = 0; i < others; i++)
		bystanders[i] = it_worker(bystander, NULL);
	for (unsigned i = 0; i < cancellers; i++)
		running[i] = it_worker(cancels, early ? shared : NULL);
	for (unsigned i = 0; i < cancellers; i++)
		it_join(&running[i]);
	shared->stop = true;
	for (unsigned i = 0; i < others; i++)
		it_join(&bystanders[i]);
	/* None is lost: each was forwarded or refused. Both were seen, and cancels that have hit. */
	ck_assert_uint_eq(shared->fired, share * cancellers);
	await_answered();
	it_await_all_idle(it_attach());
	forwarded = it_published("app", "cancels");
	printf("# %u cancels in %.0f s: %u forwarded, %u refused; %u queries, of which %u were cancelled; %u connections\n",
	    shared->fired, (double)(now_ns() - begun) / 1e9, (unsigned)forwarded, shared->fired - (unsigned)forwarded,
	    shared->queries, shared->hit, (unsigned)it_published("app", "opened"));
	ck_assert_uint_gt(shared->hit, 0);
	ck_assert_uint_lt(forwarded, shared->fired);
	munmap(shared, sizeof(*shared));
}

/* Few slots, always somebody who waits: what is released is another process's next. */
START_TEST(the_next_lessee_is_another_process)
{
	race(4, false, 2, 2);
}
END_TEST

/* A slot for each: what a process releases is its own again at once. */
START_TEST(the_next_lessee_is_the_same_process)
{
	race(3, true, 0, 3);
}
END_TEST

IT_MAIN("cancel_race", the_next_lessee_is_another_process, the_next_lessee_is_the_same_process)
