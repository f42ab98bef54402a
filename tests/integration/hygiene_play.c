/* SPDX-License-Identifier: PostgreSQL */
/*
 * The ways in which one lease follows another on a pool's one and only connection. Two workers: the
 * leaver, and the next. Which connection the next one has is told by the backend's pid: the leaver's own
 * when the session could be brought back, another one where it had to be replaced.
 */
#include "hygiene_play.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "it.h"

#define DUE_NS \
	3000000 /* so long waits who is granted the slot at its release (grant_after: 1 ms), for sure */

const struct play_way play_ways[] = {
    {"released, then a new process", PLAY_RELEASED, PLAY_FRESH},
    {"released, then another process", PLAY_RELEASED, PLAY_WARM},
    {"released, and granted to a waiter", PLAY_RELEASED, PLAY_WAITING},
    {"died, then another process", PLAY_DIED, PLAY_WARM},
    {"died, with a waiter", PLAY_DIED, PLAY_WAITING},
    {"revoked, then another process", PLAY_CUT_OFF, PLAY_WARM},
    {"revoked, with a waiter", PLAY_CUT_OFF, PLAY_WAITING},
    {"released, then the same thread", PLAY_RELEASED, PLAY_SAME},
    {"released, then the same thread after another process", PLAY_RELEASED, PLAY_SAME_AFTER},
    {"released, and granted to another thread", PLAY_RELEASED, PLAY_SAME_WAITING},
};
const size_t play_nways = sizeof(play_ways) / sizeof(play_ways[0]);

/* What the two workers tell each other. */
struct shared {
	_Atomic int left; /* backend of the lease that leaves something */
	_Atomic int found; /* backend of the next */
};

struct stage {
	const struct hygiene_case *c;
	const struct hygiene_policy *policy;
	const struct play_way *way;
	struct shared *shared;
};

bool
play_fits(const struct hygiene_case *c, const struct play_way *way)
{
	/* The same process may find what it left in its own session, and nobody else ever has its PGconn. */
	if (way->next >= PLAY_SAME)
		return (c->flags & (HYGIENE_OWN_TOO | HYGIENE_PGCONN)) != 0;
	return (c->flags & HYGIENE_PGCONN) == 0;
}

/* Processes that end as they are: what they attached to, and their parents did, is not lost but left. */
static pglease *attachments[8];

static pglease_pool *
attach(const struct stage *s)
{
	static unsigned n;
	pglease_pool *pool;

	ck_assert_uint_lt(n, sizeof(attachments) / sizeof(attachments[0]));
	it_ok(pglease_attach(NULL, NULL, &attachments[n]));
	it_ok(pglease_pool_open(attachments[n++], s->policy->pool, &pool));
	return pool;
}

/* What an earlier test left may be kept; this one is to find its own. */
static void
empty(pglease_pool *pool)
{
	pglease_lease lease;

	it_query(it_acquire(pool, &lease), "discard all");
	it_release(&lease);
}

static bool
is_replaced(const struct stage *s)
{
	return (s->c->flags & HYGIENE_REPLACED) != 0 || s->way->end != PLAY_RELEASED;
}

/*
 * A lease after the one that left something: nothing is found, and the PGconn and its session agree about
 * all.
 */
static void
assert_clean(const struct stage *s, PGconn *conn)
{
	const char *found;
	bool kept = s->policy->light && (s->c->flags & HYGIENE_LIGHT_KEEPS) != 0 && !is_replaced(s);

	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
	found = hygiene_look(s->c, conn);
	ck_assert_msg(found != NULL || !kept, "%s: a light reset has not kept it", s->c->name);
	ck_assert_msg(found == NULL || kept, "%s: LEAKED: %s", s->c->name, found);
	found = hygiene_disagrees(conn);
	ck_assert_msg(found == NULL, "%s: %s", s->c->name, found);
	found = hygiene_differs(conn, "select 'at the end'", "at the end");
	ck_assert_msg(found == NULL, "%s: %s", s->c->name, found);
	ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
}

