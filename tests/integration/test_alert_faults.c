/* SPDX-License-Identifier: PostgreSQL */
/*
 * Precision and recall of the alerts on a real pool under load: faults by the test kit, quiet load and single bad events, in a random
 * order whose seed is printed and can be given (PGLEASE_TEST_SEED). A fault lasts until all that must ring for it does, or for too
 * long: then it was missed. What it entails may ring too; anything else is a false alarm. (tests/unit/test_alert_quality.c has the
 * statistics; this shows that the facts of a real pool lead there.)
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "it.h"

#define WORKERS 6
#define MAX 8
#define MISSED_MS 60000
#define CALM_MS 60000
#define QUIET_LEASES 600
#define LEAST 0.95
#define N (PGLEASE_THRESHOLD_HEALTH + 1)

#define kit_ok(call) ck_assert_msg((call) == 0, "%s: %s", #call, pglease_test_error_message())

/* Far from what a busy machine does to quiet load, and not so long that a test takes an hour. */
#define SETTINGS \
	"connect_timeout = 10s\nretry_min = 20ms\nretry_max = 100ms\nleak_threshold = 2s\nacquire_timeout = 2s\n" \
	"alert_window = 3s\nalert_raise_after = 1s\nalert_clear_after = 1s\n" \
	"alert_connection_time = 500ms\nalert_failure_rate = 0.05\nalert_memory_usage = 1GB\nalert_wait_time = 500ms\n" \
	"alert_maxwait = 600ms\nalert_pool_usage = 0.9\nalert_query_time_p99 = 400ms\nalert_leaks = 1\n" \
	"alert_upstream_down = 500ms\n"

enum load { LOAD_FAST, LOAD_SLOW, LOAD_END };

static _Atomic int *load;
static pglease_pool *pool;
static pglease_lease held;

/* As long as it is told to; what fails, fails: the alerts are to notice. */
static void
work(int socket, const void *arg)
{
	pglease_pool *mine = it_attach();

	it_say(socket, 'r');
	while (atomic_load(load) != LOAD_END) {
		bool slow = atomic_load(load) == LOAD_SLOW;
		pglease_lease lease;
		PGconn *conn;

		if (pglease_acquire(mine, PGLEASE_TIMEOUT_POOL, &lease, &conn) == 0) {
			PQclear(pglease_exec(conn, slow ? "select pg_sleep(0.6)" : "select 1"));
			(void)pglease_release(&lease);
		}
		poll(NULL, 0, 20); /* its think time */
	}
	it_detach();
}

/* --- What is done. --- */

#define BIT(name) (1u << PGLEASE_THRESHOLD_##name)

static void
nothing(void)
{
}

static void
hold_all(void)
{
	kit_ok(pglease_test_fill(it_env, "app", 0));
}

static void
unhold_all(void)
{
	pglease_test_unfill(it_env);
}

static void
leak(void)
{
	it_acquire(pool, &held);
}

static void
unleak(void)
{
	it_release(&held);
}

static void
stop_server(void)
{
	kit_ok(pglease_test_relay_refuse(it_env, 1000000, "57P03"));
	kit_ok(pglease_test_relay_cut(it_env));
}

static void
heal(void)
{
	kit_ok(pglease_test_relay_pass(it_env));
}

static void
slow_queries(void)
{
	atomic_store(load, LOAD_SLOW);
}

static void
fast_queries(void)
{
	atomic_store(load, LOAD_FAST);
}

static void
slow_connects(void)
{
	kit_ok(pglease_test_relay_delay(it_env, 400));
	kit_ok(pglease_test_relay_cut(it_env));
}

static void
cut(void)
{
	kit_ok(pglease_test_relay_cut(it_env));
}

/* A few dozen acquires that give no lease, as those of a server that has no connection free for it. */
static void
fail_acquires(void)
{
	for (unsigned i = 0; i < 100; i++) {
		pglease_lease lease;
		PGconn *conn;

		ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ETIMEOUT);
	}
}

static void
hold_all_and_fail(void)
{
	hold_all();
	fail_acquires();
}

/* Noise: what would ring if there were one more of it. */
static void
two_slow_queries(void)
{
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);

	for (unsigned i = 0; i < 2; i++)
		PQclear(pglease_exec(conn, "select pg_sleep(0.6)"));
	it_release(&lease);
}

static const struct episode {
	const char *name;
	void (*begin)(void);
	void (*again)(void); /* while it lasts, now and then; NULL: nothing */
	void (*end)(void);
	uint32_t must, may; /* ring */
} episodes[] = {
    {"all connections held", hold_all, NULL, unhold_all, BIT(MAXWAIT) | BIT(POOL_USAGE),
	BIT(WAIT_TIME) | BIT(FAILURE_RATE) | BIT(LEAKS)},
    {"a leak", leak, NULL, unleak, BIT(LEAKS), 0},
    {"server stopped", stop_server, NULL, heal, BIT(UPSTREAM_DOWN),
	BIT(MAXWAIT) | BIT(WAIT_TIME) | BIT(FAILURE_RATE) | BIT(CONNECTION_TIME) | BIT(QUERY_TIME_P99)},
    {"slow queries", slow_queries, NULL, fast_queries, BIT(QUERY_TIME_P99), BIT(WAIT_TIME) | BIT(MAXWAIT)},
    {"slow connects", slow_connects, cut, heal, BIT(CONNECTION_TIME),
	BIT(MAXWAIT) | BIT(WAIT_TIME) | BIT(FAILURE_RATE) | BIT(QUERY_TIME_P99) | BIT(POOL_USAGE) | BIT(UPSTREAM_DOWN)},
    {"acquires that fail", hold_all_and_fail, fail_acquires, unhold_all, BIT(FAILURE_RATE),
	BIT(MAXWAIT) | BIT(POOL_USAGE) | BIT(WAIT_TIME) | BIT(LEAKS)},
    {"quiet load", nothing, NULL, nothing, 0, 0},
    {"two slow queries", two_slow_queries, NULL, nothing, 0, 0},
    {"quiet load", nothing, NULL, nothing, 0, 0},
};
#define NEPISODES (sizeof(episodes) / sizeof(episodes[0]))

