/* SPDX-License-Identifier: PostgreSQL */
/*
 * The server's messages, cut out of what comes from the socket in whatever portions, and told to a strict reader: of a reset
 * (resets.h), or of a plain statement of the broker's. PostgreSQL's protocol 3, "Message Formats".
 */
#ifndef PGLEASE_SHM_ANSWER_H
#define PGLEASE_SHM_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum answer_verdict {
	ANSWER_MORE, /* so far as expected */
	ANSWER_DONE, /* complete, and nothing after it */
	ANSWER_BAD,
};

/* Own memory of one answer: zeroed before the first bytes. */
struct answer {
	size_t total;  /* bytes fed */
	size_t used;   /* of message */
	uint64_t skip; /* bytes of a body that does not matter */
	uint8_t message[5 + 1024];
};

struct answer_reader {
	/* Whether a message of this type does not matter: its body is not looked at, and may have any length. */
	bool (*skips)(void *context, uint8_t type);
	/* A whole message. DONE is the end: a byte after it makes the answer BAD. */
	enum answer_verdict (*take)(void *context, uint8_t type, const char *body, size_t size);
};

/* BAD: the reader says so; a message that cannot be, or is too long to matter; more than a megabyte in all. */
enum answer_verdict answer_feed(struct answer *answer, const struct answer_reader *reader, void *context,
    const uint8_t *buf, size_t size);

#endif
