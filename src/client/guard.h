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
#include <stdatomic.h>
#include <stdint.h>

/* In the page that is wiped. */
struct guard {
	_Atomic uint64_t serial; /* 0 in a child until its first call; set under `once` below */
	pthread_mutex_t registry;
	pthread_mutex_t once;
};
/* Set once, before any handle exists; inherited by children, which see the page wiped. guard.c's alone. */
extern struct guard *_Atomic guard_page;
uint64_t guard_serial_new(void);

/* A number that is this process's own: the same as long as it lives, another one in a forked child. Never 0 after a
 * successful guard_init. Cheap: two loads. */
static inline uint64_t
guard_serial(void)
{
	/* Acquire: pairs with guard_init()'s swap, then with guard_serial_new()'s release. */
	struct guard *g = atomic_load_explicit(&guard_page, memory_order_acquire);
	uint64_t serial = atomic_load_explicit(&g->serial, memory_order_acquire);

	return serial != 0 ? serial : guard_serial_new();
}
/* Makes the process-wide guard; idempotent; 0 or -errno. */
int guard_init(void);
/* The process-wide registry lock (threads.c): short critical sections, never held over a system call that waits. */
void guard_lock(void);
void guard_unlock(void);

/* A mutex of its own page, wiped in the child. NULL when there is no memory. */
pthread_mutex_t *guard_mutex_new(void);
void guard_mutex_free(pthread_mutex_t *mutex);

#endif
