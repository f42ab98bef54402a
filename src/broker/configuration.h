/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's configuration as a whole: read from a file and checked, or the default one (instance `main`, one
 * embedded pool `main`).
 */
#ifndef PGLEASE_BROKER_CONFIGURATION_H
#define PGLEASE_BROKER_CONFIGURATION_H

#include "settings.h"

struct configuration {
	struct instance_settings instance;
	unsigned npools;
	struct pool_settings pool[LAYOUT_MAX_POOLS];
};

/* Called once for each thing that is wrong: a line that names file, line, key and what is allowed. */
typedef void (*configuration_complain)(void *context, const char *message);

/*
 * Reads a file (NULL: the default configuration). 0, or -1 after at least one complaint. Caller frees *ret with
 * configuration_free.
 */
int configuration_read(
    const char *path, configuration_complain complain, void *context, struct configuration **ret);
/*
 * Sets a value as the file would: "KEY=VALUE", of the instance, or "POOL/KEY=VALUE". 0, or -1 after a complaint, and it is not to be
 * used any more.
 */
int configuration_set(
    struct configuration *configuration, const char *assignment, configuration_complain complain, void *context);
/* Whether both are of the same key. */
bool configuration_same_key(const char *assignment, const char *other);
void configuration_free(struct configuration *configuration);

#endif
