/* SPDX-License-Identifier: PostgreSQL */
/*
 * What pgleasestat shows of one fixed set of numbers, in each of its formats, against the files in tests/unit/golden. After a
 * change that is meant, GOLDEN_WRITE=1 makes them anew: read the difference before it is committed. And: the tool changes nothing.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stat_check.h"
#include "stat_program.h"
#include "stats.h"

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define T0 (UINT64_C(1764000000) * SECOND) /* 2025-11-24 16:00:00 UTC */

static char instance[48];
static struct stats_writer *writer;

static void
fill_pool(struct stats_pool_row *pool, bool busy)
{
	strcpy(pool->name, busy ? "app" : "web");
	strcpy(pool->database, busy ? "shop" : "site");
	strcpy(pool->user, busy ? "app" : "gr\xc3\xb6\xc3\x9f");
	strcpy(pool->state, busy ? "open" : "down");
	strcpy(pool->health, busy ? "degraded" : "down");
	strcpy(pool->reasons, busy ? "waiting,failing" : "upstream");
	pool->max = busy ? 4 : 1000;
	pool->total = busy ? 4 : 0;
	pool->idle = busy ? 1 : 0;
	pool->leased = busy ? 2 : 0;
	pool->granted = busy ? 1 : 0;
	pool->waiting = busy ? 2 : 0;
	pool->maxwait = busy ? 1234567890 : 0;
	pool->peak = busy ? 4 : 17;
	pool->efficiency = busy ? 998765 : 1000000;
	pool->segment_bytes = busy ? 1466368 : 123456789;
	pool->min_connections = 1;
	pool->acquire_timeout = 10 * SECOND;
	pool->connect_timeout = 5 * SECOND;
	pool->reset_timeout = 2 * SECOND;
	pool->idle_timeout = 5 * MINUTE;
	pool->max_lifetime = 60 * MINUTE;
	pool->leak_threshold = MINUTE;
	pool->server_cpu = busy ? 1500000000 : STATS_NO_U64;
	pool->server_memory = busy ? 34567890 : STATS_NO_U64;
	pool->server_disk_read = pool->server_disk_written = STATS_NO_U64;
	for (unsigned t = 0; busy && t < STATS_NTIMES; t++)
		pool->time[t] = (struct stats_quantiles){100 + t, 1500, 1000, 20000, 300000, 4000000};
	for (unsigned r = 0; busy && r < STATS_NRATES; r++)
		pool->rate[r] = 1234567 * (r + 1);
	for (unsigned c = 0; busy && c < SLOT_NCOUNTERS; c++)
		pool->slot_counter[c] = 1000 + c;
	for (unsigned c = 0; busy && c < CLIENT_NCOUNTERS; c++)
		pool->client_counter[c] = 10 + c;
	for (unsigned c = 0; busy && c < BROKER_NCOUNTERS; c++)
		pool->broker_counter[c] = 100 + c;
}

static void
fill_slots(struct stats_slot_row slot[4])
{
	static const char *const states[] = {"leased", "leased", "granted", "idle"};

	for (unsigned i = 0; i < 4; i++) {
		strcpy(slot[i].pool, "app");
		strcpy(slot[i].state, states[i]);
		slot[i].slot = i;
		slot[i].generation = i + 1;
		slot[i].leases = 1000 * i;
		slot[i].server_pid = 5000 + i;
		slot[i].client = i == 3 ? STATS_NO_U32 : i;
		slot[i].pid = i == 3 ? STATS_NO_U32 : 810 + i;
		slot[i].tid = i < 2 ? 910 + i : STATS_NO_U32;
		slot[i].held_since = i < 2 ? T0 - i * MINUTE : STATS_NO_U64;
		slot[i].held_for = i < 2 ? 1500000000 + i * MINUTE : STATS_NO_U64;
		slot[i].idle_for = i == 3 ? 12345 : STATS_NO_U64;
		slot[i].cpu = i * 10000000;
		slot[i].memory = 8000000 + i;
		slot[i].disk_read = slot[i].disk_written = STATS_NO_U64;
	}
	strcpy(slot[0].acquired_at, "worker main.c:88");
	strcpy(slot[1].acquired_at, "jobs.c:7");
	strcpy(slot[1].flags, "dirty,cancelling");
}

