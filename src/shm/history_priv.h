/* SPDX-License-Identifier: PostgreSQL */
/* Between the files of the history: the saving of an object. */
#ifndef PGLEASE_SHM_HISTORY_PRIV_H
#define PGLEASE_SHM_HISTORY_PRIV_H

#include "history.h"


/* Writes what an object of this header has into a file. */
int history_save(int fd, const struct history_header *header, const char *path);

#endif
