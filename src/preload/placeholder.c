/* SPDX-License-Identifier: PostgreSQL */
/* PGconns before their leases. */
#include "placeholder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "adopt.h"
#include "former.h"
#include "refusal.h"
#include "request.h"
#include "shell.h"

#define EXCHANGE_NS UINT64_C(1000000000)
#define PACKET_MAX 4096
#define ANSWER_MAX 16384
#define ROUNDS 16 /* of PQconnectPoll over an answer that is all there */

struct placeholder {
	struct library *lib;
	pglease_pool *pool;
	struct pool_use use;
	struct pool_state *state;
	pglease_request *request;
	PGconn *conn;
	uint64_t attempt;
	int other; /* end of the pair */
	bool has_spoken; /* the start-up packet is in the pair */
};

static void
close_other(struct placeholder *p)
{
	if (p->other >= 0)
		close(p->other);
	p->other = -1;
}

/* The PGconn is connected to the broker, whom libpq has looked at (requirepeer), and has said nothing yet. */
static int
dial(struct placeholder *p)
{
	char claim[ADOPT_CLAIM];
	int pair[2], r;

	adopt_claim(p->state, WIRE_SLOT_OF_ATTEMPT, 0, 0, p->attempt, claim);
	r = adopt_dial(p->state, WIRE_SLOT_OF_ATTEMPT, claim, &p->conn);
	if (r != 0)
		return r;
	/* A Unix socket connects at once, and most libpqs have looked at it by now. */
	if (p->lib->PQstatus(p->conn) == CONNECTION_STARTED)
		(void)p->lib->PQconnectPoll(p->conn);
	if (p->lib->PQstatus(p->conn) == CONNECTION_BAD)
		return error_set(PGLEASE_ENOBROKER, "the broker cannot be reached: %s", p->lib->PQerrorMessage(p->conn));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		return error_set_errno(PGLEASE_ESYSTEM, errno, "cannot make a pair of sockets");
	p->other = pair[1];
	r = dup3(pair[0], p->lib->PQsocket(p->conn), O_CLOEXEC) < 0 ? errno : 0;
	close(pair[0]);
	return r == 0 ? 0 : error_set_errno(PGLEASE_ESYSTEM, r, "dup3");
}

int
placeholder_start(
    struct library *lib, const struct pool_use *use, const struct wish *wish, struct placeholder **ret, PGconn **ret_conn)
{
	struct placeholder *p = calloc(1, sizeof(*p));
	int r;

