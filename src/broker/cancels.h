/* SPDX-License-Identifier: PostgreSQL */
/*
 * Sending cancel requests to servers. Each blocks until the server has taken it, so it runs in a short-lived thread, a
 * limited number at a time, others queue; completion comes back to the loop. Whether a cancel is allowed is not decided here
 * (adopt.c, revoke.c).
 */
#ifndef PGLEASE_BROKER_CANCELS_H
#define PGLEASE_BROKER_CANCELS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "backend.h"

struct event_base;
struct cancels;
struct handover;

/* What a completion needs; copied into the job, so nothing it names need still exist. */
struct cancels_ticket {
	uint32_t pool, slot;
	uint64_t generation;
	int requester; /* socket to close when the cancel has returned, or -1; owned by the job */
	/*
	 * The session is to end: the cancel is sent again, at growing intervals, after it has been reported. A backend
	 * ignores one that comes before it has read the query that it cancels. `local_pid`: the backend's, if it runs
	 * on this host; then no more are sent when it is gone. 0: not known.
	 */
	bool insist;
	pid_t local_pid;
};

/* In the loop, after the real cancel has returned (`sent`: the server took it). */
typedef void (*cancels_done)(void *context, const struct cancels_ticket *ticket, int sent);

int cancels_new(struct event_base *base, cancels_done done, void *context, struct cancels **ret);
/* Waits up to `wait_ms` for running threads; what they still hold then is left to the end of the process. */
void cancels_free(struct cancels *cancels, unsigned wait_ms);
/* How many wait for a thread or run in one. */
unsigned cancels_under_way(const struct cancels *cancels);
/*
 * Those that insist and rest or wait, to the broker that takes this one's place, and from the one before it: 0, or -1 with
 * log_refuse().
 */
void cancels_hand_over(struct cancels *cancels, struct handover *to);
int cancels_take_over(struct cancels *cancels, struct handover *from);
/*
 * 0, or -ENOMEM / -EAGAIN (too many queued) / -ENOTSUP (nobody knows the key): then nothing was done, and the requester's
 * socket is still the caller's.
 */
int cancels_submit(struct cancels *cancels, const struct backend *backend, const struct cancels_ticket *ticket);

#endif
