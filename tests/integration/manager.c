/* SPDX-License-Identifier: PostgreSQL */
/* See manager.h. */
#include "manager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "it.h"
#include "paths.h"

#define MOST 16
#define FAR 100 /* above what is passed */

static int notify = -1;
static char notify_path[256];
static struct passed {
	int fd; /* -1: none */
	char name[64];
	bool stored;
} passed[MOST];

void
manager_forget(void)
{
	for (unsigned i = 0; i < MOST; i++) {
		if (passed[i].fd >= 0)
			close(passed[i].fd);
		passed[i].fd = -1;
	}
}

void
manager_end(void)
{
	manager_forget();
	close(notify);
}

void
manager_start(void)
{
	for (unsigned i = 0; i < MOST; i++)
		passed[i].fd = -1;
	snprintf(notify_path, sizeof(notify_path), "%s/notify", pglease_test_folder(it_env));
	notify = manager_socket(notify_path, SOCK_DGRAM, 0);
}

int
manager_socket(const char *path, int type, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	ck_assert_msg(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "%s: %s", path, strerror(errno));
	ck_assert_int_eq(chmod(path, 0666), 0);
	if (backlog != 0)
		ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

const char *
manager_control(void)
{
	static char path[PATHS_MAX];

	ck_assert(mkdir(pglease_test_socket_dir(it_env), 0755) == 0 || errno == EEXIST);
	ck_assert_int_eq(paths_control_socket(pglease_test_socket_dir(it_env), path, sizeof(path)), 0);
	return path;
}

static void
keep(int fd, const char *name, bool stored)
{
	unsigned i;

	for (i = 0; i < MOST && passed[i].fd >= 0; i++)
		;
	ck_assert_uint_lt(i, MOST);
	passed[i].fd = fd;
	passed[i].stored = stored;
	snprintf(passed[i].name, sizeof(passed[i].name), "%s", name);
}

void
manager_pass(int fd, const char *name)
{
	keep(fd, name, false);
}

/* In the child: those that are passed get the numbers from 3 on. */
static void
become_broker(void)
{
	char program[512], names[MOST * 64] = "", count[16], pid[16], log[512];
	const char *const argv[] = {program, "-c", pglease_test_config(it_env), NULL};
	int from[MOST], out;
	unsigned n = 0;
	size_t used = 0;

	snprintf(program, sizeof(program), "%s/pgleased", getenv("PGLEASE_BUILDDIR"));
	snprintf(log, sizeof(log), "%s", pglease_test_log(it_env));
	out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	dup2(out, 1);
	dup2(out, 2);
	/* A service starts again what is passed to it: first out of the way, then in order. */
	for (unsigned i = 0; i < MOST; i++) {
		if (passed[i].fd < 0)
			continue;
		from[n] = fcntl(passed[i].fd, F_DUPFD, FAR);
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", n == 0 ? "" : ":", passed[i].name);
		n++;
	}
	for (unsigned i = 0; i < n; i++)
		dup2(from[i], 3 + (int)i);
	close_range(3 + n, ~0u, 0);
	snprintf(count, sizeof(count), "%u", n);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (n != 0) {
		setenv("LISTEN_FDS", count, 0);
		setenv("LISTEN_PID", pid, 1);
		setenv("LISTEN_FDNAMES", names, 1);
	}
	setenv("NOTIFY_SOCKET", notify_path, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execv(program, (char *const *)argv);
	_exit(127);
}

pid_t
manager_broker(void)
{
	pid_t pid = check_fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		become_broker();
	return pid;
}

int
manager_reap(pid_t broker)
{
	int status;

	ck_assert_int_eq(waitpid(broker, &status, 0), broker);
	return status;
}

static const char *
value_of(const char *text, const char *name, char buf[static 64])
{
	const char *at = strstr(text, name);

	buf[0] = '\0';
	if (at != NULL)
		snprintf(buf, 64, "%.*s", (int)strcspn(at + strlen(name), "\n"), at + strlen(name));
	return buf;
}

/* FDSTORE=1 and FDSTOREREMOVE=1, each with FDNAME=. */
static void
store(const char *text, struct msghdr *msg)
{
	char name[64];

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		int fd;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		ck_assert_uint_eq(c->cmsg_len, CMSG_LEN(sizeof(fd)));
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
		ck_assert_ptr_nonnull(strstr(text, "FDSTORE=1"));
		keep(fd, value_of(text, "FDNAME=", name), true);
	}
	if (strstr(text, "FDSTOREREMOVE=1") == NULL)
		return;
	value_of(text, "FDNAME=", name);
	for (unsigned i = 0; i < MOST; i++) {
		if (passed[i].fd < 0 || !passed[i].stored || strcmp(passed[i].name, name) != 0)
			continue;
		close(passed[i].fd);
		passed[i].fd = -1;
	}
}

void
manager_hears(const char *line)
{
	for (;;) {
		struct pollfd p = {.fd = notify, .events = POLLIN};
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(8 * sizeof(int))];
		} control;
		char text[1024];
		struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
		struct msghdr msg = {
		    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
		ssize_t n;

		ck_assert_msg(poll(&p, 1, IT_PATIENCE_MS) == 1, "%s was never said; the log: %s", line, manager_log());
		n = recvmsg(notify, &msg, MSG_CMSG_CLOEXEC);
		ck_assert_int_gt(n, 0);
		text[n] = '\0';
		store(text, &msg);
		if (strncmp(text, line, strlen(line)) == 0)
			return;
	}
}

unsigned
manager_stored(const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MOST; i++)
		n += passed[i].fd >= 0 && passed[i].stored && strcmp(passed[i].name, name) == 0;
	return n;
}

const char *
manager_log(void)
{
	static char text[8192];
	int fd = open(pglease_test_log(it_env), O_RDONLY | O_CLOEXEC);
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	ssize_t n = pread(fd, text, sizeof(text) - 1, size > (off_t)sizeof(text) - 1 ? size - (off_t)sizeof(text) + 1 : 0);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}
