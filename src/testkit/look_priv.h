/* SPDX-License-Identifier: PostgreSQL */
/* What the modules that look share. */
#ifndef PGLEASE_TESTKIT_LOOK_PRIV_H
#define PGLEASE_TESTKIT_LOOK_PRIV_H

#include "look.h"

/* Notes descriptors and shells; returns how many attachments to the brokers of this process's environments there are. */
unsigned look_descriptors(const struct pglease_test_env *env, struct look *look);
/* One of the kit's own. */
bool look_is_own_process(pid_t pid);

#endif
