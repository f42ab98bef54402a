/* SPDX-License-Identifier: PostgreSQL */
/* Between the files of the history: whole reads and writes, and the saving of an object. */
#ifndef PGLEASE_SHM_HISTORY_PRIV_H
#define PGLEASE_SHM_HISTORY_PRIV_H

#include "history.h"

/* All of it: 0, -EBADMSG at an early end, or -errno. */
int history_write_at(int fd, const void *buf, size_t size, uint64_t offset);
int history_read_at(int fd, void *buf, size_t size, uint64_t offset);

/* Writes what an object of this header has into a file. */
int history_save(int fd, const struct history_header *header, const char *path);

#endif
