/* SPDX-License-Identifier: PostgreSQL */
/* pgleasectl's command line. The verbs and what they take are the list of src/shm/command.h. */
#include "ctl_options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bad_option.h"
#include "paths.h"

#define MAX_TIMEOUT 86400.0

/* clang-format off */
static const struct option long_options[] = {
	{"name", required_argument, NULL, 'n'},
	{"socket-dir", required_argument, NULL, 's'},
	{"json", no_argument, NULL, 'J'},
	{"timeout", required_argument, NULL, 't'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};
/* clang-format on */

void
ctl_options_usage(FILE *out)
{
	fputs("Usage: pgleasectl [-n NAME] [-s FOLDER] [-t SECS] [-J] COMMAND\n"
	      "Controls the broker of a pglease instance.\n"
	      "\n"
	      "Commands:\n",
	    out);
	for (unsigned i = 0; i < command_nverbs; i++) {
		const struct command_verb *v = &command_verbs[i];

		fprintf(out, "  %s%s%-*s %s\n", v->name, *v->argument != '\0' ? " " : "",
		    (int)(22 - strlen(v->name) - (*v->argument != '\0')), v->argument, v->help);
	}
	fputs("\n"
	      "Options:\n"
	      "  -n, --name NAME         instance ($PGLEASE_INSTANCE, else main)\n"
	      "  -s, --socket-dir FOLDER folder of the broker's sockets ($PGLEASE_SOCKET_DIR, else by the "
	      "name)\n"
	      "  -t, --timeout SECS      how long pause, kill, drain, wait-close and stop wait for leases (else the\n"
	      "                          instance's drain_timeout),\n"
	      "                          and restart for what is under way (else 1)\n"
	      "  -J, --json              status, show, or the result of restart, as one JSON document\n"
	      "  -h, --help              this help\n"
	      "  -V, --version           version\n"
	      "\n"
	      "Exit status: 0 done, 1 usage or write error, 2 no such instance, 3 refused or failed, 4 out "
	      "of time.\n",
	    out);
}

static int __attribute__((format(printf, 2, 3))) fail(FILE *err, const char *format, ...)
{
	va_list args;

	fputs("pgleasectl: ", err);
	va_start(args, format);
	vfprintf(err, format, args);
	va_end(args);
	fputs(" (pgleasectl -h helps)\n", err);
	return -EINVAL;
}

static int
parse_timeout(const char *text, int *ret_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end != '\0' || !isfinite(seconds) || seconds < 0 || seconds > MAX_TIMEOUT)
		return -EINVAL;
	*ret_ms = (int)(seconds * 1e3);
	return 0;
}

static int
parse_command(int argc, char **argv, FILE *err, struct ctl_options *options)
{
	if (argc == 0)
		return fail(err, "no command");
	options->verb = command_find(argv[0]);
	if (options->verb == NULL)
		return fail(err, "unknown command '%s'", argv[0]);
	options->argument = "";
	if (argc > 1 && *options->verb->argument == '\0')
		return fail(err, "%s takes no argument: '%s'", argv[0], argv[1]);
	if (argc > 2)
		return fail(err, "%s takes one argument: '%s'", argv[0], argv[2]);
	if (argc == 1 && *options->verb->argument != '\0' && *options->verb->argument != '[')
		return fail(err, "%s needs %s", argv[0], options->verb->argument);
	if (argc > 1) {
		options->argument = argv[1];
		if (strlen(argv[1]) >= sizeof(((struct wire_command *)0)->argument))
			return fail(err, "the argument of %s is too long", argv[0]);
		if (strstr("[POOL]", options->verb->argument) != NULL && paths_check_name(argv[1]) != 0)
			return fail(
			    err, "'%s' is no pool's name: at most 47 letters, digits, '_' and '-'", argv[1]);
	}
	if (options->json && strcmp(options->verb->name, "status") != 0 && strcmp(options->verb->name, "show") != 0 &&
	    strcmp(options->verb->name, "restart") != 0)
		return fail(err, "-J goes with status, show and restart");
	return 0;
}

int
ctl_options_parse(int argc, char **argv, FILE *err, struct ctl_options *ret_options)
{
	struct ctl_options options = {.timeout_ms = -1};
	char letter[3];
	int c, r;

	optind = 0; /* glibc: start anew, also at a second call */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":n:s:t:JhV", long_options, NULL)) != -1) {
		switch (c) {
		case 'n':
			options.instance = optarg;
			break;
		case 's':
			options.socket_dir = optarg;
			break;
		case 't':
			if (parse_timeout(optarg, &options.timeout_ms))
				return fail(err, "-t takes seconds between 0 and 86400, not '%s'", optarg);
			break;
		case 'J':
			options.json = true;
			break;
		case 'h':
		case 'V':
			options.action = c == 'h' ? CTL_HELP : CTL_VERSION;
			*ret_options = options;
			return 0;
		case ':':
			return fail(err, "option '%s' needs a value", argv[optind - 1]);
		default:
			return fail(err, "unknown option '%s'", bad_option(argv, long_options, letter));
		}
	}
	options.instance = paths_instance(options.instance);
	if (paths_check_name(options.instance) != 0)
		return fail(err, "'%s' is no instance's name: at most 47 letters, digits, '_' and '-'",
		    options.instance);
	r = parse_command(argc - optind, argv + optind, err, &options);
	if (r == 0)
		*ret_options = options;
	return r;
}
