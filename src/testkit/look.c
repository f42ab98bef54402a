/* SPDX-License-Identifier: PostgreSQL */
/* See look.h. Owns the memory of a look. */
#include "look.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA ((size_t)16 << 20) /* of address space; what is not touched is not there */

int
look_init(struct look *look)
{
	void *arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	memset(look, 0, sizeof(*look));
	if (arena == MAP_FAILED)
		return child_fail(errno, "mmap: %s", strerror(errno));
	look->arena = arena;
	look->size = ARENA;
	look->unseen = look->arena; /* zeroed */
	look->used = 1;
	return 0;
}

void
look_fini(struct look *look)
{
	if (look->arena != NULL)
		munmap(look->arena, look->size);
	memset(look, 0, sizeof(*look));
}

static void *
take(struct look *look, size_t n)
{
	void *p = look->arena + look->used;

	n = (n + 15) & ~(size_t)15;
	look->used = (look->used + 15) & ~(size_t)15;
	p = look->arena + look->used;
	if (look->used + n > look->size)
		return NULL;
	look->used += n;
	return p;
}

static char *
take_text(struct look *look, const char *text)
{
	size_t n = strlen(text) + 1;
	char *copy = take(look, n);

	return copy != NULL ? memcpy(copy, text, n) : NULL;
}

struct thing *
look_note(struct look *look, enum pglease_test_leak_kind kind, const char *key, const char *format, ...)
{
	struct thing *thing = take(look, sizeof(*thing));
	char what[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (thing != NULL) {
		thing->kind = kind;
		thing->key = take_text(look, key);
		thing->what = take_text(look, what);
	}
	if (thing == NULL || thing->key == NULL || thing->what == NULL) {
		look_unseen(look, "there is too much of it");
		return NULL;
	}
	thing->next = look->things;
	look->things = thing;
	return thing;
}

void
look_unseen(struct look *look, const char *format, ...)
{
	char what[512], *text;
	va_list args;
	size_t n;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	n = strlen(look->unseen) + strlen(what) + 3;
	text = take(look, n);
	if (text == NULL) {
		look->unseen = (char *)"most of it: there is too much"; /* never written to */
		return;
	}
	snprintf(text, n, "%s%s%s", look->unseen, *look->unseen != '\0' ? "; " : "", what);
	look->unseen = text;
}
