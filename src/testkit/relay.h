/* SPDX-License-Identifier: PostgreSQL */
/*
 * A relay between an environment's broker and its server, in a process of its own: it passes on all that comes, and
 * stalls, loses, delays, cuts and refuses as it is told. Needs no privilege. pglease_test.h says what each order does.
 */
#ifndef PGLEASE_TESTKIT_RELAY_H
#define PGLEASE_TESTKIT_RELAY_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

struct guardian;

/* Written by the relay, read by whoever wants to know; relaxed: each is of use without the others. */
struct relay_counts {
	_Atomic uint64_t round_trips; /* ReadyForQuery messages of the server */
	_Atomic uint64_t connections, refused, cut;
	_Atomic uint64_t holds; /* how often bytes were held back */
};

struct relay {
	pid_t pid; /* 0: none */
	int control;
	struct relay_counts *counts;
};

enum relay_order {
	RELAY_PASS,   /* all as usual; what was held back goes on */
	RELAY_STALL,  /* nothing passes */
	RELAY_DROP,   /* what is sent is lost */
	RELAY_DELAY,  /* a: milliseconds */
	RELAY_HOLD,   /* a: bytes of the server's that still pass; b: until the client sends, else until the end */
	RELAY_CUT,    /* every connection ends */
	RELAY_REFUSE, /* a: how many; text: SQLSTATE, or "" */
	RELAY_BYPASS, /* a: 1: connections go straight to the server; 0: through the relay */
};

/* Listens in `folder` (made), for the server whose socket is in `server`. */
int relay_start(const char *folder, const char *server, const struct guardian *guardian, struct relay *ret);
/* Returns when it is done. */
int relay_tell(const struct relay *relay, enum relay_order order, int64_t a, int64_t b, const char *text);
void relay_stop(struct relay *relay);

#endif
