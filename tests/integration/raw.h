/* SPDX-License-Identifier: PostgreSQL */
/*
 * A session in the hands of a scripted client (script.h), byte for byte: its adoption, simple queries, and cancel
 * requests, on connections that are made when it says so and not when libpq would.
 */
#ifndef PGLEASE_TESTS_RAW_H
#define PGLEASE_TESTS_RAW_H

#include "script.h"

/* What names a session in a cancel request. */
struct raw_key {
	uint32_t pid, key; /* key: as sent */
};

/* The descriptor. */
int raw_adopt(const struct script_client *c, const struct script_claim *claim, struct raw_key *ret);

void raw_send_cancel(int sock, const struct raw_key *key);
/* A whole one. The answer is the connection's end: when the server has been told, or at once. */
void raw_cancel(const struct raw_key *key);
/* A connection that the broker has accepted, for it has answered. libpq 17 and later cancel so when they want encryption. */
int raw_connect_accepted(void);

void raw_start_query(int fd, const char *sql);
bool raw_is_answered(int fd, int timeout_ms);
/* Up to ReadyForQuery. Whether it was cancelled. */
bool raw_read_answer(int fd);

#endif