static void
assert_backend(const struct stage *s, const PGconn *conn)
{
	int left = atomic_load(&s->shared->left), found = PQbackendPID(conn);

	atomic_store(&s->shared->found, found);
	if ((s->c->flags & HYGIENE_EITHER) != 0 && s->way->end == PLAY_RELEASED)
		return;
	if (is_replaced(s))
		ck_assert_msg(found != left, "%s: the connection was not replaced", s->c->name);
	else
		ck_assert_msg(found == left, "%s: the connection was replaced", s->c->name);
}

/* The lease has been taken from this process: it can neither use the connection nor give it back. */
static void
assert_fenced(const struct stage *s, PGconn *conn, const pglease_lease *lease)
{
	/* Whatever it sends: a Sync would be answered, also in a COPY. */
	static const char sync[] = {'S', 0, 0, 0, 4};

	if (PQsocket(conn) >= 0) {
		ck_assert_int_eq(send(PQsocket(conn), sync, sizeof(sync), MSG_NOSIGNAL), -1);
		ck_assert_int_eq(errno, EPIPE);
	}
	ck_assert_int_eq(pglease_release(lease), PGLEASE_ESTALE);
}

/* Leaves what the case leaves, and then does as it is told. */
static void
leaver(int socket, const void *arg)
{
	const struct stage *s = arg;
	pglease_pool *pool = attach(s);
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);
	char told;

	atomic_store(&s->shared->left, PQbackendPID(conn));
	hygiene_leave(s->c, conn);
	it_say(socket, 'l');
	while (recv(socket, &told, 1, 0) == 1 && told != 'q') {
		switch (told) {
		case 'r':
			it_release(&lease);
			break;
		case 'c':
			it_cut_off();
			break;
		case 'f':
			assert_fenced(s, conn, &lease);
			break;
		case 'a': /* once more, after the next one */
			conn = it_acquire(pool, &lease);
			ck_assert_int_eq(PQbackendPID(conn), atomic_load(&s->shared->found));
			assert_clean(s, conn);
			it_release(&lease);
			break;
		}
		it_say(socket, told);
	}
}

static void
next(int socket, const void *arg)
{
	const struct stage *s = arg;
	pglease_pool *pool = attach(s);
	pglease_lease lease;
	PGconn *conn;

	if (s->way->next != PLAY_FRESH) {
		it_acquire(pool, &lease);
		it_release(&lease);
	}
	it_say(socket, 'n');
	it_hear(socket, 'g');
	conn = it_acquire(pool, &lease);
	assert_backend(s, conn);
	it_say(socket, 'h');
	it_hear(socket, 'l');
	assert_clean(s, conn);
	it_release(&lease);
	it_say(socket, 'd');
	it_hear(socket, 'q');
}

static bool
is_due(const pglease_stats *stats, const void *arg)
{
	return stats->pending == 1 && stats->max_wait_ns > DUE_NS;
}

static bool
was_revoked(const pglease_stats *stats, const void *arg)
{
	return stats->revoked > *(const uint64_t *)arg;
}

static void
say_and_hear(const struct it_worker *worker, char byte)
{
	it_say(worker->socket, byte);
	it_hear(worker->socket, byte);
}

/* Ends the lease of the leaver. */
static void
end_lease(const struct stage *s, pglease_pool *pool, struct it_worker *worker, const pglease_stats *before)
{
	switch (s->way->end) {
	case PLAY_RELEASED:
		say_and_hear(worker, 'r');
		break;
	case PLAY_DIED:
		it_kill(worker);
		break;
	case PLAY_CUT_OFF:
		say_and_hear(worker, 'c');
		it_await(pool, was_revoked, &before->revoked, "the revocation");
		break;
	}
}

/*
 * By the pool's own count: what was to be granted was granted, and no connection was replaced that need
 * not be.
 */
