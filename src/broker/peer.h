/* SPDX-License-Identifier: PostgreSQL */
/*
 * The process at the other end of a Unix socket, by the kernel's word. Its number is 0 when it is in a PID namespace that this one
 * does not contain (another container's); what stands for it everywhere is a pidfd.
 */
#ifndef PGLEASE_BROKER_PEER_H
#define PGLEASE_BROKER_PEER_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * A pidfd of whoever has connected; `pid`: its number, or 0. Or -errno: -ESRCH when it has gone, -ENOSYS when it has no number here
 * and the kernel (before Linux 6.5) gives pidfds by number only.
 */
int peer_pidfd(int socket, pid_t pid);
/*
 * Whether it is this process, whose number here is `pid`. Between two that have none, kernels before 6.9 see no difference, and the
 * answer is yes.
 */
bool peer_is(int socket, pid_t pid, int pidfd);

/* Whether numbers of processes mean the same to it as to this process: it is in the same PID namespace. */
bool peer_shares_numbers(int socket);

#endif
