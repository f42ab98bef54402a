/* SPDX-License-Identifier: PostgreSQL */
/*
 * Users, groups and peers. Names are looked up when the configuration is read, never while the broker serves: a
 * directory service that hangs must not stop it. The one exception is a peer on a kernel without SO_PEERGROUPS.
 */
#include "access.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME_BYTES 64
#define GROUPS_MAX 65536

struct id_list {
	bool all;
	uint32_t *id;
	size_t count;
};

struct access {
	struct id_list users, groups;
};

/* uid_t and gid_t are both 32 bits, and their last value means none. */
static_assert(sizeof(uid_t) == sizeof(uint32_t) && sizeof(gid_t) == sizeof(uint32_t), "ids");

static bool
look_up(enum access_kind kind, const char *name, uint32_t *ret)
{
	char *end;

	if (*name >= '0' && *name <= '9') {
		unsigned long long n;

		errno = 0;
		n = strtoull(name, &end, 10);
		if (*end == '\0') {
			*ret = (uint32_t)n;
			return errno == 0 && n < UINT32_MAX;
		}
	}
	if (kind == ACCESS_USERS) {
		struct passwd *user = getpwnam(name);

		if (user != NULL)
			*ret = user->pw_uid;
		return user != NULL;
	}
	struct group *group = getgrnam(name);

	if (group != NULL)
		*ret = group->gr_gid;
	return group != NULL;
}

/* The next name of a list; *at is NULL behind the last. One that is too long to be a name comes out cut, and unknown. */
static void
next_name(const char **at, char name[NAME_BYTES])
{
	const char *start = *at;
	size_t n = strcspn(start, ",");

	*at = start[n] == ',' ? start + n + 1 : NULL;
	for (; n > 0 && (*start == ' ' || *start == '\t'); n--)
		start++;
	while (n > 0 && (start[n - 1] == ' ' || start[n - 1] == '\t'))
		n--;
	snprintf(name, NAME_BYTES, "%.*s", (int)(n < NAME_BYTES ? n : NAME_BYTES - 1), start);
}

static int
parse(enum access_kind kind, const char *list, struct id_list *ret, char *bad)
{
	if (*list == '\0')
		return 0;
	while (list != NULL) {
		uint32_t *grown;

		next_name(&list, bad);
		if (strcmp(bad, "*") == 0) {
			ret->all = true;
			continue;
		}
		grown = reallocarray(ret->id, ret->count + 1, sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		ret->id = grown;
		if (!look_up(kind, bad, &ret->id[ret->count]))
			return -EINVAL;
		ret->count++;
	}
	return 0;
}

int
access_check(enum access_kind kind, const char *list, bool several, char *why, size_t why_size)
{
	const char *what = kind == ACCESS_USERS ? "user" : "group";
	struct id_list parsed = {0};
	char bad[NAME_BYTES] = "";
	int r = parse(kind, list, &parsed, bad);

	if (r == 0 && !several && (parsed.all || parsed.count != 1))
		snprintf(why, why_size, "allowed: one %s, by name or number", what);
	else if (r == -EINVAL)
		snprintf(why, why_size, "there is no %s \"%s\": allowed: names of %ss, or numbers%s", what,
		    bad, what, several ? ", separated by commas, or *" : "");
	else if (r != 0)
		snprintf(why, why_size, "out of memory");
	else
		why = NULL;
	free(parsed.id);
	return why == NULL ? 0 : -1;
}

int
access_new(const char *users, const char *groups, struct access **ret)
{
	struct access *a = calloc(1, sizeof(*a));
	char bad[NAME_BYTES];
	int r = -ENOMEM;

	if (a == NULL)
		return r;
	r = parse(ACCESS_USERS, users, &a->users, bad);
	if (r == 0)
		r = parse(ACCESS_GROUPS, groups, &a->groups, bad);
	if (r != 0) {
		access_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void
access_free(struct access *a)
{
	if (a == NULL)
		return;
	free(a->users.id);
	free(a->groups.id);
	free(a);
}

int
access_group(const char *group, gid_t *ret)
{
	uint32_t id;

	if (!look_up(ACCESS_GROUPS, group, &id))
		return -EINVAL;
	*ret = id;
	return 0;
}

bool
access_may_give_to(gid_t group)
{
	int n = getgroups(0, NULL);
	gid_t *groups = n > 0 ? calloc((size_t)n, sizeof(*groups)) : NULL;
	bool may = geteuid() == 0 || group == getegid();

	n = groups != NULL ? getgroups(n, groups) : 0;
	for (int i = 0; i < n; i++)
		may |= groups[i] == group;
	free(groups);
	return may;
}

/* For kernels without SO_PEERGROUPS (before 4.13): what the system's databases say of the user now. */
static int
groups_by_name(struct access_peer *peer)
{
	struct passwd *user = getpwuid(peer->uid);
	int n = 0;

	if (user == NULL)
		return 0;
	getgrouplist(user->pw_name, peer->gid, NULL, &n);
	if (n <= 0 || n > GROUPS_MAX)
		return 0;
	peer->groups = calloc((size_t)n, sizeof(gid_t));
	if (peer->groups == NULL)
		return -ENOMEM;
	if (getgrouplist(user->pw_name, peer->gid, peer->groups, &n) >= 0)
		peer->ngroups = (size_t)n;
	return 0;
}

int
access_peer_init(int socket, struct access_peer *ret)
{
	struct access_peer peer = {0};
	struct ucred cred;
	socklen_t size = sizeof(cred);
	int r = 0;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &size) != 0)
		return -errno;
	peer.pid = cred.pid;
	peer.uid = cred.uid;
	peer.gid = cred.gid;
	size = 0;
	/* The first call says how many there are. */
	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0) {
		*ret = peer; /* none */
		return 0;
	}
	if (errno == ERANGE && size > 0) {
		peer.groups = malloc(size);
		if (peer.groups == NULL)
			return -ENOMEM;
		if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups, &size) == 0)
			peer.ngroups = size / sizeof(gid_t);
		else
			r = -errno;
	} else {
		r = groups_by_name(&peer);
	}
	if (r != 0) {
		access_peer_fini(&peer);
		return r;
	}
	*ret = peer;
	return 0;
}

void
access_peer_fini(struct access_peer *peer)
{
	free(peer->groups);
	peer->groups = NULL;
	peer->ngroups = 0;
}

static bool
has(const struct id_list *list, uint32_t id)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->id[i] == id)
			return true;
	return list->all;
}

bool
access_allows(const struct access *a, const struct access_peer *peer)
{
	if (peer->uid == 0 || peer->uid == geteuid() || has(&a->users, peer->uid) ||
	    has(&a->groups, peer->gid))
		return true;
	for (size_t i = 0; i < peer->ngroups; i++)
		if (has(&a->groups, peer->groups[i]))
			return true;
	return false;
}
