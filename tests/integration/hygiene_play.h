/* SPDX-License-Identifier: PostgreSQL */
/* Between the runner (hygiene.c) and the ways in which one lease follows another (hygiene_play.c). */
#ifndef PGLEASE_TESTS_HYGIENE_PLAY_H
#define PGLEASE_TESTS_HYGIENE_PLAY_H

#include "hygiene.h"

enum play_end {
	PLAY_RELEASED,
	PLAY_DIED, /* killed, with the lease */
	PLAY_CUT_OFF, /* its control connection ends: the lease is revoked, and the process lives */
};

enum play_next {
	PLAY_FRESH, /* another process, with no PGconn for the slot yet */
	PLAY_WARM, /* another process, with a PGconn from before */
	PLAY_WAITING, /* another process, with a PGconn from before, and waiting when the lease ends */
	PLAY_SAME, /* the same thread at once */
	PLAY_SAME_AFTER, /* the same thread, after a lease of another process's */
	PLAY_SAME_WAITING, /* another thread of the same process, waiting when the lease ends */
};

struct play_way {
	const char *name;
	enum play_end end;
	enum play_next next;
};
extern const struct play_way play_ways[];
extern const size_t play_nways;

struct play {
	const struct hygiene_policy *policy;
	const struct play_way *way;
};

/* Whether the case can show anything in this way. */
bool play_fits(const struct hygiene_case *c, const struct play_way *way);
void play(const struct hygiene_case *c, const struct play *play);

/* hygiene.c: what the case leaves; and whether it is found. */
void hygiene_leave(const struct hygiene_case *c, PGconn *conn);
const char *hygiene_look(const struct hygiene_case *c, PGconn *conn);

#endif
