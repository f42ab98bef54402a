/* SPDX-License-Identifier: PostgreSQL */
/* Finding a slot for a thread's row: at once (claim) or after waiting. */
#ifndef PGLEASE_CLIENT_CLAIM_H
#define PGLEASE_CLIENT_CLAIM_H

#include "client_priv.h"
#include "threads.h"

/* How a slot was had. */
struct claim {
	uint32_t slot;
	uint64_t w;      /* the LEASED word */
	uint64_t before; /* the word it was swapped from: IDLE or GRANTED */
	unsigned session; /* what is in it, for the word, should the slot be given up as it is */
	bool waited;
	bool granted;
};

/* S6 on an idle slot, without waiting. False if there is none. */
bool claim_idle(struct pool_state *state, struct thread_row *tr, bool thorough, struct claim *ret);
/* The same, of a slot that this process can use at once: it has a PGconn for it, and the session needs no reset. */
bool claim_ready(struct pool_state *state, struct thread_row *tr, uint64_t now, struct claim *ret);
/* The same for a process that is cut off: of a slot for which it has the PGconn; what the session needs it can do itself. */
bool claim_kept(struct pool_state *state, struct thread_row *tr, struct claim *ret);
/*
 * Joins the queue and waits until `deadline` for a slot. 0, or PGLEASE_ETIMEOUT, PGLEASE_EDRAINING, PGLEASE_EGONE. The
 * message of a time-out carries the pool's numbers. EGONE is also said to a process that is cut off, when it has waited for
 * CLAIM_LONELY_NS: it may look for another broker then, and come back.
 */
#define CLAIM_LONELY_NS UINT64_C(50000000)
int claim_wait(struct pool_state *state, struct thread_row *tr, uint64_t since, uint64_t deadline, struct claim *ret);
/* The time-out's message, also for an acquire that does not wait. Returns the code. */
int claim_timeout(struct pool_state *state, uint64_t since, uint64_t now);
/* 0 when the pool grants leases, else the code, with the message. */
int claim_open(const struct pool_state *state);

#endif
