/* SPDX-License-Identifier: PostgreSQL */
/* Finding an instance's broker. */
#include "dial.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * In a folder that anyone can make (below /tmp), only a broker of this user's own or of root's is believed.
 * Elsewhere the folder's permissions, or whoever named it, vouch for who listens.
 */
static bool
is_trusted(int sock, const char *dir)
{
	struct ucred cred;
	socklen_t length = sizeof(cred);

	if (strncmp(dir, "/tmp/", 5) != 0)
		return true;
	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &length) == 0 &&
	       (cred.uid == 0 || cred.uid == geteuid());
}

/* A connected control socket in `dir`, or -errno. */
static int
dial(const char *dir, bool believed)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock, r = paths_control_socket(dir, address.sun_path, sizeof(address.sun_path));

	if (r != 0)
		return r;
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return -errno;
	if (connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0) {
		if (believed || is_trusted(sock, dir))
			return sock;
		errno = EPERM;
	}
	r = -errno;
	close(sock);
	return r;
}

int
dial_broker(
    const char *instance, const char *given_dir, char *ret_dir, int *ret_sock, char ret_tried[DIAL_TRIED])
{
	bool given = given_dir != NULL && *given_dir != '\0';
	bool believed = given || getenv("PGLEASE_SOCKET_DIR") != NULL;
	bool denied = false;
	size_t used = 0;
	char dir[PATHS_MAX];

	*ret_tried = '\0';
	for (unsigned i = 0;; i++) {
		int r;

		if (!given)
			r = paths_candidate_socket_dir(instance, i, dir, sizeof(dir));
		else if (i == 0)
			r = (size_t)snprintf(dir, sizeof(dir), "%s", given_dir) < sizeof(dir) ? 0
			                                                                      : -ENAMETOOLONG;
		else
			r = -ENOENT;
		if (r == -ENOENT)
			break;
		if (r == 0)
			r = dial(dir, believed);
		if (r >= 0) {
			memcpy(ret_dir, dir, sizeof(dir));
			*ret_sock = r;
			return 0;
		}
		if (r == -EMFILE || r == -ENFILE)
			return r;
		denied |= r == -EACCES || r == -EPERM;
		if (used < DIAL_TRIED)
			used += (size_t)snprintf(ret_tried + used, DIAL_TRIED - used, "%s%s (%s)",
			    i == 0 ? "" : ", ", dir, strerror(-r));
	}
	return denied ? -EPERM : -ENOENT;
}
