/* SPDX-License-Identifier: PostgreSQL */
/*
 * The baseline of a server session: all parameters that the server reported while the connection was made, in the
 * order received. libpq gives the values (PQparameterStatus) but not the names; they are taken from its trace
 * (PQtrace), which is public. So is the key for cancel requests (BackendKeyData). The trace also shows what is sent, a
 * password too: nothing of it is kept but names and key, and its buffers are wiped.
 */
#ifndef PGLEASE_BROKER_PARAMS_H
#define PGLEASE_BROKER_PARAMS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "backend.h"

struct params;

/* Starts tracing a connection that has just been started. NULL: out of memory. */
struct params *params_trace(PGconn *conn);
/*
 * Stops tracing and writes the baseline (name\0value\0 ... \0). Returns its size with the last zero, or -1 when no
 * parameter was seen or it does not fit; then *ret_key is untouched.
 */
int params_finish(struct params *params, PGconn *conn, char *buf, size_t size, struct backend_key *ret_key);
/* Stops tracing and throws it away. Accepts NULL. */
void params_free(struct params *params, PGconn *conn);

/* Walks a baseline: start with *at = 0; false at its end. Safe on anything of `size` bytes. */
bool params_next(
    const char *baseline, size_t size, size_t *at, const char **ret_name, const char **ret_value);

/* For params_trace and its test: feeds trace output. */
struct params_names;
struct params_names *params_names_new(void);
void params_names_feed(struct params_names *names, const char *text, size_t size);
unsigned params_names_count(const struct params_names *names);
const char *params_names_get(const struct params_names *names, unsigned index);
/* Size 0: there was none, or none that is understood. */
const struct backend_key *params_names_key(const struct params_names *names);
void params_names_free(struct params_names *names);

#endif
