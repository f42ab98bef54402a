/* SPDX-License-Identifier: PostgreSQL */
/* Processes that are killed, stopped or slow, and what they use. Owns the processes that slow others down. */
#include "env_priv.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_TARGETS 512
#define TURN_NS 20000000
#define PATIENCE_MS 20000

struct targets {
	pid_t pid[MAX_TARGETS];
	unsigned n;
};

/* State and parent of a process; false: there is none. No memory is allocated: a pacer calls it. */
static bool
look_at(pid_t pid, char *ret_state, pid_t *ret_parent)
{
	char path[64], text[512], *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	end = strrchr(text, ')');
	return end != NULL && sscanf(end + 1, " %c %d", ret_state, ret_parent) == 2;
}

/* A server's processes are the postmaster and its children: these start none themselves. */
static void
add_children(pid_t parent, struct targets *ret)
{
	DIR *list = opendir("/proc");
	struct dirent *entry;

	while (list != NULL && (entry = readdir(list)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name), of;
		char state;

		if (pid > 0 && ret->n < MAX_TARGETS && look_at(pid, &state, &of) && of == parent)
			ret->pid[ret->n++] = pid;
	}
	if (list != NULL)
		closedir(list);
}

static int
resolve(const pglease_test_env *env, enum pglease_test_target target, pid_t pid, struct targets *ret)
{
	pid_t parent = 0;
	char state;

	ret->n = 0;
	switch (target) {
	case PGLEASE_TEST_BROKER:
		pid = env->broker.pid;
		if (pid == 0)
			return child_fail(ESRCH, "the broker does not run");
		break;
	case PGLEASE_TEST_SERVER:
		pid = env->upstream.server.pid;
		if (pid == 0)
			return child_fail(ESRCH, "the server does not run");
		break;
	case PGLEASE_TEST_SESSION:
		if (env->upstream.server.pid == 0 || pid <= 0 || !look_at(pid, &state, &parent) ||
		    parent != env->upstream.server.pid)
			return child_fail(ESRCH, "process %d is no session of the environment's server", (int)pid);
		break;
	case PGLEASE_TEST_CLIENT:
		if (pid <= 1 || pid == getpid() || !look_at(pid, &state, &parent))
			return child_fail(ESRCH, "there is no other process %d", (int)pid);
		break;
	default:
		return child_fail(EINVAL, "target %d is none", (int)target);
	}
	ret->pid[ret->n++] = pid;
	if (target == PGLEASE_TEST_SERVER)
		add_children(pid, ret);
	return 0;
}

uint64_t
faults_server_cpu(const pglease_test_env *env)
{
	static struct targets targets;
	uint64_t sum = 0;

	if (env->upstream.server.pid == 0)
		return 0;
	targets.n = 1;
	targets.pid[0] = env->upstream.server.pid;
	add_children(targets.pid[0], &targets);
	for (unsigned i = 0; i < targets.n; i++) {
		unsigned long long ns = 0;
		char path[64];
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)targets.pid[i]);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		if (fscanf(file, "%llu", &ns) == 1)
			sum += ns;
		fclose(file);
	}
	return sum;
}

static void
send_all(const struct targets *targets, int sig)
{
	for (unsigned i = 0; i < targets->n; i++)
		kill(targets->pid[i], sig);
}

/* What is awaited of the processes' states. */
struct wish {
	const struct targets *targets;
	bool stopped;
};

static int
is_so(void *context)
{
	const struct wish *wish = context;

	for (unsigned i = 0; i < wish->targets->n; i++) {
		pid_t parent;
		char state;

		if (look_at(wish->targets->pid[i], &state, &parent) && state != 'Z' && (state == 'T') != wish->stopped)
			return 0;
	}
	return 1;
}

static int
crash_server(pglease_test_env *env, const struct targets *targets)
{
	static const struct timespec step = {.tv_nsec = 2000000};
	pid_t survivor;
	int r, status;

	/* The postmaster first: it would take the deaths of its children for a reason to start new ones. */
	send_all(targets, SIGKILL);
	r = child_wait(&env->upstream.server, PATIENCE_MS, &status);
	for (unsigned i = 0; r == 0 && (survivor = child_working_in(env->folder)) != 0; i++) {
		if (i > PATIENCE_MS / 2)
			return child_fail(ETIMEDOUT, "a process of the server has survived");
		/* A backend that was forked while the others were being looked up. A standby works there, too. */
		if (env->standby.server.pid == 0)
			kill(survivor, SIGKILL);
		nanosleep(&step, NULL);
	}
	env->server_paused = false;
	return r;
}

