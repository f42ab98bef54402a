/* SPDX-License-Identifier: PostgreSQL */
/* PGconns that failed to connect, with words of ours. */
#ifndef PGLEASE_PRELOAD_REFUSAL_H
#define PGLEASE_PRELOAD_REFUSAL_H

#include <stddef.h>

#include "library.h"

/* A PGconn of this library whose PQstatus is CONNECTION_BAD and whose PQerrorMessage has the text; NULL: no memory. */
PGconn *refusal(struct library *lib, const char *text);
/* An ErrorResponse with this text: its bytes, which the caller frees; NULL: no memory. */
char *refusal_message(const char *text, size_t *ret_size);

#endif
