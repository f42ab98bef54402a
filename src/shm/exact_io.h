/* SPDX-License-Identifier: PostgreSQL */
/* Reading and writing all of it at a place of a file, or saying why not. Interrupted calls go on. */
#ifndef PGLEASE_SHM_EXACT_IO_H
#define PGLEASE_SHM_EXACT_IO_H

#include <stddef.h>
#include <stdint.h>

/* 0 or -errno; -EIO when the file takes no more. */
int exact_write(int fd, const void *buf, size_t size, uint64_t offset);
/* 0 or -errno; -EBADMSG when the file ends before. */
int exact_read(int fd, void *buf, size_t size, uint64_t offset);

#endif
