/* SPDX-License-Identifier: PostgreSQL */
/* JSON; see json.h and RFC 8259. */
#include "json.h"

#include <string.h>

static void
add_string(struct text *to, const char *s)
{
	static const char hex[] = "0123456789abcdef";

	text_add_char(to, '"');
	while (*s != '\0') {
		size_t plain = 0;

		while ((unsigned char)s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\')
			plain++;
		text_add_n(to, s, plain);
		s += plain;
		if (*s == '"' || *s == '\\') {
			text_add_char(to, '\\');
			text_add_char(to, *s++);
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
