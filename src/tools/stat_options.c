/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat's command line: resource options add, format options replace. */
#include "stat_options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bad_option.h"
#include "history_table.h"
#include "paths.h"
#include "time_text.h"

#define MAX_INTERVAL 86400.0
#define MIN_INTERVAL 0.01

#define NOON UINT64_C(1700000000000000000) /* a moment to try times with */
#define MIN_STEP UINT64_C(1000000000)

enum {
	OPTION_NOHEADINGS = 256,
	OPTION_LIST_COLUMNS,
	OPTION_HISTORY,
	OPTION_SINCE,
	OPTION_UNTIL,
	OPTION_STEP,
	OPTION_CSV,
	OPTION_PROMETHEUS,
	OPTION_LIST,
	OPTION_CHECK,
	OPTION_TOP,
};

/* clang-format off */
static const struct option long_options[] = {
	{"pools", no_argument, NULL, 'P'},
	{"slots", no_argument, NULL, 'S'},
	{"clients", no_argument, NULL, 'C'},
	{"waiters", no_argument, NULL, 'W'},
	{"alerts", no_argument, NULL, 'A'},
	{"instance", no_argument, NULL, 'I'},
	{"history", no_argument, NULL, OPTION_HISTORY},
	{"since", required_argument, NULL, OPTION_SINCE},
	{"until", required_argument, NULL, OPTION_UNTIL},
	{"step", required_argument, NULL, OPTION_STEP},
	{"times", no_argument, NULL, 't'},
	{"pids", no_argument, NULL, 'p'},
	{"owners", no_argument, NULL, 'c'},
	{"limits", no_argument, NULL, 'l'},
	{"summary", no_argument, NULL, 'u'},
	{"list", no_argument, NULL, OPTION_LIST},
	{"check", no_argument, NULL, OPTION_CHECK},
	{"top", no_argument, NULL, OPTION_TOP},
	{"json", no_argument, NULL, 'J'},
	{"prometheus", no_argument, NULL, OPTION_PROMETHEUS},
	{"csv", no_argument, NULL, OPTION_CSV},
	{"raw", no_argument, NULL, 'r'},
	{"watch", required_argument, NULL, 'w'},
	{"name", required_argument, NULL, 'n'},
	{"id", required_argument, NULL, 'i'},
	{"output", required_argument, NULL, 'o'},
	{"noheadings", no_argument, NULL, OPTION_NOHEADINGS},
	{"bytes", no_argument, NULL, 'b'},
	{"list-columns", no_argument, NULL, OPTION_LIST_COLUMNS},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};
/* clang-format on */

const char *
stat_resource_name(unsigned resource)
{
	return resource == STAT_HISTORY ? HISTORY_TABLE_NAME : stats_table_name(resource);
}

