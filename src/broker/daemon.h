/* SPDX-License-Identifier: PostgreSQL */
/* pgleased's command line, and going to the background. */
#ifndef PGLEASE_BROKER_DAEMON_H
#define PGLEASE_BROKER_DAEMON_H

/* The whole program. Returns its exit status: 0, or 1 after one line on stderr. */
int daemon_main(int argc, char **argv);

#endif
