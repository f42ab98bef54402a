/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat: command line, tables, raw output, JSON and exit statuses, against a segment that the test
 * writes. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stat_options.h"
#include "stat_output.h"
#include "stat_program.h"
#include "stats.h"

static char instance[48];
static struct stats_writer *writer;

static void
publish(struct stats_writer *to)
{
	struct stats_pool_row pool[2] = {
	    {.name = "app", .database = "db", .user = "u", .state = "open", .max = 4},
	    {.name = "web", .database = "db2", .user = "gr\xc3\xb6\xc3\x9f", .state = "down", .max = 8}};
	struct stats_slot_row slot[3] = {{.pool = "app",
	                                     .slot = 0,
	                                     .state = "leased",
	                                     .pid = 812,
	                                     .held_for = 1500000000,
	                                     .acquired_at = "w x.c:88"},
	    {.pool = "app", .slot = 1, .state = "idle", .pid = STATS_NO_U32, .held_for = STATS_NO_U64},
	    {.pool = "web", .slot = 1, .state = "idle", .pid = STATS_NO_U32, .held_for = STATS_NO_U64}};
	struct stats_client_row client = {.client = 3, .pid = 812, .program = "worker", .leases_held = 1};
	struct stats_rows rows[STATS_NTABLES] = {{pool, 2, 2}, {slot, 3, 3}, {&client, 1, 1}, {NULL, 0, 0}};

	pool[0].maxwait = 12345678;
	pool[0].slot_counter[COUNTER_RELEASES] = UINT64_C(9007199254740993); /* not a double */
	ck_assert_int_eq(stats_writer_publish(to, SEGMENT_OPEN, rows), 0);
}

static struct stats_writer *
new_writer(void)
{
	struct stats_writer_params params = {.instance = instance,
	    .program = "pgleased 0",
	    .socket_dir = "/nowhere",
	    .mode = 0600,
	    .capacity = {2, 3, 1, 1}};
	struct stats_writer *made = NULL;
	pid_t owner;

	ck_assert_int_eq(stats_writer_new(&params, &made, &owner), 0);
	return made;
}

static void
setup(void)
{
	ck_assert_int_eq(setenv("PGLEASE_INSTANCE", instance, 1), 0);
	writer = new_writer();
	publish(writer);
}

static void
teardown(void)
{
	stats_writer_free(writer);
	run_forget();
}

