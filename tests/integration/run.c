/* SPDX-License-Identifier: PostgreSQL */
/* See run.h. */
#include "run.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "it.h"

#define PATIENCE_MS 30000 /* ends a failing test only */
#define MAX_ARGS 16

bool
run_mount_shm(const char *options)
{
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", "/dev/shm", "tmpfs", 0, options) == 0;
}

/* In the child: from here on only exec or _exit. */
static void
become(const char *const argv[], const struct run_how *how, int err)
{
	struct rlimit files = {.rlim_cur = how->files, .rlim_max = how->files};
	struct child_user user;
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(err, 2) < 0)
		_exit(126);
	close_range(3, UINT32_MAX, 0);
	if (how->shm != NULL && !run_mount_shm(how->shm)) {
		perror("a /dev/shm of its own (this needs root)");
		_exit(126);
	}
	if (how->unprivileged && geteuid() == 0 &&
	    (child_server_user(&user) != 0 || initgroups(user.name, user.gid) != 0 || setgid(user.gid) != 0 ||
	        setuid(user.uid) != 0)) {
		perror("another user");
		_exit(126);
	}
	if (how->files != 0 && setrlimit(RLIMIT_NOFILE, &files) != 0) {
		perror("the limit of open files");
		_exit(126);
	}
	execv(argv[0], (char *const *)argv);
	perror(argv[0]);
	_exit(127);
}

/* All that comes until the end. False when it does not end. */
static bool
read_all(int fd, char *buf, size_t size)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t used = 0;
	ssize_t n = 1;

	while (n > 0 && used < size - 1) {
		if (poll(&p, 1, PATIENCE_MS) != 1)
			break;
		n = read(fd, buf + used, size - 1 - used);
		used += n > 0 ? (size_t)n : 0;
	}
	buf[used] = '\0';
	return n == 0;
}

static void
split(struct run *r)
{
	for (const char *at = r->text; *at != '\0'; r->lines++) {
		size_t n = strcspn(at, "\n");

		snprintf(r->last, sizeof(r->last), "%.*s", (int)n, at);
		at += n + (at[n] == '\n');
	}
}

void
run_broker(const char *const args[], const struct run_how *how, struct run *ret)
{
	static const struct run_how plain;
	const char *builddir = getenv("PGLEASE_BUILDDIR"), *argv[MAX_ARGS + 2];
	char program[512];
	int err[2], status;
	bool ended;
	size_t n = 1;
	pid_t pid;

	snprintf(program, sizeof(program), "%s/pgleased", builddir != NULL ? builddir : ".");
	argv[0] = program;
	while (args[n - 1] != NULL && n < MAX_ARGS) {
		argv[n] = args[n - 1];
		n++;
	}
	argv[n] = NULL;
	*ret = (struct run){.status = -1};
	ck_assert_int_eq(pipe2(err, O_CLOEXEC), 0);
	pid = check_fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		become(argv, how != NULL ? how : &plain, err[1]);
	close(err[1]);
	ended = read_all(err[0], ret->text, sizeof(ret->text));
	if (!ended)
		kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	close(err[0]);
	ck_assert_msg(ended, "pgleased did not end; it said: %s", ret->text);
	if (WIFEXITED(status))
		ret->status = WEXITSTATUS(status);
	split(ret);
}

void
run_refused(const char *const args[], const struct run_how *how, const char *a, const char *b, const char *c)
{
	const char *words[] = {"pgleased: ", a, b, c};
	struct run r;

	run_broker(args, how, &r);
	ck_assert_msg(r.status == 1, "status %d: %s", r.status, r.text);
	ck_assert_msg(strncmp(r.last, words[0], strlen(words[0])) == 0, "not its last word: %s", r.text);
	for (size_t i = 1; i < sizeof(words) / sizeof(words[0]); i++)
		ck_assert_msg(words[i] == NULL || strstr(r.last, words[i]) != NULL, "no \"%s\" in: %s",
		    words[i], r.last);
}

const char *
run_folder(void)
{
	static const pglease_test_options options = PGLEASE_TEST_OPTIONS(.no_broker = true, .no_server = true);

	if (it_env == NULL)
		ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	return pglease_test_folder(it_env);
}

const char *
run_file(const char *name, const char *text, size_t size)
{
	static char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", run_folder(), name);
	file = fopen(path, "we");
	ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
	ck_assert_uint_eq(fwrite(text, 1, size, file), size);
	ck_assert_int_eq(fclose(file), 0);
	return path;
}
