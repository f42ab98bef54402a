/* SPDX-License-Identifier: PostgreSQL */
/* An environment's broker: found, started, ended, and whether it left anything. */
#include "env_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "paths.h"

extern char **environ;

#define READY_LINE "instance %s is ready" /* what pgleased logs, at level info, when it serves */
#define READY_MS 120000 /* an embedded PostgreSQL is created in that time too */
#define STOP_MS 60000

pid_t
pglease_test_broker_pid(const pglease_test_env *env)
{
	return env->broker.pid;
}

int
pglease_test_broker_start(pglease_test_env *env)
{
	const char *builddir = getenv("PGLEASE_BUILDDIR"), *given = getenv("PGLEASE_TEST_PGLEASED");
	bool built = builddir != NULL && *builddir != '\0';
	char program[512], line[512] = "", ready[96];
	const char *argv[] = {program, "-c", env->config, NULL};
	char **environment;
	int r;

	if (given != NULL && *given != '\0')
		snprintf(program, sizeof(program), "%s", given);
	else
		snprintf(program, sizeof(program), "%s/pgleased", built ? builddir : PGLEASE_SBINDIR);
	environment = env->own_conninfo ? environ : environ_without(env->foreign);
	if (environment == NULL)
		return child_fail(ENOMEM, "out of memory");
	r = child_start_with(argv, env->log, NULL, environment, &env->broker);
	if (environment != environ)
		free(environment);
	if (r)
		return r;
	r = guardian_watch(&env->guardian, env->broker.pid, SIGTERM);
	if (r)
		return r;
	snprintf(ready, sizeof(ready), READY_LINE, env->instance);
	r = child_await_line(env->log, &env->log_offset, ready, &env->broker, READY_MS);
	if (r) {
		/* The folder goes with the environment: tell the end of the log, where the reason is. */
		FILE *log = fopen(env->log, "re");

		while (log != NULL && fgets(line, sizeof(line), log) != NULL)
			;
		if (log != NULL)
			fclose(log);
		line[strcspn(line, "\n")] = '\0';
		return child_fail(
		    -r, "pgleased did not get ready (%s); its last line: %s", strerror(-r), line);
	}
	return 0;
}

/* What a broker that stopped cleanly must not have left. */
static int
check_nothing_left(const pglease_test_env *env)
{
	char name[PATHS_MAX], pattern[PATHS_MAX + 16], embedded[UPSTREAM_PATH + 16];
	glob_t found;
	pid_t stray;
	int fd;

	snprintf(embedded, sizeof(embedded), "%s/embedded", env->folder);
	stray = child_working_in(embedded);
	if (stray != 0)
		return child_fail(
		    EEXIST, "pgleased left a process of its embedded PostgreSQL: %d", (int)stray);
	if (access(env->socket_dir, F_OK) == 0)
		return child_fail(EEXIST, "pgleased left its socket folder %s", env->socket_dir);
	if (paths_stats_name(env->instance, name, sizeof(name)))
		return child_fail(ENAMETOOLONG, "instance name too long");
	fd = shm_open(name, O_RDONLY, 0);
	if (fd >= 0) {
		close(fd);
		return child_fail(EEXIST, "pgleased left its stats segment %s", name);
	}
	snprintf(pattern, sizeof(pattern), "/dev/shm%s.*", name);
	if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
		child_fail(EEXIST, "pgleased left %s", found.gl_pathv[0]);
		globfree(&found);
		return -EEXIST;
	}
	return 0;
}

int
pglease_test_broker_stop(pglease_test_env *env)
{
	int r, status;

	r = child_signal(&env->broker, SIGTERM);
	if (r == 0)
		r = child_wait(&env->broker, STOP_MS, &status);
	if (r == -ETIMEDOUT)
		child_fail(ETIMEDOUT, "pgleased did not stop within %d ms of SIGTERM", STOP_MS);
	if (r)
		return r;
	if (status != 0)
		return child_fail(ECHILD, "pgleased ended with %s %d",
		    WIFSIGNALED(status) ? "signal" : "exit status",
		    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return check_nothing_left(env);
}

int
pglease_test_broker_kill(pglease_test_env *env)
{
	int r, status;

	r = child_signal(&env->broker, SIGKILL);
	return r ? r : child_wait(&env->broker, STOP_MS, &status);
}

int
pglease_test_await_log(pglease_test_env *env, const char *text, int timeout_ms)
{
	return child_await_line(env->log, &env->log_offset, text,
	    env->broker.pid != 0 ? &env->broker : NULL, timeout_ms);
}
