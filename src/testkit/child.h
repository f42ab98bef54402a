/* SPDX-License-Identifier: PostgreSQL */
/*
 * Child processes of a test: started, awaited by events (never by sleeping), run as another user where
 * PostgreSQL insists on it. Errors are explained by child_error().
 */
#ifndef PGLEASE_TESTKIT_CHILD_H
#define PGLEASE_TESTKIT_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Whom to run as: the user itself, but `postgres` where that is root, because PostgreSQL refuses to run as
 * root. */
struct child_user {
	bool switch_user;
	uid_t uid;
	gid_t gid;
	char name[32];
};

struct child {
	pid_t pid; /* 0: none */
	int pidfd;
};

int child_server_user(struct child_user *ret_user);
/* In a child process: from now on it is that user. */
int child_become(const struct child_user *user);
/* In a child process: closes all but the standard streams and these two (-1: only one): no socket of the test may stay open
 * because of it. */
void child_close_others(int a, int b);
/* Whether this "NAME=value" is one that libpq and PostgreSQL's programs read: PGHOSTADDR, PGSERVICE, PGPORT ... */
bool child_is_libpqs(const char *variable);
/* Starts argv[0] (a path) with stdin from /dev/null, stdout and stderr appended to `log`, a session of its
 * own, and no other descriptor. `user` may be NULL. */
int child_start(const char *const argv[], const char *log, const struct child_user *user, struct child *ret);
/* With that environment; NULL: this process's, but for what is libpq's. */
int child_start_with(const char *const argv[], const char *log, const struct child_user *user,
    char *const environment[], struct child *ret);
/* Waits until it has ended. Its wait status, or -ETIMEDOUT. The process is reaped and forgotten. */
int child_wait(struct child *process, int timeout_ms, int *ret_status);
int child_signal(const struct child *process, int sig);
/* Starts, waits; 0 when it ended with status 0. */
int child_run(const char *const argv[], const char *log, const struct child_user *user, int timeout_ms);
int child_run_with(const char *const argv[], const char *log, const struct child_user *user,
    char *const environment[], int timeout_ms);

/*
 * Waits until a line with `needle` is in `log` beyond *offset, which is moved past that line. Ends early,
 * with -ECHILD, when the process (may be NULL) ends without having written it. 0, -ETIMEDOUT or another
 * -errno.
 */
int child_await_line(
    const char *log, off_t *offset, const char *needle, const struct child *process, int timeout_ms);

/* A PostgreSQL process whose working folder lies in this folder; 0: none. */
pid_t child_working_in(const char *folder);

/* Removes a folder and all that is in it; a missing one is fine. */
int child_remove_tree(const char *path);

/* What went wrong last, in words. */
const char *child_error(void);
/* Notes what went wrong and returns -error. */
int child_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
