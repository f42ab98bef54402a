/* SPDX-License-Identifier: PostgreSQL */
/* CancelRequest, in PostgreSQL's protocol 3.0 and later. */
#include "cancel_send.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#define CODE_CANCEL 80877102u
#define HEAD 12 /* length, code, pid */
/* For each step. A server that does not answer must not keep a thread for good; its session has been given up long before (server.c). */
#define LIMIT_SECONDS 60

void
cancel_target_init(const struct backend *b, struct cancel_target *ret)
{
	static const struct {
		int level, name;
	} options[CANCEL_SEND_OPTIONS] = {
	    {SOL_SOCKET, SO_KEEPALIVE},
	    {IPPROTO_TCP, TCP_KEEPIDLE},
	    {IPPROTO_TCP, TCP_KEEPINTVL},
	    {IPPROTO_TCP, TCP_KEEPCNT},
	    {IPPROTO_TCP, TCP_USER_TIMEOUT},
	};

	*ret = (struct cancel_target){.address = b->address, .address_size = b->address_size, .key = b->key};
	if (b->address.ss_family == AF_UNIX)
		return;
	for (unsigned i = 0; i < CANCEL_SEND_OPTIONS; i++) {
		socklen_t size = sizeof(ret->option[0].value);
		int value = 0;

		if (getsockopt(b->fd, options[i].level, options[i].name, &value, &size) != 0)
			continue;
		ret->option[ret->noptions].level = options[i].level;
		ret->option[ret->noptions].name = options[i].name;
		ret->option[ret->noptions++].value = value;
	}
}

static int
send_all(int fd, const uint8_t *buf, size_t size)
{
	while (size != 0) {
		ssize_t n = send(fd, buf, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf += n;
		size -= (size_t)n;
	}
	return 0;
}

/* To the end of the connection. A server that resets it has taken the request, too. */
static void
await_end(int fd)
{
	char buf[64];
	ssize_t n;

	do
		n = recv(fd, buf, sizeof(buf), 0);
	while (n > 0 || (n < 0 && errno == EINTR));
}

int
cancel_send(const struct cancel_target *t, const char **ret_step)
{
	uint8_t packet[HEAD + BACKEND_KEY];
	uint32_t head[3] = {htonl(HEAD + t->key.size), htonl(CODE_CANCEL), htonl(t->key.pid)};
	const struct timeval limit = {.tv_sec = LIMIT_SECONDS};
	int fd, r;

	*ret_step = "socket";
	fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* One that cannot be set is the system's own. */
	for (unsigned i = 0; i < t->noptions; i++)
		if (setsockopt(fd, t->option[i].level, t->option[i].name, &t->option[i].value, sizeof(t->option[i].value)) != 0)
			continue;
	/* connect() is bounded by that for sending. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret_step = "connect";
	do
		r = connect(fd, (const struct sockaddr *)&t->address, t->address_size);
	while (r != 0 && errno == EINTR);
	r = r != 0 ? -errno : 0;
	if (r == 0) {
		*ret_step = "send";
		memcpy(packet, head, sizeof(head));
		memcpy(packet + HEAD, t->key.bytes, t->key.size);
		r = send_all(fd, packet, HEAD + t->key.size);
		explicit_bzero(packet, sizeof(packet));
	}
	if (r == 0)
		await_end(fd);
	close(fd);
	return r;
}
