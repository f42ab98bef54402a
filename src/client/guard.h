/* SPDX-License-Identifier: PostgreSQL */
/*
 * Noticing a fork, without handlers: memory that the kernel wipes in the child (MADV_WIPEONFORK).
 *
 * A mutex that lies in such memory is unlocked in the child, whoever held it in the parent: all zeros is a fresh
 * default mutex on Linux. So the library's slow paths can lock in the child of a threaded process.
 */
#ifndef PGLEASE_CLIENT_GUARD_H
#define PGLEASE_CLIENT_GUARD_H

#include <pthread.h>
#include <stdint.h>

/* A number that is this process's own: the same as long as it lives, another one in a forked child. Never 0 after a
 * successful guard_init. Cheap: two loads. */
uint64_t guard_serial(void);
/* Makes the process-wide guard; idempotent; 0 or -errno. */
int guard_init(void);
/* The process-wide registry lock (threads.c): short critical sections, never held over a system call that waits. */
void guard_lock(void);
void guard_unlock(void);

/* A mutex of its own page, wiped in the child. NULL when there is no memory. */
pthread_mutex_t *guard_mutex_new(void);
void guard_mutex_free(pthread_mutex_t *mutex);

#endif
