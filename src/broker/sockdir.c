/* SPDX-License-Identifier: PostgreSQL */
/*
 * The socket folder and its lock file. The lock file says who holds it (pid) and how many folders at the end of its
 * path were made by brokers, so that the one that takes over from a killed one removes them too; and whatever else a broker
 * leaves to the next one, which is not this file's matter.
 */
#include "sockdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "handover.h"
#include "log.h"
#include "owner_lock.h"
#include "paths.h"

#define TRIES 8
#define LEFT_MAX (64 << 20) /* a million sessions, more or less */

struct sockdir {
	char path[PATHS_MAX];
	char lock[PATHS_MAX + 8];
	int fd;
	unsigned made; /* folders at the end of the path that are ours to remove */
	char *left;    /* by the broker before; NULL: nothing */
	bool pending;  /* something is left for the next one: the file stays */
};

/* mkdir -p; counts what it made. */
static int
make_folders(struct sockdir *s)
{
	char path[PATHS_MAX];

	snprintf(path, sizeof(path), "%s", s->path);
	for (char *at = path + 1;; at++) {
		char c = *at;

		if (c != '/' && c != '\0')
			continue;
		*at = '\0';
		if (mkdir(path, 0755) == 0)
			s->made++;
		else if (errno != EEXIST)
			return log_refuse("cannot make the socket folder %s: %s: %m", s->path, path);
		*at = c;
		if (c == '\0')
			return 0;
	}
}

static void
remove_folders(struct sockdir *s)
{
	for (; s->made > 0 && rmdir(s->path) == 0; s->made--) {
		char *slash = strrchr(s->path, '/');

		if (slash == NULL || slash == s->path)
			return;
		*slash = '\0';
	}
}

/* Others must not be able to put their own sockets in the place of ours. */
static int
check_owner(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return log_refuse("the socket folder %s: %m", path);
	if (!S_ISDIR(st.st_mode))
		return log_refuse("the socket folder %s is not a folder", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return log_refuse(
		    "the socket folder %s belongs to uid %lu: it must be root's or the broker's own", path,
		    (unsigned long)st.st_uid);
	if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0)
		return log_refuse("the socket folder %s can be written by everybody: chmod o-w it", path);
	return 0;
}

static void
read_holder(int fd, long *ret_pid, unsigned *ret_made)
{
	char text[64];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	*ret_pid = 0;
	*ret_made = 0;
	if (n <= 0)
		return;
	text[n] = '\0';
	if (sscanf(text, "%ld %u", ret_pid, ret_made) < 1)
		*ret_pid = 0;
}