void
stat_options_usage(FILE *out)
{
	fputs("Usage: pgleasestat [-PSCWAI] [--history [--since T] [--until T] [--step LENGTH]] [-t | -p | -c | -l | -u]\n"
	      "                   [-J | -r | --csv | --prometheus] [-b] [-n NAME] [-i ID] [-o LIST] [-w SECS]\n"
	      "       pgleasestat --top [-n NAME] [-i POOL] [-w SECS]\n"
	      "       pgleasestat --check [-n NAME] [-i POOL]\n"
	      "       pgleasestat --list [-J | -r]\n"
	      "Shows the connection pools of a pglease instance.\n"
	      "\n"
	      "What (these add; -P if none is given):\n"
	      "  -P, --pools         pools\n"
	      "  -S, --slots         slots: server connections and who leases them\n"
	      "  -C, --clients       attached processes\n"
	      "  -W, --waiters       threads that wait for a lease\n"
	      "  -A, --alerts        what the pools are watched for, and what is raised\n"
	      "  -I, --instance      the broker itself\n"
	      "      --history       what the pools did, step by step\n"
	      "      --since T       from then on: 10min, 2h, 1d (ago), 14:05, 2026-11-25T14:05:00Z (1h)\n"
	      "      --until T       likewise (now)\n"
	      "      --step LENGTH   10s, 1min, 1h (one that gives about 60 lines)\n"
	      "  -i, --id ID         only this one: a pool's name, POOL/SLOT, a client's pid, POOL/ROW, POOL/ALERT\n"
	      "  -n, --name NAME     instance ($PGLEASE_INSTANCE, else main)\n"
	      "\n"
	      "Which columns (the last wins):\n"
	      "  -t, --times         times: how long things take and last\n"
	      "  -p, --pids          processes and threads\n"
	      "  -c, --owners        whose they are\n"
	      "  -l, --limits        limits, and how near they are\n"
	      "  -u, --summary       sums instead of rows\n"
	      "  -o, --output LIST   these columns, comma-separated\n"
	      "\n"
	      "How (the last of -J, -r, --csv and --prometheus wins):\n"
	      "  -J, --json          one JSON document with every column\n"
	      "  -r, --raw           for scripts: no padding, exact numbers\n"
	      "      --csv           comma-separated values, exact numbers\n"
	      "      --prometheus    everything as Prometheus text\n"
	      "  -b, --bytes         exact numbers: seconds instead of 1.5ms, bytes instead of 1.5M\n"
	      "      --noheadings    no heading line\n"
	      "  -w, --watch SECS    again every SECS seconds\n"
	      "\n"
	      "Instead:\n"
	      "      --top           on the whole screen, kept up to date; h shows the keys\n"
	      "      --check         one line for monitoring systems; status 0 ok, 1 degraded, 2 down, 3 unknown\n"
	      "      --list          the instances on this host\n"
	      "      --list-columns  list the columns and end\n"
	      "  -h, --help          this help\n"
	      "  -V, --version       version\n"
	      "\n"
	      "Exit status: 0 done, 1 usage or write error, 2 no such instance or its broker is gone, 3 no "
	      "such ID.\n",
	    out);
}

static int __attribute__((format(printf, 2, 3))) fail(FILE *err, const char *format, ...)
{
	va_list args;

	fputs("pgleasestat: ", err);
	va_start(args, format);
	vfprintf(err, format, args);
	va_end(args);
	fputs(" (pgleasestat -h helps)\n", err);
	return -EINVAL;
}

static int
parse_interval(const char *text, uint64_t *ret_ns)
{
	char *end;
	double seconds;

	seconds = strtod(text, &end);
	if (end == text || *end != '\0' || !isfinite(seconds) || seconds < MIN_INTERVAL ||
	    seconds > MAX_INTERVAL)
		return -EINVAL;
	*ret_ns = (uint64_t)(seconds * 1e9);
	return 0;
}

static int
check_combination(const struct stat_options *options, FILE *err)
{
	unsigned chosen = 0;

	for (unsigned i = 0; i < STAT_NRESOURCES; i++)
		chosen += options->resource[i];
	if (!options->resource[STAT_HISTORY] && (options->since != NULL || options->until != NULL || options->step_ns != 0))
		return fail(err, "--since, --until and --step are about the --history");
	if (options->action == STAT_TOP && (options->format != STAT_TABLE || options->columns != NULL ||
		options->aspect != STAT_USUAL || options->resource[STAT_HISTORY]))
		return fail(err, "--top is a screen of its own: of the other options it takes -n, -i and -w");
	if (options->format == STAT_CSV && chosen != 1)
		return fail(err, "--csv has the lines of one kind: choose one of -P, -S, -C, -W, -A, -I and --history");
	if (options->id != NULL && (chosen != 1 || options->resource[STATS_INSTANCE]))
		return fail(err, "-i shows one of a kind: choose one of -P, -S, -C, -W, -A and --history");
	if (options->columns != NULL && chosen != 1)
		return fail(err, "-o chooses columns of one kind: choose one of -P, -S, -C, -W, -A, -I and --history");
	if (options->columns != NULL && options->aspect == STAT_SUMMARY)
		return fail(err, "-u has no columns: leave out -o");
	if (options->format == STAT_CSV && options->aspect == STAT_SUMMARY)
		return fail(err, "-u has no rows for --csv: leave out one of them");
	if (options->id != NULL && options->aspect == STAT_SUMMARY)
		return fail(err, "-u adds up all rows: leave out -i");
	if (options->format == STAT_PROMETHEUS && options->action == STAT_SHOW &&
	    (options->id != NULL || options->columns != NULL || options->resource[STAT_HISTORY]))
		return fail(err, "--prometheus exports everything there is now: leave out -i, -o and --history");
	if (paths_check_name(options->instance))
		return fail(err, "'%s' is no instance's name: at most 47 letters, digits, '_' and '-'",
		    options->instance);
	return 0;
}

