/* SPDX-License-Identifier: PostgreSQL */
/* The lock by which a process owns a file or an object; see owner_lock.h. */
#include "owner_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define TRIES 16

int
owner_lock(int fd)
{
	for (int i = 0; i < TRIES; i++) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

		if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
			return 0;
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
		if (fcntl(fd, F_OFD_GETLK, &lock) != 0)
			return -errno;
		/* An owner has locked all of it: with a reader's lock on any of it there is no owner. */
		if (lock.l_type != F_UNLCK)
			return lock.l_type == F_RDLCK ? -EUSERS : -EBUSY;
	}
	return -EBUSY; /* taken and dropped all the time */
}
