/* SPDX-License-Identifier: PostgreSQL */
/*
 * Who may: lists of Unix users and groups as the configuration has them, and who the peer of a socket is. Root and the
 * broker's own user always may.
 */
#ifndef PGLEASE_BROKER_ACCESS_H
#define PGLEASE_BROKER_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct access;

enum access_kind { ACCESS_USERS, ACCESS_GROUPS };

/* A peer as the kernel knew it when it connected: what it says itself does not count. */
struct access_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* supplementary */
	size_t ngroups;
};

/*
 * Whether a list is sound: names that exist or numbers, separated by commas; `several`: more than one, or "*" for
 * everybody. 0, or -1 with a text that says what is not and what is allowed.
 */
int access_check(enum access_kind kind, const char *list, bool several, char *why, size_t why_size);
/* From two sound lists; empty ones add nobody. 0 or -ENOMEM; -EINVAL when a name has ceased to exist. */
int access_new(const char *users, const char *groups, struct access **ret);
void access_free(struct access *access); /* accepts NULL */
/* The number of a sound group. 0 or -EINVAL. */
int access_group(const char *group, gid_t *ret);
/* Whether this process may give a file of its own to the group. */
bool access_may_give_to(gid_t group);

/* 0 or -errno. Free with access_peer_fini. */
int access_peer_init(int socket, struct access_peer *ret);
void access_peer_fini(struct access_peer *peer);
bool access_allows(const struct access *access, const struct access_peer *peer);

#endif
