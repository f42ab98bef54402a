/* SPDX-License-Identifier: PostgreSQL */
/*
 * A gate between a broker and its server, in a process of its own: it passes on all that comes, and can
 * hold back what the server says from a given byte on. So a message is where a network would leave it for
 * a while: in part here, in part there.
 */
#ifndef PGLEASE_TESTS_GATE_H
#define PGLEASE_TESTS_GATE_H

#include "it.h"

enum gate_opens {
	GATE_WHEN_ASKED, /* when the client sends the next byte: what was held comes before the answer */
	GATE_WHEN_ENDED, /* never: the connection's end takes it along */
};

struct gate {
	char folder[200]; /* where the server seems to be: a `host` for libpq */
	struct it_worker worker;
};

/* Between `folder` (made here; removed with the environment's) and the socket of the environment's server. */
void gate_start(struct gate *gate, const char *folder);
/* Of what any server says from now on, this many bytes pass. Returns when that is so. */
void gate_hold(const struct gate *gate, unsigned bytes, enum gate_opens opens);
/* Waits until bytes are held. */
void gate_await_held(const struct gate *gate);
void gate_stop(struct gate *gate);

#endif
