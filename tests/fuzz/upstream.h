/* SPDX-License-Identifier: PostgreSQL */
/*
 * A server for fuzz_broker.c, in its event loop: it plays PostgreSQL as far as the broker talks to one (start-up, resets,
 * keepalives, cancels), or, when it is told to, says the input's bytes instead.
 */
#ifndef PGLEASE_TESTS_FUZZ_UPSTREAM_H
#define PGLEASE_TESTS_FUZZ_UPSTREAM_H

#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>

/* Listens in `dir`, which must be there, as a server of port 5432. */
void upstream_start(struct event_base *base, const char *dir);
void upstream_stop(void);
/* The next answers are these bytes, kept by the caller; NULL: the right ones again. */
void upstream_say(const uint8_t *bytes, size_t size);
/* Ends one of its connections, the n-th modulo their number. */
void upstream_hang_up(unsigned n);

#endif
