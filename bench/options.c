/* SPDX-License-Identifier: PostgreSQL */
/* The command line that all benchmarks share. Owns nothing: the texts are those of argv. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const size_names[OPTIONS_SIZES] = {"full", "quick", "smoke"};

static void __attribute__((noreturn))
usage(const struct options_sizes *sizes, const char *wrong)
{
	if (wrong != NULL)
		fprintf(stderr, "%s: cannot use '%s'\n", program_invocation_short_name, wrong);
	fprintf(stderr, "Usage: %s [--size full|quick|smoke] [--rounds N] [--json FILE]", program_invocation_short_name);
	if (sizes->seconds[OPTIONS_FULL] > 0)
		fputs(" [--seconds S]", stderr);
	if (sizes->workers[OPTIONS_FULL][0] != 0)
		fputs(" [--workers N,...]", stderr);
	if (sizes->choice != NULL) {
		fputs(" [--only NAME,...]\nNames:", stderr);
		for (unsigned i = 0; sizes->choice(i) != NULL; i++)
			fprintf(stderr, " %s", sizes->choice(i));
	}
	fputc('\n', stderr);
	exit(1);
}

static bool
in_list(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = list; at != NULL; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
			return true;
	}
	return false;
}

/* Whether all that the list names is known. */
static bool
all_known(const char *list, const struct options_sizes *sizes)
{
	unsigned named = 1, known = 0;

	for (const char *at = list; (at = strchr(at, ',')) != NULL; at++)
		named++;
	for (unsigned i = 0; sizes->choice(i) != NULL; i++)
		known += in_list(list, sizes->choice(i));
	return named == known;
}

static bool
parse_numbers(const char *text, unsigned max, unsigned ret[], unsigned n)
{
	unsigned i = 0;
	char *end;

	for (;; text = end + 1) {
		unsigned long value = strtoul(text, &end, 10);

		if (end == text || value == 0 || value > max || i == n)
			return false;
		ret[i++] = (unsigned)value;
		if (*end == '\0')
			break;
		if (*end != ',')
			return false;
	}
	for (; i < n; i++)
		ret[i] = 0;
	return true;
}

/* The broker and its tools are where this program is, unless the environment says where. */
static void
find_build_folder(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n <= 0)
		return;
	path[n] = '\0';
	*strrchr(path, '/') = '\0';
	setenv("PGLEASE_BUILDDIR", path, 0);
}

static bool
parse_size(const char *text, const struct options_sizes *sizes, struct options *ret)
{
	for (unsigned i = 0; i < OPTIONS_SIZES; i++)
		if (strcmp(text, size_names[i]) == 0) {
			ret->size = (enum options_size)i;
			ret->rounds = sizes->rounds[i];
			ret->seconds = sizes->seconds[i];
			memcpy(ret->workers, sizes->workers[i], sizeof(sizes->workers[i]));
			return true;
		}
	return false;
}

void
options_parse(int argc, char **argv, const struct options_sizes *sizes, struct options *ret_options)
{
	static const struct option known[] = {{"size", required_argument, NULL, 'z'},
	    {"rounds", required_argument, NULL, 'r'}, {"seconds", required_argument, NULL, 's'},
	    {"workers", required_argument, NULL, 'w'}, {"only", required_argument, NULL, 'o'},
	    {"json", required_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
	struct options options = {.size = OPTIONS_FULL};
	const char *size = "full";
	int c;

	/* The size first: what else is given changes it. */
	opterr = 0;
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
		if (c == 'z')
			size = optarg;
	if (!parse_size(size, sizes, &options))
		usage(sizes, size);
	optind = 1;
	opterr = 1;
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		bool good = true;
		char *end;

		switch (c) {
		case 'z':
			break;
		case 'r':
			good = parse_numbers(optarg, 10000, &options.rounds, 1);
			break;
		case 's':
			options.seconds = strtod(optarg, &end);
			good = sizes->seconds[OPTIONS_FULL] > 0 && *end == '\0' && options.seconds > 0;
			break;
		case 'w':
			good = sizes->workers[OPTIONS_FULL][0] != 0 &&
			    parse_numbers(optarg, 4096, options.workers, OPTIONS_WORKERS_MAX);
			break;
		case 'o':
			options.only = optarg;
			good = sizes->choice != NULL && all_known(optarg, sizes);
			break;
		case 'j':
			options.json = optarg;
			break;
		default:
			usage(sizes, NULL);
		}
		if (!good)
			usage(sizes, optarg);
	}
	if (optind < argc)
		usage(sizes, argv[optind]);
	find_build_folder();
	*ret_options = options;
}

bool
options_want(const struct options *options, const char *name)
{
	return options->only == NULL || in_list(options->only, name);
}

unsigned
options_count(const struct options *options, unsigned full)
{
	static const unsigned part[OPTIONS_SIZES] = {1, 10, 100};

	return full / part[options->size] != 0 ? full / part[options->size] : 1;
}