static int
take_lock(struct sockdir *s)
{
	struct stat mine, there;
	unsigned made;
	long pid;
	int r;

	for (unsigned i = 0; i < TRIES; i++) {
		/* For nobody else: who may read it can lock it, when its broker is killed, and keep the next one out. */
		s->fd = open(s->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
		if (s->fd < 0)
			return log_refuse("cannot make the lock file %s: %m", s->lock);
		r = owner_lock(s->fd);
		if (r == -EBUSY) {
			read_holder(s->fd, &pid, &made);
			return log_refuse(
			    "another broker (pid %ld) serves %s: stop it first, or use another name (-n)",
			    pid, s->path);
		}
		if (r != 0)
			return log_refuse("cannot lock %s: %s", s->lock,
			    r == -EUSERS ? "a process that is no broker has locked it for reading: end that one" : strerror(-r));
		/* A broker that stopped meanwhile has removed the file that we locked: ours would hold nothing. */
		if (fstat(s->fd, &mine) == 0 && stat(s->lock, &there) == 0 && mine.st_ino == there.st_ino &&
		    mine.st_dev == there.st_dev) {
			(void)fchmod(s->fd, S_IRUSR | S_IWUSR); /* of a broker of before, who let everybody read it */
			return 0;
		}
		close(s->fd);
		s->fd = -1;
	}
	return log_refuse("cannot lock %s: it is removed all the time", s->lock);
}

/* What follows the first line. */
static char *
read_left(const struct sockdir *s)
{
	struct stat st;
	char *text, *line;
	ssize_t n;

	if (fstat(s->fd, &st) != 0 || st.st_size <= 0)
		return NULL;
	text = st.st_size <= LEFT_MAX ? malloc((size_t)st.st_size + 1) : NULL;
	if (text == NULL) {
		log_warning("what brokers before have left in %s (%lld bytes) cannot be read: %s", s->lock,
		    (long long)st.st_size, st.st_size <= LEFT_MAX ? "out of memory" : "it is too much");
		return NULL;
	}
	n = pread(s->fd, text, (size_t)st.st_size, 0);
	text[n > 0 ? n : 0] = '\0';
	line = strchr(text, '\n');
	if (line != NULL)
		memmove(text, line + 1, strlen(line + 1) + 1);
	else
		text[0] = '\0';
	return text;
}

/* The whole file, in one write: a broker that is killed leaves the one or the other, or one that is cut. */
static int
write_all(const struct sockdir *s, const char *left, pid_t holder)
{
	size_t size = strlen(left) + 64;
	char *text = malloc(size);
	ssize_t n;
	int r = 0;

	if (text == NULL)
		return -ENOMEM;
	n = snprintf(text, size, "%ld %u\n%s", (long)holder, s->made, left);
	errno = 0;
	if (pwrite(s->fd, text, (size_t)n, 0) != n || ftruncate(s->fd, n) != 0)
		r = errno != 0 ? -errno : -EIO;
	free(text);
	return r;
}

const char *
sockdir_left(const struct sockdir *s)
{
	return s->left != NULL ? s->left : "";
}

int
sockdir_leave(struct sockdir *s, const char *text)
{
	int r = write_all(s, text, getpid());

	s->pending = *text != '\0';
	return r;
}

int
sockdir_leave_more(struct sockdir *s, const char *text)
{
	size_t size = strlen(text);
	off_t end = lseek(s->fd, 0, SEEK_END);

	errno = 0;
	if (end < 0 || pwrite(s->fd, text, size, end) != (ssize_t)size)
		return errno != 0 ? -errno : -EIO;
	s->pending = true;
	return 0;
}

static int
write_holder(struct sockdir *s)
{
	unsigned made, depth = 0;
	long pid;
	int r;

	read_holder(s->fd, &pid, &made);
	for (const char *at = s->path; *at != '\0'; at++)
		depth += *at == '/';
	if (pid != 0)
		log_warning("taking over %s from a broker that was killed (pid %ld)", s->path, pid);
	if (made > s->made && made < depth)
		s->made = made;
	s->left = read_left(s);
	s->pending = *sockdir_left(s) != '\0';
	r = write_all(s, sockdir_left(s), getpid());
	return r == 0 ? 0 : log_refuse("cannot write %s: %s", s->lock, strerror(-r));
}

/* That the lock is free says that it is no broker of this folder. */
static bool
listens(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes;

	if (sock < 0)
		return false;
	memcpy(address.sun_path, path, strnlen(path, sizeof(address.sun_path) - 1));
	yes = connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN;
	close(sock);
	return yes;
}

static int
remove_stale(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : log_refuse("%s: %m", path);
	if (!S_ISSOCK(st.st_mode))
		return log_refuse("%s is in the way and no socket: remove it", path);
	if (listens(path))
		return log_refuse("somebody else listens on %s: start this instance by the service manager that holds the socket, or stop that", path);
	return unlink(path) == 0 ? 0 : log_refuse("cannot remove the old socket %s: %m", path);
}

static struct sockdir *
new_sockdir(const char *path)
{
	struct sockdir *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->fd = -1;
	snprintf(s->path, sizeof(s->path), "%s", path);
	for (size_t n = strlen(s->path); n > 1 && s->path[n - 1] == '/'; n--)
		s->path[n - 1] = '\0';
	snprintf(s->lock, sizeof(s->lock), "%s/lock", s->path);
	return s;
}

void
sockdir_hand_over(struct sockdir *s, struct handover *h)
{
	handover_section(h, "sockdir");
	handover_fd(h, &s->fd);
	HANDOVER(h, s->made);
}

int
sockdir_take_over(const char *path, struct handover *from, struct sockdir **ret)
{
	struct sockdir *s = new_sockdir(path);

	if (s == NULL)
		return log_refuse("out of memory");
	sockdir_hand_over(s, from); /* the same fields, read */
	*ret = s;
	if (handover_check(from, false) != 0)
		return -1;
	s->left = read_left(s); /* what the takeover has not come to yet */
	s->pending = *sockdir_left(s) != '\0';
	return 0;
}

int
sockdir_take(const char *path, bool passed, struct sockdir **ret)
{
	struct sockdir *s = new_sockdir(path);
	char control[PATHS_MAX], adopt[PATHS_MAX];

	if (s == NULL)
		return log_refuse("out of memory");
	if (paths_control_socket(s->path, control, sizeof(control)) != 0 ||
	    paths_adopt_socket(s->path, adopt, sizeof(adopt)) != 0) {
		log_refuse("the socket folder's path is too long for a socket address: %s", s->path);
		goto fail;
	}
	if (make_folders(s) != 0 || check_owner(s->path) != 0 || take_lock(s) != 0)
		goto fail;
	if (write_holder(s) != 0 || (!passed && remove_stale(control) != 0) || remove_stale(adopt) != 0) {
		sockdir_release(s, false);
		return -1;
	}
	*ret = s;
	return 0;

fail:
	if (s->fd >= 0)
		close(s->fd);
	remove_folders(s);
	free(s);
	return -1;
}

void
sockdir_release(struct sockdir *s, bool has_served)
{
	if (s == NULL)
		return;
	/*
	 * Removed while the lock is held: whoever opens it now looks whether it is still there (take_lock). One that could not
	 * start leaves what the broker before has left to the next one, and names no holder.
	 */
	if (s->pending && !has_served) {
		char *left = read_left(s);

		(void)write_all(s, left != NULL ? left : "", 0);
		free(left);
	} else {
		unlink(s->lock);
	}
	close(s->fd);
	remove_folders(s);
	free(s->left);
	free(s);
}