int
pglease_test_kill(pglease_test_env *env, enum pglease_test_target target, pid_t pid)
{
	struct targets targets;
	int r = resolve(env, target, pid, &targets);

	if (r)
		return r;
	if (target == PGLEASE_TEST_BROKER) {
		env->broker_paused = false;
		return pglease_test_broker_kill(env);
	}
	if (target == PGLEASE_TEST_SERVER)
		return crash_server(env, &targets);
	if (kill(targets.pid[0], target == PGLEASE_TEST_SESSION ? SIGTERM : SIGKILL))
		return child_fail(errno, "process %d: %s", (int)targets.pid[0], strerror(errno));
	return 0;
}

static int
signal_and_await(pglease_test_env *env, enum pglease_test_target target, pid_t pid, bool stop)
{
	struct targets targets;
	struct wish wish = {.targets = &targets, .stopped = stop};
	int r = resolve(env, target, pid, &targets);

	if (r)
		return r;
	if (target == PGLEASE_TEST_BROKER)
		env->broker_paused = stop;
	if (target == PGLEASE_TEST_SERVER)
		env->server_paused = stop;
	send_all(&targets, stop ? SIGSTOP : SIGCONT);
	r = pglease_test_await(is_so, &wish, PATIENCE_MS);
	return r ? child_fail(-r, "process %d does not %s", (int)targets.pid[0], stop ? "stop" : "go on") : 0;
}

int
pglease_test_pause(pglease_test_env *env, enum pglease_test_target target, pid_t pid)
{
	return signal_and_await(env, target, pid, true);
}

int
pglease_test_continue(pglease_test_env *env, enum pglease_test_target target, pid_t pid)
{
	return signal_and_await(env, target, pid, false);
}

/* The process that slows: ends by SIGTERM, which it takes while it waits only, with its targets running. */
static void __attribute__((noreturn))
run_pacer(const pglease_test_env *env, enum pglease_test_target target, pid_t pid, unsigned percent)
{
	static struct targets targets;
	struct timespec on = {.tv_nsec = TURN_NS / 100 * (long)percent};
	struct timespec off = {.tv_nsec = TURN_NS / 100 * (long)(100 - percent)};
	sigset_t end;

	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	for (;;) {
		bool over;

		if (resolve(env, target, pid, &targets))
			_exit(0); /* it has gone */
		send_all(&targets, SIGSTOP);
		over = sigtimedwait(&end, NULL, &off) == SIGTERM;
		send_all(&targets, SIGCONT);
		if (over || sigtimedwait(&end, NULL, &on) == SIGTERM)
			_exit(0);
	}
}

static void
end_pacer(struct pacer *pacer)
{
	if (pacer->pid == 0)
		return;
	kill(pacer->pid, SIGTERM);
	while (waitpid(pacer->pid, NULL, 0) < 0 && errno == EINTR)
		;
	pacer->pid = 0;
}

int
pglease_test_slow(pglease_test_env *env, enum pglease_test_target target, pid_t pid, unsigned percent)
{
	struct pacer *free_one = NULL;
	struct targets targets;
	sigset_t term, before;
	int r;

	if (percent < 1 || percent > 100)
		return child_fail(EINVAL, "%u %%: from 1 to 100", percent);
	if (target == PGLEASE_TEST_BROKER || target == PGLEASE_TEST_SERVER)
		pid = 0;
	for (unsigned i = 0; i < ENV_MAX_PACERS; i++) {
		if (env->pacer[i].pid != 0 && env->pacer[i].target == target && env->pacer[i].of == pid)
			end_pacer(&env->pacer[i]);
		if (env->pacer[i].pid == 0 && free_one == NULL)
			free_one = &env->pacer[i];
	}
	if (percent == 100)
		return 0;
	r = resolve(env, target, pid, &targets);
	if (r == 0 && free_one == NULL)
		r = child_fail(EBUSY, "%d targets are slow already", ENV_MAX_PACERS);
	if (r)
		return r;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	free_one->pid = fork();
	if (free_one->pid == 0) {
		setsid();
		child_close_others(2, -1);
		run_pacer(env, target, pid, percent);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (free_one->pid < 0) {
		free_one->pid = 0;
		return child_fail(errno, "fork: %s", strerror(errno));
	}
	free_one->target = target;
	free_one->of = pid;
	/* Ended before its target is: that must not be left stopped. */
	return guardian_watch(&env->guardian, free_one->pid, SIGTERM);
}

void
faults_end(struct pglease_test_env *env)
{
	for (unsigned i = 0; i < ENV_MAX_PACERS; i++)
		end_pacer(&env->pacer[i]);
	if (env->broker_paused)
		pglease_test_continue(env, PGLEASE_TEST_BROKER, 0);
	if (env->server_paused)
		pglease_test_continue(env, PGLEASE_TEST_SERVER, 0);
	if (env->relay.pid != 0)
		pglease_test_relay_pass(env);
	pglease_test_unfill(env);
}
