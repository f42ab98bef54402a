/* SPDX-License-Identifier: PostgreSQL */
/* The limit of open files: raised at start, and what of it those may take who have not yet said who they are. */
#ifndef PGLEASE_BROKER_DESCRIPTORS_H
#define PGLEASE_BROKER_DESCRIPTORS_H

/*
 * Raises the limit as far as the system allows. -1, with log_refuse, when it is too low to start at all; a warning when
 * it is too low for `wanted`.
 */
int descriptors_init(unsigned wanted);

/* How many connections that prove nothing a socket may hold at a time: `most`, or less where descriptors are few. */
unsigned descriptors_share(unsigned most);

#endif
