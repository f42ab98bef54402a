/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat as a whole: takes a snapshot, says what is wrong with it, shows it, and does so again with -w. */
#include "config.h"

#include "stat_run.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "history_table.h"
#include "stat_check.h"
#include "stat_list.h"
#include "stat_options.h"
#include "stat_output.h"
#include "stats.h"
#include "text.h"
#include "time_text.h"
#include "top.h"

#define STALE_NS UINT64_C(5000000000) /* a broker publishes every 100 ms */

enum { EXIT_DONE = 0, EXIT_USAGE = 1, EXIT_NO_INSTANCE = 2, EXIT_NO_ID = 3 };

static const char *
why_no_instance(int error)
{
	switch (error) {
	case -ENOENT:
		return "there is no such file; start pgleased, or name another instance with -n";
	case -EACCES:
	case -EPERM:
		return "not permitted; ask for another stats_mode in pgleased's configuration";
	case -EPROTO:
		return "it is of another version of pglease; use the pgleasestat that came with the broker";
	case -EBADMSG:
		return "it is no pglease stats segment, or its broker has not finished starting";
	default:
		return strerror(-error);
	}
}

static int
no_instance(const struct stat_options *options, int error, FILE *err)
{
	const char *instance = options->instance;
	char names[256] = "";

	/* Nobody said which: there may be others. */
	if (error == -ENOENT && !options->instance_given)
		stat_list_names(names, sizeof(names));
	fprintf(err, "pgleasestat: cannot read instance %s (/dev/shm/pglease.%s): %s%s%s%s\n", instance, instance,
	    why_no_instance(error), names[0] != '\0' ? " (there are: " : "", names, names[0] != '\0' ? ")" : "");
	return EXIT_NO_INSTANCE;
}

static int
take_snapshot(const char *instance, struct stats_snapshot *ret_snapshot)
{
	struct stats_reader *reader;
	int r;

	r = stats_reader_open(instance, &reader);
	if (r)
		return r;
	r = stats_reader_snapshot(reader, ret_snapshot);
	stats_reader_close(reader);
	return r;
}

/* What a reader of the numbers must know about them. */
static void
warn_about(const struct stats_snapshot *snapshot, FILE *err)
{
	const struct stats_header *header = &snapshot->header;
	char age[32];

	stat_output_duration(snapshot->age_ns, age, sizeof(age));
	if (snapshot->gone)
		fprintf(err,
		    "pgleasestat: the broker of instance %s (pid %u) is gone; these are its last numbers, %s "
		    "old\n",
		    header->instance, header->broker_pid, age);
	else if (snapshot->age_ns > STALE_NS)
		fprintf(err, "pgleasestat: the broker of instance %s (pid %u) has published nothing for %s\n",
		    header->instance, header->broker_pid, age);
	if (snapshot->torn)
		fprintf(err, "pgleasestat: the numbers are torn: not all of one moment\n");
}

/* -ENODATA, which has been told, when there is no history to show. */
static int
add_history(const struct stat_options *options, struct stats_snapshot *snapshot, FILE *err)
{
	struct history_table_range range = {.step = options->step_ns};
	struct text notes = {0};
	struct timespec now;
	uint64_t now_ns;
	size_t length;
	char *said;
	int r;

	if (!options->resource[STAT_HISTORY])
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	now_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
	range.to = now_ns;
	if (time_text_parse(options->since != NULL ? options->since : "1h", now_ns, &range.from) != 0 ||
	    (options->until != NULL && time_text_parse(options->until, now_ns, &range.to) != 0))
		return -EINVAL;
	history_table_settle(&range);
	r = history_table_add(snapshot, options->id, &range, NULL, &notes);
	said = text_take(&notes, &length);
	for (char *line = said, *next; line != NULL && *line != '\0'; line = next) {
		next = line + strcspn(line, "\n");
		fprintf(err, "pgleasestat: %.*s\n", (int)(next - line), line);
		next += *next == '\n';
	}
	free(said);
	return r;
}

/* Prometheus is told that there is no broker: no file at all would be taken for one that has not been written yet. */
static void
show_nobody(const char *instance, FILE *out)
{
	struct stats_snapshot nobody = {.gone = true};
	struct stat_options options = {.format = STAT_PROMETHEUS};

	snprintf(nobody.header.instance, sizeof(nobody.header.instance), "%s", instance);
	(void)stat_output_show(&nobody, &options, out, NULL);
}

static int
check(const struct stat_options *options, FILE *out)
{
	struct stats_snapshot snapshot;
	enum check_status status;
	char why[256];
	int r = take_snapshot(options->instance, &snapshot);

	if (r) {
		snprintf(why, sizeof(why), "cannot read instance %s: %s", options->instance, why_no_instance(r));
		return (int)stat_check_unknown(why, out);
	}
	status = stat_check(&snapshot, options->id, out);
	stats_snapshot_fini(&snapshot);
	return (int)status;
}

