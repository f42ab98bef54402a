/* SPDX-License-Identifier: PostgreSQL */
/* One cancel request to a server, as bytes. Blocks; for a thread (cancels.c). */
#ifndef PGLEASE_BROKER_CANCEL_SEND_H
#define PGLEASE_BROKER_CANCEL_SEND_H

#include "backend.h"

#define CANCEL_SEND_OPTIONS 5

/* What a request needs: a copy of all, so that the connection may be closed meanwhile. */
struct cancel_target {
	struct sockaddr_storage address;
	socklen_t address_size;
	struct backend_key key;
	/* The server connection's own TCP settings, with which it is given up when the server is silent. */
	unsigned noptions;
	struct {
		int level, name, value;
	} option[CANCEL_SEND_OPTIONS];
};

/* Of a connection whose key is known. */
void cancel_target_init(const struct backend *backend, struct cancel_target *ret);
/* Returns when the server has closed the request's connection: 0, or -errno; *ret_step says in what. */
int cancel_send(const struct cancel_target *target, const char **ret_step);

#endif
