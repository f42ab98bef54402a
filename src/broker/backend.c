/* SPDX-License-Identifier: PostgreSQL */
/* Server connections without libpq. */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "peer.h"

/* Terminate */
static const uint8_t goodbye[] = {'X', 0, 0, 0, 4};

/* As libpq finds a server's socket: the name by which the server knows it may be relative to a folder of the server's. */
static bool
unix_address(const char *host, const char *port, struct backend *b)
{
	struct sockaddr_un *address = (struct sockaddr_un *)&b->address;
	int n = snprintf(address->sun_path, sizeof(address->sun_path), "%s/.s.PGSQL.%s", host, port);

	address->sun_family = AF_UNIX;
	if (n < 0 || (size_t)n >= sizeof(address->sun_path))
		return false;
	b->address_size = sizeof(*address);
	if (address->sun_path[0] == '@') { /* the abstract namespace: no zero ends the name */
		address->sun_path[0] = '\0';
		b->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n);
	}
	return true;
}

static bool
find_address(PGconn *conn, int fd, struct backend *b)
{
	const char *host = PQhost(conn), *port = PQport(conn);

	if (host != NULL && port != NULL && (*host == '/' || *host == '@'))
		return unix_address(host, port, b);
	b->address_size = sizeof(b->address);
	return getpeername(fd, (struct sockaddr *)&b->address, &b->address_size) == 0 &&
	       (b->address.ss_family == AF_INET || b->address.ss_family == AF_INET6);
}

/* The PGconn gets a dead descriptor, so that its end is not the session's. */
static int
let_go(PGconn *conn, int *ret_fd)
{
	int fd = PQsocket(conn), copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), null, r = 0;

	if (copy < 0)
		return -errno;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup3(null, fd, O_CLOEXEC) < 0)
		r = -errno;
	if (null >= 0)
		close(null);
	if (r != 0) {
		close(copy);
		return r;
	}
	PQfinish(conn);
	*ret_fd = copy;
	return 0;
}

int
backend_take(PGconn *conn, const struct backend_key *key, struct backend *ret)
{
	struct backend b = {.fd = PQsocket(conn), .key = *key};
	const char *host = PQhost(conn);
	int r;

	b.is_local = host != NULL && *host == '/' && peer_shares_numbers(b.fd);
	if (key->size != 0 && key->pid == (uint32_t)PQbackendPID(conn) && find_address(conn, b.fd, &b)) {
		r = let_go(conn, &b.fd);
		if (r != 0)
			return r;
	} else {
		b.key.size = 0;
		b.conn = conn;
		PQsetnonblocking(conn, 1); /* what is said goodbye may find a full buffer (a COPY in progress) */
	}
	*ret = b;
	explicit_bzero(&b.key, sizeof(b.key));
	return 0;
}

void
backend_close(struct backend *b)
{
	int copy = -1;

	if (b->fd < 0)
		return;
	/*
	 * Being told goodbye does not end a session whose descriptor a client still holds; shutdown does. Without a descriptor for
	 * the copy the server is not told goodbye.
	 */
	if (b->conn != NULL) {
		copy = fcntl(b->fd, F_DUPFD_CLOEXEC, 0);
		if (copy < 0)
			shutdown(b->fd, SHUT_RDWR);
		PQfinish(b->conn);
		b->conn = NULL;
		b->fd = copy;
	} else if (send(b->fd, goodbye, sizeof(goodbye), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		/* It is as well: the end of the connection says the same. */
	}
	if (b->fd >= 0) {
		shutdown(b->fd, SHUT_RDWR);
		close(b->fd);
	}
	explicit_bzero(&b->key, sizeof(b->key));
	*b = (struct backend){.fd = -1};
}
