/* SPDX-License-Identifier: PostgreSQL */
/*
 * The server is away for long: the pool tries less and less often, says little, and what waits for it is told why; when it is back, the
 * next try succeeds. With PGLEASE_OUTAGE_S in the environment it is away for so many seconds, and the pool has its default rests.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "outage.h"

#define MS UINT64_C(1000000)
#define ATTEMPTS 16
/* The longest rest comes after the sixth failure; with the defaults, 100 ms to 10 s, after the eighth. The broker looks every 100 ms. */
#define SHORT_RESTS "retry_min = 20ms\nretry_max = 400ms\n"
#define SHORT_MAX (400 * MS)
#define LONG_MAX (10000 * MS)

static pglease_pool *pool;
static uint64_t outage_ns;

struct tried {
	uint64_t failed, began;
};

static uint64_t
failed(void)
{
	pglease_stats stats;

	it_ok(pglease_stats_get(pool, &stats));
	return stats.open_failed;
}

/* It has been away for long enough. */
static int
is_long(void *context)
{
	const struct tried *t = context;

	return outage_ns != 0 ? clock_ns() - t->began >= outage_ns : failed() - t->failed >= ATTEMPTS;
}

static unsigned
lines_with(const char *words)
{
	FILE *f = fopen(pglease_test_log(it_env), "re");
	char line[2048];
	unsigned n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		n += strstr(line, words) != NULL;
	fclose(f);
	return n;
}

/* Has waited since before the outage, and gets the first connection after it. */
static void
wait_for_it(int socket, const void *arg)
{
	pglease_pool *mine = it_attach();
	pglease_lease lease;
	PGconn *conn;

	(void)arg;
	it_say(socket, 'a');
	it_ok(pglease_acquire(mine, OUTAGE_HOUR_MS, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	it_detach();
	it_say(socket, 'l');
}

START_TEST(a_long_one)
{
	const char *seconds = getenv("PGLEASE_OUTAGE_S");
	struct it_worker worker;
	struct tried tried;
	uint64_t attempts, longest, before, took;
	unsigned lines;
	pglease_lease lease, none;
	PGconn *conn, *dead;

	outage_ns = seconds != NULL ? (uint64_t)atoi(seconds) * 1000 * MS : 0;
	longest = outage_ns != 0 ? LONG_MAX : SHORT_MAX;
	before = outage_ns != 0 ? 8 : 6;
	it_start(1, 1, outage_ns != 0 ? "validation_bypass = 0\n" : "validation_bypass = 0\n" SHORT_RESTS);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	worker = it_worker(wait_for_it, NULL);
	it_hear(worker.socket, 'a');
	it_await_waiting(pool, 1);
	tried = (struct tried){.failed = failed(), .began = clock_ns()};
	outage_ok(pglease_test_server_stop(it_env));
	outage_assert_lost(conn, "terminating connection");
	it_release(&lease);
	outage_ok(pglease_test_await(is_long, &tried, (int)(outage_ns / MS) + IT_PATIENCE_MS));
	/* Who comes now, and cannot wait, hears the last reason. */
	ck_assert_int_eq(pglease_acquire(pool, 20, &none, &dead), PGLEASE_EUPSTREAM);
	ck_assert_msg(strstr(pglease_error_message(), "No such file or directory") != NULL, "%s", pglease_error_message());
	/* A rest is three quarters of what it is set to, at least; and one attempt was not preceded by any. */
	attempts = failed() - tried.failed;
	took = clock_ns() - tried.began;
	ck_assert_msg(attempts <= took / (longest / 4 * 3) + before + 1, "%lu attempts within %lu ms", (unsigned long)attempts,
	    (unsigned long)(took / MS));
	/* However many they are: one line for each reason, and another one, of a server that is shutting down, may have been seen first. */
	lines = lines_with("no connection to the server");
	ck_assert_msg(lines >= 1 && lines <= 3, "%u lines for %lu attempts", lines, (unsigned long)attempts);
	ck_assert_uint_eq(lines_with("the server takes connections again"), 0);

	outage_ok(pglease_test_server_start(it_env));
	tried = (struct tried){.failed = failed(), .began = clock_ns()};
	if (outage_ns != 0) /* it_hear() is less patient */
		it_await_published("app", "opened", 2);
	it_hear(worker.socket, 'l');
	it_join(&worker);
	printf("# away for %.1f s: %lu attempts, %u lines of log; %.0f ms after it was back the waiter had been served\n",
	    (double)took / 1e9, (unsigned long)attempts, lines, (double)(clock_ns() - tried.began) / 1e6);
	/* One may have been under way. */
	ck_assert_uint_le(failed(), tried.failed + 1);
	ck_assert_uint_eq(lines_with("the server takes connections again"), 1);
	outage_assert_serves(pool);
}
END_TEST

IT_MAIN("outage", a_long_one)
