/* SPDX-License-Identifier: PostgreSQL */
/* Leases that are held for longer than leak_threshold: reported once each, and left alone. */
#ifndef PGLEASE_BROKER_LEAKS_H
#define PGLEASE_BROKER_LEAKS_H

#include "pool.h"

/* At each tick, for a LEASED word: for how long the ticks have seen this lease. */
uint64_t leaks_age(struct server *server, uint64_t word, uint64_t now);
/* Then, when it names a row of this client. */
void leaks_look(struct server *server, unsigned client, uint64_t age);

#endif
