/* SPDX-License-Identifier: PostgreSQL */
/*
 * This process's descriptors. Those of the library are told from others by what they are: its control connection by the
 * broker's socket at the other end, server connections by being the broker's too. One of each for each attachment is in
 * order; more, or any without an attachment, is a leak: of the attachment, of a shell.
 */
#include "look_priv.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_DESCRIPTORS 8192

struct descriptor {
	int fd;
	ino_t inode;
	bool is_socket, is_null;
	char name[200];
};

struct inodes {
	ino_t inode[MAX_DESCRIPTORS];
	unsigned n;
};

static bool
has_inode(const struct inodes *inodes, ino_t inode)
{
	for (unsigned i = 0; i < inodes->n; i++)
		if (inodes->inode[i] == inode)
			return true;
	return false;
}

/* The sockets that a process has. */
static void
sockets_of(pid_t pid, struct inodes *ret)
{
	char path[320], target[64];
	struct dirent *entry;
	DIR *list;

	ret->n = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	list = opendir(path);
	while (list != NULL && (entry = readdir(list)) != NULL && ret->n < MAX_DESCRIPTORS) {
		unsigned long inode;
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		if (sscanf(target, "socket:[%lu]", &inode) == 1)
			ret->inode[ret->n++] = inode;
	}
	if (list != NULL)
		closedir(list);
}

/* Whom it talks to, in words. False: nobody that has a name. */
static bool
name_peer(int fd, char *buf, size_t size)
{
	union {
		struct sockaddr any;
		struct sockaddr_un un;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} peer = {0};
	socklen_t length = sizeof(peer);
	char text[INET6_ADDRSTRLEN] = "?";

	if (getpeername(fd, &peer.any, &length))
		return false;
	if (peer.any.sa_family == AF_UNIX && length > sizeof(sa_family_t) && peer.un.sun_path[0] != '\0') {
		snprintf(buf, size, "socket to %.108s", peer.un.sun_path);
	} else if (peer.any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &peer.in.sin_addr, text, sizeof(text));
		snprintf(buf, size, "socket to %s, port %u", text, ntohs(peer.in.sin_port));
	} else if (peer.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &peer.in6.sin6_addr, text, sizeof(text));
		snprintf(buf, size, "socket to %s, port %u", text, ntohs(peer.in6.sin6_port));
	} else {
		return false;
	}
	return true;
}

static bool
is_own(int fd)
{
	for (const struct pglease_test_env *env = env_next(NULL); env != NULL; env = env_next(env)) {
		const int own[] = {env->guardian.sock, env->broker.pidfd, env->upstream.server.pidfd,
		    env->standby.server.pidfd, env->relay.control};

		for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
			if (own[i] == fd)
				return true;
	}
	return false;
}

static unsigned
list_descriptors(struct descriptor *ret)
{
	DIR *list = opendir("/proc/self/fd");
	struct dirent *entry;
	unsigned count = 0;

	while (list != NULL && (entry = readdir(list)) != NULL && count < MAX_DESCRIPTORS) {
		struct descriptor *d = &ret[count];
		char path[320], target[128];
		struct stat st;
		ssize_t n;

		*d = (struct descriptor){.fd = atoi(entry->d_name)};
		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		if (!isdigit((unsigned char)*entry->d_name) || d->fd == dirfd(list) || is_own(d->fd) || fstat(d->fd, &st) ||
		    (n = readlink(path, target, sizeof(target) - 1)) < 0)
			continue;
		target[n] = '\0';
		d->inode = st.st_ino;
		d->is_socket = S_ISSOCK(st.st_mode);
		/* As the library opens it. */
		d->is_null = strcmp(target, "/dev/null") == 0 && (fcntl(d->fd, F_GETFD) & FD_CLOEXEC) != 0 &&
		             (fcntl(d->fd, F_GETFL) & O_ACCMODE) == O_RDWR;
		if (!d->is_socket || !name_peer(d->fd, d->name, sizeof(d->name)))
			snprintf(d->name, sizeof(d->name), "%s", target);
		count++;
	}
	if (list != NULL)
		closedir(list);
	return count;
}

static void
control_of(const struct pglease_test_env *env, char *buf, size_t size)
{
	snprintf(buf, size, "socket to %s/control", env->socket_dir);
}

/* What another environment of this process has, and reports itself: an attachment (*ret_attachment), a server connection. */
static bool
is_anothers(const struct pglease_test_env *env, const struct descriptor *d, bool *ret_attachment)
{
	static struct inodes broker;

	*ret_attachment = false;
	for (const struct pglease_test_env *e = env_next(NULL); e != NULL; e = env_next(e)) {
		char control[256];

		if (e == env || !d->is_socket)
			continue;
		control_of(e, control, sizeof(control));
		if (strcmp(d->name, control) == 0) {
			*ret_attachment = true;
			return true;
		}
		if (e->broker.pid != 0) {
			sockets_of(e->broker.pid, &broker);
			if (has_inode(&broker, d->inode))
				return true;
		}
	}
	return false;
}

static void
note(struct look *look, enum pglease_test_leak_kind kind, const struct descriptor *d, const char *what)
{
	char key[256];

	snprintf(key, sizeof(key), "%d/%lu/%.190s", d->fd, (unsigned long)d->inode, d->name);
	look_note(look, kind, key, "descriptor %d: %s%s", d->fd, d->name, what);
}

unsigned
look_descriptors(const struct pglease_test_env *env, struct look *look)
{
	static struct descriptor list[MAX_DESCRIPTORS]; /* not for malloc, whose use is looked at */
	static struct inodes broker;
	unsigned count = list_descriptors(list), attachments = 0, nulls = 0, own = env->client != NULL ? 1 : 0;
	unsigned all = 0;
	char control[256];
	bool is_attachment;

	control_of(env, control, sizeof(control));
	broker.n = 0;
	if (env->broker.pid != 0)
		sockets_of(env->broker.pid, &broker);
	for (unsigned i = 0; i < count; i++) {
		attachments += strcmp(list[i].name, control) == 0;
		is_anothers(env, &list[i], &is_attachment);
		all += is_attachment;
	}
	all += attachments;
	for (unsigned i = 0; i < count; i++) {
		const struct descriptor *d = &list[i];
		unsigned same = 0;

		if (strcmp(d->name, control) == 0) {
			if (own > 0)
				own--;
			else
				note(look, PGLEASE_TEST_LEAK_DESCRIPTOR, d, ", an attachment (pglease_attach without pglease_detach)");
		} else if (d->is_socket && has_inode(&broker, d->inode)) {
			for (unsigned j = 0; j < i; j++)
				same += list[j].is_socket && list[j].inode == d->inode;
			if (same < attachments)
				look->shells++;
			else
				note(look, PGLEASE_TEST_LEAK_SHELL, d,
				    attachments == 0 ? ", a server connection of the pool, without an attachment"
				                     : ", a server connection of the pool that is held once more (a copy of PQsocket?)");
		} else if (is_anothers(env, d, &is_attachment)) {
			continue;
		} else if (d->is_null && nulls < all) {
			nulls++;
		} else if (strncmp(d->name, "/dev/shm/sem.", 13) == 0) {
			note(look, PGLEASE_TEST_LEAK_SEMAPHORE, d, "");
		} else if (strncmp(d->name, "/dev/shm/", 9) == 0 || strncmp(d->name, "/memfd:", 7) == 0) {
			note(look, PGLEASE_TEST_LEAK_SEGMENT, d, "");
		} else {
			note(look, PGLEASE_TEST_LEAK_DESCRIPTOR, d, "");
		}
	}
	return all;
}
