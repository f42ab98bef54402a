/* SPDX-License-Identifier: PostgreSQL */
/*
 * Where a pool's server connections go, and with what: the conninfo as libpq will understand it, with service file,
 * environment and defaults, and the pool's settings put in. Found out once, before there are threads; connect.c uses it
 * for each connection. No password is in it: libpq finds that by itself, each time.
 */
#ifndef PGLEASE_BROKER_TARGET_H
#define PGLEASE_BROKER_TARGET_H

#include "hosts.h"
#include "settings.h"

#define TARGET_KEYWORDS 16 /* with the three that connect.c adds */

struct target {
	char user[LAYOUT_NAME], dbname[LAYOUT_NAME];
	struct hosts hosts;
	bool has_names; /* of hosts, which libpq would look up, and block */
	bool is_local;  /* the server is on this host */
	char *options; /* what conninfo, service or environment give, and the pool's limits after it */
	char numbers[4][24]; /* texts of the TCP settings */
	char application[LAYOUT_NAME + 16];
	/* In order: what comes later is stronger. The conninfo is `dbname`. */
	const char *keywords[TARGET_KEYWORDS], *values[TARGET_KEYWORDS];
	unsigned count;
};

/* A conninfo for people: as keywords and values, without what is secret. */
void target_show(const char *conninfo, char *buf, size_t size);
/* 0, or -ENOMEM. The conninfo and the settings must outlive it. */
int target_init(const char *conninfo, const struct pool_settings *settings_of, struct target *ret);
void target_fini(struct target *target); /* accepts a zeroed one */

#endif
