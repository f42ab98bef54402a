/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat --history: command line, table, CSV, JSON and exit statuses, against objects that the test writes. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "history.h"
#include "history_table.h"
#include "stat_program.h"
#include "unit.h"

#define SECOND UINT64_C(1000000000)
#define AT (UINT64_C(1795604400) * SECOND) /* 2026-11-25T11:00:00Z */

static char instance[48];
static struct stats_writer *stats;
static struct history_writer *app, *web;

static struct history_writer *
new_history(const char *pool)
{
	struct history_params params = {.instance = instance, .pool = pool, .seconds = 300, .mode = 0600, .now = AT + 86400 * SECOND};
	struct history_writer *writer;
	char why[HISTORY_WHY];

	ck_assert_int_eq(history_writer_new(&params, &writer, why), 0);
	return writer;
}

/* Two minutes of one broker: 10 leases a second of 1 ms each, one of 100 ms, half of them at once; a minute's gap; a broker more. */
static void
record(struct history_writer *writer)
{
	struct history_row row = {0};

	for (uint64_t i = 0; i < 130; i++) {
		bool later = i >= 120;

		memset(row.bucket, 0, sizeof(row.bucket));
		row.serial = history_writer_sample(writer);
		row.time = AT + (i + 1 + (later ? 60 : 0)) * SECOND;
		row.mono = row.time - AT + SECOND;
		row.interval = SECOND;
		row.instance = later ? 2 : 1;
		row.first = i == 0 || i == 120;
		if (i == 120)
			memset(row.slot, 0, sizeof(row.slot));
		row.slot[COUNTER_LEASES_IMMEDIATE] += 5;
		row.slot[COUNTER_LEASES_WAITED] += 5;
		row.slot[COUNTER_RELEASES] += 10;
		row.slot[COUNTER_HOLD_NS] += 9 * 1000000 + 100000000;
		row.bucket[TIME_HOLD][history_bucket_of(1000000)] = 9;
		row.bucket[TIME_HOLD][history_bucket_of(100000000)] = 1;
		row.max = 5;
		row.total = 3;
		row.leased = i % 3;
		row.active_max = 3;
		row.maxwait = i == 7 ? 1500000000 : 1000000;
		row.health = i == 7 ? 1u << 5 : 0; /* waiting */
		row.cpu = row.client_cpu = STATS_NO_U64;
		row.server_disk = i == 120 ? 1000 : row.server_disk + 1000;
		row.client_memory = 5000 + i;
		row.memory = 1000000;
		ck_assert_int_eq(history_writer_append(writer, HISTORY_SECONDS, &row), 0);
	}
}

/* Also what a test that failed has left. */
static void
remove_all(void)
{
	char object[PATHS_MAX];

	if (paths_stats_name(instance, object, sizeof(object)) == 0)
		shm_unlink(object);
	for (unsigned i = 0; i < 2; i++)
		if (paths_history_name(instance, i == 0 ? "app" : "web", object, sizeof(object)) == 0)
			shm_unlink(object);
}

static void
setup(void)
{
	struct stats_writer_params params = {.instance = instance, .program = "pgleased 0", .socket_dir = "/nowhere", .mode = 0600, .capacity = {2}};
	struct stats_pool_row pool[2] = {{.name = "app"}, {.name = "web"}};
	struct stats_rows rows[STATS_NTABLES] = {{pool, 2, 2}};
	pid_t owner;

	remove_all();
	ck_assert_int_eq(setenv("PGLEASE_INSTANCE", instance, 1), 0);
	ck_assert_int_eq(setenv("TZ", "UTC", 1), 0);
	ck_assert_int_eq(stats_writer_new(&params, &stats, &owner), 0);
	ck_assert_int_eq(stats_writer_publish(stats, SEGMENT_OPEN, rows), 0);
	app = new_history("app");
	web = new_history("web");
	record(app);
}

static void
teardown(void)
{
	history_writer_free(app, false);
	history_writer_free(web, false);
	stats_writer_free(stats);
	run_forget();
}

#define RANGE "--history --since 2026-11-25T11:00Z --until 2026-11-25T11:10Z "

