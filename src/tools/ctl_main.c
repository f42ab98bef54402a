/* SPDX-License-Identifier: PostgreSQL */
/* pgleasectl: starts things, and reports what could not be written. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl_run.h"

int
main(int argc, char **argv)
{
	int status, failed;

	status = ctl_run(argc, argv, stdout, stderr);
	failed = ferror(stdout);
	errno = 0;
	/* A full disk shows at the latest here. */
	if (fclose(stdout) || failed) {
		fprintf(stderr, "pgleasectl: cannot write the output: %s\n",
		    errno != 0 ? strerror(errno) : "an earlier write failed");
		return 1;
	}
	return status;
}
