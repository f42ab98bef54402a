/* SPDX-License-Identifier: PostgreSQL */
/* See peer.h. */
#include "peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

static bool
get_peer(int socket, struct ucred *ret)
{
	socklen_t size = sizeof(*ret);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, ret, &size) == 0;
}

int
peer_pidfd(int socket, pid_t pid)
{
	socklen_t size = sizeof(int);
	int fd;

	/* Close-on-exec, as all pidfds. */
	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0)
		return fd;
	if (errno != ENOPROTOOPT)
		return errno == ENODATA || errno == EINVAL ? -ESRCH : -errno;
	if (pid <= 0)
		return -ENOSYS;
	fd = pidfd_open(pid, 0);
	return fd >= 0 ? fd : -errno;
}

bool
peer_is(int socket, pid_t pid, int pidfd)
{
	struct ucred peer;
	struct stat its, known;
	int fd;
	bool same;

	if (!get_peer(socket, &peer) || peer.pid != pid)
		return false;
	if (pid > 0)
		return true;
	fd = peer_pidfd(socket, 0);
	if (fd < 0)
		return false;
	/* A process's number that is never used again (pidfs). */
	same = fstat(fd, &its) == 0 && fstat(pidfd, &known) == 0 && its.st_dev == known.st_dev && its.st_ino == known.st_ino;
	close(fd);
	return same;
}

bool
peer_shares_numbers(int socket)
{
	struct ucred peer;
	char path[64], line[256];
	bool one = false;
	FILE *f;

	if (!get_peer(socket, &peer) || peer.pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%ld/status", (long)peer.pid);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	/* "NSpid:\t812\n", and its number in each namespace further down. */
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "NSpid:", 6) == 0)
			one = strchr(line + 7, '\t') == NULL;
	fclose(f);
	return one;
}
