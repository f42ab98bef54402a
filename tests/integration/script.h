/* SPDX-License-Identifier: PostgreSQL */
/*
 * A scripted client of the broker's two sockets: it builds every packet by hand, sends it as it is told, and checks the
 * answers byte for byte. It knows nothing of libpq and libpglease; a lease it takes in the segment itself. Everything
 * that does not go as expected fails the test.
 */
#ifndef PGLEASE_TESTS_SCRIPT_H
#define PGLEASE_TESTS_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segment.h"
#include "wire.h"

#define SCRIPT_SSL 80877103u
#define SCRIPT_GSS 80877104u
#define SCRIPT_CANCEL 80877102u
#define SCRIPT_3_0 (3u << 16)

/* A packet: four bytes of length (set by script_end), four of code, and what is put after that. */
struct script_packet {
	size_t size;
	uint8_t bytes[16384];
};
void script_begin(struct script_packet *p, uint32_t code);
void script_put(struct script_packet *p, const void *bytes, size_t n);
void script_put32(struct script_packet *p, uint32_t n);
void script_put_text(struct script_packet *p, const char *text); /* with its zero */
void script_end(struct script_packet *p);
/* A packet that is only a code. */
void script_code(struct script_packet *p, uint32_t code);
/* user, database and, if not NULL, options. */
void script_startup(struct script_packet *p, uint32_t version, const char *options);
void script_cancel(struct script_packet *p, uint32_t pid, const void *key, size_t key_size);

/* Connections of its own; nothing on them waits for longer than a failing test may take. */
int script_connect_adopt(void);
int script_connect_control(void);

void script_send(int sock, const void *bytes, size_t n);
void script_send_packet(int sock, const struct script_packet *p);
/* Exactly these bytes come next. */
void script_expect(int sock, const void *bytes, size_t n);
/* The connection ends, nothing comes before. Closes it. */
void script_expect_end(int sock);
/* An ErrorResponse: FATAL, this SQLSTATE, a message with this word; then the end. Closes it. */
void script_expect_error(int sock, const char *sqlstate, const char *word);
/* A WIRE_ERROR with this code and word, on a control connection; then the end. Closes it. */
void script_expect_refusal(int sock, int code, const char *word);

/* An attached client with the pool `app` open. */
struct script_client {
	int control;
	struct wire_welcome welcome;
	struct wire_pool pool;
	struct segment seg;
	uint32_t row;
};
void script_attach(struct script_client *c);
void script_detach(struct script_client *c);

/* A lease taken by the rules of doc/protocol.md, and what names it in an adoption. */
struct script_claim {
	uint32_t pool, slot, client;
	uint64_t generation, sequence, word;
	uint64_t attempt; /* 0: another one in each packet, as adoptions have; renewals have that of their adoption */
	uint8_t nonce[WIRE_NONCE];
};
void script_lease(struct script_client *c, struct script_claim *ret);
void script_release(struct script_client *c, struct script_claim *claim);
/* The start-up packet that claims it. */
void script_claim_packet(struct script_packet *p, uint32_t version, const struct script_claim *claim);

/*
 * From AuthenticationOk to ReadyForQuery, all of it compared with what the segment says of the slot. The key for cancels
 * goes to *ret_key, as sent.
 */
void script_expect_welcome(
    int sock, const struct script_client *c, const struct script_claim *claim, uint32_t *ret_key);
/* Asks for the descriptor and gets it; the connection ends. Closes it. */
int script_take_descriptor(int sock);
/* One byte, with or without a descriptor (-1), as the answer to a request. */
char script_answer(int sock, int *ret_fd);

uint64_t script_counter(const struct script_client *c, enum broker_counter counter);

#endif
