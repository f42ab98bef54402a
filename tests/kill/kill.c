/* SPDX-License-Identifier: PostgreSQL */
/* Starts what is asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"
#include "pairs.h"
#include "report.h"
#include "scenarios.h"
#include "stand.h"
#include "sweep.h"

int
main(int argc, char **argv)
{
	unsigned points = argc > 1 ? (unsigned)atoi(argv[1]) : 10;

	/* Symbols are resolved at the start: a call is one to its function, never to the linker. */
	if (getenv("LD_BIND_NOW") == NULL) {
		setenv("LD_BIND_NOW", "1", 1);
		execv("/proc/self/exe", argv);
	}
	sweep_run(argc > 2 ? argv[2] : "", points);
	pairs_run(argc > 2 ? argv[2] : "", points);
	stand_run(argc > 2 ? argv[2] : "", points);
	broker_run(argc > 2 ? argv[2] : "", points);
	if (!stage_stop())
		return EXIT_FAILURE;
	return report_finish();
}
