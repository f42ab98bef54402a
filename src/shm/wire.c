/* SPDX-License-Identifier: PostgreSQL */
/* Control messages: headers, and sending and receiving one with at most one descriptor. */
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void
wire_header_init(struct wire_header *header, enum wire_type type)
{
	*header = (struct wire_header){.magic = WIRE_MAGIC, .version = WIRE_VERSION, .type = (uint16_t)type};
}

static size_t
wire_size(enum wire_type type)
{
	switch (type) {
	case WIRE_HELLO:
		return sizeof(struct wire_hello);
	case WIRE_WELCOME:
		return sizeof(struct wire_welcome);
	case WIRE_OPEN:
	case WIRE_HISTORY:
		return sizeof(struct wire_open);
	case WIRE_POOL:
	case WIRE_PAST:
		return sizeof(struct wire_pool);
	case WIRE_RING:
		return sizeof(struct wire_ring);
	case WIRE_ERROR:
		return sizeof(struct wire_error);
	case WIRE_COMMAND:
		return sizeof(struct wire_command);
	case WIRE_RESULT:
		return sizeof(struct wire_result);
	case WIRE_DETACH:
		return sizeof(struct wire_header);
	case WIRE_ASK:
		return sizeof(struct wire_ask);
	case WIRE_MATCH:
		return sizeof(struct wire_match);
	}
	return 0;
}

int
wire_is(const void *buf, size_t size, enum wire_type type)
{
	struct wire_header header;

	if (size < sizeof(header) || size != wire_size(type))
		return 0;
	memcpy(&header, buf, sizeof(header));
	return header.magic == WIRE_MAGIC && header.version == WIRE_VERSION && header.type == type;
}

unsigned
wire_other_version(const void *buf, size_t size)
{
	struct wire_header header;

	if (size < sizeof(header))
		return 0;
	memcpy(&header, buf, sizeof(header));
	return header.magic == WIRE_MAGIC && header.version != WIRE_VERSION ? header.version : 0;
}

ssize_t
wire_send(int sock, const void *buf, size_t size, int fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)buf, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.space;
		msg.msg_controllen = sizeof(control.space);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Keeps the first descriptor of a message, closes any other. */
static void
take_descriptors(struct msghdr *msg, int *ret_fd)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*ret_fd < 0)
				*ret_fd = fd;
			else
				close(fd);
		}
	}
}

static void
take_sender(struct msghdr *msg, struct ucred *ret)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof(*ret)))
			memcpy(ret, CMSG_DATA(c), sizeof(*ret));
}

ssize_t
wire_recv(int sock, void *buf, size_t size, int *ret_fd)
{
	return wire_recv_from(sock, buf, size, ret_fd, NULL);
}

ssize_t
wire_recv_from(int sock, void *buf, size_t size, int *ret_fd, struct ucred *ret_sender)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * 8) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr msg = {
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = control.space,
	    .msg_controllen = sizeof(control.space),
	};
	int fd = -1;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_descriptors(&msg, &fd);
	if (ret_sender != NULL)
		take_sender(&msg, ret_sender);
	if (ret_fd != NULL)
		*ret_fd = fd;
	else if (fd >= 0)
		close(fd);
	return n;
}
