/* SPDX-License-Identifier: PostgreSQL */
/* Entries of the journal. */
#include "journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "datagram.h"

static const char *path = JOURNAL_SOCKET;

static struct sockaddr_un
address(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	return at;
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
	return datagram_send(path, e->bytes, e->used);
}