static void
publish(struct stats_writer *to)
{
	/* Static, so that what lies between the members is 0 as well. */
	static struct stats_pool_row pool[2];
	static struct stats_slot_row slot[4];
	static struct stats_client_row client[2] = {
	    {.client = 0, .pid = 810, .uid = 1000, .program = "worker", .attached_since = T0 - 60 * MINUTE, .leases_held = 1,
	        .waiting = 2, .cpu = 12345678900, .memory = 5242880, .disk_read = STATS_NO_U64, .disk_written = STATS_NO_U64},
	    {.client = 1, .pid = 811, .uid = 1001, .program = "jobs, \"nightly\"", .attached_since = T0, .leases_held = 2,
	        .cpu = STATS_NO_U64, .memory = STATS_NO_U64, .disk_read = STATS_NO_U64, .disk_written = STATS_NO_U64}};
	static struct stats_waiter_row waiter[2] = {
	    {.pool = "app", .row = 3, .client = 0, .pid = 810, .tid = 910, .waiting_for = 1234567890},
	    {.pool = "app", .row = 9, .client = STATS_NO_U32, .pid = STATS_NO_U32, .tid = STATS_NO_U32, .waiting_for = 999}};
	static struct stats_instance_row row = {.health = "down", .reasons = "upstream,waiting,failing", .uptime = 90 * MINUTE,
	    .pools = 2, .clients = 2, .clients_max = 256, .pid = 799, .threads = 1, .descriptors = 40, .descriptors_max = 1024,
	    .cpu = 5 * SECOND, .memory = 9876543, .disk_read = 0, .disk_written = 4096, .segments = 124923157,
	    .stats_segment = 262144, .history_segments = 16000000, .client_cpu = 12345678900, .client_memory = 5242880,
	    .client_disk_read = STATS_NO_U64, .client_disk_written = STATS_NO_U64};
	static struct stats_histogram_row histogram = {
	    .pool = "app", .database = "shop", .time = "wait", .count = 100, .sum = 150000};
	static struct stats_alert_row alert[5] = {
	    {.pool = "app", .alert = "maxwait", .state = "raised", .unit = "seconds", .value = 1234567, .threshold = 1000000,
	        .since = T0, .state_for = 90 * SECOND, .count = 3, .raised = 1},
	    {.pool = "app", .alert = "failure_rate", .state = "ok", .unit = "ratio", .value = STATS_NO_U64, .threshold = 50000,
	        .since = T0, .state_for = 90 * MINUTE},
	    {.pool = "app", .alert = "memory_usage", .state = "ok", .unit = "bytes", .value = UINT64_C(9876543000000),
	        .threshold = UINT64_C(104857600000000), .since = T0, .state_for = 90 * MINUTE, .count = 1},
	    {.pool = "app", .alert = "leaks", .state = "ok", .unit = "count", .value = 2000000, .threshold = 5000000, .since = T0,
	        .state_for = 90 * MINUTE},
	    {.pool = "web", .alert = "maxwait", .state = "off", .unit = "seconds", .value = 0, .threshold = STATS_NO_U64,
	        .since = STATS_NO_U64, .state_for = STATS_NO_U64}};
	struct stats_rows rows[STATS_NTABLES] = {
	    {pool, 2, 2}, {slot, 4, 4}, {client, 2, 2}, {waiter, 2, 12}, {&row, 1, 1}, {&histogram, 1, 1}, {alert, 5, 5}};

	fill_pool(&pool[0], true);
	fill_pool(&pool[1], false);
	fill_slots(slot);
	for (unsigned i = 0; i < STATS_NBOUNDS; i++)
		histogram.below[i] = 4 * i;
	ck_assert_int_eq(stats_writer_publish(to, SEGMENT_OPEN, rows), 0);
}

