/* SPDX-License-Identifier: PostgreSQL */
/* Datagrams; see datagram.h. */
#include "datagram.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* -1: none yet. Set once by compare-and-swap, sequentially consistent: who loses closes his own. It stays for good. */
static _Atomic int sock = -1;

static int
get_socket(void)
{
	int fd = atomic_load(&sock), none = -1;

	if (fd >= 0)
		return fd;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && !atomic_compare_exchange_strong(&sock, &none, fd)) {
		close(fd);
		fd = none;
	}
	return fd;
}

int
datagram_send(const char *path, const void *bytes, size_t size)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = get_socket();

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	if (fd < 0 || sendto(fd, bytes, size, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return 0;
}
