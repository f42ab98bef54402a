/* SPDX-License-Identifier: PostgreSQL */
/* Child processes of a test. Owns nothing but the text of the last error; callers own their processes. */
#include "child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char error_text[8192];

const char *
child_error(void)
{
	return error_text;
}

int
child_fail(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error_text, sizeof(error_text), format, args);
	va_end(args);
	return -error;
}

int
child_server_user(struct child_user *ret_user)
{
	const struct passwd *entry;

	memset(ret_user, 0, sizeof(*ret_user));
	ret_user->uid = geteuid();
	ret_user->gid = getegid();
	if (geteuid() != 0)
		return 0;
	entry = getpwnam("postgres");
	if (entry == NULL)
		return child_fail(
		    ENOENT, "there is no user postgres to run PostgreSQL as; it refuses to run as root");
	ret_user->switch_user = true;
	ret_user->uid = entry->pw_uid;
	ret_user->gid = entry->pw_gid;
	snprintf(ret_user->name, sizeof(ret_user->name), "%s", entry->pw_name);
	return 0;
}

int
child_become(const struct child_user *user)
{
	if (!user->switch_user)
		return 0;
	return initgroups(user->name, user->gid) || setgid(user->gid) || setuid(user->uid) ? -errno : 0;
}

/* Duplicates do no harm, nor do numbers below 3: they are kept. */
void
child_close_others(int a, int b)
{
	unsigned low = a < b ? (unsigned)a : (unsigned)b, high = a < b ? (unsigned)b : (unsigned)a;

	if (b < 0)
		low = high = (unsigned)a;
	if (low > 3)
		close_range(3, low - 1, 0);
	if (high > low + 1)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, UINT32_MAX, 0);
}

bool
child_is_libpqs(const char *variable)
{
	return strncmp(variable, "PG", 2) == 0 && strncmp(variable, "PGLEASE_", 8) != 0;
}

/* In the child: environ is its own. What was meant for another server reaches neither this one nor who talks to it. */
static char *const *
without_libpqs(void)
{
	char **to = environ;

	for (char **at = environ; *at != NULL; at++)
		if (!child_is_libpqs(*at))
			*to++ = *at;
	*to = NULL;
	return environ;
}

/* In the child: from here on only exec or _exit. */
static void
become(const char *const argv[], const char *log, const struct child_user *user, char *const environment[])
{
	sigset_t none;
	int in = open("/dev/null", O_RDONLY), out;

	/* The log belongs to whoever runs the test, who may not be the one it is written by. */
	out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(126);
	close_range(3, UINT32_MAX, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid(); /* a test that is killed by its process group leaves this one to the guardian */
	if (user != NULL && child_become(user)) {
		perror("cannot change the user");
		_exit(126);
	}
	if (chdir("/"))
		_exit(126);
	if (environment == NULL)
		environment = without_libpqs();
	execve(argv[0], (char *const *)argv,
	    environment); /* execve changes nothing; its type is older than const */
	perror(argv[0]);
	_exit(127);
}

int
child_start_with(const char *const argv[], const char *log, const struct child_user *user,
    char *const environment[], struct child *ret)
{
	pid_t pid = fork();
	int fd;

	if (pid < 0)
		return child_fail(errno, "fork: %s", strerror(errno));
	if (pid == 0)
		become(argv, log, user, environment);
	fd = pidfd_open(pid, 0); /* close-on-exec; the child is not reaped yet, so it is this one */
	if (fd < 0) {
		int error = errno;

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return child_fail(error, "pidfd_open: %s", strerror(error));
	}
	ret->pid = pid;
	ret->pidfd = fd;
	return 0;
}

int
child_start(const char *const argv[], const char *log, const struct child_user *user, struct child *ret)
{
	return child_start_with(argv, log, user, environ, ret);
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* poll() to a deadline. 1 when something is ready, 0 when time is up, -errno. */
static int
poll_until(struct pollfd *fds, nfds_t n, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - now_ms();
		int r = poll(fds, n, left > 0 ? (int)left : 0);

		if (r >= 0)
			return r > 0;
		if (errno != EINTR)
			return -errno;
	}
}

int
child_wait(struct child *process, int timeout_ms, int *ret_status)
{
	struct pollfd fd = {.fd = process->pidfd, .events = POLLIN};
	int r = poll_until(&fd, 1, now_ms() + timeout_ms);

	if (r < 0)
		return child_fail(-r, "poll: %s", strerror(-r));
	if (r == 0)
		return child_fail(
		    ETIMEDOUT, "process %d did not end within %d ms", (int)process->pid, timeout_ms);
	if (waitpid(process->pid, ret_status, 0) != process->pid)
		return child_fail(errno, "waitpid: %s", strerror(errno));
	close(process->pidfd);
	process->pid = 0;
	process->pidfd = -1;
	return 0;
}

int
child_signal(const struct child *process, int sig)
{
	if (pidfd_send_signal(process->pidfd, sig, NULL, 0))
		return child_fail(
		    errno, "signal %d to process %d: %s", sig, (int)process->pid, strerror(errno));
	return 0;
}

int
child_run(const char *const argv[], const char *log, const struct child_user *user, int timeout_ms)
{
	return child_run_with(argv, log, user, environ, timeout_ms);
}

int
child_run_with(const char *const argv[], const char *log, const struct child_user *user,
    char *const environment[], int timeout_ms)
{
	struct child process;
	int r, status;

	r = child_start_with(argv, log, user, environment, &process);
	if (r)
		return r;
	r = child_wait(&process, timeout_ms, &status);
	if (r == -ETIMEDOUT) {
		child_signal(&process, SIGKILL);
		child_wait(&process, 5000, &status);
		return child_fail(ETIMEDOUT, "%s did not end within %d ms; see %s", argv[0], timeout_ms, log);
	}
	if (r)
		return r;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return child_fail(ECHILD, "%s failed (wait status %d); see %s", argv[0], status, log);
	return 0;
}

/* Whether a whole line with `needle` is there beyond *offset; moves it past that line, or else past whole
 * lines. */
static bool
find_line(FILE *file, off_t *offset, const char *needle)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	bool found = false;

	clearerr(file);
	fseeko(file, *offset, SEEK_SET);
	while (!found && (n = getline(&line, &size, file)) > 0 && line[n - 1] == '\n') {
		*offset += n;
		found = strstr(line, needle) != NULL;
	}
	free(line);
	return found;
}

