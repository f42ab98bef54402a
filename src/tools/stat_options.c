/* SPDX-License-Identifier: PostgreSQL */
/* pgleasestat's command line: resource options add, format options replace. */
#include "stat_options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "paths.h"

#define MAX_INTERVAL 86400.0
#define MIN_INTERVAL 0.01

enum { OPTION_NOHEADINGS = 256, OPTION_LIST_COLUMNS };

/* clang-format off */
static const struct option long_options[] = {
	{"pools", no_argument, NULL, 'P'},
	{"slots", no_argument, NULL, 'S'},
	{"clients", no_argument, NULL, 'C'},
	{"waiters", no_argument, NULL, 'W'},
	{"json", no_argument, NULL, 'J'},
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

void
stat_options_usage(FILE *out)
{
	fputs("Usage: pgleasestat [-PSCW] [-J | -r] [-b] [-n NAME] [-i ID] [-o LIST] [-w SECS]\n"
	      "Shows the connection pools of a pglease instance.\n"
	      "\n"
	      "What (these add; -P if none is given):\n"
	      "  -P, --pools         pools\n"
	      "  -S, --slots         slots: server connections and who leases them\n"
	      "  -C, --clients       attached processes\n"
	      "  -W, --waiters       threads that wait for a lease\n"
	      "  -i, --id ID         only this one: a pool's name, POOL/SLOT, a client's pid, POOL/ROW\n"
	      "  -n, --name NAME     instance ($PGLEASE_INSTANCE, else main)\n"
	      "\n"
	      "How (the last of -J and -r wins):\n"
	      "  -J, --json          one JSON document with every column\n"
	      "  -r, --raw           for scripts: no padding, exact numbers\n"
	      "  -b, --bytes         exact numbers: seconds instead of 1.5ms\n"
	      "  -o, --output LIST   these columns, comma-separated\n"
	      "      --noheadings    no heading line\n"
	      "      --list-columns  list the columns and end\n"
	      "  -w, --watch SECS    again every SECS seconds\n"
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

	for (unsigned i = 0; i < STATS_NTABLES; i++)
		chosen += options->resource[i];
	if (options->id != NULL && chosen != 1)
		return fail(err, "-i shows one of a kind: choose one of -P, -S, -C and -W");
	if (options->columns != NULL && chosen != 1)
		return fail(err, "-o chooses columns of one kind: choose one of -P, -S, -C and -W");
	if (paths_check_name(options->instance))
		return fail(err, "'%s' is no instance's name: at most 47 letters, digits, '_' and '-'",
		    options->instance);
	return 0;
}

int
stat_options_parse(int argc, char **argv, FILE *err, struct stat_options *ret_options)
{
	struct stat_options options = {0};
	bool any = false;
	int c, r;

	optind = 0; /* glibc: start anew, also at a second call */
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:PSCWJrw:n:i:o:bhV", long_options, NULL)) != -1) {
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
			if (optopt != 0 && optopt < 256)
				return fail(err, "unknown option '-%c'", optopt);
			return fail(err, "unknown option '%s'", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return fail(err, "unexpected argument '%s'", argv[optind]);
	if (!any)
		options.resource[STATS_POOLS] = true;
	options.instance = paths_instance(options.instance);
	r = check_combination(&options, err);
	if (r)
		return r;
	*ret_options = options;
	return 0;
}
