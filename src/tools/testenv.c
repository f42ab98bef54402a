/* SPDX-License-Identifier: PostgreSQL */
/*
 * pglease-testenv: makes an environment, runs the command in it, waits for it, reports. What the command's processes start
 * and leave becomes this process's child, so that it is seen, and ended.
 */
#include "testenv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "segment.h"

#define GRACE_S 5 /* between SIGTERM and SIGKILL */
#define REVOKED "lease revoked from client" /* what pgleased logs of a process that ended with a lease */

struct run {
	const struct testenv_options *options;
	FILE *err;
	pglease_test_env *env;
	sigset_t watched, before;
	pid_t pid;
	int status; /* as of waitpid */
	bool timed_out;
};

static int
complain(struct run *run, int status, const char *what)
{
	fprintf(run->err, "pglease-testenv: %s\n", what);
	return status;
}

static void __attribute__((noreturn)) become(const struct run *run)
{
	int error;

	sigprocmask(SIG_SETMASK, &run->before, NULL);
	execvp(run->options->command[0], run->options->command);
	error = errno;
	fprintf(stderr, "pglease-testenv: %s: %s\n", run->options->command[0], strerror(error));
	_exit(error == ENOENT ? TESTENV_NOT_FOUND : TESTENV_CANNOT);
}

/* Whoever has ended, but for the environment's own processes. True: the command has. */
static bool
reap(struct run *run)
{
	bool over = false;
	siginfo_t info;

	for (;;) {
		int status;

		memset(&info, 0, sizeof(info));
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0 ||
		    info.si_pid == pglease_test_broker_pid(run->env) || info.si_pid == pglease_test_server_pid(run->env))
			break;
		if (waitpid(info.si_pid, &status, 0) != info.si_pid)
			break;
		if (info.si_pid == run->pid) {
			run->status = status;
			over = true;
		}
	}
	return over;
}

/* Signals that come meanwhile are the command's. */
static void
wait_for_command(struct run *run)
{
	uint64_t second = UINT64_C(1000000000), deadline = UINT64_MAX;

	if (run->options->timeout_s != 0)
		deadline = clock_ns() + run->options->timeout_s * second;
	while (!reap(run)) {
		struct timespec left = {.tv_sec = 3600};
		siginfo_t info;
		int sig;

		if (deadline != UINT64_MAX) {
			uint64_t now = clock_ns(), ns = deadline > now ? deadline - now : 0;

			left = (struct timespec){.tv_sec = (time_t)(ns / second), .tv_nsec = (long)(ns % second)};
		}
		sig = sigtimedwait(&run->watched, &info, &left);
		if (sig > 0 && sig != SIGCHLD) {
			/* The terminal has told the command already. */
			if (info.si_code <= 0)
				kill(run->pid, sig);
		} else if (sig < 0 && errno == EAGAIN && deadline != UINT64_MAX) {
			kill(run->pid, run->timed_out ? SIGKILL : SIGTERM);
			run->timed_out = true;
			deadline = clock_ns() + GRACE_S * second;
		}
	}
}

/* Leases that ended because their processes did: the broker has taken them back already, and says so in its log. */
static unsigned
tell_revoked(struct run *run, FILE *to)
{
	FILE *log = fopen(pglease_test_log(run->env), "re");
	char *line = NULL;
	size_t size = 0;
	unsigned n = 0;

	while (log != NULL && getline(&line, &size, log) > 0) {
		char *at = strstr(line, "pool ");

		if (at == NULL || strstr(at, REVOKED) == NULL)
			continue;
		n++;
		if (to != NULL)
			fprintf(to, "leak: lease: its process ended with it: %s", at);
	}
	free(line);
	if (log != NULL)
		fclose(log);
	return n;
}

static unsigned
report(struct run *run)
{
	const struct testenv_options *o = run->options;
	const pglease_test_leak *leak;
	unsigned n = 0, leases = 0, reported;
	FILE *to = NULL;

	if (pglease_test_report(run->env, &leak, &n) != 0) {
		complain(run, 0, pglease_test_error_message());
		return 0;
	}
	reported = n;
	for (unsigned i = 0; i < n; i++)
		leases += leak[i].kind == PGLEASE_TEST_LEAK_LEASE;
	if (!o->quiet) {
		to = o->output != NULL ? fopen(o->output, "we") : run->err;
		if (to == NULL)
			complain(run, 0, strerror(errno));
		else
			pglease_test_report_write(run->env, to, o->json);
	}
	/* One that was still held a moment ago has been told. */
	if (leases == 0)
		n += tell_revoked(run, o->json ? NULL : to);
	if (to != NULL && to != run->err && fclose(to) != 0)
		complain(run, 0, "the report cannot be written");
	/* What is left of the command's processes, now this one's children. */
	for (unsigned i = 0; i < reported; i++) {
		int pid;

		if (leak[i].kind == PGLEASE_TEST_LEAK_PROCESS && sscanf(leak[i].what, "child process %d", &pid) == 1)
			kill(pid, SIGKILL);
	}
	return n;
}

static int
run_command(struct run *run)
{
	int status;
	unsigned leaks;

	run->pid = fork();
	if (run->pid == 0)
		become(run);
	if (run->pid < 0)
		return complain(run, TESTENV_FAILED, strerror(errno));
	wait_for_command(run);
	leaks = report(run);
	if (run->timed_out)
		return complain(run, TESTENV_TIMEOUT, "the command took too long, and was ended");
	status = WIFSIGNALED(run->status) ? 128 + WTERMSIG(run->status) : WEXITSTATUS(run->status);
	return status == 0 && leaks > 0 ? TESTENV_LEAKS : status;
}

int
testenv(int argc, char **argv, FILE *out, FILE *err)
{
	static const int forwarded[] = {SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
	struct testenv_options options;
	struct run run = {.options = &options, .err = err};
	pglease_test_options wanted = PGLEASE_TEST_OPTIONS_INIT;
	int status = testenv_options_read(argc, argv, out, err, &options);

	if (status >= 0)
		goto out;
	wanted.pools = options.pool;
	wanted.npools = options.npools;
	wanted.extra = options.extra;
	wanted.setup = options.setup;
	if (pglease_test_env_new(&wanted, &run.env) || pglease_test_environment(run.env) || pglease_test_mark(run.env)) {
		status = complain(&run, TESTENV_FAILED, pglease_test_error_message());
		goto out;
	}
	sigemptyset(&run.watched);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(&run.watched, forwarded[i]);
	sigprocmask(SIG_BLOCK, &run.watched, &run.before);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	status = run_command(&run);
	/* Its own report would say the same again. */
	reap(&run);
	if (pglease_test_mark(run.env) != 0 || pglease_test_env_free(run.env) != 0) {
		complain(&run, 0, pglease_test_error_message());
		status = status == 0 ? TESTENV_FAILED : status;
	}
	run.env = NULL;
out:
	pglease_test_env_free(run.env);
	testenv_options_fini(&options);
	return status;
}
