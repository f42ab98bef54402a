/* SPDX-License-Identifier: PostgreSQL */
/* Over fopencookie. */
#include "text_stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* Of the stream's buffer: once per some thousand bytes. */
static ssize_t
append(void *cookie, const char *bytes, size_t size)
{
	struct text_stream *t = cookie;
	char *text = realloc(t->text, t->length + size + 1);

	if (text == NULL) {
		t->is_cut = true;
		return 0;
	}
	memcpy(text + t->length, bytes, size);
	t->text = text;
	t->length += size;
	text[t->length] = '\0';
	return (ssize_t)size;
}

FILE *
text_stream_open(struct text_stream *t)
{
	*t = (struct text_stream){0};
	return fopencookie(t, "w", (cookie_io_functions_t){.write = append});
}

char *
text_stream_close(struct text_stream *t, FILE *f)
{
	if (f == NULL)
		return NULL;
	/* What could not be formatted (%f may need memory) has set the stream's error. */
	t->is_cut |= ferror(f) != 0;
	t->is_cut |= fclose(f) != 0;
	if (!t->is_cut && t->text == NULL)
		append(t, "", 0);
	if (t->is_cut) {
		free(t->text);
		t->text = NULL;
	}
	return t->text;
}
