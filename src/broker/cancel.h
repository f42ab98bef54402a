/* SPDX-License-Identifier: PostgreSQL */
/*
 * A client's cancel request: whether it may cancel what it asks for ("Cancel" in doc/protocol.md). Sending it is
 * cancels.c's matter.
 */
#ifndef PGLEASE_BROKER_CANCEL_H
#define PGLEASE_BROKER_CANCEL_H

#include "cancels.h"
#include "clients.h"

struct cancel_request {
	uint32_t pid, key;
	int requester; /* its socket */
	uint64_t accepted_at; /* CLOCK_MONOTONIC ns: it was not connected later */
};

/* Takes the requester's socket: it is closed when the cancel has returned, or at once when there is none to send. */
void cancel_request(struct cancels *cancels, struct pool **pools, unsigned npools,
    const struct clients *clients, const struct cancel_request *request);
/* A cancel has returned: step 3. */
void cancel_returned(struct pool **pools, unsigned npools, const struct cancels_ticket *ticket);

#endif