static void
assert_counts(const struct stage *s, pglease_pool *pool, const pglease_stats *before)
{
	pglease_stats after;

	if ((s->c->flags & HYGIENE_EITHER) != 0 && s->way->end == PLAY_RELEASED)
		return;
	it_ok(pglease_stats_get(pool, &after));
	ck_assert_uint_eq(after.opened - before->opened, is_replaced(s) ? 1 : 0);
	if (!is_replaced(s) && (s->way->next == PLAY_WAITING || s->way->next == PLAY_SAME_WAITING))
		ck_assert_uint_eq(after.handovers - before->handovers, 1);
	if (s->way->end == PLAY_RELEASED)
		ck_assert_uint_eq(
		    after.rollbacks - before->rollbacks, (s->c->flags & HYGIENE_ROLLBACK) != 0 ? 1 : 0);
}

static void
play_two(const struct stage *s)
{
	pglease_pool *pool = attach(s);
	pglease_stats before;
	struct it_worker a, b;

	if (s->policy->light)
		empty(pool);
	b = it_worker(next, s);
	it_hear(b.socket, 'n');
	a = it_worker(leaver, s);
	it_hear(a.socket, 'l');
	if (s->way->next == PLAY_WAITING) {
		it_say(b.socket, 'g');
		it_await(pool, is_due, NULL, "a grant due");
	}
	it_ok(pglease_stats_get(pool, &before));
	end_lease(s, pool, &a, &before);
	if (s->way->next != PLAY_WAITING)
		it_say(b.socket, 'g');
	it_hear(b.socket, 'h');
	if (s->way->end == PLAY_CUT_OFF)
		say_and_hear(&a, 'f'); /* while the next one has its lease */
	it_say(b.socket, 'l');
	it_hear(b.socket, 'd');
	assert_counts(s, pool, &before);
	if (s->way->end == PLAY_RELEASED)
		say_and_hear(&a, 'a');
	if (s->way->end != PLAY_DIED) {
		it_say(a.socket, 'q');
		it_join(&a);
	}
	it_say(b.socket, 'q');
	it_join(&b);
}

/* A lease of another process, from beginning to end. */
static void
passer(int socket, const void *arg)
{
	pglease_lease lease;

	it_query(it_acquire(attach(arg), &lease), "set work_mem = '64kB'");
	it_release(&lease);
	it_say(socket, 'p');
	it_hear(socket, 'q');
}

struct thread {
	const struct stage *s;
	pglease_pool *pool;
};

static void *
follow(void *arg)
{
	const struct thread *t = arg;
	pglease_lease lease;
	PGconn *conn = it_acquire(t->pool, &lease);

	assert_backend(t->s, conn);
	assert_clean(t->s, conn);
	it_release(&lease);
	return NULL;
}

static void
play_same(const struct stage *s)
{
	pglease_pool *pool = attach(s);
	struct thread t = {.s = s, .pool = pool};
	pglease_stats before;
	struct it_worker other;
	pglease_lease lease;
	pthread_t thread;
	PGconn *conn = it_acquire(pool, &lease);

	atomic_store(&s->shared->left, PQbackendPID(conn));
	hygiene_leave(s->c, conn);
	if (s->way->next == PLAY_SAME_WAITING) {
		ck_assert_int_eq(pthread_create(&thread, NULL, follow, &t), 0);
		it_await(pool, is_due, NULL, "a grant due");
	}
	it_ok(pglease_stats_get(pool, &before));
	it_release(&lease);
	if (s->way->next == PLAY_SAME_WAITING) {
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	} else if (s->way->next == PLAY_SAME_AFTER) {
		other = it_worker(passer, s);
		it_hear(other.socket, 'p');
		follow(&t);
		it_say(other.socket, 'q');
		it_join(&other);
	} else {
		follow(&t);
	}
	assert_counts(s, pool, &before);
}

void
play(const struct hygiene_case *c, const struct play *how)
{
	struct stage s = {.c = c, .policy = how->policy, .way = how->way};

	s.shared = mmap(NULL, sizeof(*s.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(s.shared, MAP_FAILED);
	if (how->way->next >= PLAY_SAME)
		play_same(&s);
	else
		play_two(&s);
	munmap(s.shared, sizeof(*s.shared));
}
