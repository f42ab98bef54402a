/* SPDX-License-Identifier: PostgreSQL */
/* Growing texts; see text.h. */
#include "text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 16384u

/* Room for `n` more bytes and a zero. */
static bool
make_room(struct text *text, size_t n)
{
	size_t capacity = text->capacity != 0 ? text->capacity : FIRST_SIZE;
	char *at;

	if (text->failed)
		return false;
	if (n < text->capacity - text->length)
		return true;
	while (capacity - text->length <= n) {
		if (capacity > SIZE_MAX / 2) {
			text->failed = true;
			return false;
		}
		capacity *= 2;
	}
	at = realloc(text->at, capacity);
	if (at == NULL) {
		text->failed = true;
		return false;
	}
	text->at = at;
	text->capacity = capacity;
	return true;
}

void
text_add_n(struct text *text, const char *s, size_t n)
{
	if (!make_room(text, n))
		return;
	memcpy(text->at + text->length, s, n);
	text->length += n;
}

void
text_add(struct text *text, const char *s)
{
	text_add_n(text, s, strlen(s));
}

void
text_add_char(struct text *text, char c)
{
	text_add_n(text, &c, 1);
}

void
text_add_u64(struct text *text, uint64_t n)
{
	char buf[TEXT_NUMBER];

	text_decimal(n, 0, buf);
	text_add(text, buf);
}

void
text_decimal(uint64_t n, unsigned digits, char buf[static TEXT_NUMBER])
{
	char reversed[TEXT_NUMBER];
	unsigned used = 0, out = 0;
	bool fraction = false; /* a digit of it that is not 0 was seen */

	assert(digits <= 9);
	for (unsigned i = 0; i < digits; i++, n /= 10) {
		if (n % 10 != 0)
			fraction = true;
		if (fraction)
			reversed[used++] = (char)('0' + n % 10);
	}
	if (fraction)
		reversed[used++] = '.';
	do {
		reversed[used++] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	while (used > 0)
		buf[out++] = reversed[--used];
	buf[out] = '\0';
}

char *
text_take(struct text *text, size_t *ret_length)
{
	char *at = NULL;

	if (make_room(text, 0)) {
		at = text->at;
		at[text->length] = '\0';
		if (ret_length != NULL)
			*ret_length = text->length;
		text->at = NULL;
	}
	text_fini(text);
	return at;
}

void
text_fini(struct text *text)
{
	free(text->at);
	*text = (struct text){0};
}
