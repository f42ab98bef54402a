/* SPDX-License-Identifier: PostgreSQL */
/* PGLEASE_FALLBACK, PGLEASE_PRELOAD, PGLEASE_PRELOAD_SKIP. */
#include "fallback.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Servers, which must not lease from a pool that may be on themselves, and other poolers. */
static const char never[] = "postgres,pgleased,pgbouncer,odyssey,pgpool,pgagroal";

static bool
is_in(const char *name, const char *list)
{
	size_t size = strlen(name);

	while (*list != '\0') {
		size_t n = strcspn(list, ",");

		if (n == size && strncmp(name, list, n) == 0)
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

bool
fallback_takes_part(void)
{
	static _Atomic int known; /* 0: not yet; 1: yes; 2: no */
	int now = atomic_load(&known);
	const char *off, *skip;

	if (now == 0) {
		off = getenv("PGLEASE_PRELOAD");
		skip = getenv("PGLEASE_PRELOAD_SKIP");
		now = (off != NULL && strcmp(off, "off") == 0) || is_in(program_invocation_short_name, never) ||
			      (skip != NULL && is_in(program_invocation_short_name, skip))
			  ? 2
			  : 1;
		atomic_store(&known, now);
	}
	return now == 1;
}

bool
fallback_is_allowed(void)
{
	const char *fallback = getenv("PGLEASE_FALLBACK");

	return fallback == NULL || strcmp(fallback, "error") != 0;
}

bool
fallback_is_direct(const char *why)
{
	static _Atomic bool warned;

	if (!fallback_is_allowed())
		return false;
	if (!atomic_exchange(&warned, true))
		fprintf(stderr, "pglease: %s; connecting directly (PGLEASE_FALLBACK=error forbids it)\n", why);
	return true;
}
