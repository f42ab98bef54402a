/* SPDX-License-Identifier: PostgreSQL */
/* Exact reads and writes; see exact_io.h. */
#include "exact_io.h"

#include <errno.h>
#include <unistd.h>

int
exact_write(int fd, const void *buf, size_t size, uint64_t offset)
{
	const char *p = buf;

	while (size > 0) {
		ssize_t n = pwrite(fd, p, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int
exact_read(int fd, void *buf, size_t size, uint64_t offset)
{
	char *p = buf;

	while (size > 0) {
		ssize_t n = pread(fd, p, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		p += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}
