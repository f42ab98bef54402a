/* SPDX-License-Identifier: PostgreSQL */
/* Starting and awaiting child processes. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const process_environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", NULL};

#define MOST 32 /* alert commands, PostgreSQL's, a program that is asked for its agreement: fewer than this */

#define UNKNOWN W_EXITCODE(255, 0) /* no success */

static pid_t ours[MOST]; /* 0: none */

static void
note(pid_t from, pid_t to)
{
	for (unsigned i = 0; i < MOST; i++) {
		if (ours[i] == from) {
			ours[i] = to;
			return;
		}
	}
}

static bool
is_ours(pid_t pid)
{
	for (unsigned i = 0; i < MOST; i++)
		if (ours[i] == pid)
			return true;
	return false;
}

void
process_know(const struct process *process)
{
	if (process->pid > 0 && !is_ours(process->pid))
		note(0, process->pid);
}

void
process_reap_others(void)
{
	siginfo_t ended = {0};

	/* One of ours that has ended is looked for by its owner: those behind it wait for the next time. */
	while (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0 && !is_ours(ended.si_pid)) {
		waitpid(ended.si_pid, NULL, 0);
		ended = (siginfo_t){0};
	}
}

/* In the child, between fork and exec. Returns only when it fails. */
static void
become(const struct process_params *params, pid_t broker)
{
	const char *const *environment = params->environment != NULL ? params->environment : process_environment;
	sigset_t none;
	int null = open("/dev/null", O_RDONLY);

	setsid(); /* a terminal's ^C is for the broker, which stops its children itself */
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(077);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(params->output, STDOUT_FILENO) < 0 ||
	    dup2(params->output, STDERR_FILENO) < 0)
		return;
	if (params->user != NULL && (initgroups(params->user, params->gid) != 0 || setgid(params->gid) != 0 ||
	                                setuid(params->uid) != 0))
		return;
	if (chdir(params->folder) != 0)
		return;
	/* After setuid, which clears it. The broker may have died before this took effect. */
	if (params->death_signal != 0 &&
	    (prctl(PR_SET_PDEATHSIG, params->death_signal) != 0 || getppid() != broker)) {
		errno = errno != 0 ? errno : ESRCH;
		return;
	}
	/* All else is close-on-exec already, as long as nobody forgot it. */
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
		return;
	execve(params->path != NULL ? params->path : params->argv[0], (char *const *)params->argv,
	    params->keep_environment ? environ : (char *const *)environment);
}

int
process_start(const struct process_params *params, struct process *ret)
{
	pid_t broker = getpid(), pid;
	int report[2], failure = 0, pidfd;
	ssize_t n;

	if (pipe2(report, O_CLOEXEC) != 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		failure = errno;
		close(report[0]);
		close(report[1]);
		return -failure;
	}
	if (pid == 0) {
		errno = 0;
		become(params, broker);
		failure = errno != 0 ? errno : EIO;
		if (write(report[1], &failure, sizeof(failure)) < 0)
			_exit(126);
		_exit(127);
	}
	close(report[1]);
	/* End of file when exec has happened. */
	do
		n = read(report[0], &failure, sizeof(failure));
	while (n < 0 && errno == EINTR);
	close(report[0]);
	if (n == sizeof(failure)) {
		waitpid(pid, NULL, 0);
		return -failure;
	}
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0) {
		failure = errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return -failure;
	}
	ret->pid = pid;
	ret->pidfd = pidfd;
	process_know(ret);
	return 0;
}

bool
process_wait(struct process *process, int timeout_ms, int *ret_status)
{
	struct pollfd poll_fd = {.fd = process->pidfd, .events = POLLIN};
	pid_t ended;
	int n;

	do
		n = poll(&poll_fd, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		return false;
	ended = waitpid(process->pid, ret_status, WNOHANG);
	if (ended < 0 && errno == ECHILD)
		*ret_status = UNKNOWN; /* it has ended, and somebody else, or the kernel, has had its status */
	else if (ended != process->pid)
		return false;
	close(process->pidfd);
	note(process->pid, 0);
	process->pid = 0;
	process->pidfd = -1;
	return true;
}

void
process_describe(int status, char *buf, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(buf, size, "signal %d", WTERMSIG(status));
	else
		snprintf(buf, size, "exit status %d", WEXITSTATUS(status));
}
