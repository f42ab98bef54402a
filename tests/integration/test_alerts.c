/* SPDX-License-Identifier: PostgreSQL */
/* Alerts from end to end: who is told, by what, and once; the program that is run; switches; a restart. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "it.h"
#include "restart.h"
#include "segment.h"
#include "stats.h"
#include "web.h"

/* The thresholds of the tests are reached by what they do, whatever else the machine does, and by nothing else. */
#define AT_ONCE "alert_window = 1s\nalert_raise_after = 0\nalert_clear_after = 0\n"
#define OTHERS_OFF \
	"alert_connection_time = 0\nalert_failure_rate = 0\nalert_memory_usage = 0\nalert_wait_time = 0\n" \
	"alert_upstream_down = 0\n"

#define kit_ok(call) ck_assert_msg((call) == 0, "%s: %s", #call, pglease_test_error_message())

static char folder[64], command[160];
static pglease_pool *pool;

/* --- The program that is run. --- */

static void
finish(void)
{
	char remove[128];

	snprintf(remove, sizeof(remove), "rm -rf '%s'", folder);
	if (system(remove) != 0)
		abort();
}

/* A script, whose folder is $here; it is a shell's word that a shell must never see. */
static void
make_command(const char *script)
{
	FILE *f;

	strcpy(folder, "/tmp/test_alerts_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(atexit(finish), 0);
	snprintf(command, sizeof(command), "%s/a program;touch $(pwd)'\"`touch ticked`", folder);
	f = fopen(command, "we");
	ck_assert_msg(f != NULL, "%s: %s", command, strerror(errno));
	fprintf(f, "#!/bin/sh\nhere='%s'\ntell() { echo \"$PGLEASE_POOL $PGLEASE_ALERT $PGLEASE_ALERT_STATE $*\" >>$here/told; }\n%s\n", folder,
	    script);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(command, 0755), 0);
}

static char *
read_file(const char *name)
{
	static char text[8192];
	char path[128];
	FILE *f;
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "re");
	if (f != NULL) {
		n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
	}
	text[n] = '\0';
	return text;
}

/* How many lines of what the program has told begin so. */
static unsigned
told(const char *start)
{
	unsigned n = 0;

	for (const char *line = read_file("told"); *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n')
		n += strncmp(line, start, strlen(start)) == 0;
	return n;
}

static int
is_told(void *context)
{
	return told(context) != 0;
}

static void
await_told(const char *start)
{
	ck_assert_msg(pglease_test_await(is_told, (char *)start, IT_PATIENCE_MS) == 0, "\"%s\" was never told, but: %s", start,
	    read_file("told"));
}

static void
touch(const char *name)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fclose(f);
}

/* --- The pool. --- */

static void
start(const char *more, const char *settings, unsigned max)
{
	char instance[512], of_pool[1024];

	snprintf(instance, sizeof(instance), "http_listen = 127.0.0.1:0\n%s%s\n%s", command[0] != '\0' ? "alert_command = " : "",
	    command, more);
	snprintf(of_pool, sizeof(of_pool), AT_ONCE OTHERS_OFF "%s", settings);
	it_start_as(instance, of_pool, max);
	pool = it_attach();
}

static pglease_alert
alert_of(enum pglease_threshold threshold)
{
	pglease_alert alert;

	it_ok(pglease_alert_get(pool, threshold, &alert));
	return alert;
}

static bool
is_raised(const pglease_stats *stats, const void *arg)
{
	return alert_of(*(const enum pglease_threshold *)arg).raised;
}

static bool
is_over(const pglease_stats *stats, const void *arg)
{
	return !is_raised(stats, arg);
}

static void
await_raised(enum pglease_threshold threshold)
{
	it_await(pool, is_raised, &threshold, pglease_threshold_name(threshold));
}

static void
await_over(enum pglease_threshold threshold)
{
	it_await(pool, is_over, &threshold, pglease_threshold_name(threshold));
}

static void
wait_long(int socket, const void *arg)
{
	pglease_pool *mine = it_attach();
	pglease_lease lease;
	PGconn *conn;

	it_say(socket, 'w');
	if (pglease_acquire(mine, 120000, &lease, &conn) == 0)
		pglease_release(&lease);
}

