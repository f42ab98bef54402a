/* SPDX-License-Identifier: PostgreSQL */
/*
 * pglease-run: its options go into the environment, where the preloaded library and the children find them, and the command takes
 * its place.
 */
#include "launch.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bad_option.h"
#include "config.h"
#include "paths.h"

#define LIBRARY "libpglease-preload.so"
#define BUILT ".libs/" LIBRARY /* beside the program, in a build folder */

enum { EXIT_USAGE = 1, EXIT_CANNOT = 126, EXIT_NOT_FOUND = 127 }; /* the latter as env(1), nohup(1) and the shells */

/* clang-format off */
static const struct option long_options[] = {
	{"name", required_argument, NULL, 'n'},
	{"pool", required_argument, NULL, 'p'},
	{"fallback", required_argument, NULL, 'f'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};
/* clang-format on */

static void
usage(FILE *out)
{
	fputs("Usage: pglease-run [-n NAME] [-p POOL] [-f direct|error] [--] COMMAND [ARGUMENT...]\n"
	      "Runs a command that leases its PostgreSQL connections from a pglease instance.\n"
	      "\n"
	      "Options:\n"
	      "  -n, --name NAME         instance ($PGLEASE_INSTANCE, else main)\n"
	      "  -p, --pool POOL         lease every connection from this pool, whatever it names\n"
	      "  -f, --fallback HOW      without a broker: direct (connect to the server) or error\n"
	      "  -h, --help              this help\n"
	      "  -V, --version           version\n"
	      "\n"
	      "Exit status: the command's; 1 usage error, 126 the command or the library cannot be used, 127 no such command.\n",
	    out);
}

static int __attribute__((format(printf, 3, 4))) fail(FILE *err, int status, const char *format, ...)
{
	va_list args;

	fputs("pglease-run: ", err);
	va_start(args, format);
	vfprintf(err, format, args);
	va_end(args);
	fputc('\n', err);
	return status;
}

/* The library beside this program, when it has not been installed; else where it is installed. */
static int
find_library(char *buf, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", buf, size - 1);
	char *slash;

	if (n > 0) {
		buf[n] = '\0';
		slash = strrchr(buf, '/');
		if (slash != NULL && (size_t)(slash + 1 - buf) + sizeof(BUILT) <= size) {
			strcpy(slash + 1, BUILT);
			if (access(buf, R_OK) == 0)
				return 0;
		}
	}
	if ((size_t)snprintf(buf, size, "%s", PGLEASE_LIBDIR "/" LIBRARY) >= size)
		return -ENAMETOOLONG;
	return access(buf, R_OK) == 0 ? 0 : -errno;
}

/* Before what is preloaded already. */
static int
preload(const char *library)
{
	const char *before = getenv("LD_PRELOAD");
	char *value;
	int r;

	if (before == NULL || *before == '\0')
		return setenv("LD_PRELOAD", library, 1);
	if (strstr(before, LIBRARY) != NULL)
		return 0;
	if (asprintf(&value, "%s:%s", library, before) < 0)
		return -1;
	r = setenv("LD_PRELOAD", value, 1);
	free(value);
	return r;
}

int
launch(int argc, char **argv, FILE *out, FILE *err)
{
	const char *pool = NULL, *instance = NULL, *fallback = NULL;
	char library[1024], letter[3];
	int c, r;

	optind = 0; /* glibc: start anew, also at a second call */
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:n:p:f:hV", long_options, NULL)) != -1) {
		switch (c) {
		case 'n':
			instance = optarg;
			break;
		case 'p':
			pool = optarg;
			break;
		case 'f':
			fallback = optarg;
			break;
		case 'h':
			usage(out);
			return 0;
		case 'V':
			fprintf(out, "pglease-run %s\n", PACKAGE_VERSION);
			return 0;
		case ':':
			return fail(err, EXIT_USAGE, "%s needs an argument (pglease-run -h helps)", argv[optind - 1]);
		default:
			return fail(err, EXIT_USAGE, "unknown option %s (pglease-run -h helps)",
			    bad_option(argv, long_options, letter));
		}
	}
	if (optind >= argc)
		return fail(err, EXIT_USAGE, "no command (pglease-run -h helps)");
	if (instance != NULL && paths_check_name(instance) != 0)
		return fail(err, EXIT_USAGE, "'%.80s' is no instance's name: 1 to 47 letters, digits, '_' or '-'", instance);
	if (fallback != NULL && strcmp(fallback, "direct") != 0 && strcmp(fallback, "error") != 0)
		return fail(err, EXIT_USAGE, "'%.80s': --fallback takes direct or error", fallback);
	r = find_library(library, sizeof(library));
	if (r != 0)
		return fail(err, EXIT_CANNOT, "%s: %s: is pglease installed as it was built?", library, strerror(-r));
	/* The dynamic linker would take the name for several. */
	if (strpbrk(library, ": ") != NULL)
		return fail(err, EXIT_CANNOT, "%s: a blank or colon in this name cannot be preloaded", library);
	if (preload(library) != 0 || (instance != NULL && setenv("PGLEASE_INSTANCE", instance, 1) != 0) ||
	    (pool != NULL && setenv("PGLEASE_POOL", pool, 1) != 0) ||
	    (fallback != NULL && setenv("PGLEASE_FALLBACK", fallback, 1) != 0))
		return fail(err, EXIT_CANNOT, "cannot set the environment: %s", strerror(errno));
	execvp(argv[optind], argv + optind);
	r = errno;
	return fail(err, r == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT, "%s: %s", argv[optind], strerror(r));
}
