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

/*
 * `capacity`: how many connections each pool's segment has room for; NULL: of a program that would take the broker's place, which
 * says how many it wants.
 */
void agreement_print(const struct configuration *configuration, const uint32_t *capacity, FILE *out);
/* Comes first where a program cannot take anybody's place; then each reason. */
void agreement_refuse(FILE *out);
void agreement_reason(const char *why, FILE *out);
/* Whether both fit together. Each difference, or reason that the other program gives in its place, is told. */
typedef void (*agreement_tell)(void *context, const char *why);
bool agreement_holds(const char *mine, const char *theirs, agreement_tell tell, void *context);

#endif