/* --- Who is told. --- */

struct published {
	const char *alert, *state;
	uint64_t count;
};

/* A row of the stats segment is as it is wanted. */
static int
is_published(void *context)
{
	const struct published *p = context;
	struct stats_snapshot snapshot;
	struct stats_reader *reader;
	const struct stats_view *view;
	uint64_t count = 0, raised = 0, none;
	bool found = false;

	ck_assert_int_eq(stats_reader_open(pglease_test_instance(it_env), &reader), 0);
	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	view = stats_view_find(&snapshot, "alerts");
	ck_assert_ptr_nonnull(view);
	ck_assert_uint_eq(view->nrows, PGLEASE_THRESHOLD_HEALTH + 1);
	for (uint32_t row = 0; row < view->nrows; row++) {
		const char *state = stats_value_text(view, row, stats_column_find(view, "state"));

		if (strcmp(stats_value_text(view, row, stats_column_find(view, "alert")), p->alert) != 0)
			continue;
		ck_assert(stats_value_u64(view, row, stats_column_find(view, "count"), &count));
		ck_assert(stats_value_u64(view, row, stats_column_find(view, "raised"), &raised));
		ck_assert_uint_eq(raised, strcmp(state, "raised") == 0); /* it is of one moment */
		ck_assert_uint_eq(stats_value_u64(view, row, stats_column_find(view, "threshold"), &none), strcmp(state, "off") != 0);
		found = strcmp(state, p->state) == 0 && count == p->count;
	}
	stats_snapshot_fini(&snapshot);
	stats_reader_close(reader);
	return found;
}

static void
await_published(const char *alert, const char *state, uint64_t count)
{
	struct published published = {alert, state, count};

	ck_assert_msg(pglease_test_await(is_published, &published, IT_PATIENCE_MS) == 0, "%s is not published as %s", alert, state);
}

static json_t *
load(const char *text, size_t size)
{
	json_error_t error;
	json_t *document = json_loadb(text, size, JSON_ALLOW_NUL, &error);

	ck_assert_msg(document != NULL, "%s: %s", error.text, text);
	return document;
}

/* The object of an array whose member `key` is this. */
static const json_t *
object_of(const json_t *array, const char *key, const char *value)
{
	for (size_t i = 0; i < json_array_size(array); i++)
		if (strcmp(json_string_value(json_object_get(json_array_get(array, i), key)), value) == 0)
			return json_array_get(array, i);
	return NULL;
}

static double
number_of(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	ck_assert_msg(json_is_number(value), "no number %s", key);
	return json_number_value(value);
}

static void
assert_served(double threshold)
{
	char sample[256];
	struct web_answer answer;
	const json_t *alert, *app;
	json_t *document;

	web_get(web_of_broker(), "/metrics", "Connection: close\r\n", &answer);
#define SAMPLE(name, extra) \
	(snprintf(sample, sizeof(sample), name "{pglease_instance=\"%s\",pool=\"app\",alert=\"maxwait\"}", pglease_test_instance(it_env)), \
	    web_sample(answer.body, sample))
	ck_assert_double_eq(SAMPLE("pglease_alert_raised", ), 1);
	ck_assert_double_eq(SAMPLE("pglease_alert_threshold", ), threshold);
	ck_assert_double_ge(SAMPLE("pglease_alert_value", ), threshold);
	ck_assert_double_eq(SAMPLE("pglease_alerts_total", ), 1);
	web_free(&answer);

	web_get(web_of_broker(), "/stats.json", "Connection: close\r\n", &answer);
	document = load(answer.body, answer.body_length);
	app = object_of(json_object_get(document, "pools"), "name", "app");
	alert = object_of(json_object_get(app, "alerts"), "name", "maxwait");
	ck_assert_ptr_nonnull(alert);
	ck_assert(json_is_true(json_object_get(alert, "raised")));
	ck_assert_double_eq(number_of(alert, "threshold"), threshold);
	ck_assert_double_ge(number_of(alert, "value"), threshold);
	ck_assert_double_ge(number_of(alert, "since_seconds"), 0);
	ck_assert_double_lt(number_of(alert, "since_seconds"), 600);
	ck_assert_uint_eq(json_object_size(alert), 5);
	/* One that is off is not among them. */
	ck_assert_ptr_null(object_of(json_object_get(app, "alerts"), "name", "failure_rate"));
	json_decref(document);
	web_free(&answer);
}

