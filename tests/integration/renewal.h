/* SPDX-License-Identifier: PostgreSQL */
/* A scripted client that holds a lease and asks for renewals (doc/protocol.md): what test_renewal.c does it with. */
#ifndef PGLEASE_TESTS_RENEWAL_H
#define PGLEASE_TESTS_RENEWAL_H

#include "script.h"
#include "slots.h"

#define ATTEMPT 77

struct renewal {
	struct script_client client;
	struct script_claim claim;
	int descriptor; /* of the adopted connection */
	pid_t stopped;  /* the server's */
};
extern struct renewal renewal;

/* Attached, with a lease and its connection's descriptor. */
void renewal_adopt(struct script_client *c, struct script_claim *of);
void renewal_begin(const char *extra);
/* What PQreset sends to the broker. */
int renewal_ask(const struct script_claim *of);
uint64_t renewal_generation(void);
unsigned renewal_flags(void);
/* Memory cannot be waited on: it is looked at, and the number of looks only ends a failure. */
void renewal_await_word(bool (*is)(uint64_t w), const char *what);
bool renewal_is_not_leased(uint64_t w);
bool renewal_is_cancelling(uint64_t w);
bool renewal_is_retired(uint64_t w);
/* PostgreSQL answers on it. */
void renewal_assert_serves(int fd);
/* The connection behind it has ended, for whoever holds it. */
void renewal_assert_fenced(int fd);
/* What the segment says of the slot is another connection's when the answer has come. */
void renewal_expect_welcome(int sock, uint32_t *ret_key);
/* The other connection, in the claim that names it from now on. */
void renewal_expect_renewed(int sock);
/* The same; the one that was asked for before, and abandoned, may have been made, and given up, too. */
void renewal_expect_renewed_after_abandoned(int sock);
void renewal_stop_server(void);
void renewal_continue_server(void);
/* Under way: the old connection is closed, the other one not made. */
int renewal_ask_and_await(const struct script_claim *of);
void renewal_give_back(void);
/* Somebody else's lease is as if nothing had been. */
void renewal_assert_recovered(void);

#endif