START_TEST(test_usage)
{
	static const struct {
		const char *arguments, *message;
	} bad[] = {
	    {"-x", "unknown option '-x'"},
	    {"--nonsense", "unknown option '--nonsense'"},
	    {"-Jx", "unknown option '-x'"},
	    {"-xJ", "unknown option '-x'"},
	    {"--json=x", "unknown option '--json=x'"},
	    {"--list=x", "unknown option '--list=x'"},
	    {"-w", "needs a value"},
	    {"-w 0", "-w takes seconds"},
	    {"-w nan", "-w takes seconds"},
	    {"-w 1s", "-w takes seconds"},
	    {"-n a/b", "no instance's name"},
	    {"-i app -PS", "choose one"},
	    {"-o name -PS", "choose one"},
	    {"pools", "unexpected argument 'pools'"},
	    {"-o name,nonsense", "no column 'nonsense'"},
	    {"-J -o nonsense", "no column 'nonsense'"},
	    {"-o name,,max", "no column ''"},
	};

	ck_assert_int_eq(run(bad[_i].arguments), 1);
	ck_assert_msg(strstr(err, bad[_i].message) != NULL, "%s: %s", bad[_i].arguments, err);
	ck_assert_uint_eq(strcspn(err, "\n") + 1, strlen(err)); /* one line */
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(test_help_and_version)
{
	ck_assert_int_eq(run("-h"), 0);
	ck_assert_int_eq(strncmp(out, "Usage: pgleasestat", 18), 0);
	ck_assert_int_eq(run("--version"), 0);
	ck_assert_int_eq(strncmp(out, "pgleasestat ", 12), 0);
}
END_TEST

START_TEST(test_table)
{
	ck_assert_int_eq(run("-o name,state,max,maxwait"), 0);
	ck_assert_str_eq(out, "NAME STATE MAX MAXWAIT\n"
	                      "app  open    4  12.3ms\n"
	                      "web  down    8       0\n");
	ck_assert_str_eq(err, "");
	ck_assert_int_eq(run("-b --noheadings -o name,maxwait"), 0);
	ck_assert_str_eq(out, "app  0.012345678\nweb  0.000000000\n");
	ck_assert_int_eq(run("-W"), 0);
	ck_assert_str_eq(out, "POOL ROW PID TID WAITING_FOR\n"); /* nobody waits */
}
END_TEST

START_TEST(test_raw)
{
	ck_assert_int_eq(run("-J -r -S -o pool,slot,pid,held_for,acquired_at"), 0); /* the last format wins */
	ck_assert_str_eq(out, "POOL SLOT PID HELD_FOR ACQUIRED_AT\n"
	                      "app 0 812 1.500000000 w\\x20x.c:88\n"
	                      "app 1 - - -\n"
	                      "web 1 - - -\n");
}
END_TEST

START_TEST(test_id)
{
	ck_assert_int_eq(run("-i web -o name,max -r --noheadings"), 0);
	ck_assert_str_eq(out, "web 8\n");
	ck_assert_int_eq(run("-S -i app/1 -o pool,slot -r --noheadings"), 0);
	ck_assert_str_eq(out, "app 1\n");
	ck_assert_int_eq(run("-S -i 1 -o pool,slot -r --noheadings"), 0); /* of each pool that has it */
	ck_assert_str_eq(out, "app 1\nweb 1\n");
	ck_assert_int_eq(run("-C -i 812 -o program -r --noheadings"), 0);
	ck_assert_str_eq(out, "worker\n");
	ck_assert_int_eq(run("-i app"), 0); /* in detail: every column, with its meaning */
	ck_assert_ptr_nonnull(strstr(out, "leases granted without waiting"));
	ck_assert_ptr_null(strstr(out, "web"));

	ck_assert_int_eq(run("-i nothing"), 3);
	ck_assert_ptr_nonnull(strstr(err, "no 'nothing' among the 2 pools"));
	ck_assert_str_eq(out, "");
	ck_assert_int_eq(run("-J -S -i app/7"), 3);
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(test_json)
{
	json_error_t error;
	json_t *document, *pool, *slot;

	ck_assert_int_eq(run("-JPSCW"), 0);
	document = json_loads(out, JSON_REJECT_DUPLICATES, &error); /* one document, or this fails */
	ck_assert_msg(document != NULL, "%s", error.text);
	ck_assert_str_eq(
	    json_string_value(json_object_get(json_object_get(document, "instance"), "name")), instance);
	ck_assert(json_is_false(json_object_get(json_object_get(document, "instance"), "gone")));
	ck_assert(json_is_false(json_object_get(json_object_get(document, "instance"), "torn")));
	ck_assert_uint_eq(json_array_size(json_object_get(document, "pools")), 2);
	ck_assert_uint_eq(json_array_size(json_object_get(document, "waiters")), 0);
	pool = json_array_get(json_object_get(document, "pools"), 0);
	ck_assert(json_is_integer(json_object_get(pool, "max")));
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "max")), 4);
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "releases")), INT64_C(9007199254740993));
	ck_assert(json_is_real(json_object_get(pool, "maxwait")));
	ck_assert_double_eq_tol(json_real_value(json_object_get(pool, "maxwait")), 0.012345678, 1e-12);
	ck_assert_str_eq(
	    json_string_value(json_object_get(json_array_get(json_object_get(document, "pools"), 1), "user")),
	    "gr\xc3\xb6\xc3\x9f");
	slot = json_array_get(json_object_get(document, "slots"), 1);
	ck_assert(json_is_null(json_object_get(slot, "pid")));
	ck_assert(json_is_null(json_object_get(slot, "held_for")));
	json_decref(document);

	ck_assert_int_eq(run("-J"), 0);
	document = json_loads(out, 0, &error);
	ck_assert_ptr_nonnull(json_object_get(document, "pools"));
	ck_assert_ptr_null(json_object_get(document, "slots"));
	json_decref(document);
}
END_TEST

