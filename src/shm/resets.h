/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a reset says to the server, and which answer is the right one: bytes in, verdict out. Lessees and the broker send and
 * read them (doc/protocol.md, D1 and D3); neither does so through a PGconn, which learns of nothing.
 */
#ifndef PGLEASE_SHM_RESETS_H
#define PGLEASE_SHM_RESETS_H

#include <stdbool.h>

#include "answer.h"
#include "segment.h"

#define RESETS_MESSAGE (LAYOUT_RESET_SQL + LAYOUT_BASELINE + 256) /* room for any reset's messages */

/*
 * Messages: PostgreSQL's protocol 3, "Message Formats". `ask`: a baseline (LAYOUT_BASELINE bytes): at the end the server is
 * asked for the values of its parameters; NULL: it is not. Returns their size, 0 when the baseline is no sound one.
 */
size_t resets_message(enum reset_kind kind, const char *sql, const char *ask, uint8_t buf[static RESETS_MESSAGE]);
/* Whether prepared statements (and sequence caches) survive it. */
bool resets_keep_statements(enum reset_kind kind, const char *sql);
/* The pool's own kind, as the segment says; `never` leaves the least. Safe against a scribbled header. */
enum reset_kind resets_kind(const struct segment *seg);
/* The pool's reset_sql, zero-terminated, copied. */
void resets_sql(const struct segment *seg, char buf[static LAYOUT_RESET_SQL]);

/* A Query of that text: its size is RESETS_QUERY(size). */
#define RESETS_QUERY(size) (5 + (size) + 1)
size_t resets_query(uint8_t *buf, const char *text, size_t size);

/* struct slot.owed: what was sent, on the connection of this generation. `flags`: RESET_ASKED, RESET_SETS. */
uint64_t resets_owed(enum reset_kind kind, uint32_t flags, uint64_t generation);
/* Whether it says something sound of this generation. */
bool resets_is_owed(uint64_t owed, uint64_t generation, enum reset_kind *ret_kind, uint32_t *ret_flags);

/* What became of the statements behind a reset. */
struct resets_told {
	bool refused; /* one of them failed, and none took effect */
	uint64_t bits; /* places in the baseline of what was told */
	size_t used;
	char text[LAYOUT_BASELINE]; /* parameters that the server has reported since, as in a baseline; the last of a name counts */
};

/* An answer that is being read. */
struct resets_answer {
	const struct segment *seg;
	uint32_t slot;
	const char *baseline;
	enum reset_kind kind;
	bool asks, sets;
	struct resets_told *told; /* NULL: does not matter */
	unsigned nsteps;
	size_t asked;  /* place in the baseline of the parameter whose value comes next */
	uint64_t off;  /* parameters that are off the baseline and that the server has not reported back yet */
	unsigned step; /* which of the messages is being answered */
	unsigned tags; /* CommandCompletes of it so far */
	struct answer received;
};

/*
 * For the session of `slot`, whose word the caller owns, and its baseline, of LAYOUT_BASELINE bytes that stay where they
 * are; what is off it is what the slot says. `asks`: the question was sent, too.
 */
void resets_answer_init(struct resets_answer *answer, const struct segment *seg, uint32_t slot, const char *baseline,
    enum reset_kind kind, bool asks);
/*
 * One more Query was sent behind it, of SET and SELECT: whatever they come to is noted in `told`, which stays where it is (NULL: it
 * does not matter).
 */
void resets_answer_sets(struct resets_answer *answer, struct resets_told *told);
/* The last value that was told of this name; NULL: none. */
const char *resets_told_find(const struct resets_told *told, const char *name);
/*
 * DONE at the last ReadyForQuery, with nothing after it. BAD: anything else than the expected messages (asynchronous ones
 * may come between them: notices, notifications, parameters at their baseline), or too many bytes.
 */
enum answer_verdict resets_answer_feed(struct resets_answer *answer, const uint8_t *buf, size_t size);
/* D4, when it is DONE: the slot's session is at its baseline, or was before the statements behind. */
void resets_done(const struct resets_answer *answer);

#endif
