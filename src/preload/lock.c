/* SPDX-License-Identifier: PostgreSQL */
/* The lock. */
#include "lock.h"

#include <pthread.h>
#include <stddef.h>

#include "guard.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t *mutex;

static void
make(void)
{
	if (guard_init() == 0)
		mutex = guard_mutex_new();
}

bool
lock_take(void)
{
	pthread_once(&once, make);
	if (mutex == NULL)
		return false;
	pthread_mutex_lock(mutex);
	return true;
}

void
lock_release(void)
{
	pthread_mutex_unlock(mutex);
}