static void
setup(void)
{
	struct stats_writer_params params = {.instance = instance,
	    .program = "pgleased 0",
	    .socket_dir = "/nowhere",
	    .mode = 0444,
	    .capacity = {2, 4, 2, 2, 1, 1, 5}};
	pid_t owner;

	ck_assert_int_eq(setenv("PGLEASE_INSTANCE", instance, 1), 0);
	ck_assert_int_eq(setenv("TZ", "UTC", 1), 0);
	ck_assert_int_eq(setenv("LC_ALL", "C.UTF-8", 1), 0);
	ck_assert_int_eq(stats_writer_new(&params, &writer, &owner), 0);
	publish(writer);
}

static void
teardown(void)
{
	stats_writer_free(writer);
	run_forget();
}

static const struct {
	const char *file, *arguments;
	int status;
} cases[] = {
    {"usual", "-PSCWAI", 0},
    {"times", "-PSCWAI -t", 0},
    {"pids", "-PSCWAI -p", 0},
    {"owners", "-PSCWAI -t -c", 0},
    {"limits", "-PSCWAI -l", 0},
    {"summary", "-PSCWAI -u", 0},
    {"summary-raw", "-PSCWAI -u -r", 0},
    {"exact", "-PSCWAI -b", 0},
    {"raw", "-PSCWAI -r", 0},
    {"csv", "-S --csv", 0},
    {"csv-clients", "-C --csv", 0},
    {"detail-pool", "-i app", 0},
    {"detail-slot", "-S -i app/0", 0},
    {"alert", "-A -i app/maxwait", 0},
    {"alerts-of-a-pool", "--alerts -i web -b", 0},
    {"chosen", "-P -o name,health,efficiency,leases_rate,memory_not_there", 1},
    {"check", "--check", 2},
    {"check-pool", "--check -i app", 1},
    {"check-no-pool", "--check -i nobody", 3},
    {"prometheus", "--prometheus", 0},
    {"columns", "-PSCWAI --list-columns", 0},
};
#define NCASES (sizeof(cases) / sizeof(cases[0]))

/* The instance is another one at each run; its age and start as well. */
static char *
settle(const char *text)
{
	size_t size;
	char *settled, *copy = strdup(text), *at;
	FILE *to = open_memstream(&settled, &size);

	for (char *line = copy; *line != '\0'; line = at) {
		at = line + strcspn(line, "\n");
		if (*at == '\n')
			*at++ = '\0';
		if (strncmp(line, "pglease_publication_age_seconds{", 32) == 0 || strncmp(line, "pglease_start_time_seconds{", 27) == 0)
			*strrchr(line, ' ') = '\0';
		for (char *name; (name = strstr(line, instance)) != NULL; line = name + strlen(instance))
			fprintf(to, "%.*sINSTANCE", (int)(name - line), line);
		fprintf(to, "%s\n", line);
	}
	fclose(to);
	free(copy);
	return settled;
}

static char *
golden_path(const char *file, const char *suffix)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/tests/unit/golden/%s%s", getenv("PGLEASE_SRCDIR"), file, suffix);
	return path;
}

/* What is in a file of tests/unit/golden, which is made of `text` first if that is asked for. */
static char *
golden(const char *path, const char *text)
{
	char *buf = calloc(1, 1 << 20);
	FILE *f;

	if (getenv("GOLDEN_WRITE") != NULL) {
		f = fopen(path, "w");
		ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
		ck_assert_int_ge(fputs(text, f), 0);
		ck_assert_int_eq(fclose(f), 0);
	}
	f = fopen(path, "r");
	ck_assert_msg(f != NULL, "%s: %s; GOLDEN_WRITE=1 makes it", path, strerror(errno));
	(void)!fread(buf, 1, (1 << 20) - 1, f);
	fclose(f);
	return buf;
}

START_TEST(shows_what_it_should)
{
	char *settled, *expected;

	ck_assert_int_eq(run(cases[_i].arguments), cases[_i].status);
	settled = settle(out);
	expected = golden(golden_path(cases[_i].file, ".txt"), settled);
	for (const char *is = settled, *was = expected; *is != '\0' || *was != '\0';) {
		size_t n = strcspn(is, "\n"), m = strcspn(was, "\n");

		ck_assert_msg(n == m && memcmp(is, was, n) == 0, "pgleasestat %s shows\n%.*s\nand not\n%.*s", cases[_i].arguments,
		    (int)n, is, (int)m, was);
		is += n + (is[n] == '\n');
		was += m + (was[m] == '\n');
	}
	free(settled);
	free(expected);
}
END_TEST

