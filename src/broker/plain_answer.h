/* SPDX-License-Identifier: PostgreSQL */
/*
 * The answer to a Query of one statement without rows, or of none: bytes in, verdict out, as strict as that to a reset (resets.h),
 * which is not one of these.
 */
#ifndef PGLEASE_BROKER_PLAIN_ANSWER_H
#define PGLEASE_BROKER_PLAIN_ANSWER_H

#include "answer.h"

struct plain_answer {
	const char *tag; /* that CommandComplete must have; "": an EmptyQueryResponse must come in its place */
	const char *baseline; /* of LAYOUT_BASELINE bytes; NULL: any parameter may be reported */
	bool off_baseline; /* the server has reported a parameter that is not as in the baseline */
	bool completed;
	struct answer received;
};

/* The tag is the statement itself. Both strings stay where they are. */
void plain_answer_init(struct plain_answer *answer, const char *sql, const char *baseline);
/* DONE at ReadyForQuery outside a transaction, with nothing after it. Notices and notifications may come before. */
enum answer_verdict plain_answer_feed(struct plain_answer *answer, const uint8_t *buf, size_t size);

#endif
