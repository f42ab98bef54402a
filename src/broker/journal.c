/* SPDX-License-Identifier: PostgreSQL */
/* Datagrams for the journal. */
#include "journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *path = JOURNAL_SOCKET;
/* -1: none yet. Set once by compare-and-swap, sequentially consistent: who loses closes his own. It stays for good. */
static _Atomic int sock = -1;

static struct sockaddr_un
address(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	return at;
}

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

void
journal_set_path(const char *other)
{
	path = other;
}

int
journal_look(void)
{
	struct sockaddr_un to = address();
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r;
}

bool
journal_has_stream(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uint64_t device, inode;
	struct stat st;

	return stream != NULL && sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 && fstat(fd, &st) == 0 &&
	       st.st_dev == device && st.st_ino == inode;
}

void
journal_field(struct journal_entry *e, const char *name, const char *value)
{
	int n;

	if (value == NULL || *value == '\0')
		return;
	n = snprintf(e->bytes + e->used, sizeof(e->bytes) - e->used, "%s=%s\n", name, value);
	if (n > 0 && (size_t)n < sizeof(e->bytes) - e->used)
		e->used += (size_t)n;
}

void
journal_number(struct journal_entry *e, const char *name, long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", value);
	journal_field(e, name, text);
}

int
journal_send(const struct journal_entry *e)
{
	struct sockaddr_un to = address();
	int fd = get_socket();

	if (fd < 0 || sendto(fd, e->bytes, e->used, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return 0;
}
