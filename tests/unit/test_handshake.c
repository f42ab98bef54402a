/* SPDX-License-Identifier: PostgreSQL */
/* The broker's side of PostgreSQL's start-up: packets in any pieces, nonsense, and the answers byte by byte. */
#include <arpa/inet.h>
#include <string.h>

#include "params.h"
#include "startup.h"
#include "unit.h"

#define NONCE_HEX "000102030405060708090a0b0c0d0eff"

static size_t
packet(uint8_t *buf, uint32_t code, const void *body, size_t body_size)
{
	uint32_t length = htonl((uint32_t)(8 + body_size)), number = htonl(code);

	memcpy(buf, &length, 4);
	memcpy(buf + 4, &number, 4);
	memcpy(buf + 8, body, body_size);
	return 8 + body_size;
}

START_TEST(a_start_up_packet_in_single_bytes)
{
	static const char body[] = "user\0u\0database\0d\0options\0pglease.adopt=1\0";
	uint8_t buf[256];
	struct startup s;
	size_t size = packet(buf, 3 << 16, body, sizeof(body));

	for (size_t n = 0; n < size; n++)
		ck_assert_int_eq(startup_parse(buf, n, &s), STARTUP_MORE);
	ck_assert_int_eq(startup_parse(buf, size + 5, &s), STARTUP_PACKET);
	ck_assert_uint_eq(s.used, size);
	ck_assert_str_eq(s.options, "pglease.adopt=1");
	ck_assert(!s.negotiate);
}
END_TEST

START_TEST(encryption_requests)
{
	uint8_t buf[64];
	struct startup s;

	ck_assert_int_eq(startup_parse(buf, packet(buf, 80877103, "", 0), &s), STARTUP_SSL);
	ck_assert_uint_eq(s.used, 8);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 80877104, "", 0), &s), STARTUP_SSL);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 80877104, "x", 1), &s), STARTUP_BAD);
}
END_TEST

START_TEST(cancel_requests)
{
	static const uint8_t body[256] = {0, 0, 1, 2, 9, 8, 7, 6, 5};
	uint8_t buf[512];
	struct startup s;

	ck_assert_int_eq(startup_parse(buf, packet(buf, 80877102, body, 8), &s), STARTUP_CANCEL);
	ck_assert_uint_eq(s.cancel_pid, 0x102);
	ck_assert_uint_eq(s.cancel_key, 0x09080706);
	/* A longer key, of protocol 3.2, is read whole and is none of ours. */
	ck_assert_int_eq(startup_parse(buf, packet(buf, 80877102, body, 36), &s), STARTUP_CANCEL);
	ck_assert_uint_eq(s.used, 44);
	ck_assert_uint_eq(s.cancel_key, 0);
	/* Whoever cancels is answered by nothing but the end of the connection. */
	ck_assert_int_eq(startup_parse(buf, packet(buf, 80877102, body, 4), &s), STARTUP_BAD);
	ck_assert_ptr_null(s.why);
}
END_TEST

START_TEST(newer_protocols_are_negotiated_down)
{
	static const char body[] = "user\0u\0_pq_.what\0on\0options\0o\0_pq_.more\0\0";
	static const char plain[] = "user\0u\0";
	static const uint8_t expected[] = "v\0\0\0\x20\0\3\0\0\0\0\0\2_pq_.what\0_pq_.more";
	uint8_t buf[256], out[256];
	struct startup s;

	ck_assert_int_eq(
	    startup_parse(buf, packet(buf, (3 << 16) + 9999, plain, sizeof(plain)), &s), STARTUP_PACKET);
	ck_assert(s.negotiate);
	ck_assert_uint_eq(s.nunknown, 0);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 3 << 16, body, sizeof(body)), &s), STARTUP_PACKET);
	ck_assert(s.negotiate);
	ck_assert_uint_eq(s.nunknown, 2);
	ck_assert_str_eq(s.options, "o");
	ck_assert_uint_gt(startup_answer(&s, "", 1, 1, 2, out, sizeof(out)), sizeof(expected));
	ck_assert_mem_eq(out, expected, sizeof(expected));
	ck_assert_int_eq(out[sizeof(expected)], 'R');
}
END_TEST

START_TEST(nonsense)
{
	static const char cut[] = {'u', 's', 'e', 'r', 0, 'u'}, after[] = "user\0u\0\0x",
	                  no_end[] = "user\0u";
	uint8_t buf[256] = "GET / HTTP/1.0\r\n";
	struct startup s;

	ck_assert_int_eq(startup_parse(buf, 16, &s), STARTUP_BAD);
	ck_assert_ptr_nonnull(s.why);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 2 << 16, "", 0), &s), STARTUP_BAD);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 3 << 16, cut, sizeof(cut)), &s), STARTUP_BAD);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 3 << 16, after, sizeof(after)), &s), STARTUP_BAD);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 3 << 16, no_end, sizeof(no_end)), &s), STARTUP_BAD);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 3 << 16, "user", 5), &s), STARTUP_BAD);
	ck_assert_int_eq(startup_parse(buf, packet(buf, 3 << 16, "", 0), &s), STARTUP_BAD);
	memset(buf, 0, 8); /* length 0 */
	ck_assert_int_eq(startup_parse(buf, 4, &s), STARTUP_BAD);
	buf[2] = 0xff; /* longer than allowed: said before it has come */
	ck_assert_int_eq(startup_parse(buf, 4, &s), STARTUP_BAD);
}
END_TEST

