/* SPDX-License-Identifier: PostgreSQL */
/* Two meet at each of their steps. */
#ifndef PGLEASE_TESTS_KILL_PAIRS_H
#define PGLEASE_TESTS_KILL_PAIRS_H

/* All pairs whose name begins with `only`; at most `points` meetings of each kind (0: all). */
void pairs_run(const char *only, unsigned points);

/* What happens while a victim stands still. */
struct pair_place {
	int pid, socket; /* the victim's; to its canceller */
	unsigned pool;
};
/*
 * Its control connection is cut: the broker fences it and takes its lease back. NEXT has the slot before it
 * goes on.
 */
void pair_revoke(const struct pair_place *place);
/* The canceller says that its cancel has returned. */
void pair_hear_cancel(int socket);
/* A cancel of its lease is sent, and returns. */
void pair_cancel(const struct pair_place *place);
/* The same, but the server does not take cancels, so that it is still in flight when the victim goes on. */
void pair_cancel_and_wait(const struct pair_place *place);

#endif
