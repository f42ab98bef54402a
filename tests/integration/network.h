/* SPDX-License-Identifier: PostgreSQL */
/*
 * A network of the test's own: three namespaces in a row. What is sent from the near one to the far one, or back, passes through the
 * one between, or is lost there without a word. None of them has a name: they go with the last process that is in them.
 */
#ifndef PGLEASE_TESTS_NETWORK_H
#define PGLEASE_TESTS_NETWORK_H

#include <stdbool.h>

#define NETWORK_FAR "10.213.2.2"   /* who is in the far one listens there */
#define NETWORK_ALL "10.213.0.0/16"

enum network_place { NETWORK_PLACE_NEAR, NETWORK_PLACE_BETWEEN, NETWORK_PLACE_FAR, NETWORK_NPLACES };

/* Needs root, and iproute2: without them the test fails. Before the environment: descriptors stay open. The thread is in the far one then. */
void network_make(void);
/* The calling thread, and what it starts from now on, is there. Unix sockets are where they were. */
void network_enter(enum network_place place);
void network_pass(bool passes);

#endif
