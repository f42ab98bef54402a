/* SPDX-License-Identifier: PostgreSQL */
/* How each wrapped function begins and ends: whose call it is, and of which libpq. */
#ifndef PGLEASE_PRELOAD_CALL_H
#define PGLEASE_PRELOAD_CALL_H

#include <stdio.h>
#include <stdlib.h>

#include "library.h"

#define EXPORT __attribute__((visibility("default")))

/* The libpq of this call; *ret_inner: libpq, or we, have made it, on behalf of another. */
static inline struct library *
enter(const void *caller, bool *ret_inner)
{
	struct library *lib = library_now;

	*ret_inner = lib != NULL;
	if (lib != NULL)
		return lib;
	lib = library_of(caller);
	if (lib == NULL) {
		fputs("pglease: there is no libpq behind a call of it\n", stderr);
		abort();
	}
	library_now = lib;
	return lib;
}

static inline void
leave(struct library *lib, bool inner)
{
	library_now = inner ? lib : NULL;
}

#define ENTER                                                                                                       \
	bool inner;                                                                                                 \
	struct library *lib = enter(__builtin_return_address(0), &inner)

#endif
