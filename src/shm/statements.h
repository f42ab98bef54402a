/* SPDX-License-Identifier: PostgreSQL */
/*
 * What is known of the statements prepared in a slot's session: a bounded table per slot, kept by whoever
 * owns the slot. A statement is a 128-bit number here; how it is made and what name it stands for is the
 * client library's matter (src/client/statements.c). Nothing in this module speaks to a server.
 *
 * A session loses all its statements at DISCARD ALL, and a slot gets another session with each generation:
 * whoever does that calls statements_forget. What an application deallocates by itself is noticed when a
 * statement turns out not to be there; then the others are in doubt (statements_doubt) until each is seen to
 * work again.
 */
#ifndef PGLEASE_SHM_STATEMENTS_H
#define PGLEASE_SHM_STATEMENTS_H

#include <stdbool.h>

#include "segment.h"

enum statement_state {
	STATEMENT_UNKNOWN = 0, /* to be prepared */
	STATEMENT_KNOWN,       /* prepared */
	STATEMENT_DOUBTED,     /* prepared, if the application has not deallocated it */
	STATEMENT_STALE,       /* prepared, but to be deallocated and prepared anew */
};

/* One statement of a slot, as statements_find saw it. */
struct statement_ref {
	uint64_t hi, lo;
	uint64_t epoch; /* of the table then: in a later one nothing that is done with this has an effect */
	enum statement_state state;
};

/* Which may be called only if seg->nstatements is not 0; all but statements_forget, by the slot's lessee. */
void statements_find(
    const struct segment *seg, uint32_t slot, uint64_t hi, uint64_t lo, struct statement_ref *ret);
/* It has been prepared, after statements_victim has said that there is room for it. */
void statements_add(struct segment *seg, uint32_t slot, const struct statement_ref *ref);
/* It worked: the most recently used from now on, KNOWN. */
void statements_used(struct segment *seg, uint32_t slot, const struct statement_ref *ref);
/* It is there, but STALE from now on. */
void statements_set_stale(struct segment *seg, uint32_t slot, const struct statement_ref *ref);
/* It is no longer prepared. */
void statements_remove(struct segment *seg, uint32_t slot, const struct statement_ref *ref);
/* The table is full: *ret is the least recently used, to be deallocated and removed before the next. */
bool statements_victim(const struct segment *seg, uint32_t slot, struct statement_ref *ret);
/* All that has not been used since is DOUBTED. */
void statements_doubt(struct segment *seg, uint32_t slot);
/* The session has none of them any more. For any owner, the broker included; nothing without a table. */
void statements_forget(const struct segment *seg, uint32_t slot);

#endif
