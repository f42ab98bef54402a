/* SPDX-License-Identifier: PostgreSQL */
/* The command line of pglease-testenv. */
#include "testenv.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bad_option.h"
#include "config.h"

/* clang-format off */
static const struct option long_options[] = {
	{"pools", required_argument, NULL, 'p'},
	{"pool-line", required_argument, NULL, 'P'},
	{"line", required_argument, NULL, 'l'},
	{"setup", required_argument, NULL, 's'},
	{"timeout", required_argument, NULL, 't'},
	{"json", no_argument, NULL, 'J'},
	{"output", required_argument, NULL, 'o'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};
/* clang-format on */

static void
usage(FILE *out)
{
	fputs("Usage: pglease-testenv [OPTION...] [--] COMMAND [ARGUMENT...]\n"
	      "Runs a command with a PostgreSQL and a pglease broker of its own, and tells what it left behind.\n"
	      "\n"
	      "Options:\n"
	      "  -p, --pools SPEC        pools: NAME[:MAX[:MIN]], separated by commas (app:5:1)\n"
	      "  -P, --pool-line LINE    a line for every pool's section of the broker's configuration\n"
	      "  -l, --line LINE         a line for its section [pglease]\n"
	      "  -s, --setup FILE        SQL that is executed once, and then cloned\n"
	      "  -t, --timeout SECONDS   ends the command after this\n"
	      "  -J, --json              the report as JSON\n"
	      "  -o, --output FILE       where the report goes (standard error)\n"
	      "  -q, --quiet             no report\n"
	      "  -h, --help              this help\n"
	      "  -V, --version           version\n"
	      "\n"
	      "Exit status: the command's (128 and the signal that ended it); 1 usage error, 121 it succeeded and left something\n"
	      "behind, 124 it was ended after its time, 125 no environment or report, 126 it cannot be run, 127 no such command.\n",
	    out);
}

static int __attribute__((format(printf, 2, 3))) fail(FILE *err, const char *format, ...)
{
	va_list args;

	fputs("pglease-testenv: ", err);
	va_start(args, format);
	vfprintf(err, format, args);
	va_end(args);
	fputs(" (pglease-testenv -h helps)\n", err);
	return TESTENV_USAGE;
}

/* A number that ends with ':' or the text; moves *at past it. */
static bool
read_number(char **at, unsigned *ret)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(*at, &end, 10);
	if (!isdigit((unsigned char)**at) || errno != 0 || n > 100000 || (*end != '\0' && *end != ':'))
		return false;
	*ret = (unsigned)n;
	*at = end;
	return true;
}

/* NAME[:MAX[:MIN]], cut out of the text in place. */
static bool
read_pool(char *spec, pglease_test_pool *ret)
{
	char *at = spec + strcspn(spec, ":");

	*ret = (pglease_test_pool){.name = spec};
	if (at == spec)
		return false;
	if (*at == '\0')
		return true;
	*at++ = '\0';
	if (!read_number(&at, &ret->max) || ret->max == 0)
		return false;
	if (*at == '\0')
		return true;
	at++;
	return read_number(&at, &ret->min) && *at == '\0';
}

static int
read_pools(struct testenv_options *options, const char *text, FILE *err)
{
	char *next;

	free(options->names);
	options->npools = 0;
	options->names = strdup(text);
	next = options->names;
	while (next != NULL) {
		char *spec = strsep(&next, ",");

		if (options->npools == TESTENV_MAX_POOLS || !read_pool(spec, &options->pool[options->npools]))
			return fail(err, "'%.80s': pools are NAME[:MAX[:MIN]], separated by commas, %d at most", text, TESTENV_MAX_POOLS);
		options->npools++;
	}
	return options->npools > 0 ? -1 : fail(err, "out of memory");
}

static int
add_line(char **lines, const char *line, FILE *err)
{
	char *longer;

	if (strchr(line, '\n') != NULL)
		return fail(err, "a line has no line feeds in it");
	if (asprintf(&longer, "%s%s\n", *lines != NULL ? *lines : "", line) < 0)
		return fail(err, "out of memory");
	free(*lines);
	*lines = longer;
	return -1;
}

static int
read_file(const char *path, char **ret, FILE *err)
{
	FILE *file = fopen(path, "re");
	size_t size = 0;
	ssize_t n;

	free(*ret);
	*ret = NULL;
	if (file == NULL)
		return fail(err, "%s: %s", path, strerror(errno));
	n = getdelim(ret, &size, '\0', file);
	if (n < 0 && !feof(file)) {
		int error = errno;

		fclose(file);
		return fail(err, "%s: %s", path, strerror(error));
	}
	fclose(file);
	return -1;
}

static int
take_option(struct testenv_options *options, int c, FILE *out, FILE *err)
{
	char *at = optarg;

	switch (c) {
	case 'p':
		return read_pools(options, optarg, err);
	case 'P':
		return add_line(&options->pool_extra, optarg, err);
	case 'l':
		return add_line(&options->extra, optarg, err);
	case 's':
		return read_file(optarg, &options->setup, err);
	case 't':
		if (!read_number(&at, &options->timeout_s) || *at != '\0' || options->timeout_s == 0)
			return fail(err, "'%.80s': --timeout takes seconds, from 1 to 100000", optarg);
		return -1;
	case 'J':
		options->json = true;
		return -1;
	case 'o':
		options->output = optarg;
		return -1;
	case 'q':
		options->quiet = true;
		return -1;
	case 'h':
		usage(out);
		return 0;
	default:
		fprintf(out, "pglease-testenv %s\n", PACKAGE_VERSION);
		return 0;
	}
}

int
testenv_options_read(int argc, char **argv, FILE *out, FILE *err, struct testenv_options *ret)
{
	char letter[3];
	int c, r;

	*ret = (struct testenv_options){.pool = {{.name = "app"}}, .npools = 1};
	optind = 0; /* glibc: start anew, also at a second call */
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:p:P:l:s:t:Jo:qhV", long_options, NULL)) != -1) {
		if (c == ':')
			return fail(err, "%s needs an argument", argv[optind - 1]);
		if (c == '?')
			return fail(err, "unknown option %s", bad_option(argv, long_options, letter));
		r = take_option(ret, c, out, err);
		if (r >= 0)
			return r;
	}
	if (optind >= argc)
		return fail(err, "no command");
	ret->command = argv + optind;
	for (unsigned i = 0; i < ret->npools; i++)
		ret->pool[i].extra = ret->pool_extra;
	return -1;
}

void
testenv_options_fini(struct testenv_options *options)
{
	free(options->names);
	free(options->extra);
	free(options->pool_extra);
	free(options->setup);
}