int
stat_options_parse(int argc, char **argv, FILE *err, struct stat_options *ret_options)
{
	struct stat_options options = {0};
	char letter[3];
	uint64_t moment;
	bool any = false;
	int c, r;

	optind = 0; /* glibc: start anew, also at a second call */
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:PSCWAItpcluJrw:n:i:o:bhV", long_options, NULL)) != -1) {
		switch (c) {
		case 'P':
			options.resource[STATS_POOLS] = any = true;
			break;
		case 'S':
			options.resource[STATS_SLOTS] = any = true;
			break;
		case 'C':
			options.resource[STATS_CLIENTS] = any = true;
			break;
		case 'W':
			options.resource[STATS_WAITERS] = any = true;
			break;
		case 'A':
			options.resource[STATS_ALERTS] = any = true;
			break;
		case 'I':
			options.resource[STATS_INSTANCE] = any = true;
			break;
		case 't':
			options.aspect = STAT_TIMES;
			break;
		case 'p':
			options.aspect = STAT_PIDS;
			break;
		case 'c':
			options.aspect = STAT_OWNERS;
			break;
		case 'l':
			options.aspect = STAT_LIMITS;
			break;
		case 'u':
			options.aspect = STAT_SUMMARY;
			break;
		case OPTION_LIST:
			options.action = STAT_LIST;
			break;
		case OPTION_CHECK:
			options.action = STAT_CHECK;
			break;
		case OPTION_TOP:
			options.action = STAT_TOP;
			break;
		case OPTION_PROMETHEUS:
			options.format = STAT_PROMETHEUS;
			break;
		case OPTION_HISTORY:
			options.resource[STAT_HISTORY] = any = true;
			break;
		case OPTION_SINCE:
		case OPTION_UNTIL:
			if (time_text_parse(optarg, NOON, &moment))
				return fail(err, "'%s' is no time: " TIME_TEXT_ALLOWED, optarg);
			*(c == OPTION_SINCE ? &options.since : &options.until) = optarg;
			break;
		case OPTION_STEP:
			if (time_text_length(optarg, &options.step_ns) || options.step_ns < MIN_STEP)
				return fail(err, "--step takes " TIME_TEXT_LENGTH_ALLOWED " of at least a second, not '%s'", optarg);
			break;
		case OPTION_CSV:
			options.format = STAT_CSV;
			break;
		case 'J':
			options.format = STAT_JSON;
			break;
		case 'r':
			options.format = STAT_RAW;
			break;
		case 'w':
			if (parse_interval(optarg, &options.interval_ns))
				return fail(err, "-w takes seconds between 0.01 and 86400, not '%s'", optarg);
			break;
		case 'n':
			options.instance = optarg;
			break;
		case 'i':
			options.id = optarg;
			break;
		case 'o':
			options.columns = optarg;
			break;
		case 'b':
			options.exact = true;
			break;
		case OPTION_NOHEADINGS:
			options.noheadings = true;
			break;
		case OPTION_LIST_COLUMNS:
			options.action = STAT_LIST_COLUMNS;
			break;
		case 'h':
			options.action = STAT_HELP;
			*ret_options = options;
			return 0;
		case 'V':
			options.action = STAT_VERSION;
			*ret_options = options;
			return 0;
		case ':':
			return fail(err, "option '%s' needs a value", argv[optind - 1]);
		default:
			return fail(err, "unknown option '%s'", bad_option(argv, long_options, letter));
		}
	}
	if (optind < argc)
		return fail(err, "unexpected argument '%s'", argv[optind]);
	if (!any)
		options.resource[STATS_POOLS] = true;
	options.instance_given = options.instance != NULL || getenv("PGLEASE_INSTANCE") != NULL;
	options.instance = paths_instance(options.instance);
	r = check_combination(&options, err);
	if (r)
		return r;
	*ret_options = options;
	return 0;
}
