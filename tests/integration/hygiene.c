/* SPDX-License-Identifier: PostgreSQL */
/*
 * The runner: which tests there are, what they share, and the ones without pglease. How leases follow each
 * other: hygiene_play.c.
 */
#include "hygiene.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hygiene_play.h"
#include "it.h"

#define MAX_TESTS 2000
#define NAME_SIZE 128
#define MAX_POLICIES 8

static const struct hygiene_case *const tables[] = {
    hygiene_session, hygiene_belief, hygiene_stream, hygiene_pgconn};
#define TABLES (sizeof(tables) / sizeof(tables[0]))

/* How a check is seen to find what it is for. */
enum self {
	CLEAN, /* nothing was left: nothing is found */
	LEFT, /* found by the next one, with nothing in between */
	LEFT_BY_QUERY, /* by the query, which comes first, alone */
	STALE, /* found by the one that left it, on a session that knows nothing of it */
	SELVES
};
static const char *const self_name[SELVES] = {
    "no leak, no finding", "a leak is found", "a leak is found by the query", "a stale PGconn is found"};

static struct test {
	TTest check;
	char name[NAME_SIZE];
	const struct hygiene_case *c;
	struct play play;
	enum self self;
} tests[MAX_TESTS];
static unsigned ntests;

static const struct hygiene_policy *policies;
static size_t npolicies;

void
hygiene_leave(const struct hygiene_case *c, PGconn *conn)
{
	if (c->sql != NULL)
		it_query(conn, c->sql);
	if (c->leave != NULL)
		c->leave(conn);
}

const char *
hygiene_look(const struct hygiene_case *c, PGconn *conn)
{
	const char *found = c->asks != NULL ? hygiene_differs(conn, c->asks, c->answer) : NULL;

	if (found == NULL && c->find != NULL)
		found = c->find(conn);
	return found;
}

/* Not finished: two of them share a socket, and the process ends. Kept, for they are no leak. */
static PGconn *directs[3];

static PGconn *
direct(void)
{
	PGconn *conn = pglease_test_connect(it_env);
	size_t n = 0;

	ck_assert_msg(conn != NULL, "%s", pglease_test_error_message());
	PQsetNoticeProcessor(conn, hygiene_quiet, NULL);
	while (directs[n] != NULL)
		n++;
	ck_assert_uint_lt(n, sizeof(directs) / sizeof(directs[0]));
	directs[n] = conn;
	return conn;
}

/*
 * What a pool without any care would do: `conn` speaks to the other's session from now on, and believes
 * what it believed. (Its own session ends.)
 */
static void
move_under(PGconn *conn, const PGconn *other)
{
	ck_assert_int_ge(dup2(PQsocket(other), PQsocket(conn)), 0);
}

static void
assert_found(const struct hygiene_case *c, const char *found, const char *words)
{
	ck_assert_msg(found != NULL, "%s: the check does not find it", c->name);
	ck_assert_msg(words == NULL || strstr(found, words) != NULL, "%s: no \"%s\" in what is found: %s",
	    c->name, words, found);
}

static void
run_self(const struct hygiene_case *c, enum self self)
{
	PGconn *leaver = direct(), *next = (c->flags & HYGIENE_PGCONN) != 0 ? leaver : direct();
	const char *found;

	if (self != CLEAN) {
		hygiene_leave(c, leaver);
		hygiene_expect_silence();
	}
	if (self == STALE)
		move_under(leaver, next);
	else if (next != leaver)
		move_under(next, leaver);
	switch (self) {
	case CLEAN:
		if (c->flags & HYGIENE_PGCONN) /* what it compares with is made when something is left */
			hygiene_leave(c, direct());
		found = hygiene_look(c, next);
		ck_assert_msg(found == NULL, "%s: %s", c->name, found);
		break;
	case LEFT:
		assert_found(c, c->find != NULL ? c->find(next) : hygiene_look(c, next), c->shows);
		break;
	case LEFT_BY_QUERY:
		assert_found(c, hygiene_differs(next, c->asks, c->answer), NULL);
		break;
	default:
		assert_found(c, c->find(leaver), c->shows_stale);
		break;
	}
}

static void
run(int i)
{
	if (tests[i].play.policy == NULL)
		run_self(tests[i].c, tests[i].self);
	else
		play(tests[i].c, &tests[i].play);
}

static void
start(void)
{
	pglease_test_pool pools[MAX_POLICIES];
	char settings[MAX_POLICIES][256];
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = (unsigned)npolicies,
	    .no_leak_check = true); /* it is all tests' together, and Check keeps a result of each */

	for (size_t i = 0; i < npolicies; i++) {
		snprintf(settings[i], sizeof(settings[i]), "grant_after = 1ms\n%s", policies[i].settings);
		pools[i] =
		    (pglease_test_pool){.name = policies[i].pool, .min = 1, .max = 1, .extra = settings[i]};
	}
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_msg(pglease_test_sql(it_env,
	                  "create table kept (i int); create table injected (i int); create role other; "
	                  "create sequence seq; create schema evil; select lo_create(4711)",
	                  NULL, 0) == 0,
	    "%s", pglease_test_error_message());
}

static struct test *
add(TCase *tcase, const struct hygiene_case *c, const char *how, const char *where)
{
	struct test *t = &tests[ntests];

	if (ntests == MAX_TESTS)
		abort();
	t->c = c;
	snprintf(t->name, sizeof(t->name), "%s%s%s: %s", where, where[0] != '\0' ? ": " : "", how, c->name);
	t->check = (TTest){.name = t->name, .fn = run, .file = __FILE__, .line = __LINE__};
	_tcase_add_test(tcase, &t->check, 0, 0, (int)ntests, (int)ntests + 1);
	ntests++;
	return t;
}

static void
add_selves(TCase *tcase, const struct hygiene_case *c)
{
	add(tcase, c, self_name[CLEAN], "without pglease")->self = CLEAN;
	add(tcase, c, self_name[LEFT], "without pglease")->self = LEFT;
	if (c->asks != NULL && c->find != NULL)
		add(tcase, c, self_name[LEFT_BY_QUERY], "without pglease")->self = LEFT_BY_QUERY;
	if ((c->flags & HYGIENE_BELIEF) != 0)
		add(tcase, c, self_name[STALE], "without pglease")->self = STALE;
}

static void
add_plays(TCase *tcase, const struct hygiene_case *c)
{
	for (size_t p = 0; p < npolicies; p++)
		for (size_t w = 0; w < play_nways; w++)
			if (play_fits(c, &play_ways[w]))
				add(tcase, c, play_ways[w].name, policies[p].pool)->play =
				    (struct play){.policy = &policies[p], .way = &play_ways[w]};
}

int
hygiene_main(const struct hygiene_policy *all, size_t n)
{
	Suite *suite = suite_create("hygiene");
	TCase *tcase = tcase_create("hygiene");
	SRunner *runner = srunner_create(suite);
	int failed;

	policies = all;
	npolicies = n;
	if (n > MAX_POLICIES)
		abort();
	tcase_set_timeout(tcase, 60);
	/* One server and one broker for all: what one test leaves is the next one's to suffer from, too. */
	tcase_add_unchecked_fixture(tcase, start, it_teardown);
	for (size_t t = 0; t < TABLES; t++) {
		for (const struct hygiene_case *c = tables[t]; c->name != NULL; c++) {
			add_selves(tcase, c);
			add_plays(tcase, c);
		}
	}
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
