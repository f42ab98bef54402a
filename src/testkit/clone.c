/* SPDX-License-Identifier: PostgreSQL */
/* See clone.h. Walks both folders by descriptors; owns nothing. */
#include "clone.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEEPEST 64

static int clone_folder(int from, int to, unsigned depth);

/* Owned by the caller: closes `fd` too. NULL, with -errno in *ret. */
static DIR *
open_list(int fd, int *ret)
{
	int own = dup(fd);
	DIR *list = own >= 0 ? fdopendir(own) : NULL;

	if (list == NULL) {
		*ret = -errno;
		if (own >= 0)
			close(own);
		return NULL;
	}
	rewinddir(list); /* the position is shared with `fd` */
	return list;
}

static bool
is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Whatever it is, a folder with all in it too. */
static int
remove_entry(int folder, const char *name, unsigned depth)
{
	struct dirent *entry;
	DIR *list;
	int fd, r = 0;

	if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
		return 0;
	if ((errno != EISDIR && errno != EPERM) || depth == 0)
		return -errno;
	fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	list = open_list(fd, &r);
	while (r == 0 && (entry = readdir(list)) != NULL)
		if (!is_dots(entry->d_name))
			r = remove_entry(fd, entry->d_name, depth - 1);
	if (list != NULL)
		closedir(list);
	close(fd);
	if (r == 0 && unlinkat(folder, name, AT_REMOVEDIR) && errno != ENOENT)
		r = -errno;
	return r;
}

static int
copy_bytes(int in, int out, off_t size)
{
	off_t left = size;

	if (ioctl(out, FICLONE, in) == 0)
		return 0;
	while (left > 0) {
		ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)left, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		left -= n;
	}
	/* Not between all file systems of all kernels. */
	while (left > 0) {
		static char buf[1 << 16]; /* of a process that does nothing else */
		ssize_t n = read(in, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || write(out, buf, (size_t)n) != n)
			return n == 0 ? -EIO : -errno;
		left -= n;
	}
	return 0;
}

static int
clone_file(int from, int to, const char *name, const struct stat *st)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out = -1, r = 0;

	if (in < 0)
		return -errno;
	/* In place: making files costs more than filling them, on some file systems by far. */
	out = openat(to, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, st->st_mode & 07777);
	if (out < 0 || ftruncate(out, st->st_size))
		r = -errno;
	if (r == 0)
		r = copy_bytes(in, out, st->st_size);
	if (r == 0 && (fchmod(out, st->st_mode & 07777) || futimens(out, times)))
		r = -errno;
	close(in);
	if (out >= 0)
		close(out);
	return r;
}

static int
clone_entry(int from, int to, const char *name, unsigned depth)
{
	struct stat want, have;
	bool there;
	int r = 0, sub_from, sub_to;

	if (fstatat(from, name, &want, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (!S_ISREG(want.st_mode) && !S_ISDIR(want.st_mode))
		return -EINVAL;
	there = fstatat(to, name, &have, AT_SYMLINK_NOFOLLOW) == 0;
	if (there && ((have.st_mode & S_IFMT) != (want.st_mode & S_IFMT) || have.st_uid != geteuid() ||
	                 (S_ISREG(have.st_mode) && have.st_nlink != 1))) {
		r = remove_entry(to, name, depth);
		there = false;
	}
	if (r)
		return r;
	if (S_ISREG(want.st_mode)) {
		/* A write sets the time of now, which no file of the template has. */
		if (there && have.st_size == want.st_size && have.st_mode == want.st_mode &&
		    have.st_mtim.tv_sec == want.st_mtim.tv_sec && have.st_mtim.tv_nsec == want.st_mtim.tv_nsec)
			return 0;
		return clone_file(from, to, name, &want);
	}
	if (depth == 0)
		return -ELOOP;
	if (!there && mkdirat(to, name, 0700))
		return -errno;
	sub_from = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	sub_to = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub_from < 0 || sub_to < 0)
		r = -errno;
	else
		r = clone_folder(sub_from, sub_to, depth - 1);
	if (r == 0 && fchmod(sub_to, want.st_mode & 07777))
		r = -errno;
	if (sub_from >= 0)
		close(sub_from);
	if (sub_to >= 0)
		close(sub_to);
	return r;
}

static int
clone_folder(int from, int to, unsigned depth)
{
	struct dirent *entry;
	DIR *list;
	int r = 0;

	list = open_list(to, &r);
	while (r == 0 && (entry = readdir(list)) != NULL)
		if (!is_dots(entry->d_name) && faccessat(from, entry->d_name, F_OK, AT_SYMLINK_NOFOLLOW))
			r = remove_entry(to, entry->d_name, depth);
	if (list != NULL)
		closedir(list);
	if (r)
		return r;
	list = open_list(from, &r);
	while (r == 0 && (entry = readdir(list)) != NULL)
		if (!is_dots(entry->d_name))
			r = clone_entry(from, to, entry->d_name, depth);
	if (list != NULL)
		closedir(list);
	return r;
}

int
clone_tree(const char *from, const char *to)
{
	int in, out = -1, r = 0;

	if (mkdir(to, 0700) && errno != EEXIST)
		return child_fail(errno, "cannot make %s: %s", to, strerror(errno));
	in = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (in >= 0)
		out = open(to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = in < 0 || out < 0 ? -errno : clone_folder(in, out, DEEPEST);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return r ? child_fail(-r, "cannot copy %s to %s: %s", from, to, strerror(-r)) : 0;
}

int
clone_tree_as(const struct child_user *user, const char *from, const char *to)
{
	int status;
	pid_t pid;

	if (!user->switch_user)
		return clone_tree(from, to);
	pid = fork();
	if (pid < 0)
		return child_fail(errno, "fork: %s", strerror(errno));
	if (pid == 0) {
		int r = child_become(user);

		_exit(r == 0 ? -clone_tree(from, to) : 255);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return child_fail(errno, "waitpid: %s", strerror(errno));
	if (status == 0)
		return 0;
	return child_fail(WIFEXITED(status) ? WEXITSTATUS(status) : EIO, "cannot copy %s to %s: %s", from, to,
	    WIFEXITED(status) && WEXITSTATUS(status) != 255 ? strerror(WEXITSTATUS(status)) : "the copying process failed");
}
