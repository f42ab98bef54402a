/* SPDX-License-Identifier: PostgreSQL */
/* The one lock of this library: around its lists, and around attaching. Free in a forked child. */
#ifndef PGLEASE_PRELOAD_LOCK_H
#define PGLEASE_PRELOAD_LOCK_H

#include <stdbool.h>

/* False: no memory, at the first call; then nothing may be leased. */
bool lock_take(void);
void lock_release(void);

#endif