/* What pgleasestat prints, in a static buffer. */
static const char *
pgleasestat(const char *options)
{
	static char text[1 << 18];
	char line[512];
	FILE *f;
	size_t n;

	snprintf(line, sizeof(line), "'%s/pgleasestat' -n %s %s", getenv("PGLEASE_BUILDDIR"), pglease_test_instance(it_env), options);
	f = popen(line, "r");
	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	ck_assert_int_eq(pclose(f), 0);
	return text;
}

struct heard {
	unsigned calls;
	enum pglease_threshold last;
	double value, limit;
	int is_above;
};

static void
hear(pglease_pool *of, enum pglease_threshold threshold, double value, double limit, int is_above, void *context)
{
	struct heard *heard = context;

	*heard = (struct heard){heard->calls + 1, threshold, value, limit, is_above};
}

START_TEST(an_alert_is_told_everywhere_and_once)
{
	struct heard heard = {0};
	struct it_worker waiter;
	pglease_lease lease;
	pglease_alert alert;
	const json_t *row;
	const char *said;
	json_t *document;

	make_command("tell $PGLEASE_ALERT_THRESHOLD $PGLEASE_ALERT_UNIT $PGLEASE_ALERT_COUNT $PGLEASE_INSTANCE");
	start("", "alert_maxwait = 200ms\nalert_leaks = 0\n", 1);
	await_published("maxwait", "ok", 0);
	it_ok(pglease_on_threshold(pool, hear, &heard));
	it_ok(pglease_threshold_check(pool));
	ck_assert_uint_eq(heard.calls, 0);
	it_acquire(pool, &lease);
	waiter = it_worker(wait_long, NULL);
	it_hear(waiter.socket, 'w');

	await_raised(PGLEASE_THRESHOLD_MAXWAIT);
	alert = alert_of(PGLEASE_THRESHOLD_MAXWAIT);
	ck_assert_str_eq(alert.name, "maxwait");
	ck_assert_double_ge(alert.value, 0.2);
	ck_assert_double_eq(alert.threshold, 0.2);
	ck_assert_uint_eq(alert.count, 1);
	it_ok(pglease_threshold_check(pool));
	it_ok(pglease_threshold_check(pool));
	ck_assert_uint_eq(heard.calls, 1);
	ck_assert_int_eq(heard.last, PGLEASE_THRESHOLD_MAXWAIT);
	ck_assert_double_eq(heard.limit, 0.2);
	ck_assert_int_eq(heard.is_above, 1);
	await_published("maxwait", "raised", 1);
	kit_ok(pglease_test_await_log(it_env, "pool app: alert maxwait is raised: ", IT_PATIENCE_MS));
	assert_served(0.2);
	said = pgleasestat("-A -J");
	document = load(said, strlen(said));
	row = object_of(json_object_get(document, "alerts"), "alert", "maxwait");
	ck_assert_str_eq(json_string_value(json_object_get(row, "state")), "raised");
	ck_assert_double_eq(number_of(row, "raised"), 1);
	ck_assert_double_eq(number_of(row, "threshold"), 0.2);
	ck_assert_str_eq(json_string_value(json_object_get(row, "unit")), "seconds");
	json_decref(document);
	ck_assert_ptr_nonnull(strstr(pgleasestat("--alerts -i app/maxwait --noheadings"), "raised"));
	ck_assert_ptr_null(strstr(pgleasestat("--alerts -i app/maxwait --noheadings"), "pool_usage"));

	it_release(&lease);
	it_join(&waiter);
	await_over(PGLEASE_THRESHOLD_MAXWAIT);
	ck_assert_uint_eq(alert_of(PGLEASE_THRESHOLD_MAXWAIT).count, 1);
	it_ok(pglease_threshold_check(pool));
	ck_assert_uint_eq(heard.calls, 2);
	ck_assert_int_eq(heard.is_above, 0);
	await_published("maxwait", "ok", 1);
	kit_ok(pglease_test_await_log(it_env, "pool app: alert maxwait is over after ", IT_PATIENCE_MS));
	/* The program's news of the end comes last. */
	await_told("app maxwait cleared 0.200000 seconds 1 ");
	ck_assert_uint_eq(told("app maxwait raised 0.200000 seconds 1 "), 1);
	ck_assert_uint_eq(told("app maxwait cleared"), 1);
	ck_assert_uint_eq(told(""), 2);
	it_ok(pglease_on_threshold(pool, NULL, NULL));
}
END_TEST

