/* SPDX-License-Identifier: PostgreSQL */
/*
 * The guardian of a test's processes: a forked child that waits for the death of its parent (by pidfd: a pipe
 * would be held open by the workers that the test forked). It refers to the processes by pidfd too, so it can
 * never hit another one that got the same pid.
 */
#include "guardian.h"

#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "paths.h"
#include "child.h"

#define MAX_WATCHED 64
#define MAX_STRAYS 1024
#define GRACE_MS 10000

struct watched {
	int pidfd;
	int sig;
};

struct message {
	pid_t pid; /* 0: clean up now */
	int sig;
};

static void
end_process(int pidfd, int sig)
{
	struct pollfd fd = {.fd = pidfd, .events = POLLIN};

	if (pidfd_send_signal(pidfd, sig, NULL, 0))
		return; /* it has gone already */
	pidfd_send_signal(pidfd, SIGCONT, NULL, 0); /* a stopped one would not hear */
	if (poll(&fd, 1, GRACE_MS) <= 0)
		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	poll(&fd, 1, GRACE_MS);
}

/* The instance's stats segment and its pools' histories. */
static void
remove_objects(const char *stats)
{
	char pattern[PATHS_MAX + 16];
	glob_t found;

	shm_unlink(stats);
	snprintf(pattern, sizeof(pattern), "/dev/shm%s.*", stats);
	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		unlink(found.gl_pathv[i]);
	globfree(&found);
}

static void
clean_up(struct watched *watched, unsigned n, const char *folder, const char *instance)
{
	char name[PATHS_MAX];
	pid_t stray;

	while (n-- > 0)
		end_process(watched[n].pidfd, watched[n].sig);
	/* A PostgreSQL that the test's broker started and that survived it. */
	for (int i = 0; i < MAX_STRAYS && (stray = child_working_in(folder)) != 0; i++) {
		int pidfd = pidfd_open(stray, 0);

		if (pidfd >= 0) {
			end_process(pidfd, SIGQUIT);
			close(pidfd);
		}
	}
	if (paths_stats_name(instance, name, sizeof(name)) == 0)
		remove_objects(name);
	if (child_remove_tree(folder))
		fprintf(stderr, "# %s\n", child_error());
}

/* Makes room: those that have ended need no watching. */
static unsigned
forget_ended(struct watched *watched, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		struct pollfd fd = {.fd = watched[i].pidfd, .events = POLLIN};

		if (poll(&fd, 1, 0) > 0)
			close(watched[i].pidfd);
		else
			watched[kept++] = watched[i];
	}
	return kept;
}

/* 0, or what hinders: an errno. */
static char
watch(struct watched *watched, unsigned *n, const struct message *message)
{
	int pidfd = pidfd_open(message->pid, 0);

	if (pidfd < 0)
		return errno == ESRCH ? 0 : (char)errno; /* it has gone: nothing to do */
	*n = forget_ended(watched, *n);
	if (*n == MAX_WATCHED) {
		close(pidfd);
		return ENOSPC;
	}
	watched[(*n)++] = (struct watched){.pidfd = pidfd, .sig = message->sig};
	return 0;
}

static void __attribute__((noreturn)) guard(int sock, int parent, const char *folder, const char *instance)
{
	struct pollfd fds[2] = {{.fd = sock, .events = POLLIN}, {.fd = parent, .events = POLLIN}};
	struct watched watched[MAX_WATCHED];
	unsigned n = 0;

	for (;;) {
		struct message message;
		char answer;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents & POLLIN && recv(sock, &message, sizeof(message), 0) == sizeof(message)) {
			if (message.pid == 0)
				break;
			answer = watch(watched, &n, &message);
			send(sock, &answer, 1, MSG_NOSIGNAL);
			continue;
		}
		if (fds[1].revents != 0)
			break;
		fds[0].fd =
		    fds[0].revents & POLLHUP ? -1 : sock; /* every end is closed: only the death is left */
	}
	clean_up(watched, n, folder, instance);
	_exit(0);
}

int
guardian_start(const char *folder, const char *instance, struct guardian *ret)
{
	int pair[2], parent;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return child_fail(errno, "socketpair: %s", strerror(errno));
	parent = pidfd_open(getpid(), 0);
	pid = parent < 0 ? -1 : fork();
	if (pid < 0) {
		int error = errno;

		close(pair[0]);
		close(pair[1]);
		if (parent >= 0)
			close(parent);
		return child_fail(error, "cannot start a guardian: %s", strerror(error));
	}
	if (pid == 0) {
		/* Keeps stdout: whoever runs the test learns of its end when all is cleaned up. */
		setsid();
		signal(SIGINT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		signal(SIGPIPE, SIG_IGN);
		child_close_others(pair[1], parent);
		guard(pair[1], parent, folder, instance);
	}
	close(pair[1]);
	close(parent);
	ret->pid = pid;
	ret->sock = pair[0];
	return 0;
}

int
guardian_watch(const struct guardian *guardian, pid_t pid, int sig)
{
	struct message message = {.pid = pid, .sig = sig};
	char answer;

	if (pid <= 0)
		return child_fail(EINVAL, "%d is no process", (int)pid);
	if (send(guardian->sock, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message) ||
	    recv(guardian->sock, &answer, 1, 0) != 1)
		return child_fail(EPIPE, "the guardian of this test is gone");
	if (answer != 0)
		return child_fail(answer, "process %d cannot be watched (%d at a time): %s", (int)pid,
		    MAX_WATCHED, strerror(answer));
	return 0;
}

void
guardian_clean_up(struct guardian *guardian)
{
	struct message message = {0};

	if (guardian->pid == 0)
		return;
	send(guardian->sock, &message, sizeof(message), MSG_NOSIGNAL);
	waitpid(guardian->pid, NULL, 0);
	close(guardian->sock);
	guardian->pid = 0;
}
