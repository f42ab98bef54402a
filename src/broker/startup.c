/* SPDX-License-Identifier: PostgreSQL */
/* PostgreSQL's start-up messages, protocol 3. */
#include "startup.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "params.h"

#define CODE_CANCEL 80877102u
#define CODE_SSL 80877103u
#define CODE_GSS 80877104u
#define PROTOCOL_3_0 (3u << 16)
/* A cancel key of protocol 3.2 may have up to 256 bytes. Ours have 4: another length is no key of ours. */
#define CANCEL_MAX (12 + 256)

static uint32_t
get32(const uint8_t *at)
{
	uint32_t n;

	memcpy(&n, at, sizeof(n));
	return ntohl(n);
}

static bool
is_protocol_option(const char *name)
{
	return strncmp(name, "_pq_.", 5) == 0;
}

/* name\0value\0 ... \0 after the version. */
static enum startup_kind
parse_parameters(const char *at, const char *end, struct startup *ret)
{
	ret->parameters = at;
	while (at < end && *at != '\0') {
		const char *name = at, *value = memchr(at, '\0', (size_t)(end - at));

		if (value == NULL || ++value >= end ||
		    (at = memchr(value, '\0', (size_t)(end - value))) == NULL) {
			ret->why = "the start-up packet's parameters are cut off";
			return STARTUP_BAD;
		}
		at++;
		if (is_protocol_option(name)) {
			ret->negotiate = true;
			ret->nunknown++;
		} else if (strcmp(name, "options") == 0) {
			ret->options = value;
		}
	}
	if (at + 1 != end) {
		ret->why = "the start-up packet does not end where its parameters do";
		return STARTUP_BAD;
	}
	return STARTUP_PACKET;
}

enum startup_kind
startup_parse(const uint8_t *buf, size_t size, struct startup *ret)
{
	uint32_t length, code;

	*ret = (struct startup){0};
	if (size < 4)
		return STARTUP_MORE;
	length = get32(buf);
	if (length < 8 || length > STARTUP_MAX) {
		ret->why = "invalid length of start-up packet";
		return STARTUP_BAD;
	}
	if (size < 8)
		return STARTUP_MORE;
	code = get32(buf + 4);
	if (size < length)
		return STARTUP_MORE;
	ret->used = length;
	switch (code) {
	case CODE_SSL:
	case CODE_GSS:
		if (length == 8)
			return STARTUP_SSL;
		ret->why = "invalid length of encryption request";
		return STARTUP_BAD;
	case CODE_CANCEL:
		/* Whoever cancels takes any answer but the end of the connection for something else. */
		if (length < 16 || length > CANCEL_MAX)
			return STARTUP_BAD;
		ret->cancel_pid = get32(buf + 8);
		ret->cancel_key = length == 16 ? get32(buf + 12) : 0; /* 0 is never a key */
		return STARTUP_CANCEL;
	}
	if (code >> 16 != 3) {
		ret->why = "unsupported frontend protocol: only 3.0 is known here";
		return STARTUP_BAD;
	}
	ret->negotiate = code != PROTOCOL_3_0;
	return parse_parameters((const char *)buf + 8, (const char *)buf + length, ret);
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
startup_parse_claim(const char *options, struct startup_claim *ret)
{
	static const char prefix[] = "pglease.adopt=";
	struct startup_claim claim = {0};
	char nonce[2 * WIRE_NONCE + 1] = "";
	size_t digits = 0;
	int end = 0;

	/* sscanf takes signs, blanks and numbers too long for it: none of these may be there. */
	if (options == NULL || strncmp(options, prefix, sizeof(prefix) - 1) != 0)
		return false;
	for (const char *at = options + sizeof(prefix) - 1; *at != '\0'; at++) {
		digits = *at == ':' ? 0 : digits + 1;
		if ((*at != ':' && hex_digit(*at) < 0) || digits > 2 * WIRE_NONCE)
			return false;
	}
	if (sscanf(options, WIRE_ADOPT_SCAN "%n", &claim.pool, &claim.slot, &claim.generation,
	        &claim.sequence, &claim.client, &claim.attempt, nonce, &end) != 7 ||
	    options[end] != '\0' || strlen(nonce) != 2 * WIRE_NONCE)
		return false;
	for (size_t i = 0; i < WIRE_NONCE; i++)
		claim.nonce[i] = (uint8_t)(hex_digit(nonce[2 * i]) << 4 | hex_digit(nonce[2 * i + 1]));
	*ret = claim;
	return true;
}

/* A message being written; `overflow` once it does not fit. */
struct out {
	uint8_t *buf;
	size_t size, at, length_at;
	bool overflow;
};

static void
put(struct out *out, const void *bytes, size_t n)
{
	if (out->overflow || n > out->size - out->at) {
		out->overflow = true;
		return;
	}
	memcpy(out->buf + out->at, bytes, n);
	out->at += n;
}

static void
put32(struct out *out, uint32_t n)
{
	n = htonl(n);
	put(out, &n, sizeof(n));
}

static void
put_text(struct out *out, const char *text)
{
	put(out, text, strlen(text) + 1);
}

static void
begin(struct out *out, char type)
{
	put(out, &type, 1);
	out->length_at = out->at;
	put32(out, 0);
}

static void
end(struct out *out)
{
	uint32_t length = htonl((uint32_t)(out->at - out->length_at));

	if (!out->overflow)
		memcpy(out->buf + out->length_at, &length, sizeof(length));
}

size_t
startup_answer(const struct startup *startup, const char *baseline, size_t baseline_size, uint32_t pid,
    uint32_t key, uint8_t *buf, size_t size)
{
	struct out out = {.buf = buf, .size = size};
	const char *name, *value;

	if (startup->negotiate) { /* NegotiateProtocolVersion: 3.0, and the options that we do not know */
		begin(&out, 'v');
		put32(&out, PROTOCOL_3_0);
		put32(&out, startup->nunknown);
		/* Walked again: there may be any number of them. Without any, the rest of the packet does not matter. */
		name = startup->parameters;
		for (unsigned i = 0; i < startup->nunknown; name += strlen(name) + 1) {
			if (is_protocol_option(name)) {
				put_text(&out, name);
				i++;
			}
			name += strlen(name) + 1;
		}
		end(&out);
	}
	begin(&out, 'R');
	put32(&out, 0);
	end(&out);
	for (size_t at = 0; params_next(baseline, baseline_size, &at, &name, &value);) {
		begin(&out, 'S');
		put_text(&out, name);
		put_text(&out, value);
		end(&out);
	}
	begin(&out, 'K');
	put32(&out, pid);
	put32(&out, key);
	end(&out);
	begin(&out, 'Z');
	put(&out, "I", 1);
	end(&out);
	return out.overflow ? 0 : out.at;
}

size_t
startup_error(const char *sqlstate, const char *message, uint8_t *buf, size_t size)
{
	struct out out = {.buf = buf, .size = size};

	begin(&out, 'E');
	put_text(&out, "SFATAL");
	put_text(&out, "VFATAL");
	put(&out, "C", 1);
	put_text(&out, sqlstate);
	put(&out, "M", 1);
	put_text(&out, message);
	put(&out, "", 1);
	end(&out);
	return out.overflow ? 0 : out.at;
}