START_TEST(test_usage)
{
	static const struct {
		const char *arguments, *message;
	} bad[] = {
	    {"--history --since yesterday", "'yesterday' is no time: a time back from now (30s, 10min, 2h, 1d), HH:MM"},
	    {"--history --until 10", "'10' is no time"},
	    {"--history --step 1", "--step takes a number with a unit"},
	    {"--history --step 10ms", "of at least a second"},
	    {"--since 10min", "--since, --until and --step are about the --history"},
	    {"-P --step 1min", "about the --history"},
	    {"--history -P -o name", "choose one"},
	    {"--history -P --csv", "choose one"},
	    {"--history -o nonsense", "history have no column 'nonsense'"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(run(bad[i].arguments), 1);
		ck_assert_msg(strstr(err, bad[i].message) != NULL, "%s: %s", bad[i].arguments, err);
		ck_assert_uint_eq(strcspn(err, "\n") + 1, strlen(err));
		ck_assert_str_eq(out, "");
	}
}
END_TEST

START_TEST(test_table)
{
	ck_assert_int_eq(run(RANGE "--step 1min -o pool,time,covered,starts,health,reasons,leases,leases_rate,efficiency,active_max,maxwait,hold_count,hold_p50,hold_p95,hold_mean,cpu"), 0);
	ck_assert_str_eq(out,
	    "POOL                TIME COVERED STARTS HEALTH   REASONS LEASES LEASES_RATE EFFICIENCY ACTIVE_MAX MAXWAIT HOLD_COUNT HOLD_P50 HOLD_P95 HOLD_MEAN CPU\n"
	    "app  2026-11-25 11:00:00   1m00s      1 degraded waiting    600        10.0      50.0%          3   1.50s        600    983us   92.2ms    10.9ms   -\n"
	    "app  2026-11-25 11:01:00   1m00s      0 ok       -          600        10.0      50.0%          3  1.00ms        600    983us   92.2ms    10.9ms   -\n"
	    "app  2026-11-25 11:03:00   10.0s      1 ok       -          100        10.0      50.0%          3  1.00ms        100    983us   92.2ms    10.9ms   -\n");
	ck_assert_str_eq(err, "");
}
END_TEST

START_TEST(test_csv)
{
	ck_assert_int_eq(run(RANGE "--step 2min --csv -o pool,time,covered,reasons,leases,hold_max,cpu,timeouts,client_cpu,client_memory,server_disk"), 0);
	ck_assert_str_eq(out, "pool,time,covered,reasons,leases,hold_max,cpu,timeouts,client_cpu,client_memory,server_disk\n"
	                      "app,1795604400.000000000,120.000000000,waiting,1200,0.092274687,,0,,5119,120000\n"
	                      "app,1795604520.000000000,10.000000000,,100,0.092274687,,0,,5129,10000\n");
	ck_assert_int_eq(run(RANGE "--csv --noheadings -o leases"), 0);
	ck_assert_ptr_null(strstr(out, "leases"));
	/* The other kinds can do it too. */
	ck_assert_int_eq(run("-P --csv -o name,max"), 0);
	ck_assert_str_eq(out, "name,max\napp,0\nweb,0\n");
}
END_TEST

START_TEST(test_json)
{
	json_error_t error;
	json_t *document, *rows, *row;

	ck_assert_int_eq(run(RANGE "--step 1h -J"), 0);
	document = json_loads(out, JSON_REJECT_DUPLICATES, &error);
	ck_assert_msg(document != NULL, "%s", error.text);
	rows = json_object_get(document, "history");
	ck_assert_uint_eq(json_array_size(rows), 1);
	row = json_array_get(rows, 0);
	ck_assert_int_eq(json_integer_value(json_object_get(row, "leases")), 1300);
	ck_assert_int_eq(json_integer_value(json_object_get(row, "releases")), 1300);
	ck_assert_double_eq_tol(json_real_value(json_object_get(row, "leases_rate")), 10, 1e-9);
	ck_assert_double_eq_tol(json_real_value(json_object_get(row, "covered")), 130, 1e-9);
	ck_assert(json_is_null(json_object_get(row, "cpu")));
	json_decref(document);
}
END_TEST

START_TEST(test_pools)
{
	record(web);
	ck_assert_int_eq(run(RANGE "--step 1h -r --noheadings -o pool,leases"), 0);
	ck_assert_str_eq(out, "app 1300\nweb 1300\n");
	ck_assert_int_eq(run(RANGE "--step 1h -r --noheadings -o pool,leases -i web"), 0);
	ck_assert_str_eq(out, "web 1300\n");
	ck_assert_int_eq(run("--history --since 2020-01-01 --until 2020-01-02 -r -i web -o pool"), 0); /* nothing then */
	ck_assert_str_eq(out, "POOL\n");
	ck_assert_int_eq(run("--history -i nope"), 3);
	ck_assert_ptr_nonnull(strstr(err, "no 'nope' among the 2 pools"));
	ck_assert_int_eq(run("--history --since 2020-01-02 --until 2020-01-01 -r -o pool"), 0);
	ck_assert_str_eq(out, "POOL\n");
}
END_TEST

START_TEST(test_none)
{
	history_writer_free(app, false);
	app = NULL;
	ck_assert_int_eq(run(RANGE "-o pool"), 0); /* web has one */
	ck_assert_ptr_nonnull(strstr(err, "no history of pool app: its broker keeps none"));
	ck_assert_int_eq(run(RANGE "-i app"), 2);
	ck_assert_str_eq(out, "");
	history_writer_free(web, false);
	web = NULL;
	ck_assert_int_eq(run(RANGE), 2);
}
END_TEST

START_TEST(test_columns)
{
	struct stats_column columns[STATS_MAX_COLUMNS];
	unsigned n = history_table_describe(columns);

	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < i; j++)
			ck_assert_str_ne(columns[i].name, columns[j].name);
	ck_assert_int_eq(run("--list-columns --history"), 0);
	ck_assert_ptr_nonnull(strstr(out, "active_max"));
	/* What is shown without -o exists. */
	ck_assert_int_eq(run(RANGE "-o " HISTORY_TABLE_USUAL), 0);
}
END_TEST

START_TEST(test_settle)
{
	static const struct {
		uint64_t length, step;
	} cases[] = {{10, 1}, {60, 1}, {600, 10}, {3600, 60}, {2 * 3600, 120}, {86400, 1800}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct history_table_range range = {.from = AT + 17 * SECOND / 2, .to = AT + 17 * SECOND / 2 + cases[i].length * SECOND};

		history_table_settle(&range);
		ck_assert_uint_eq(range.step, cases[i].step * SECOND);
		ck_assert_uint_eq(range.from % range.step, 0);
		ck_assert_uint_le(range.from, AT + 17 * SECOND / 2);
	}
}
END_TEST

int
main(void)
{
	static const TTest *const *const tests[] = {&test_usage, &test_table, &test_csv, &test_json, &test_pools, &test_none,
	    &test_columns, &test_settle};
	Suite *suite = suite_create("stat_history");
	TCase *tcase = tcase_create("stat_history");
	SRunner *runner;
	int failed;

	snprintf(instance, sizeof(instance), "unit-stat-history-%d", (int)getpid());
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tcase, *tests[i]);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	remove_all();
	return failed != 0;
}
