/* SPDX-License-Identifier: PostgreSQL */
/* Fork detection and fork-proof mutexes. */
#include "guard.h"

#include <errno.h>
#include <sys/mman.h>

#define GUARD_PAGE 4096

struct guard *_Atomic guard_page;
/* The last serial given; in a child it continues from the parent's, so that no two of a family are equal. */
static uint64_t last_serial;

static void *
wiped_page(void)
{
	void *page = mmap(NULL, GUARD_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return NULL;
	if (madvise(page, GUARD_PAGE, MADV_WIPEONFORK) != 0) {
		munmap(page, GUARD_PAGE);
		return NULL;
	}
	return page;
}

int
guard_init(void)
{
	struct guard *expected = NULL, *page;

	if (atomic_load(&guard_page) != NULL)
		return 0;
	page = wiped_page();
	if (page == NULL)
		return -errno;
	if (!atomic_compare_exchange_strong(&guard_page, &expected, page))
		munmap(page, GUARD_PAGE); /* another thread was first */
	return 0;
}

uint64_t
guard_serial_new(void)
{
	struct guard *g = atomic_load(&guard_page);
	uint64_t serial;

	pthread_mutex_lock(&g->once);
	serial = atomic_load_explicit(&g->serial, memory_order_relaxed);
	if (serial == 0) {
		serial = ++last_serial;
		atomic_store_explicit(&g->serial, serial, memory_order_release);
	}
	pthread_mutex_unlock(&g->once);
	return serial;
}

void
guard_lock(void)
{
	pthread_mutex_lock(&atomic_load(&guard_page)->registry);
}

void
guard_unlock(void)
{
	pthread_mutex_unlock(&atomic_load(&guard_page)->registry);
}

pthread_mutex_t *
guard_mutex_new(void)
{
	return wiped_page(); /* zeros: PTHREAD_MUTEX_INITIALIZER */
}

void
guard_mutex_free(pthread_mutex_t *mutex)
{
	if (mutex != NULL)
		munmap(mutex, GUARD_PAGE);
}
