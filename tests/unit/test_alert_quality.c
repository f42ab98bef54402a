/* SPDX-License-Identifier: PostgreSQL */
/*
 * Precision and recall of the alerts, with the default thresholds and times: thousands of episodes of a pool that is played, in a random
 * order whose seed is printed and can be given (PGLEASE_TEST_SEED). An episode is a fault of one kind, quiet load, or noise: what comes
 * near a threshold, or goes beyond it for a moment, and must not ring.
 *
 * What is counted: a fault is found when its alert is raised between its beginning and a window after its end. Every alert that is
 * raised is right when it is the first of its fault within that time, and else wrong: one that rings twice for one
 * fault, too. Precision: right ones by all that were raised. Recall: faults found by all faults.
 *
 * The numbers of a second are drawn: acquires, connects and queries from a Poisson distribution, those of them that are bad from a
 * binomial one.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "alert_watch.h"
#include "settings.h"
#include "unit.h"

#define EPISODES 4000
#define SECOND UINT64_C(1000000000)
#define LEAST 0.95
#define QUERY_LIMIT (SECOND / 10) /* those that are off by default have to be given one */
#define USAGE_LIMIT 900000

static uint64_t random_state;

/* xorshift64* (Vigna, 2016). */
static double
uniform(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (double)(random_state * UINT64_C(2685821657736338717) >> 11) * 0x1p-53;
}

static double
between(double low, double high)
{
	return low + (high - low) * uniform();
}

/* As many small ones as large ones. */
static double
between_orders(double low, double high)
{
	return exp(between(log(low), log(high)));
}

