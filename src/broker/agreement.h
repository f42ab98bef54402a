/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a broker and the program that takes its place must have in common (doc/protocol.md, H1): versions, the shape of what is
 * handed over, and the settings that a restart cannot change. Each says it as lines of text, which are compared.
 */
#ifndef PGLEASE_BROKER_AGREEMENT_H
#define PGLEASE_BROKER_AGREEMENT_H

#include <stdbool.h>
#include <stdio.h>

#include "configuration.h"

#define AGREEMENT_WHY 512

/* What a broker has, whatever its configuration says. */
struct agreement_has {
	unsigned embedded_connections; /* that the embedded server was started for; 0: there is none */
};
/* `has` NULL: of a program that would take the broker's place, which says what it wants. */
void agreement_print(const struct configuration *configuration, const struct agreement_has *has, FILE *out);
/* The pools that such a program would have. */
struct agreement_pool {
	char name[LAYOUT_NAME];
	uint64_t made_by, connections; /* pools_made_by(); how many its segment must have room for */
};
unsigned agreement_pools(const char *theirs, struct agreement_pool ret[static LAYOUT_MAX_POOLS]);
/* Comes first where a program cannot take anybody's place; then each reason. */
void agreement_refuse(FILE *out);
void agreement_reason(const char *why, FILE *out);
/* Whether both fit together. Each difference, or reason that the other program gives in its place, is told. */
typedef void (*agreement_tell)(void *context, const char *why);
bool agreement_holds(const char *mine, const char *theirs, agreement_tell tell, void *context);

#endif
