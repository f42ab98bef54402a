/* SPDX-License-Identifier: PostgreSQL */
/* Which connections of programs that do not know pglease a pool stands for (match_dbname, match_user, match_host). */
#ifndef PGLEASE_BROKER_MATCH_H
#define PGLEASE_BROKER_MATCH_H

#include "pool.h"
#include "wire.h"

/* The pool's name and lists. A list that does not fit is left empty: nothing matches. */
void match_describe(const struct pool *pool, struct wire_match *ret);

#endif
