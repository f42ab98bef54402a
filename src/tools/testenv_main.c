/* SPDX-License-Identifier: PostgreSQL */
/* pglease-testenv: starts things. */
#include "testenv.h"

int
main(int argc, char **argv)
{
	return testenv(argc, argv, stdout, stderr);
}
