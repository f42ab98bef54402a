/* SPDX-License-Identifier: PostgreSQL */
/*
 * Writing a JSON document, piece by piece: commas, indentation and escapes are its matter, that opened and closed agree
 * is the caller's. What is not UTF-8 in a text (a snapshot's is) becomes U+FFFD, byte by byte.
 */
#ifndef PGLEASE_EXPORT_JSON_H
#define PGLEASE_EXPORT_JSON_H

#include "text.h"

struct json_writer {
	struct text *to;
	bool indent;    /* a line for each value; false: all in one line */
	unsigned depth; /* objects and arrays that are open */
	bool more;      /* a value was written in the innermost one */
};

/* Each: `key` is NULL in an array and for the document itself. */
void json_write_open(struct json_writer *json, const char *key, char bracket); /* '{' or '[' */
void json_write_close(struct json_writer *json, char bracket);                 /* '}' or ']' */
void json_write_text(struct json_writer *json, const char *key, const char *value);
void json_write_u64(struct json_writer *json, const char *key, uint64_t value);
/* As text_decimal(), and always with a decimal point. */
void json_write_decimal(struct json_writer *json, const char *key, uint64_t value, unsigned digits);
void json_write_bool(struct json_writer *json, const char *key, bool value);
void json_write_null(struct json_writer *json, const char *key);

#endif