/* --- The program. --- */

START_TEST(the_program_gets_its_environment_and_nothing_else)
{
	/* Of a process there is no other way to see with what it was started. */
	static const char *const wanted[] = {"PGLEASE_ALERT=pool_usage\n", "PGLEASE_ALERT_STATE=raised\n",
	    "PGLEASE_ALERT_TEXT=leased connections, of max_connections, on average\n", "PGLEASE_ALERT_THRESHOLD=0.250000\n",
	    "PGLEASE_ALERT_UNIT=ratio\n", "PGLEASE_ALERT_COUNT=1\n", "PGLEASE_POOL=app\n", "PATH=", "LC_ALL=C\n", "TZ=UTC\n"};
	char *text, instance[96];
	unsigned lines = 0;
	pglease_lease lease;

	ck_assert_int_eq(setenv("PGLEASE_TEST_SECRET", "of the broker's", 1), 0);
	make_command("tr '\\0' '\\n' </proc/$$/environ >$here/environment\n"
		     "pwd >$here/folder\nls -l /proc/$$/fd >$here/files\ntell $#");
	start("", "alert_pool_usage = 0.25\nalert_maxwait = 0\nalert_leaks = 0\n", 1);
	it_acquire(pool, &lease);
	await_told("app pool_usage raised 0\n");
	text = read_file("environment");
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		const char *at = strstr(text, wanted[i]);

		ck_assert_msg(at != NULL && (at == text || at[-1] == '\n'), "no %s in: %s", wanted[i], text);
	}
	snprintf(instance, sizeof(instance), "PGLEASE_INSTANCE=%s\n", pglease_test_instance(it_env));
	ck_assert_ptr_nonnull(strstr(text, instance));
	ck_assert_ptr_nonnull(strstr(text, "\nPGLEASE_ALERT_VALUE="));
	ck_assert_ptr_nonnull(strstr(text, "\nPGLEASE_ALERT_TIME=1"));
	for (const char *c = text; *c != '\0'; c++)
		lines += *c == '\n';
	ck_assert_msg(lines == 13, "%u variables: %s", lines, text);
	ck_assert_str_eq(read_file("folder"), "/\n");
	/* No socket, segment or log of the broker's: its standard ones, the script itself, and the shell's own. */
	text = read_file("files");
	ck_assert_msg(strstr(text, "socket:") == NULL && strstr(text, "memfd:") == NULL && strstr(text, "anon_inode") == NULL &&
			  strstr(text, "/dev/shm") == NULL && strstr(text, ".log") == NULL,
	    "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "/dev/null"));
	it_release(&lease);
	await_told("app pool_usage cleared");
	/* Its name is no shell's matter. */
	ck_assert_int_ne(access("/ticked", F_OK), 0);
}
END_TEST

static int
is_gone(void *context)
{
	return kill(*(const pid_t *)context, 0) != 0 && errno == ESRCH;
}

static void
await_gone(pid_t pid)
{
	ck_assert_msg(pglease_test_await(is_gone, &pid, IT_PATIENCE_MS) == 0, "process %d is still there", (int)pid);
}

/* The program's process, and one that it has started, as it has told. */
static void
processes(const char *start, pid_t ret[2])
{
	await_told(start);
	ck_assert_int_eq(sscanf(strstr(read_file("told"), start) + strlen(start), "%d %d", &ret[0], &ret[1]), 2);
	ck_assert_int_eq(kill(ret[0], 0), 0);
}