START_TEST(claims)
{
	struct startup_claim c;

	ck_assert(startup_parse_claim("pglease.adopt=1:2:3:1099511627775:5:18446744073709551615:" NONCE_HEX, &c));
	ck_assert_uint_eq(c.pool, 1);
	ck_assert_uint_eq(c.slot, 2);
	ck_assert_uint_eq(c.generation, 3);
	ck_assert_uint_eq(c.sequence, (UINT64_C(1) << 40) - 1);
	ck_assert_uint_eq(c.client, 5);
	ck_assert_uint_eq(c.attempt, UINT64_MAX);
	ck_assert_uint_eq(c.nonce[1], 1);
	ck_assert_uint_eq(c.nonce[15], 0xff);
}
END_TEST

START_TEST(bad_claims)
{
	static const char *const bad[] = {
	    "",
	    "-c geqo=off",
	    "pglease.adopt=",
	    "pglease.adopt=1:2:3:4:5:6:",
	    "pglease.adopt=1:2:3:4:5:6:00",
	    "pglease.adopt=1:2:3:4:5:6:" NONCE_HEX "0",
	    "pglease.adopt=1:2:3:4:5:6:" NONCE_HEX " -c x=y",
	    "pglease.adopt=1:2:3:4:5:6:000102030405060708090A0B0C0D0EFF",
	    "pglease.adopt=1:2:3:4:5:" NONCE_HEX,
	    "pglease.adopt=-1:2:3:4:5:6:" NONCE_HEX,
	    "pglease.adopt=+1:2:3:4:5:6:" NONCE_HEX,
	    "pglease.adopt= 1:2:3:4:5:6:" NONCE_HEX,
	    "pglease.adopt=1:2:3:99999999999999999999999999999999999999:5:6:" NONCE_HEX,
	    " pglease.adopt=1:2:3:4:5:6:" NONCE_HEX,
	    "pglease.adopt=1:2:3:4:5:-6:" NONCE_HEX,
	    "pglease.adopt=1:2:3:4:5::" NONCE_HEX,
	};
	struct startup_claim c;

	ck_assert(!startup_parse_claim(NULL, &c));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!startup_parse_claim(bad[i], &c), "%s", bad[i]);
}
END_TEST

START_TEST(the_answer)
{
	static const char baseline[] = "client_encoding\0UTF8\0empty\0\0";
	static const uint8_t expected[] = "R\0\0\0\x08\0\0\0\0"
	                                  "S\0\0\0\x19"
	                                  "client_encoding\0UTF8\0"
	                                  "S\0\0\0\x0b"
	                                  "empty\0\0"
	                                  "K\0\0\0\x0c\0\0\1\2\xa0\xb0\xc0\xd0"
	                                  "Z\0\0\0\x05I";
	struct startup s = {0};
	uint8_t out[STARTUP_ANSWER];
	size_t size = sizeof(expected) - 1;

	ck_assert_uint_eq(
	    startup_answer(&s, baseline, sizeof(baseline), 0x102, 0xa0b0c0d0, out, sizeof(out)), size);
	ck_assert_mem_eq(out, expected, size);
	ck_assert_uint_eq(startup_answer(&s, baseline, sizeof(baseline), 1, 1, out, size - 1), 0);
	ck_assert_uint_eq(startup_answer(&s, baseline, sizeof(baseline), 1, 1, out, 0), 0);
}
END_TEST

START_TEST(the_longest_baseline_fits_into_an_answer)
{
	char baseline[LAYOUT_BASELINE];
	struct startup s = {0};
	uint8_t out[STARTUP_ANSWER];
	const char *name, *value;
	size_t at = 0, used = 0;

	/* 64 names at most (params.c): the headers of as many messages. */
	for (unsigned i = 0; i < 64; i++) {
		memset(baseline + used, 'n', 20);
		baseline[used + 20] = '\0';
		memset(baseline + used + 21, 'v', 9);
		baseline[used + 30] = '\0';
		used += 31;
	}
	baseline[used++] = '\0';
	ck_assert_uint_gt(startup_answer(&s, baseline, used, 1, 1, out, sizeof(out)), used);
	while (params_next(baseline, used, &at, &name, &value))
		ck_assert_uint_eq(strlen(value), 9);
	ck_assert_uint_eq(at, used - 1);
}
END_TEST

