/* SPDX-License-Identifier: PostgreSQL */
/* Child processes: PostgreSQL's own programs, and the operator's; as another user if need be, with nothing of the broker's inherited. */
#ifndef PGLEASE_BROKER_PROCESS_H
#define PGLEASE_BROKER_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

struct process_params {
	const char *path; /* of the program; NULL: argv[0] */
	const char *const *argv;
	const char *user; /* NULL: stay who we are */
	uid_t uid;
	gid_t gid;
	const char *folder; /* to run in */
	int output; /* stdout and stderr */
	bool keep_environment;
	const char *const *environment; /* NULL-terminated; NULL: process_environment, or this process's if that is kept */
	int death_signal; /* sent to it when the broker dies; 0: none */
};

struct process {
	pid_t pid; /* 0: none */
	int pidfd; /* readable when it has ended */
};

/* A few harmless variables, NULL-terminated: no PGDATA, PGPORT or LC_ALL of whoever started the broker. */
extern const char *const process_environment[];

/* 0 or -errno, that of exec included. */
int process_start(const struct process_params *params, struct process *ret);
/* Waits up to timeout_ms. True when it has ended: *ret_status is waitpid's, and the process is gone from `process`. */
bool process_wait(struct process *process, int timeout_ms, int *ret_status);
/* It was started by the program in whose place this one is. */
void process_know(const struct process *process);
/*
 * Reaps ended children that were not started here: the first process of a PID namespace (a container) gets all that lose their
 * parents. The loop's thread, as all of this.
 */
void process_reap_others(void);
/* "exit status 1", "signal 9" */
void process_describe(int status, char *buf, size_t size);

#endif
