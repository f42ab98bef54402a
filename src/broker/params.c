/* SPDX-License-Identifier: PostgreSQL */
/*
 * A session's baseline parameters. A trace line of a parameter, without timestamps, is
 *	B<tab>22<tab>ParameterStatus<tab> "client_encoding" "UTF8"
 * (libpq 14 and later), and one of the key for cancel requests
 *	B<tab>12<tab>BackendKeyData<tab> 4711 -123456789
 * or, since keys may be longer (libpq 18), with the key as bytes: ' 4711 'ab\x01\x7f''.
 */
#include "params.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 64
#define NAME_BYTES 64
#define LINE_BYTES 400
#define TRACE_BUFFER 1024

struct params_names {
	unsigned count;
	size_t line_length;
	char line[LINE_BYTES]; /* the beginning of the present line */
	char name[NAMES_MAX][NAME_BYTES];
	struct backend_key key;
};

struct params {
	FILE *file;
	struct params_names *names;
	char buffer[TRACE_BUFFER];
};

struct params_names *
params_names_new(void)
{
	return calloc(1, sizeof(struct params_names));
}

void
params_names_free(struct params_names *names)
{
	if (names == NULL)
		return;
	explicit_bzero(names, sizeof(*names));
	free(names);
}

unsigned
params_names_count(const struct params_names *names)
{
	return names->count;
}

const char *
params_names_get(const struct params_names *names, unsigned index)
{
	return names->name[index];
}

const struct backend_key *
params_names_key(const struct params_names *names)
{
	return &names->key;
}

/*
 * Bytes between quotes: one that cannot be printed is \xhh, and nothing tells a backslash from the beginning of one; so the
 * size, which is known, must come out right. False when it does not.
 */
static bool
take_bytes(const char *text, const char *end, struct backend_key *key, unsigned size)
{
	unsigned n = 0, byte;

	for (const char *at = text; at < end; n++) {
		if (n == size)
			return false;
		if (end - at >= 4 && at[0] == '\\' && at[1] == 'x' && sscanf(at + 2, "%2x", &byte) == 1) {
			key->bytes[n] = (uint8_t)byte;
			at += 4;
		} else {
			key->bytes[n] = (uint8_t)*at++;
		}
	}
	return n == size;
}

/* After "BackendKeyData<tab>"; `length`: the message's, with itself, pid and key. */
static void
take_key(struct params_names *names, const char *text, int length)
{
	struct backend_key key = {0};
	int pid, number, end = 0;
	const char *quote;

	if (length < 9 || length - 8 > BACKEND_KEY || sscanf(text, " %d%n", &pid, &end) != 1)
		return;
	key.pid = (uint32_t)pid;
	key.size = (uint32_t)length - 8;
	text += end;
	if (strncmp(text, " '", 2) == 0) {
		quote = strrchr(text, '\'');
		if (quote < text + 2 || !take_bytes(text + 2, quote, &key, key.size))
			return;
	} else {
		if (key.size != 4 || sscanf(text, " %d%n", &number, &end) != 1 || text[end] != '\0')
			return;
		number = (int)htonl((uint32_t)number);
		memcpy(key.bytes, &number, 4);
	}
	names->key = key;
	explicit_bzero(&key, sizeof(key));
}

static void
take_line(struct params_names *names)
{
	const char *start, *end;
	int length = 0, at = 0;
	size_t n;

	if (sscanf(names->line, "B\t%d\tBackendKeyData\t%n", &length, &at) == 1 && at != 0) {
		take_key(names, names->line + at, length);
		return;
	}
	if (strncmp(names->line, "B\t", 2) != 0 ||
	    (start = strstr(names->line, "\tParameterStatus\t")) == NULL ||
	    (start = strchr(start, '"')) == NULL || (end = strchr(++start, '"')) == NULL)
		return;
	n = (size_t)(end - start);
	if (n == 0 || n >= NAME_BYTES || names->count == NAMES_MAX)
		return;
	/* Reported twice during the start: its place is the first one. */
	for (unsigned i = 0; i < names->count; i++)
		if (strlen(names->name[i]) == n && memcmp(names->name[i], start, n) == 0)
			return;
	memcpy(names->name[names->count], start, n);
	names->name[names->count++][n] = '\0';
}

void
params_names_feed(struct params_names *names, const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (text[i] == '\n') {
			names->line[names->line_length] = '\0';
			take_line(names);
			names->line_length = 0;
		} else if (names->line_length < LINE_BYTES - 1) {
			names->line[names->line_length++] = text[i];
		}
	}
}

static ssize_t
trace_write(void *cookie, const char *text, size_t size)
{
	params_names_feed(cookie, text, size);
	return (ssize_t)size;
}

struct params *
params_trace(PGconn *conn)
{
	struct params *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->names = params_names_new();
	if (p->names == NULL)
		goto fail;
	p->file = fopencookie(p->names, "w", (cookie_io_functions_t){.write = trace_write});
	if (p->file == NULL)
		goto fail;
	setvbuf(p->file, p->buffer, _IOFBF, sizeof(p->buffer));
	PQtrace(conn, p->file);
	PQsetTraceFlags(conn, PQTRACE_SUPPRESS_TIMESTAMPS);
	return p;

fail:
	params_free(p, conn);
	return NULL;
}

void
params_free(struct params *p, PGconn *conn)
{
	if (p == NULL)
		return;
	if (p->file != NULL) {
		PQuntrace(conn);
		fclose(p->file);
	}
	params_names_free(p->names);
	explicit_bzero(p->buffer, sizeof(p->buffer));
	free(p);
}

int
params_finish(struct params *p, PGconn *conn, char *buf, size_t size, struct backend_key *ret_key)
{
	size_t at = 0;
	int result = -1;

	PQuntrace(conn); /* flushes the file */
	fflush(p->file);
	for (unsigned i = 0; i < p->names->count; i++) {
		const char *value = PQparameterStatus(conn, p->names->name[i]);
		size_t name_size = strlen(p->names->name[i]) + 1, value_size;

		if (value == NULL)
			continue;
		value_size = strlen(value) + 1;
		if (at + name_size + value_size + 1 > size)
			goto out;
		memcpy(buf + at, p->names->name[i], name_size);
		memcpy(buf + at + name_size, value, value_size);
		at += name_size + value_size;
	}
	if (at != 0) {
		buf[at++] = '\0';
		*ret_key = p->names->key;
		result = (int)at;
	}
out:
	params_free(p, conn);
	return result;
}

bool
params_next(const char *baseline, size_t size, size_t *at, const char **ret_name, const char **ret_value)
{
	const char *name = baseline + *at, *value;
	size_t left = size - *at, n;

	n = strnlen(name, left);
	if (n == 0 || n == left)
		return false;
	value = name + n + 1;
	left -= n + 1;
	n = strnlen(value, left);
	if (n == left)
		return false;
	*ret_name = name;
	*ret_value = value;
	*at = (size_t)(value - baseline) + n + 1;
	return true;
}
