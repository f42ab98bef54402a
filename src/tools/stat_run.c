/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat as a whole: takes a snapshot, says what is wrong with it, shows it, and does so again with -w. */
#include "config.h"

#include "stat_run.h"

#include <errno.h>
#include <locale.h>
#include <string.h>
#include <time.h>

#include "stat_history.h"
#include "stat_options.h"
#include "stat_output.h"
#include "stat_time.h"
#include "stats.h"

#define STALE_NS UINT64_C(5000000000) /* a broker publishes every 100 ms */

enum { EXIT_DONE = 0, EXIT_USAGE = 1, EXIT_NO_INSTANCE = 2, EXIT_NO_ID = 3 };

static int
no_instance(const char *instance, int error, FILE *err)
{
	const char *why;

	switch (error) {
	case -ENOENT:
		why = "there is no such file; start pgleased, or name another instance with -n";
		break;
	case -EACCES:
	case -EPERM:
		why = "not permitted; ask for another stats_mode in pgleased's configuration";
		break;
	case -EPROTO:
		why = "it is of another version of pglease; use the pgleasestat that came with the broker";
		break;
	case -EBADMSG:
		why = "it is no pglease stats segment, or its broker has not finished starting";
		break;
	default:
		why = strerror(-error);
	}
	fprintf(
	    err, "pgleasestat: cannot read instance %s (/dev/shm/pglease.%s): %s\n", instance, instance, why);
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
	struct stat_history_range range = {.step = options->step_ns};
	struct timespec now;
	uint64_t now_ns;

	if (!options->resource[STAT_HISTORY])
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	now_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
	range.to = now_ns;
	if (stat_time_parse(options->since != NULL ? options->since : "1h", now_ns, &range.from) != 0 ||
	    (options->until != NULL && stat_time_parse(options->until, now_ns, &range.to) != 0))
		return -EINVAL;
	stat_history_settle(&range);
	return stat_history_add(snapshot, options->id, &range, err);
}

static int
show_once(const struct stat_options *options, FILE *out, FILE *err)
{
	struct stats_snapshot snapshot;
	int r, status = EXIT_DONE;

	r = take_snapshot(options->instance, &snapshot);
	if (r)
		return no_instance(options->instance, r, err);
	if (snapshot.header.off && !snapshot.gone) {
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
		next.tv_sec += (time_t)(options->interval_ns / 1000000000);
		next.tv_nsec += (long)(options->interval_ns % 1000000000);
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR)
			;
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

int
stat_run(int argc, char **argv, FILE *out, FILE *err)
{
	struct stat_options options;

	if (stat_options_parse(argc, argv, err, &options))
		return EXIT_USAGE;
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
	case STAT_LIST_COLUMNS:
		return list_columns(&options, out, err);
	case STAT_SHOW:
		break;
	}
	return options.interval_ns != 0 ? watch(&options, out, err) : show_once(&options, out, err);
}
