/* SPDX-License-Identifier: PostgreSQL */
/*
 * A server connection as the broker keeps it: the socket, and what a cancel of it needs. libpq makes it (connect.c), and is
 * let go when it has: what the broker has to say to a session is raw (reset.c), and a socket can be handed over to another
 * program where a PGconn cannot.
 */
#ifndef PGLEASE_BROKER_BACKEND_H
#define PGLEASE_BROKER_BACKEND_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define BACKEND_KEY 64 /* bytes; protocol 3.0 has 4, 3.2 as many as 256: of those that are longer, libpq is asked */

/* What the server gave for cancel requests; size 0: it is not known. */
struct backend_key {
	uint32_t pid, size;
	uint8_t bytes[BACKEND_KEY];
};

struct backend {
	int fd; /* -1: none */
	bool is_local; /* on a Unix socket: its process is one of this host */
	struct backend_key key;
	struct sockaddr_storage address; /* where cancels go */
	socklen_t address_size;
	/* Only when the key or the address is not known: libpq has to send the cancels. Such a connection cannot be handed over. */
	PGconn *conn;
};

/* Takes over a connection that libpq has made. 0, or -errno: then the conn is still the caller's. */
int backend_take(PGconn *conn, const struct backend_key *key, struct backend *ret);
/* Ends the session for all who hold its descriptor. Accepts one without a connection, and never waits. */
void backend_close(struct backend *backend);

#endif
