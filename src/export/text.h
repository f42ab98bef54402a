/* SPDX-License-Identifier: PostgreSQL */
/*
 * A text that grows, and numbers in it. No locale, no stream, no system call but what malloc makes. Without memory it
 * drops what does not fit and remembers that: text_take() says so, once, at the end.
 */
#ifndef PGLEASE_EXPORT_TEXT_H
#define PGLEASE_EXPORT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_NUMBER 32 /* bytes of any number below, with its zero */

struct text { /* zeroed: empty */
	char *at; /* not terminated */
	size_t length, capacity;
	bool failed;
};

void text_add_n(struct text *text, const char *s, size_t n);
void text_add(struct text *text, const char *s);
void text_add_char(struct text *text, char c);
void text_add_u64(struct text *text, uint64_t n);

/* `n` units of which 10^digits make one, exactly: 1500 with 3 digits is "1.5". Digits: 0 to 9. */
void text_decimal(uint64_t n, unsigned digits, char buf[static TEXT_NUMBER]);

/* The text, terminated, to be freed by the caller; NULL when there was no memory. The structure is empty again. */
char *text_take(struct text *text, size_t *ret_length);
void text_fini(struct text *text);

#endif
