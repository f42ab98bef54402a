/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a program wants to be connected to: its parameters, the environment and libpq's defaults put together as libpq does, and
 * what of that the session is to be told (application_name, options, PGTZ ...). Worked out once for the same call in the same
 * environment.
 */
#ifndef PGLEASE_PRELOAD_WANTED_H
#define PGLEASE_PRELOAD_WANTED_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "library.h"

struct wanted_setting {
	char *name, *value;
	bool is_reported;   /* the server reports it: so it need not be set when it is so already */
	bool is_fallback;   /* fallback_application_name */
};

#define WANTED_SETTINGS 64
#define WANTED_PIECES 128

struct wanted {
	struct wanted *next;
	struct library *lib;   /* of one that is kept: whose it is */
	char *key;             /* texts, each with its zero */
	size_t key_size;
	uint16_t piece[WANTED_PIECES]; /* their sizes */
	unsigned npieces;
	bool is_kept;  /* by the list, for ever; else by who asked */
	bool by_uid;   /* the user's name, or a file of his, is in it: for this one only */
	uid_t uid;
	const char *pool; /* PGLEASE_POOL; NULL: as the broker's pools match */
	const char *direct; /* why a shared session cannot do; NULL: it can */
	PQconninfoOption *options; /* all of libpq's, with the values that it would use */
	const char *dbname, *user, *host, *port; /* NULL: libpq's own default */
	int timeout_ms; /* connect_timeout; -1: none */
	struct wanted_setting setting[WANTED_SETTINGS];
	unsigned nsettings;
	bool has_unreported; /* settings that only a reset takes back */
};

/* NULL: the parameters make no sense to libpq, which shall say so itself, or memory ran out. */
struct wanted *wanted_of_conninfo(struct library *lib, const char *conninfo);
struct wanted *wanted_of_params(struct library *lib, const char *const *keywords, const char *const *values, int expand);
/* Of one that is not kept. Accepts NULL. */
void wanted_done(struct library *lib, struct wanted *wanted);
/* The value of a keyword; NULL: none. */
const char *wanted_value(const struct wanted *wanted, const char *keyword);

#endif