static int
list(const struct stat_options *options, FILE *out, FILE *err)
{
	int r = stat_list(options, out);

	if (r == 0)
		return EXIT_DONE;
	fprintf(err, "pgleasestat: cannot look for instances in /dev/shm: %s\n", strerror(-r));
	return EXIT_USAGE;
}

static int
show_once(const struct stat_options *options, FILE *out, FILE *err)
{
	struct stats_snapshot snapshot;
	int r, status = EXIT_DONE;

	r = take_snapshot(options->instance, &snapshot);
	if (r) {
		if (r == -ENOENT && options->format == STAT_PROMETHEUS)
			show_nobody(options->instance, out);
		return no_instance(options, r, err);
	}
	if (snapshot.header.off && !snapshot.gone && options->format != STAT_PROMETHEUS) {
		fprintf(err,
		    "pgleasestat: monitoring is off for instance %s (broker pid %u; monitoring = no in its "
		    "configuration): there are no numbers\n",
		    snapshot.header.instance, snapshot.header.broker_pid);
		stats_snapshot_fini(&snapshot);
		return EXIT_NO_INSTANCE;
	}
	warn_about(&snapshot, err);
	if (snapshot.gone)
		status = EXIT_NO_INSTANCE;
	r = add_history(options, &snapshot, err);
	if (r == -ENODATA) {
		stats_snapshot_fini(&snapshot);
		return EXIT_NO_INSTANCE;
	}
	if (r == 0)
		r = stat_output_show(&snapshot, options, out, err);
	stats_snapshot_fini(&snapshot);
	if (r == -ENOENT)
		return EXIT_NO_ID;
	if (r == -EINVAL)
		return EXIT_USAGE;
	if (r) {
		fprintf(err, "pgleasestat: %s\n", strerror(-r));
		return EXIT_USAGE;
	}
	return status;
}

/* The next turn: a whole number of intervals after the one before. Turns that were missed (it was stopped, or slow) are not made up
 * for. */
static void
wait_for_turn(struct timespec *turn, uint64_t interval_ns)
{
	uint64_t second = UINT64_C(1000000000), next = (uint64_t)turn->tv_sec * second + (uint64_t)turn->tv_nsec + interval_ns, now;
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * second + (uint64_t)ts.tv_nsec;
	if (next < now)
		next += (now - next) / interval_ns * interval_ns;
	*turn = (struct timespec){.tv_sec = (time_t)(next / second), .tv_nsec = (long)(next % second)};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, turn, NULL) == EINTR)
		;
}

static int
watch(const struct stat_options *options, FILE *out, FILE *err)
{
	struct timespec next;
	int status;

	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		status = show_once(options, out, err);
		if (status != EXIT_DONE)
			return status;
		if (options->format == STAT_TABLE)
			fputc('\n', out);
		if (fflush(out))
			return EXIT_DONE; /* whoever closes the stream reports it */
		wait_for_turn(&next, options->interval_ns);
	}
}

static int
list_columns(const struct stat_options *options, FILE *out, FILE *err)
{
	struct stats_snapshot snapshot;
	int r;

	if (take_snapshot(options->instance, &snapshot) == 0) {
		r = stat_output_list_columns(&snapshot, options, out);
		stats_snapshot_fini(&snapshot);
	} else {
		r = stat_output_list_columns(NULL, options, out);
	}
	if (r == 0)
		return EXIT_DONE;
	fprintf(err, "pgleasestat: %s\n", strerror(ENOMEM));
	return EXIT_USAGE;
}

/* Who checks takes a 1 for a warning, also that of a wrong command line. */
static bool
wants_check(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--check") == 0)
			return true;
	return false;
}

int
stat_run(int argc, char **argv, FILE *out, FILE *err)
{
	struct stat_options options;

	if (stat_options_parse(argc, argv, err, &options))
		return wants_check(argc, argv) ? (int)stat_check_unknown("wrong usage", out) : EXIT_USAGE;
	/* For the width of characters in tables; what scripts read is the same in every locale. */
	if (options.format == STAT_TABLE)
		setlocale(LC_CTYPE, "");
	switch (options.action) {
	case STAT_HELP:
		stat_options_usage(out);
		return EXIT_DONE;
	case STAT_VERSION:
		fputs("pgleasestat " PACKAGE_VERSION "\n", out);
		return EXIT_DONE;
	case STAT_LIST:
		return list(&options, out, err);
	case STAT_CHECK:
		return check(&options, out);
	case STAT_TOP:
		return top_run(&options, err) == 0 ? EXIT_DONE : EXIT_USAGE;
	case STAT_LIST_COLUMNS:
		return list_columns(&options, out, err);
	case STAT_SHOW:
		break;
	}
	return options.interval_ns != 0 ? watch(&options, out, err) : show_once(&options, out, err);
}
