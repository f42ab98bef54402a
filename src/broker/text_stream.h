/* SPDX-License-Identifier: PostgreSQL */
/*
 * A stream whose text is taken at its end: all that was written to it, or nothing. Not open_memstream, which without memory drops
 * what is being written and tells nobody but that call: ferror and fclose know of nothing.
 */
#ifndef PGLEASE_BROKER_TEXT_STREAM_H
#define PGLEASE_BROKER_TEXT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct text_stream {
	char *text;
	size_t length;
	bool is_cut;
};

/* NULL: out of memory. `text` lives until the stream is closed. */
FILE *text_stream_open(struct text_stream *text);
/* Closes it. The text, for free(); NULL: out of memory, then or at any time before. Accepts NULL for the stream. */
char *text_stream_close(struct text_stream *text, FILE *stream);

#endif