#define HANGS_FOR_LEAKS \
	"if [ $PGLEASE_ALERT$PGLEASE_ALERT_STATE = leaksraised ]; then\n" \
	"sleep 1000 &\ntell $$ $!\nwait\nelse\ntell\nfi"

START_TEST(one_that_hangs_delays_no_other)
{
	pglease_lease lease[2];
	pid_t pid[2];

	make_command(HANGS_FOR_LEAKS);
	start("alert_command_limit = 1h", "alert_pool_usage = 0.75\nalert_maxwait = 0\nleak_threshold = 50ms\n", 2);
	it_acquire(pool, &lease[0]);
	processes("app leaks raised ", pid);
	/* It hangs, and the broker goes on: another alert's program runs. */
	it_acquire(pool, &lease[1]);
	await_told("app pool_usage raised");
	ck_assert_int_eq(kill(pid[0], 0), 0);
	/* The news of its own alert waits. */
	it_release(&lease[0]);
	it_release(&lease[1]);
	await_over(PGLEASE_THRESHOLD_LEAKS);
	await_told("app pool_usage cleared");
	ck_assert_uint_eq(told("app leaks cleared"), 0);
	ck_assert_int_eq(kill(pid[0], 0), 0);
	/* It ends: the news comes. */
	ck_assert_int_eq(kill(pid[1], SIGKILL), 0);
	await_told("app leaks cleared");
	await_gone(pid[0]);
	/* One that runs at the end of the broker is ended: by the end of the test nothing is left. */
	it_acquire(pool, &lease[0]);
	await_raised(PGLEASE_THRESHOLD_LEAKS);
	it_release(&lease[0]);
}
END_TEST

START_TEST(one_that_hangs_is_killed_with_all_of_it)
{
	pglease_lease lease;
	pid_t pid[2];

	make_command(HANGS_FOR_LEAKS);
	start("alert_command_limit = 500ms", "alert_maxwait = 0\nleak_threshold = 50ms\n", 1);
	it_acquire(pool, &lease);
	processes("app leaks raised ", pid);
	kit_ok(pglease_test_await_log(it_env, "has not ended within 0.5 s and is killed (alert leaks)", IT_PATIENCE_MS));
	await_gone(pid[0]);
	await_gone(pid[1]);
	it_release(&lease);
	await_told("app leaks cleared");
}
END_TEST

START_TEST(one_that_cannot_be_run_is_told_once)
{
	char *text;
	FILE *log;
	size_t n;
	pglease_lease lease;
	unsigned lines = 0;
	uint64_t begin = clock_ns();

	make_command("exit 0");
	ck_assert_int_eq(chmod(command, 0644), 0);
	start("", "alert_maxwait = 0\nleak_threshold = 50ms\n", 1);
	for (unsigned i = 0; i < 2; i++) {
		it_acquire(pool, &lease);
		await_raised(PGLEASE_THRESHOLD_LEAKS);
		it_release(&lease);
		await_over(PGLEASE_THRESHOLD_LEAKS);
	}
	text = malloc(65536);
	log = fopen(pglease_test_log(it_env), "re");
	ck_assert_ptr_nonnull(log);
	n = fread(text, 1, 65535, log);
	text[n] = '\0';
	fclose(log);
	for (const char *at = text; (at = strstr(at, "cannot be run: Permission denied")) != NULL; at++)
		lines++;
	ck_assert_uint_eq(lines, 1);
	/* Nor does the log repeat an alert that comes again within ten seconds. */
	lines = 0;
	for (const char *at = text; (at = strstr(at, "alert leaks is raised")) != NULL; at++)
		lines++;
	ck_assert_uint_ge(lines, 1);
	ck_assert_uint_le(lines, 1 + (unsigned)((clock_ns() - begin) / UINT64_C(10000000000)));
	free(text);
}
END_TEST

/* --- Switches. --- */