/* --- What rings. --- */

static pglease_alert
alert_of(enum pglease_threshold threshold)
{
	pglease_alert alert;

	it_ok(pglease_alert_get(pool, threshold, &alert));
	return alert;
}

static void
take_counts(uint64_t count[N])
{
	for (unsigned i = 0; i < N; i++)
		count[i] = alert_of(i).count;
}

/* Those that have been raised since. */
static uint32_t
raised_since(const uint64_t before[N])
{
	uint32_t raised = 0;

	for (unsigned i = 0; i < N; i++)
		if (alert_of(i).count != before[i])
			raised |= 1u << i;
	return raised;
}

struct waiting {
	const uint64_t *before;
	const struct episode *episode;
	unsigned looks;
};

static int
all_has_rung(void *context)
{
	struct waiting *w = context;

	if (w->episode->again != NULL && ++w->looks % 500 == 0)
		w->episode->again();
	return (raised_since(w->before) & w->episode->must) == w->episode->must;
}

static int
nothing_is_raised(void *context)
{
	for (unsigned i = 0; i < N; i++)
		if (alert_of(i).raised)
			return 0;
	return 1;
}

static bool
leases_are(const pglease_stats *stats, const void *arg)
{
	return stats->acquired >= *(const uint64_t *)arg;
}

static void
await_leases(unsigned n)
{
	pglease_stats stats;
	uint64_t goal;

	it_ok(pglease_stats_get(pool, &stats));
	goal = stats.acquired + n;
	it_await(pool, leases_are, &goal, "leases");
}

struct score {
	unsigned wanted, found, raised, right;
};

static void
play(const struct episode *e, struct score *score)
{
	uint64_t before[N];
	struct waiting waiting = {.before = before, .episode = e};
	uint32_t raised;

	take_counts(before);
	e->begin();
	if (e->must != 0)
		(void)pglease_test_await(all_has_rung, &waiting, MISSED_MS);
	else
		await_leases(QUIET_LEASES);
	e->end();
	ck_assert_msg(pglease_test_await(nothing_is_raised, NULL, CALM_MS) == 0, "%s: it does not end", e->name);
	raised = raised_since(before);
	for (unsigned i = 0; i < N; i++) {
		uint32_t bit = 1u << i;

		score->wanted += (e->must & bit) != 0;
		score->found += (e->must & raised & bit) != 0;
		score->raised += (raised & bit) != 0;
		score->right += (raised & bit & (e->must | e->may)) != 0;
		if ((raised & bit) != 0 && ((e->must | e->may) & bit) == 0)
			printf("# %s: %s is a false alarm\n", e->name, pglease_threshold_name(i));
		if ((e->must & bit) != 0 && (raised & bit) == 0)
			printf("# %s: %s was missed\n", e->name, pglease_threshold_name(i));
	}
	fflush(stdout);
}

static void
start(struct it_worker worker[WORKERS])
{
	static const pglease_test_pool app = {.name = "app", .min = 2, .max = MAX, .extra = SETTINGS};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1, .relay = 1, .no_leak_check = 1);

	load = mmap(NULL, sizeof(*load), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(load, MAP_FAILED);
	atomic_store(load, LOAD_FAST);
	kit_ok(pglease_test_env_new(&options, &it_env));
	pool = it_attach();
	for (unsigned i = 0; i < WORKERS; i++) {
		worker[i] = it_worker(work, NULL);
		it_hear(worker[i].socket, 'r');
	}
	/* What the start was like is no episode. */
	await_leases(QUIET_LEASES);
	ck_assert_int_eq(pglease_test_await(nothing_is_raised, NULL, CALM_MS), 0);
}

START_TEST(faults_ring_and_nothing_else)
{
	struct it_worker worker[WORKERS];
	struct score score = {0};
	unsigned order[NEPISODES];

	it_seed_random();
	for (unsigned i = 0; i < NEPISODES; i++) { /* Fisher and Yates */
		unsigned j = it_random() % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	start(worker);
	for (unsigned i = 0; i < NEPISODES; i++)
		play(&episodes[order[i]], &score);
	printf("# precision %.3f (%u of %u), recall %.3f (%u of %u)\n", (double)score.right / score.raised, score.right,
	    score.raised, (double)score.found / score.wanted, score.found, score.wanted);
	fflush(stdout);
	atomic_store(load, LOAD_END);
	for (unsigned i = 0; i < WORKERS; i++)
		it_join(&worker[i]);
	ck_assert_uint_gt(score.raised, 0);
	ck_assert_double_gt((double)score.right / score.raised, LEAST);
	ck_assert_double_gt((double)score.found / score.wanted, LEAST);
}
END_TEST

IT_MAIN("alert_faults", faults_ring_and_nothing_else)