START_TEST(errors)
{
	static const uint8_t expected[] = "E\0\0\0\x1eSFATAL\0VFATAL\0C08P01\0Mno\0";
	uint8_t out[64];

	ck_assert_uint_eq(startup_error("08P01", "no", out, sizeof(out)), sizeof(expected));
	ck_assert_mem_eq(out, expected, sizeof(expected));
	ck_assert_uint_eq(startup_error("08P01", "no", out, 20), 0);
}
END_TEST

START_TEST(names_from_a_trace)
{
	static const char trace[] = "F\t84\tStartupMessage\t 3 0 \"user\" \"u\"\n"
	                            "F\t13\tPassword\t \"ParameterStatus \"x\" \"\n"
	                            "B\t8\tAuthentication\t 0\n"
	                            "B\t22\tParameterStatus\t \"application_name\" \"\"\n"
	                            "B\t25\tParameterStatus\t \"client_encoding\" \"UTF8\"\n"
	                            "B\t25\tParameterStatus\t \"client_encoding\" \"LATIN1\"\n"
	                            "B\t25\tParameterStatus\t \"\" \"x\"\n"
	                            "B\t12\tBackendKeyData\t 1 2\n";
	/* In any pieces. */
	for (size_t piece = 1; piece < sizeof(trace); piece++) {
		struct params_names *names = params_names_new();

		for (size_t at = 0; at < sizeof(trace) - 1; at += piece)
			params_names_feed(names, trace + at,
			    sizeof(trace) - 1 - at < piece ? sizeof(trace) - 1 - at : piece);
		ck_assert_uint_eq(params_names_count(names), 2);
		ck_assert_str_eq(params_names_get(names, 0), "application_name");
		ck_assert_str_eq(params_names_get(names, 1), "client_encoding");
		params_names_free(names);
	}
}
END_TEST

START_TEST(a_baseline_is_walked_safely)
{
	static const char cut[] = {'a', 0, 'b'}, no_value[] = {'a', 0}, good[] = {'a', 0, 'b', 0, 0};
	const char *name, *value;
	size_t at = 0;

	ck_assert(!params_next(cut, sizeof(cut), &at, &name, &value));
	ck_assert(!params_next(no_value, sizeof(no_value), &at, &name, &value));
	ck_assert(!params_next("", 0, &at, &name, &value));
	ck_assert(params_next(good, sizeof(good), &at, &name, &value));
	ck_assert_str_eq(name, "a");
	ck_assert_str_eq(value, "b");
	ck_assert(!params_next(good, sizeof(good), &at, &name, &value));
}
END_TEST

static const struct backend_key *
key_of(struct params_names *names, const char *line)
{
	params_names_feed(names, line, strlen(line));
	return params_names_key(names);
}

START_TEST(the_key_for_cancels_is_taken_from_the_trace)
{
	struct params_names *names = params_names_new();
	const struct backend_key *key;

	/* What is sent, and what is not understood, leaves none. */
	ck_assert_uint_eq(key_of(names, "F\t12\tBackendKeyData\t 7 8\n")->size, 0);
	ck_assert_uint_eq(key_of(names, "B\t12\tBackendKeyData\t 7\n")->size, 0);
	ck_assert_uint_eq(key_of(names, "B\t12\tBackendKeyData\t 7 8 9\n")->size, 0);
	ck_assert_uint_eq(key_of(names, "B\t12\tBackendKeyData\t 7 'abc'\n")->size, 0);
	ck_assert_uint_eq(key_of(names, "B\t12\tBackendKeyData\t 7 'abcde'\n")->size, 0);
	ck_assert_uint_eq(key_of(names, "B\t264\tBackendKeyData\t 7 'abcd'\n")->size, 0);
	key = key_of(names, "B\t12\tBackendKeyData\t 4711 -2\n");
	ck_assert_uint_eq(key->pid, 4711);
	ck_assert_uint_eq(key->size, 4);
	ck_assert_mem_eq(key->bytes, "\xff\xff\xff\xfe", 4);
	key = key_of(names, "B\t14\tBackendKeyData\t 12 'a\\x00'\\x0a\\xffz'\n");
	ck_assert_uint_eq(key->pid, 12);
	ck_assert_uint_eq(key->size, 6);
	ck_assert_mem_eq(key->bytes, "a\0'\n\xffz", 6);
	params_names_free(names);
}
END_TEST

UNIT_MAIN("handshake", the_key_for_cancels_is_taken_from_the_trace, a_start_up_packet_in_single_bytes, encryption_requests, cancel_requests,
    newer_protocols_are_negotiated_down, nonsense, claims, bad_claims, the_answer,
    the_longest_baseline_fits_into_an_answer, errors, names_from_a_trace, a_baseline_is_walked_safely)
