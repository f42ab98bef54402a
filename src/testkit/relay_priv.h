/* SPDX-License-Identifier: PostgreSQL */
/* Between the relay's process (relay.c) and who starts it and gives it orders (relay_control.c). */
#ifndef PGLEASE_TESTKIT_RELAY_PRIV_H
#define PGLEASE_TESTKIT_RELAY_PRIV_H

#include "relay.h"

struct relay_message {
	int32_t order;
	int64_t a, b;
	char text[8];
};

/* The process: answers each message with an int32_t, 0 or -errno; its first one is unasked. */
void relay_run(int control, const char *folder, const char *server, struct relay_counts *counts) __attribute__((noreturn));

#endif
