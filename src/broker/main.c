/* SPDX-License-Identifier: PostgreSQL */
/* pgleased: everything is in the library, so that tests can link it. */
#include "daemon.h"

int
main(int argc, char **argv)
{
	return daemon_main(argc, argv);
}