static double
normal(void)
{
	return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static unsigned
poisson(double mean)
{
	double limit, product = 1;
	unsigned n = 0;

	if (mean > 50) {
		double x = mean + sqrt(mean) * normal() + 0.5;

		return x > 0 ? (unsigned)x : 0;
	}
	for (limit = exp(-mean);; n++) {
		product *= uniform();
		if (product < limit)
			return n;
	}
}

static unsigned
binomial(unsigned n, double p)
{
	unsigned k = 0;

	if (p <= 0 || n == 0)
		return 0;
	if (n > 200 && n * p > 20 && n * (1 - p) > 20) {
		double x = n * p + sqrt(n * p * (1 - p)) * normal() + 0.5;

		return x < 0 ? 0 : x > n ? n : (unsigned)x;
	}
	for (unsigned i = 0; i < n; i++)
		k += uniform() < p;
	return k;
}

/* What the pool is like at the moment. */
struct world {
	double acquires, connects, queries;             /* a second */
	double failing, waiting_long, slow_connects, slow_queries; /* shares */
	double usage;
	uint64_t maxwait, memory, leaks, failing_for;
};

enum kind { FAULT, NOISE, QUIET };

struct episode {
	enum kind kind;
	enum alert_id id;
	unsigned begin, end; /* seconds */
};

static struct alert_watch watch;
static struct alert_rules rules;
static struct alert_facts facts;
static alert_buckets times[ALERT_NTIMES];
static uint32_t turned;

static void
set_rules(void)
{
	struct pool_settings settings_of;

	memset(&settings_of, 0, sizeof(settings_of));
	settings_init(SETTING_POOL, &settings_of);
	memcpy(rules.limit, settings_of.alert, sizeof(rules.limit));
	rules.limit[ALERT_POOL_USAGE] = USAGE_LIMIT;
	rules.limit[ALERT_QUERY_TIME_P99] = QUERY_LIMIT;
	rules.limit[ALERT_HEALTH] = 2;
	rules.window = settings_of.alert_window;
	rules.raise_after = settings_of.alert_raise_after;
	rules.clear_after = settings_of.alert_clear_after;
}

static void
count_times(enum alert_time time, unsigned n, double bad_share, uint64_t limit)
{
	unsigned bad = binomial(n, bad_share);

	for (unsigned i = 0; i < bad && i < 50; i++)
		times[time][histogram_bucket_of((uint64_t)((double)limit * between(1.1, 6)))] += bad / 50 + (i < bad % 50);
	for (unsigned i = 0; i < n - bad && i < 50; i++)
		times[time][histogram_bucket_of((uint64_t)((double)limit * between(0, 0.7)))] += (n - bad) / 50 + (i < (n - bad) % 50);
}

static void
play_second(const struct world *w)
{
	unsigned acquires = poisson(w->acquires), failed = binomial(acquires, w->failing);

	facts.now += SECOND;
	facts.acquired += acquires - failed;
	facts.failed += failed;
	count_times(ALERT_TIME_WAIT, acquires - failed, w->waiting_long, rules.limit[ALERT_WAIT_TIME]);
	count_times(ALERT_TIME_CONNECT, poisson(w->connects), w->slow_connects, rules.limit[ALERT_CONNECTION_TIME]);
	count_times(ALERT_TIME_QUERY, poisson(w->queries), w->slow_queries, rules.limit[ALERT_QUERY_TIME_P99]);
	facts.usage_looks += 10;
	facts.usage_sum += (uint64_t)(10e6 * fmin(1, fmax(0, w->usage + 0.03 * normal())));
	facts.maxwait = w->maxwait;
	facts.memory = w->memory;
	facts.leaks = w->leaks;
	facts.failing = w->failing_for;
	facts.health = w->failing_for > 2 * SECOND ? 1 : 0;
	turned = alert_watch_look(&watch, &rules, &facts);
}

/* Load that is all right, from one acquire in five seconds to two thousand a second. */
static struct world
quiet_world(void)
{
	double load = between_orders(0.2, 2000);

	return (struct world){
	    .acquires = load,
	    .connects = between_orders(0.01, 0.5),
	    .queries = load * between(0.5, 3),
	    .failing = uniform() < 0.5 ? 0 : between(0, 0.02),
	    .waiting_long = uniform() < 0.5 ? 0 : between(0, 0.02),
	    .slow_connects = uniform() < 0.5 ? 0 : between(0, 0.1),
	    .slow_queries = uniform() < 0.5 ? 0 : between(0, 0.004),
	    .usage = between(0, 0.7),
	    .maxwait = (uint64_t)(between(0, 0.7) * 1e9),
	    .memory = (uint64_t)between(5e6, 60e6),
	};
}

/* `bad`: the share that is; at least three times the threshold's, or five of query_time_p99's. */
static void
break_it(struct world *w, enum alert_id id, double bad, double second)
{
	switch (id) {
	case ALERT_CONNECTION_TIME:
		w->connects = fmax(w->connects, 0.3);
		w->slow_connects = fmax(0.9, bad);
		break;
	case ALERT_FAILURE_RATE:
		w->failing = bad;
		break;
	case ALERT_MEMORY_USAGE:
		w->memory = (uint64_t)between(150e6, 250e6);
		break;
	case ALERT_WAIT_TIME:
		w->waiting_long = bad;
		break;
	case ALERT_MAXWAIT:
		w->maxwait = (uint64_t)(between(1.1, 20) * 1e9);
		break;
	case ALERT_POOL_USAGE:
		w->usage = 0.99;
		break;
	case ALERT_QUERY_TIME_P99:
		w->slow_queries = bad / 3;
		break;
	case ALERT_LEAKS:
		w->leaks = 1 + (uint64_t)(second / 60);
		break;
	case ALERT_UPSTREAM_DOWN:
		w->failing_for = (uint64_t)(second * 1e9);
		break;
	case ALERT_HEALTH:
	case ALERT_N:
		break;
	}
}

/* A moment of what would be a fault if it lasted: shorter than alert_raise_after, or less than the window's share of it. */
static void
disturb(struct world *w, enum alert_id id, unsigned second, unsigned length)
{
	if (second >= length)
		return;
	switch (id) {
	case ALERT_FAILURE_RATE: /* a single event */
	case ALERT_WAIT_TIME:
	case ALERT_QUERY_TIME_P99:
		if (second == 0) {
			*(id == ALERT_FAILURE_RATE ? &w->failing : id == ALERT_WAIT_TIME ? &w->waiting_long : &w->slow_queries) =
			    1 / fmax(1, id == ALERT_QUERY_TIME_P99 ? w->queries : w->acquires);
		}
		break;
	case ALERT_CONNECTION_TIME:
		w->slow_connects = second == 0 ? 0.5 : w->slow_connects;
		break;
	case ALERT_POOL_USAGE:
		w->usage = 1;
		break;
	default:
		break_it(w, id, 1, second);
		break;
	}
}

/* All the time nine tenths of what may be bad. */
static void
come_near(struct world *w, enum alert_id id)
{
	switch (id) {
	case ALERT_CONNECTION_TIME:
		w->slow_connects = 0.25;
		break;
	case ALERT_FAILURE_RATE:
		w->failing = 0.045;
		break;
	case ALERT_MEMORY_USAGE:
		w->memory = rules.limit[id] / 10 * 9;
		break;
	case ALERT_WAIT_TIME:
		w->waiting_long = 0.045;
		break;
	case ALERT_MAXWAIT:
		w->maxwait = rules.limit[id] / 10 * 9;
		break;
	case ALERT_POOL_USAGE:
		w->usage = 0.81;
		break;
	case ALERT_QUERY_TIME_P99:
		w->slow_queries = 0.009;
		break;
	default:
		break;
	}
}

static struct episode
draw(unsigned now)
{
	double x = uniform();
	struct episode e = {.kind = x < 0.5 ? FAULT : x < 0.8 ? NOISE : QUIET, .begin = now};

	e.id = (enum alert_id)(uniform() * ALERT_HEALTH); /* health follows from the others */
	e.end = now + (unsigned)between_orders(45, 400);
	return e;
}

struct score {
	unsigned faults, found, raised, right;
};

static void
play(struct score score[ALERT_N])
{
	unsigned now = 0, rest = (unsigned)((rules.window + rules.window / ALERT_STEPS + rules.clear_after) / SECOND) + 10;

	for (unsigned i = 0; i < EPISODES; i++) {
		struct episode e = draw(now);
		struct world calm = quiet_world();
		unsigned length = 1 + (unsigned)(uniform() * 4), late = (unsigned)(rules.window / SECOND);
		bool found = false, near = uniform() < 0.5;
		double bad = between_orders(0.15, 1);

		if (e.kind == FAULT) { /* where there is enough to judge */
			calm.acquires = between_orders(3, 2000);
			calm.queries = between_orders(10, 4000);
		}
		for (; now < e.end + rest; now++) {
			struct world w = calm;

			if (e.kind == FAULT && now < e.end)
				break_it(&w, e.id, bad, now - e.begin);
			else if (e.kind == NOISE && near)
				come_near(&w, e.id);
			else if (e.kind == NOISE)
				disturb(&w, e.id, now - e.begin, length);
			play_second(&w);
			for (enum alert_id id = 0; id < ALERT_N; id++) {
				bool right;

				if ((turned & 1u << id) == 0 || watch.alert[id].state != ALERT_RAISED)
					continue;
				right = e.kind == FAULT && id == e.id && !found && now < e.end + late;
				score[id].raised++;
				score[id].right += right;
				found |= right;
			}
		}
		if (e.kind == FAULT) {
			score[e.id].faults++;
			score[e.id].found += found;
		}
	}
}

static double
share(unsigned n, unsigned of)
{
	return of != 0 ? (double)n / of : 1;
}

START_TEST(faults_ring_and_nothing_else)
{
	struct score score[ALERT_N] = {{0}}, all = {0};
	const char *given = getenv("PGLEASE_TEST_SEED");

	if (given != NULL)
		random_state = strtoull(given, NULL, 10);
	else
		ck_assert_int_eq(getrandom(&random_state, sizeof(random_state), 0), sizeof(random_state));
	random_state |= 1;
	printf("# PGLEASE_TEST_SEED=%" PRIu64 "\n", random_state);
	fflush(stdout);
	set_rules();
	facts = (struct alert_facts){.now = 1000 * SECOND, .time = times};
	play(score);
	for (enum alert_id id = 0; id < ALERT_N; id++) {
		printf("# %s: %u of %u faults found, %u of %u alerts right\n", alert_name(id), score[id].found, score[id].faults,
		    score[id].right, score[id].raised);
		all.faults += score[id].faults;
		all.found += score[id].found;
		all.raised += score[id].raised;
		all.right += score[id].right;
	}
	printf("# %u episodes: precision %.4f (%u of %u), recall %.4f (%u of %u)\n", EPISODES, share(all.right, all.raised),
	    all.right, all.raised, share(all.found, all.faults), all.found, all.faults);
	fflush(stdout);
	/* Also each of them, but for what so few episodes leave to chance. */
	for (enum alert_id id = 0; id < ALERT_HEALTH; id++) {
		ck_assert_uint_gt(score[id].faults, 100);
		ck_assert_msg(share(score[id].found, score[id].faults) > 0.9, "recall of %s", alert_name(id));
		ck_assert_msg(share(score[id].right, score[id].raised) > 0.9, "precision of %s", alert_name(id));
	}
	ck_assert_double_gt(share(all.right, all.raised), LEAST);
	ck_assert_double_gt(share(all.found, all.faults), LEAST);
}
END_TEST

UNIT_MAIN("alert_quality", faults_ring_and_nothing_else)