int
child_await_line(
    const char *log, off_t *offset, const char *needle, const struct child *process, int timeout_ms)
{
	struct pollfd fds[2] = {{.fd = -1, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
	int64_t deadline = now_ms() + timeout_ms;
	char events[4096];
	FILE *file = NULL;
	int r, fd;

	/* The writer may not have opened it yet. */
	fd = open(log, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return child_fail(errno, "%s: %s", log, strerror(errno));
	file = fdopen(fd, "r");
	fds[0].fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (file == NULL || fds[0].fd < 0 || inotify_add_watch(fds[0].fd, log, IN_MODIFY) < 0) {
		r = child_fail(errno, "watching %s: %s", log, strerror(errno));
		goto out;
	}
	if (process != NULL)
		fds[1].fd = process->pidfd;
	for (;;) {
		bool ended = fds[1].revents != 0; /* looked at before the file: what it wrote last is found */

		if (find_line(file, offset, needle)) {
			r = 0;
			break;
		}
		if (ended) {
			r = child_fail(ECHILD, "process %d ended before it wrote '%s' to %s",
			    (int)process->pid, needle, log);
			break;
		}
		r = poll_until(fds, 2, deadline);
		if (r <= 0) {
			r = child_fail(
			    r == 0 ? ETIMEDOUT : -r, "no '%s' in %s within %d ms", needle, log, timeout_ms);
			break;
		}
		while (read(fds[0].fd, events, sizeof(events)) > 0)
			;
	}
out:
	if (fds[0].fd >= 0)
		close(fds[0].fd);
	if (file != NULL)
		fclose(file);
	else
		close(fd);
	return r;
}

static bool
is_postgres(pid_t pid)
{
	char path[64], name[16] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	if (fgets(name, sizeof(name), file) == NULL)
		name[0] = '\0';
	fclose(file);
	return strcmp(name, "postgres\n") == 0;
}

pid_t
child_working_in(const char *folder)
{
	size_t length = strlen(folder);
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (found == 0 && proc != NULL && (entry = readdir(proc)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		char path[64], cwd[512];
		ssize_t n;

		if (pid <= 1)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid);
		n = readlink(path, cwd, sizeof(cwd));
		if (n > 0 && (size_t)n > length && memcmp(cwd, folder, length) == 0 && cwd[length] == '/' &&
		    is_postgres(pid))
			found = pid;
	}
	if (proc != NULL)
		closedir(proc);
	return found;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) != 0 && errno != ENOENT ? -1 : 0;
}

int
child_remove_tree(const char *path)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
		return child_fail(errno, "cannot remove %s: %s", path, strerror(errno));
	return 0;
}
