/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the fuzz targets share. Each target is one program: libFuzzer's (`make fuzz`), or, with any compiler, one that replays
 * the inputs that were kept (replay.c, in `make check`). A target is more than "does not crash": it says what must hold for
 * any input, by fuzz_must().
 */
#ifndef PGLEASE_TESTS_FUZZ_H
#define PGLEASE_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One input. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define fuzz_must(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))

static inline void __attribute__((noreturn))
fuzz_fail(const char *file, int line, const char *condition)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	abort();
}

/* An input that is taken piece by piece; beyond its end there are zeros. */
struct fuzz {
	const uint8_t *at;
	size_t left;
};

static inline uint64_t
fuzz_number(struct fuzz *f, unsigned bytes)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < bytes && f->left > 0; i++, f->at++, f->left--)
		n |= (uint64_t)*f->at << 8 * i;
	return n;
}

static inline uint8_t
fuzz_byte(struct fuzz *f)
{
	return (uint8_t)fuzz_number(f, 1);
}

/* The next bytes, at most `most` of them: as many as a byte (two, if `most` is above 255) says. */
static inline const uint8_t *
fuzz_bytes(struct fuzz *f, size_t most, size_t *ret_size)
{
	size_t n = (size_t)fuzz_number(f, most > 255 ? 2 : 1);
	const uint8_t *at;

	if (n > most)
		n = most;
	if (n > f->left)
		n = f->left;
	at = f->at;
	f->at += n;
	f->left -= n;
	*ret_size = n;
	return at;
}

/* All that is left, as text of its own: to be freed. */
static inline char *
fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	fuzz_must(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

/*
 * Bends `size` bytes in place: the input is a list of changes, each an offset, a width and a value. So an input of some bytes
 * reaches any place of an object of a megabyte that is sound else.
 */
static inline void
fuzz_bend(struct fuzz *f, unsigned char *base, size_t size)
{
	for (unsigned i = 0; i < 64 && f->left > 0; i++) {
		uint8_t how = fuzz_byte(f);
		size_t at = (size_t)fuzz_number(f, how & 0x80 ? 4 : 2), n = (size_t)1 << (how & 3);
		uint64_t value = fuzz_number(f, (unsigned)n);

		if (how & 0x40) { /* a run of the same */
			n = (size_t)fuzz_number(f, 2) % 4096;
			at %= size;
			if (n > size - at)
				n = size - at;
			memset(base + at, (int)value, n);
			continue;
		}
		if (n > size)
			continue;
		at %= size - n + 1;
		memcpy(base + at, &value, n);
	}
}

#endif
