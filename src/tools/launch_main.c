/* SPDX-License-Identifier: PostgreSQL */
/* pglease-run: starts things. */
#include "launch.h"

int
main(int argc, char **argv)
{
	return launch(argc, argv, stdout, stderr);
}
