/* SPDX-License-Identifier: PostgreSQL */
/*
 * Data folders that need no initdb: one template for each user, server program and set-up, below $TMPDIR, and the clones
 * of it that earlier environments have done with, which become fresh again by copying what differs.
 */
#ifndef PGLEASE_TESTKIT_TEMPLATE_H
#define PGLEASE_TESTKIT_TEMPLATE_H

#include "upstream.h"

/*
 * Makes upstream->data (its parent is there, and so are user, bindir, socket_dir and log), with what the SQL of `setup`
 * (may be NULL) leaves. $PGLEASE_TEST_INITDB: by initdb, without a template.
 */
int template_take(struct upstream *upstream, const char *setup, const struct guardian *guardian);
/* The server has ended in order, and nobody else works there: keeps the folder for the next, if there is room. */
void template_give_back(const struct upstream *upstream);

#endif