START_TEST(test_list_columns)
{
	char *here, *there;

	ck_assert_int_eq(run("--list-columns -PSCW"), 0);
	ck_assert_ptr_nonnull(strstr(out, "maxwait"));
	here = strdup(out);
	/* Without an instance: what this version knows, which here is the same. */
	ck_assert_int_eq(run("--list-columns -PSCW -n unit-stat-nobody"), 0);
	there = out;
	ck_assert_str_eq(here, there);
	free(here);
}
END_TEST

START_TEST(test_no_instance)
{
	ck_assert_int_eq(run("-n unit-stat-nobody"), 2);
	ck_assert_ptr_nonnull(strstr(err, "unit-stat-nobody (/dev/shm/pglease.unit-stat-nobody)"));
	ck_assert_str_eq(out, "");
	ck_assert_int_eq(run("-J -w 1 -n unit-stat-nobody"), 2);
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(test_broker_gone)
{
	json_error_t error;
	json_t *document;
	int status;
	pid_t pid;

	stats_writer_free(writer);
	writer = NULL;
	pid = fork();
	if (pid == 0) {
		writer = new_writer();
		publish(writer);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(run("-J"), 2);
	ck_assert_ptr_nonnull(strstr(err, "is gone"));
	document = json_loads(out, 0, &error);
	ck_assert_msg(document != NULL, "%s", error.text);
	ck_assert(json_is_true(json_object_get(json_object_get(document, "instance"), "gone")));
	ck_assert_uint_eq(json_array_size(json_object_get(document, "pools")), 2); /* its last numbers */
	json_decref(document);
	ck_assert_int_eq(run("-w 0.1"), 2); /* watching ends */
	writer = new_writer(); /* and the name can be used again */
}
END_TEST

START_TEST(test_durations)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {{0, "0"}, {999, "999ns"}, {1000, "1.00us"}, {12345, "12.3us"}, {999999, "999us"},
	    {1000000, "1.00ms"}, {999999999, "999ms"}, {1234567890, "1.23s"}, {59999999999, "59.9s"},
	    {60000000000, "1m00s"}, {UINT64_C(5045) * 1000000000, "1h24m"},
	    {UINT64_C(200000) * 1000000000, "2d07h"}};
	char buf[32];

	stat_output_duration(cases[_i].ns, buf, sizeof(buf));
	ck_assert_str_eq(buf, cases[_i].text);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("pgleasestat");
	TCase *tcase = tcase_create("pgleasestat");
	SRunner *runner;
	char shm_name[64];
	int failed;

	snprintf(instance, sizeof(instance), "unit-stat-%d", (int)getpid());
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, test_usage, 0, 17);
	tcase_add_test(tcase, test_help_and_version);
	tcase_add_test(tcase, test_table);
	tcase_add_test(tcase, test_raw);
	tcase_add_test(tcase, test_id);
	tcase_add_test(tcase, test_json);
	tcase_add_test(tcase, test_list_columns);
	tcase_add_test(tcase, test_no_instance);
	tcase_add_test(tcase, test_broker_gone);
	tcase_add_loop_test(tcase, test_durations, 0, 12);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	snprintf(shm_name, sizeof(shm_name), "/pglease.%s", instance);
	shm_unlink(shm_name); /* what a failed test left */
	return failed != 0;
}