START_TEST(what_is_off_does_not_ring_and_can_be_set_by_a_process)
{
	struct heard heard = {0};
	pglease_lease lease;
	double value;

	start("", "alert_maxwait = 0\nalert_leaks = 1\nleak_threshold = 50ms\nalert_pool_usage = 0\n", 1);
	it_ok(pglease_threshold_get(pool, PGLEASE_THRESHOLD_POOL_USAGE, &value));
	ck_assert(isinf(value));
	it_acquire(pool, &lease);
	await_raised(PGLEASE_THRESHOLD_LEAKS); /* the others have been judged as often */
	ck_assert_int_eq(alert_of(PGLEASE_THRESHOLD_POOL_USAGE).raised, 0);
	ck_assert(isinf(alert_of(PGLEASE_THRESHOLD_POOL_USAGE).threshold));
	ck_assert_double_gt(alert_of(PGLEASE_THRESHOLD_POOL_USAGE).value, 0);
	await_published("pool_usage", "off", 0);
	it_ok(pglease_on_threshold(pool, hear, &heard));
	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_LEAKS, PGLEASE_THRESHOLD_OFF));
	it_ok(pglease_threshold_check(pool));
	ck_assert_uint_eq(heard.calls, 0);
	it_ok(pglease_threshold_set(pool, PGLEASE_THRESHOLD_LEAKS, PGLEASE_THRESHOLD_POOL));
	it_ok(pglease_threshold_check(pool));
	ck_assert_uint_eq(heard.calls, 1);
	ck_assert_int_eq(heard.last, PGLEASE_THRESHOLD_LEAKS);
	it_release(&lease);
	it_ok(pglease_on_threshold(pool, NULL, NULL));
}
END_TEST

/* --- A restart. --- */

static bool
has_two_leaks(const pglease_stats *stats, const void *arg)
{
	return alert_of(PGLEASE_THRESHOLD_LEAKS).value >= 2;
}

START_TEST(what_is_raised_stays_raised_over_a_restart)
{
	pglease_alert before;
	pglease_lease lease[2];
	pid_t pid[2];

	restart_prepare();
	make_command("if [ $PGLEASE_ALERT_STATE = raised ]; then tell $$ $$; while ! [ -e $here/go ]; do sleep 0.05; done; exit 3; fi\ntell");
	start("alert_command_limit = 1h", "alert_maxwait = 0\nleak_threshold = 50ms\n", 2);
	it_acquire(pool, &lease[0]);
	processes("app leaks raised ", pid);
	before = alert_of(PGLEASE_THRESHOLD_LEAKS);
	ck_assert_int_eq(before.raised, 1);
	restart_now();
	/* The other program judges, and finds nothing new. */
	it_acquire(pool, &lease[1]);
	it_await(pool, has_two_leaks, NULL, "two leaks");
	ck_assert_int_eq(alert_of(PGLEASE_THRESHOLD_LEAKS).raised, 1);
	ck_assert_uint_eq(alert_of(PGLEASE_THRESHOLD_LEAKS).count, 1);
	ck_assert_uint_gt(alert_of(PGLEASE_THRESHOLD_LEAKS).lasting_ns, before.lasting_ns);
	await_published("leaks", "raised", 1);
	/* The program that the one before has started ends, and is heard of; then comes the news that waited. */
	ck_assert_int_eq(kill(pid[0], 0), 0);
	it_release(&lease[0]);
	it_release(&lease[1]);
	await_over(PGLEASE_THRESHOLD_LEAKS);
	restart_now(); /* it still waits */
	ck_assert_uint_eq(told("app leaks cleared"), 0);
	touch("go");
	restart_await_log("failed for alert leaks: exit status 3");
	await_told("app leaks cleared");
	await_gone(pid[0]);
	ck_assert_uint_eq(told("app leaks raised"), 1);
}
END_TEST

IT_MAIN("alerts", an_alert_is_told_everywhere_and_once, the_program_gets_its_environment_and_nothing_else,
    one_that_hangs_delays_no_other, one_that_hangs_is_killed_with_all_of_it, one_that_cannot_be_run_is_told_once,
    what_is_off_does_not_ring_and_can_be_set_by_a_process, what_is_raised_stays_raised_over_a_restart)
