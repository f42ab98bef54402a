/* SPDX-License-Identifier: PostgreSQL */
/*
 * The pid file. The lock, which the kernel drops when its holder dies, says whether the process runs; the
 * number in the file may be another process's by now.
 */
#include "pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handover.h"
#include "log.h"
#include "owner_lock.h"
#include "paths.h"

#define TRIES 8

struct pidfile {
	char path[PATHS_MAX];
	int fd;
};

/* The file is empty, or holds one number and a line end: nothing that anybody would miss. */
static int
check_content(const struct pidfile *p, char *text, size_t size)
{
	ssize_t n = pread(p->fd, text, size - 1, 0);
	size_t digits;

	if (n < 0)
		return log_refuse("cannot read the pid file %s: %m", p->path);
	text[n] = '\0';
	digits = strspn(text, "0123456789");
	if ((size_t)n == digits || ((size_t)n == digits + 1 && text[digits] == '\n')) {
		text[digits] = '\0';
		return 0;
	}
	return log_refuse("pid_file: %s exists and is no pid file: remove it, or name another", p->path);
}

/* Whether the path is that of our file: it may have been removed, and the name may be another's by now. */
static bool
is_ours(const struct pidfile *p)
{
	struct stat mine, there;

	return fstat(p->fd, &mine) == 0 && lstat(p->path, &there) == 0 && mine.st_ino == there.st_ino &&
	       mine.st_dev == there.st_dev;
}

static int
lock(struct pidfile *p)
{
	struct stat st;
	char holder[32];
	int r;

	for (unsigned i = 0; i < TRIES; i++) {
		p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
		if (p->fd < 0)
			return log_refuse("cannot make the pid file %s: %m", p->path);
		if (fstat(p->fd, &st) != 0 || !S_ISREG(st.st_mode))
			return log_refuse("pid_file: %s is no file", p->path);
		if (check_content(p, holder, sizeof(holder)) != 0)
			return -1;
		r = owner_lock(p->fd);
		if (r == -EBUSY)
			return log_refuse(
			    "the pid file %s is in use by process %s, which runs: stop it first, or "
			    "name another pid_file",
			    p->path, holder);
		/* Everybody may read it: one who has locked it for that, since its broker was killed, keeps no other broker out. */
		if (r == -EUSERS && is_ours(p) && unlink(p->path) != 0 && errno != ENOENT)
			return log_refuse("the pid file %s is locked by another process, and cannot be made anew: %m", p->path);
		if (r != 0 && r != -EUSERS)
			return log_refuse("cannot lock the pid file %s: %s", p->path, strerror(-r));
		/* A broker that stopped meanwhile has removed the file that we locked. */
		if (r == 0 && is_ours(p))
			return 0;
		close(p->fd);
		p->fd = -1;
	}
	return log_refuse("cannot lock the pid file %s: it is removed all the time", p->path);
}

int
pidfile_take(const char *path, struct pidfile **ret)
{
	struct pidfile *p = calloc(1, sizeof(*p));
	char text[32];
	int n;

	if (p == NULL)
		return log_refuse("out of memory");
	p->fd = -1;
	snprintf(p->path, sizeof(p->path), "%s", path);
	if (lock(p) != 0)
		goto fail;
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(p->fd, 0) != 0 || pwrite(p->fd, text, (size_t)n, 0) != n) {
		log_refuse("cannot write the pid file %s: %m", p->path);
		unlink(p->path);
		goto fail;
	}
	*ret = p;
	return 0;

fail:
	if (p->fd >= 0)
		close(p->fd);
	free(p);
	return -1;
}

void
pidfile_hand_over(struct pidfile *p, struct handover *h)
{
	handover_section(h, "pid file");
	handover_fd(h, &p->fd);
}

int
pidfile_take_over(const char *path, struct handover *from, struct pidfile **ret)
{
	struct pidfile *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return log_refuse("out of memory");
	snprintf(p->path, sizeof(p->path), "%s", path);
	pidfile_hand_over(p, from); /* the same field, read */
	*ret = p;
	return handover_check(from, false);
}

void
pidfile_release(struct pidfile *p)
{
	if (p == NULL)
		return;
	/* Removed while the lock is held: whoever opens it now looks whether it is still there. */
	if (is_ours(p))
		unlink(p->path);
	close(p->fd);
	free(p);
}
