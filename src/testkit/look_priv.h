/* SPDX-License-Identifier: PostgreSQL */
/* What the modules that look share. */
#ifndef PGLEASE_TESTKIT_LOOK_PRIV_H
#define PGLEASE_TESTKIT_LOOK_PRIV_H

#include "look.h"

/* Notes descriptors and shells; returns how many attachments to the environment's broker there are. */
unsigned look_descriptors(const struct pglease_test_env *env, struct look *look);
/* One of the kit's own for this environment. */
bool look_is_own_process(const struct pglease_test_env *env, pid_t pid);

#endif