	if (p == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	p->lib = lib;
	p->pool = use->pool;
	p->use = *use;
	p->other = -1;
	r = client_pool_state(p->pool, &p->state);
	if (r != 0)
		goto fail;
	p->attempt = adopt_attempt(p->state);
	r = dial(p);
	if (r == 0)
		r = request_start(p->pool, wish, p->other, &p->request);
	if (r != 0)
		goto fail;
	*ret = p;
	*ret_conn = p->conn;
	return 0;

fail:
	if (p->conn != NULL)
		lib->PQfinish(p->conn); /* it is connected to nobody */
	placeholder_free(p);
	return r;
}

void
placeholder_free(struct placeholder *p)
{
	if (p == NULL)
		return;
	pglease_acquire_cancel(p->request);
	close_other(p);
	free(p);
}

/* Lets the PGconn say its start-up packet. */
static void
speak(struct placeholder *p)
{
	PostgresPollingStatusType polling = PGRES_POLLING_WRITING;

	for (unsigned i = 0; i < ROUNDS && polling == PGRES_POLLING_WRITING; i++)
		polling = p->lib->PQconnectPoll(p->conn);
	p->has_spoken = true;
}

/* Lets it read what is there; OK or FAILED, if that was an answer. */
static PostgresPollingStatusType
listen_to(struct placeholder *p)
{
	PostgresPollingStatusType polling = PGRES_POLLING_READING;

	for (unsigned i = 0; i < ROUNDS && (polling == PGRES_POLLING_READING || polling == PGRES_POLLING_WRITING); i++)
		polling = p->lib->PQconnectPoll(p->conn);
	return polling;
}

/* What rang: it is not libpq's. */
static void
drop_ring(const struct placeholder *p)
{
	char ring[REQUEST_RING];

	(void)!recv(p->lib->PQsocket(p->conn), ring, sizeof(ring), MSG_DONTWAIT);
}

static PostgresPollingStatusType
fail(struct placeholder *p, const char *why)
{
	char text[1024], *message;
	size_t size;

	snprintf(text, sizeof(text), "pglease: %s", why);
	message = refusal_message(text, &size);
	if (message != NULL)
		(void)!send(p->other, message, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(message);
	shutdown(p->other, SHUT_WR);
	listen_to(p);
	return PGRES_POLLING_FAILED;
}

/* The PGconn's start-up packet with the claim of a lease in place of its own. Its size; 0: it is none, or too long. */
static size_t
rewrite(const uint8_t *packet, size_t size, const char *claim, uint8_t ret[PACKET_MAX])
{
	size_t at = 8, used = 8;
	uint32_t length;

	if (size < 9)
		return 0;
	memcpy(ret, packet, 8);
	while (at < size && packet[at] != '\0') {
		const char *name = (const char *)packet + at, *value;
		size_t n = strnlen(name, size - at) + 1, v;

		if (n > size - at)
			return 0;
		value = name + n;
		v = strnlen(value, size - at - n) + 1;
		if (v > size - at - n)
			return 0;
		at += n + v;
		if (strcmp(name, "options") == 0) {
			value = claim;
			v = strlen(claim) + 1;
		}
		if (n + v + 1 > PACKET_MAX - used)
			return 0;
		memcpy(ret + used, name, n);
		memcpy(ret + used + n, value, v);
		used += n + v;
	}
	ret[used++] = '\0';
	length = htonl((uint32_t)used);
	memcpy(ret, &length, sizeof(length));
	return used;
}

static int
dial_raw(const struct pool_state *state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (paths_adopt_socket(state->socket_dir, address.sun_path, sizeof(address.sun_path)) != 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* The broker's answer up to ReadyForQuery or an error; nothing comes after either before we speak. 0: it did not come. */
static size_t
read_answer(int fd, uint64_t deadline, uint8_t buf[ANSWER_MAX])
{
	size_t used = 0, at = 0;

	for (;;) {
		ssize_t n;

		while (used - at >= 5) {
			uint32_t length;

			memcpy(&length, buf + at + 1, sizeof(length));
			length = ntohl(length);
			if (length < 4 || length >= ANSWER_MAX - at)
				return 0;
			if (used - at < 1 + length)
				break;
			if (buf[at] == 'Z' || buf[at] == 'E')
				return at + 1 + length;
			at += 1 + length;
		}
		if (used == ANSWER_MAX || wait_fd(fd, POLLIN, deadline) <= 0)
			return 0;
		n = recv(fd, buf + used, ANSWER_MAX - used, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return 0;
		used += n > 0 ? (size_t)n : 0;
	}
}

/* The whole adoption: the PGconn is told what the broker says to the lease's claim, and gets the descriptor. */
static int
adopt_conn(struct placeholder *p, const pglease_lease *lease)
{
	uint64_t deadline = clock_ns() + EXCHANGE_NS;
	struct pool_state *state = former_find(p->pool, lease->incarnation);
	uint64_t generation = atomic_load_explicit(&state->seg.slot[lease->slot].generation, memory_order_relaxed);
	struct shell *shell = shell_of_lease(state, lease->slot, lease->sequence);
	uint8_t said[PACKET_MAX], packet[PACKET_MAX], answer[ANSWER_MAX];
	char claim[ADOPT_CLAIM];
	ssize_t n = recv(p->other, said, sizeof(said), MSG_DONTWAIT);
	size_t size;
	int fd, r = PGLEASE_EGONE;

	/* Another broker's: its number is one that this attachment has not used. A later PQreset, which says the old one, fails. */
	if (state != p->state)
		p->attempt = adopt_attempt(state);
	adopt_claim(state, lease->slot, generation, lease->sequence, p->attempt, claim);
	size = n > 0 ? rewrite(said, (size_t)n, claim, packet) : 0;
	if (size == 0 || shell == NULL)
		return error_set(PGLEASE_EPROTOCOL, "libpq's start-up packet is not understood");
	fd = dial_raw(state);
	if (fd < 0 || send(fd, packet, size, MSG_NOSIGNAL) != (ssize_t)size ||
	    (size = read_answer(fd, deadline, answer)) == 0 ||
	    send(p->other, answer, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size) {
		error_set(r, "the broker does not answer");
		goto out;
	}
	if (listen_to(p) != PGRES_POLLING_OK)
		goto out; /* the PGconn knows why */
	r = adopt_take(state, fd, p->conn, deadline);
	if (r == 0)
		r = shell_replace(state, lease->slot, shell, p->conn);
	if (r != 0) /* it takes itself for connected */
		shutdown(p->lib->PQsocket(p->conn), SHUT_RDWR);
out:
	if (fd >= 0)
		close(fd);
	return r;
}

PostgresPollingStatusType
placeholder_poll(struct placeholder *p, pglease_lease *ret_lease)
{
	PostgresPollingStatusType polling = PGRES_POLLING_OK;
	pglease_lease lease;
	PGconn *made;
	int r;

	if (!p->has_spoken)
		speak(p);
	r = pglease_acquire_finish(p->request, &lease, &made);
	if (r == PGLEASE_EAGAIN)
		return PGRES_POLLING_READING;
	p->request = NULL;
	drop_ring(p);
	if (r != 0) {
		polling = fail(p, pglease_error_message());
	} else if (!pools_is_meant(&p->use, &lease)) {
		(void)!pglease_release_as(&lease, PGLEASE_SESSION_CLEAN);
		pools_changed();
		polling = fail(p, "the pool has been changed by a reload meanwhile: connect again");
	} else if ((r = adopt_conn(p, &lease)) != 0) {
		(void)!pglease_release_as(&lease, PGLEASE_SESSION_BROKEN);
		polling = p->lib->PQstatus(p->conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : fail(p, pglease_error_message());
	} else {
		*ret_lease = lease;
	}
	placeholder_free(p);
	return polling;
}
