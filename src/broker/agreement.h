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

void agreement_print(const struct configuration *configuration, FILE *out);
/* In its place: why this program cannot take anybody's. */
void agreement_refuse(const char *why, FILE *out);
/* Whether both say the same; else the first difference, or what the other program says in its place, in `why`. */
bool agreement_holds(const char *mine, const char *theirs, char why[static AGREEMENT_WHY]);

#endif