/* As documents: the order of keys and the writing of numbers are nobody's matter. */
START_TEST(json_is_what_it_should_be)
{
	static const char *const of_the_moment[] = {"name", "broker_pid", "started_at", "published_at", "age"};
	json_error_t error;
	json_t *document, *wanted, *header;
	char *expected, *dumped;

	ck_assert_int_eq(run("-J -PSCWAI"), 0);
	document = json_loads(out, JSON_REJECT_DUPLICATES, &error);
	ck_assert_msg(document != NULL, "%s", error.text);
	header = json_object_get(document, "instance");
	for (size_t i = 0; i < sizeof(of_the_moment) / sizeof(of_the_moment[0]); i++)
		ck_assert_int_eq(json_object_del(header, of_the_moment[i]), 0);
	dumped = json_dumps(document, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
	expected = golden(golden_path("json", ".json"), dumped);
	wanted = json_loads(expected, 0, &error);
	ck_assert_msg(wanted != NULL, "%s", error.text);
	ck_assert_msg(json_equal(document, wanted), "pgleasestat -J -PSCWAI shows other than golden/json.json");
	json_decref(document);
	json_decref(wanted);
	free(dumped);
	free(expected);
}
END_TEST

static void
take_segment(char **ret, size_t *ret_size)
{
	char name[64];
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "/pglease.%s", instance);
	fd = shm_open(name, O_RDONLY, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	*ret_size = (size_t)st.st_size;
	*ret = malloc(*ret_size);
	ck_assert_int_eq(pread(fd, *ret, *ret_size, 0), st.st_size);
	close(fd);
}

/* Whoever may only read sees everything, and the segment is afterwards what it was. */
START_TEST(it_changes_nothing)
{
	char *before, *after, name[64];
	size_t before_size, after_size;
	int status;
	pid_t pid;

	take_segment(&before, &before_size);
	pid = fork();
	if (pid == 0) {
		snprintf(name, sizeof(name), "/pglease.%s", instance);
		if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
			_exit(101);
		if (shm_open(name, O_RDWR, 0) >= 0 || errno != EACCES)
			_exit(102);
		for (size_t i = 0; i < NCASES; i++)
			if (run(cases[i].arguments) != cases[i].status)
				_exit((int)i + 1);
		_exit(run("-J -PSCWAI") == 0 && run("--list") == 0 && strstr(out, instance) != NULL ? 0 : 103);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", WEXITSTATUS(status));
	take_segment(&after, &after_size);
	ck_assert_uint_eq(before_size, after_size);
	ck_assert_int_eq(memcmp(before, after, before_size), 0);
	free(before);
	free(after);
}
END_TEST

static void
judged(const struct stats_snapshot *snapshot, const char *pool, enum check_status status, const char *words)
{
	size_t size;
	char *line;
	FILE *to = open_memstream(&line, &size);

	ck_assert_int_eq(stat_check(snapshot, pool, to), status);
	fclose(to);
	ck_assert_msg(strstr(line, words) != NULL, "%s", line);
	ck_assert_uint_eq(strcspn(line, "\n") + 1, size); /* one line */
	free(line);
}

START_TEST(check_says_down_and_unknown)
{
	static const struct stats_rows none[STATS_NTABLES];
	struct stats_reader *reader;
	struct stats_snapshot snapshot;
	int status;
	pid_t pid;

	ck_assert_int_eq(stats_reader_open(instance, &reader), 0);
	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	stats_reader_close(reader);
	judged(&snapshot, "app", CHECK_WARNING, "pool app degraded");
	/* A broker that has published nothing for longer than two seconds; numbers that are none. */
	snapshot.age_ns = 2 * SECOND;
	judged(&snapshot, "app", CHECK_WARNING, "pool app degraded");
	snapshot.age_ns = 2 * SECOND + 1;
	judged(&snapshot, "app", CHECK_CRITICAL, "has published nothing for 2.00s");
	snapshot.age_ns = 0;
	snapshot.torn = true;
	judged(&snapshot, "app", CHECK_UNKNOWN, "torn");
	snapshot.gone = true; /* died while it published */
	judged(&snapshot, "app", CHECK_CRITICAL, "the broker is gone");
	snapshot.torn = snapshot.gone = false;
	snapshot.header.off = 1;
	judged(&snapshot, "app", CHECK_UNKNOWN, "monitoring is off");
	stats_snapshot_fini(&snapshot);

	ck_assert_int_eq(stats_writer_publish(writer, SEGMENT_CLOSED, none), 0);
	ck_assert_int_eq(run("--check"), 2);
	ck_assert_ptr_nonnull(strstr(out, "the broker has stopped"));
	stats_writer_free(writer);
	writer = NULL;

	/* None, wrong usage. */
	ck_assert_int_eq(run("--check"), 3);
	ck_assert_int_eq(strncmp(out, "PGLEASE UNKNOWN - ", 18), 0);
	ck_assert_str_eq(err, "");
	ck_assert_int_eq(run("--check --nonsense"), 3);
	ck_assert_int_eq(strncmp(out, "PGLEASE UNKNOWN - ", 18), 0);
	/* For Prometheus, somebody who is not there is not up. */
	ck_assert_int_eq(run("--prometheus"), 2);
	ck_assert_ptr_nonnull(strstr(out, "\"} 0\n"));
	ck_assert_ptr_null(strstr(out, "pglease_build_info"));

	/* Dead. */
	pid = fork();
	if (pid == 0) {
		setup();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(run("--check"), 2);
	ck_assert_ptr_nonnull(strstr(out, "the broker is gone"));
	ck_assert_int_eq(run("--list"), 0);
	ck_assert_ptr_nonnull(strstr(out, instance));
	ck_assert_ptr_nonnull(strstr(out, " gone "));
	ck_assert_int_eq(run("--prometheus"), 2);
	ck_assert_ptr_null(strstr(out, "pglease_leases"));
	setup();
	ck_assert_int_eq(run("--check"), 2);
	ck_assert_ptr_nonnull(strstr(out, "pool web down"));
}
END_TEST

START_TEST(list_finds_what_is_here)
{
	json_error_t error;
	json_t *document, *instances, *found = NULL;

	ck_assert_int_eq(run("--list -J"), 0);
	document = json_loads(out, 0, &error);
	ck_assert_msg(document != NULL, "%s", error.text);
	instances = json_object_get(document, "instances");
	for (size_t i = 0; i < json_array_size(instances); i++)
		if (strcmp(json_string_value(json_object_get(json_array_get(instances, i), "name")), instance) == 0)
			found = json_array_get(instances, i);
	ck_assert_ptr_nonnull(found);
	ck_assert_str_eq(json_string_value(json_object_get(found, "state")), "open");
	ck_assert_str_eq(json_string_value(json_object_get(found, "health")), "down");
	ck_assert(json_is_true(json_object_get(found, "readable")));
	ck_assert_int_eq(json_integer_value(json_object_get(found, "broker_pid")), getpid());
	ck_assert_int_eq(json_integer_value(json_object_get(found, "pools")), 2);
	json_decref(document);
	/* And tells who looks for another. */
	ck_assert_int_eq(unsetenv("PGLEASE_INSTANCE"), 0);
	if (run("") == 2)
		ck_assert_ptr_nonnull(strstr(err, "(there are: "));
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("golden");
	TCase *tcase = tcase_create("golden");
	SRunner *runner;
	char shm_name[64];
	int failed;

	snprintf(instance, sizeof(instance), "unit-golden-%d", (int)getpid());
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, shows_what_it_should, 0, (int)NCASES);
	tcase_add_test(tcase, json_is_what_it_should_be);
	tcase_add_test(tcase, it_changes_nothing);
	tcase_add_test(tcase, check_says_down_and_unknown);
	tcase_add_test(tcase, list_finds_what_is_here);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	snprintf(shm_name, sizeof(shm_name), "/pglease.%s", instance);
	shm_unlink(shm_name); /* what a failed test left */
	return failed != 0;
}
