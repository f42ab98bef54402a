/* SPDX-License-Identifier: PostgreSQL */
/* Start-up settings as text: `options` as the server reads them, and the SQL that sets them in a session. */
#ifndef PGLEASE_PRELOAD_OPTIONS_H
#define PGLEASE_PRELOAD_OPTIONS_H

#include "wanted.h"

/* Adds a setting; a later one of the same name stands for the earlier. False: no room. */
bool options_add(struct wanted *wanted, const char *name, const char *value);
/* "-c name=value --name=value": false when there is anything else, or no room. */
bool options_parse(struct wanted *wanted, const char *text);
/*
 * The statements for the settings that a session at this baseline has not. Their length, and no zero; when there is no room it is at
 * least `size`, and what was written is of no use.
 */
size_t options_write(const struct wanted *wanted, const char *baseline, bool fallback, char *buf, size_t size);
/*
 * The same, in memory of their own, for those that are not there yet, as far as `conn` knows; `fallback`: also fallback_application_name.
 * NULL: none are needed; the caller frees. *ret_failed: no memory.
 */
char *options_sql(struct library *lib, const struct wanted *wanted, const PGconn *conn, bool fallback, bool *ret_failed);

#endif
