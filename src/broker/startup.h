/* SPDX-License-Identifier: PostgreSQL */
/*
 * The server's side of PostgreSQL's start-up, as bytes: parsing what a client sends first, and building the answers.
 * Pure functions; who may adopt what is adopt.c's matter.
 */
#ifndef PGLEASE_BROKER_STARTUP_H
#define PGLEASE_BROKER_STARTUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define STARTUP_MAX 4096 /* longest start-up packet taken */
#define STARTUP_ANSWER \
	(STARTUP_MAX + 4096) /* room for any answer built here: the names in a packet, and a baseline */

enum startup_kind {
	STARTUP_MORE, /* not complete yet */
	STARTUP_SSL, /* SSLRequest or GSSENCRequest: answer 'N' and go on */
	STARTUP_CANCEL, /* CancelRequest: pid and key */
	STARTUP_PACKET, /* a start-up packet of protocol 3 */
	STARTUP_BAD, /* nothing that PostgreSQL would understand; `why` says what */
};

/* What a client wants to adopt; numbers as sent, to be checked. */
struct startup_claim {
	uint32_t pool, slot, client;
	uint64_t generation, sequence, attempt;
	uint8_t nonce[WIRE_NONCE];
};

struct startup {
	uint32_t cancel_pid, cancel_key; /* CANCEL */
	bool negotiate; /* PACKET: a minor version above 0 or _pq_ options: say that we know none */
	unsigned nunknown; /* _pq_ options */
	const char *parameters; /* PACKET: name\0value\0 ... \0, in the buffer parsed, checked */
	const char *options; /* PACKET: value of `options`, in the buffer parsed; NULL: none */
	const char *why; /* BAD */
	size_t used; /* bytes that this packet took */
};

enum startup_kind startup_parse(const uint8_t *buf, size_t size, struct startup *ret);
/* `options` of an adoption; false when it is none, or has anything else in it. */
bool startup_parse_claim(const char *options, struct startup_claim *ret);

/*
 * AuthenticationOk, all parameters of the baseline, BackendKeyData, ReadyForQuery. Returns its size, 0 when `size`
 * is too small.
 */
size_t startup_answer(const struct startup *startup, const char *baseline, size_t baseline_size, uint32_t pid,
    uint32_t key, uint8_t *buf, size_t size);
/* ErrorResponse, FATAL. */
size_t startup_error(const char *sqlstate, const char *message, uint8_t *buf, size_t size);

#endif
