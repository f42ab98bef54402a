/* SPDX-License-Identifier: PostgreSQL */
/*
 * Making a folder like another one, by copying as little as possible: what is there already with the same size, mode and
 * time of change is left as it is; what is not in the other folder is removed. Blocks are shared where the file system
 * can (FICLONE). So a used clone becomes a fresh one for the price of what its user has changed.
 */
#ifndef PGLEASE_TESTKIT_CLONE_H
#define PGLEASE_TESTKIT_CLONE_H

#include "child.h"

/* `to` is made if it is not there. Regular files and folders only: a source with anything else is refused. */
int clone_tree(const char *from, const char *to);
/* The same, by a child process that is `user`: so that the files are that user's, and no link in them leads root astray. */
int clone_tree_as(const struct child_user *user, const char *from, const char *to);

#endif
