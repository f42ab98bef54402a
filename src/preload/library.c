/* SPDX-License-Identifier: PostgreSQL */
/*
 * Finding a caller's libpq. First by the caller's own object and what that was linked with: so an extension of a language that
 * was loaded with RTLD_LOCAL finds its own (RTLD_NEXT sees only what is global). The program itself comes with everything that
 * is global, us first: there it is RTLD_NEXT.
 */
#include "library.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define CALLERS 256 /* power of two */

_Thread_local struct library *library_now;

/* Never changed once it is published, and never freed. */
struct caller {
	const void *address;
	struct library *library;
};
static struct caller *_Atomic callers[CALLERS];

/* Guards the list of libraries. In a forked child it may be held by a thread that is not there: see make_anew. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct library *libraries;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
make_anew(void)
{
	pthread_mutex_init(&mutex, NULL);
}

static void
prepare(void)
{
	pthread_atfork(NULL, NULL, make_anew);
}

static bool
is_ours(const void *function)
{
	static _Atomic uintptr_t base;
	Dl_info info;

	if (atomic_load(&base) == 0) {
		if (dladdr((void *)&callers, &info) == 0)
			return false;
		atomic_store(&base, (uintptr_t)info.dli_fbase);
	}
	return dladdr(function, &info) != 0 && (uintptr_t)info.dli_fbase == atomic_load(&base);
}

/* What the caller would get for this name without us. */
static void *
find(void *handle, const char *name)
{
	void *function = handle != NULL ? dlsym(handle, name) : NULL;

	if (function == NULL || is_ours(function))
		function = dlsym(RTLD_NEXT, name);
	return function == NULL || is_ours(function) ? NULL : function;
}

static struct library *
library_new(void *handle, void *start)
{
	struct library *lib = calloc(1, sizeof(*lib));
	Dl_info info;

	if (lib == NULL)
		return NULL;
	lib->is_complete = true;
#define LIBRARY_FIND(name) \
	*(void **)&lib->name = find(handle, #name); \
	lib->is_complete = lib->is_complete && lib->name != NULL;
	LIBRARY_FUNCTIONS(LIBRARY_FIND)
#undef LIBRARY_FIND
	if (dladdr(start, &info) != 0)
		lib->handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	return lib;
}

/* Under the mutex. */
static struct library *
library_find(const void *caller)
{
	struct link_map *map = NULL;
	struct library *lib;
	Dl_info info;
	void *handle = NULL, *start;

	/* A return address may be the next function's first byte. */
	if (dladdr1((const char *)caller - 1, &info, (void **)&map, RTLD_DL_LINKMAP) != 0 && map != NULL &&
	    map->l_name[0] != '\0')
		handle = dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD); /* kept: its addresses are remembered */
	start = find(handle, "PQconnectStart");
	if (start == NULL)
		return NULL;
	for (lib = libraries; lib != NULL; lib = lib->next)
		if ((void *)lib->PQconnectStart == start)
			return lib;
	lib = library_new(handle, start);
	if (lib != NULL) {
		lib->next = libraries;
		libraries = lib;
	}
	return lib;
}

struct library *
library_of(const void *caller)
{
	struct caller *_Atomic *place = &callers[((uintptr_t)caller >> 2 ^ (uintptr_t)caller >> 10) % CALLERS];
	struct caller *known = atomic_load_explicit(place, memory_order_acquire); /* pairs with the exchange below */
	struct library *lib;

	if (known != NULL && known->address == caller)
		return known->library;
	pthread_once(&once, prepare);
	pthread_mutex_lock(&mutex);
	lib = library_find(caller);
	pthread_mutex_unlock(&mutex);
	/* A place that is taken already is left to who has it: another thread may be reading it. */
	if (lib != NULL && known == NULL && (known = malloc(sizeof(*known))) != NULL) {
		struct caller *expected = NULL;

		*known = (struct caller){.address = caller, .library = lib};
		if (!atomic_compare_exchange_strong(place, &expected, known))
			free(known);
	}
	return lib;
}
