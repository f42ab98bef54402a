/* SPDX-License-Identifier: PostgreSQL */
/* JSON; see json.h and RFC 8259. */
#include "json.h"

#include <string.h>

/* Bytes of the UTF-8 character (RFC 3629) that begins at `s`: 1 to 4, or 0 where none does. Looks at nothing behind the zero. */
static size_t
utf8_length(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;
	unsigned char least = 0x80, most = 0xbf; /* of the second byte */
	size_t n = *u < 0x80 ? 1 : *u < 0xc2 ? 0 : *u < 0xe0 ? 2 : *u < 0xf0 ? 3 : *u < 0xf5 ? 4 : 0;

	if (*u == 0xe0) /* shorter ones begin below */
		least = 0xa0;
	else if (*u == 0xed) /* surrogates above */
		most = 0x9f;
	else if (*u == 0xf0)
		least = 0x90;
	else if (*u == 0xf4) /* U+10FFFF is the last */
		most = 0x8f;
	for (size_t i = 1; i < n; i++) {
		if (u[i] < least || u[i] > most)
			return 0;
		least = 0x80;
		most = 0xbf;
	}
	return n;
}

static void
add_string(struct text *to, const char *s)
{
	static const char hex[] = "0123456789abcdef";

	text_add_char(to, '"');
	while (*s != '\0') {
		size_t plain = 0, n = 1;

		while ((unsigned char)s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\' &&
		       (n = utf8_length(s + plain)) != 0)
			plain += n;
		text_add_n(to, s, plain);
		s += plain;
		if (*s == '"' || *s == '\\') {
			text_add_char(to, '\\');
			text_add_char(to, *s++);
		} else if ((unsigned char)*s >= 0x80) {
			text_add(to, "\\ufffd"); /* the replacement character, for one byte */
			s++;
		} else if (*s != '\0') {
			text_add(to, "\\u00");
			text_add_char(to, hex[(unsigned char)*s >> 4]);
			text_add_char(to, hex[(unsigned char)*s++ & 0xf]);
		}
	}
	text_add_char(to, '"');
}

static void
new_line(struct json_writer *json)
{
	if (!json->indent)
		return;
	text_add_char(json->to, '\n');
	for (unsigned i = 0; i < json->depth; i++)
		text_add(json->to, "  ");
}

static void
begin_value(struct json_writer *json, const char *key)
{
	if (json->more)
		text_add_char(json->to, ',');
	if (json->depth > 0)
		new_line(json);
	json->more = true;
	if (key == NULL)
		return;
	add_string(json->to, key);
	text_add(json->to, json->indent ? ": " : ":");
}

void
json_write_open(struct json_writer *json, const char *key, char bracket)
{
	begin_value(json, key);
	text_add_char(json->to, bracket);
	json->depth++;
	json->more = false;
}

void
json_write_close(struct json_writer *json, char bracket)
{
	json->depth--;
	if (json->more)
		new_line(json);
	text_add_char(json->to, bracket);
	json->more = true;
}

void
json_write_text(struct json_writer *json, const char *key, const char *value)
{
	begin_value(json, key);
	add_string(json->to, value);
}

void
json_write_u64(struct json_writer *json, const char *key, uint64_t value)
{
	begin_value(json, key);
	text_add_u64(json->to, value);
	if (value > INT64_MAX) /* readers that take integers for 64 bits with a sign refuse it */
		text_add(json->to, ".0");
}

void
json_write_decimal(struct json_writer *json, const char *key, uint64_t value, unsigned digits)
{
	char buf[TEXT_NUMBER];

	begin_value(json, key);
	text_decimal(value, digits, buf);
	text_add(json->to, buf);
	if (strchr(buf, '.') == NULL)
		text_add(json->to, ".0");
}

void
json_write_bool(struct json_writer *json, const char *key, bool value)
{
	begin_value(json, key);
	text_add(json->to, value ? "true" : "false");
}

void
json_write_null(struct json_writer *json, const char *key)
{
	begin_value(json, key);
	text_add(json->to, "null");
}
