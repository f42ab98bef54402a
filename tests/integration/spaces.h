/* SPDX-License-Identifier: PostgreSQL */
/*
 * Namespaces for a test, as root and as an ordinary user: the latter's are in a user namespace, in which he is himself and may do it.
 * They go with their processes.
 */
#ifndef PGLEASE_TESTS_SPACES_H
#define PGLEASE_TESTS_SPACES_H

/* From here on this process, and what it starts, has these namespaces (CLONE_NEWNS, CLONE_NEWPID). The test fails if it cannot. */
void spaces_enter(int flags);
/* A /run of its own, with nothing in it. Needs a mount namespace of its own. */
void spaces_mount_run(void);

#endif
