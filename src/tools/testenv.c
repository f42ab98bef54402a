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

#include "report.h"
#include "segment.h"

#define GRACE_S 5 /* between SIGTERM and SIGKILL */
#define REVOKED "lease revoked from client" /* what pgleased logs of a process that ended with a lease */

struct run {
	const struct testenv_options *options;
	FILE *err, *to; /* where the report goes */
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

/* True: the command has ended. */
static bool
reap(struct run *run)
{
	bool over = waitpid(run->pid, &run->status, WNOHANG) == run->pid;

	testenv_strays_reap(run->pid);
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

/* Whether the lease of this line of the log was still held when the report was made: then it has been told. */
static bool
is_told(const char *line, const pglease_test_leak *leak, unsigned n)
{
	const char *pid = strstr(line, "(pid ");
	char pool[48], prefix[80], holder[32];
	unsigned slot;

	if (sscanf(line, "pool %47[^:]: slot %u", pool, &slot) != 2)
		return false;
	snprintf(prefix, sizeof(prefix), "pool %s, slot %u: ", pool, slot);
	snprintf(holder, sizeof(holder), " by pid %d ", pid != NULL ? atoi(pid + strlen("(pid ")) : 0);
	for (unsigned i = 0; i < n; i++)
		if (leak[i].kind == PGLEASE_TEST_LEAK_LEASE && strncmp(leak[i].what, prefix, strlen(prefix)) == 0 &&
		    strstr(leak[i].what, holder) != NULL)
			return true;
	return false;
}

/* Leases that ended because their processes did: the broker has taken them back already, and says so in its log. */
static int
add_revoked(struct run *run, const pglease_test_leak *leak)
{
	FILE *log = fopen(pglease_test_log(run->env), "re");
	char *line = NULL, what[512];
	size_t size = 0;
	int r = 0;

	while (r == 0 && log != NULL && getline(&line, &size, log) > 0) {
		char *at = strstr(line, "pool ");

		if (at == NULL || strstr(at, REVOKED) == NULL || is_told(at, leak, report_count(run->env)))
			continue;
		at[strcspn(at, "\n")] = '\0';
		snprintf(what, sizeof(what), "its process ended with it: %s", at);
		r = report_add(run->env, PGLEASE_TEST_LEAK_LEASE, what);
	}
	free(line);
	if (log != NULL)
		fclose(log);
	return r;
}

/* 0, or -1, which has been told. */
static int
report(struct run *run, unsigned *ret_leaks)
{
	const pglease_test_leak *leak;
	unsigned n = 0;
	int r = pglease_test_report(run->env, &leak, &n);

	if (r == 0)
		r = add_revoked(run, leak);
	if (r == 0 && !run->options->quiet)
		r = pglease_test_report_write(run->env, run->to, run->options->json);
	if (r != 0)
		complain(run, 0, pglease_test_error_message());
	if (run->to != run->err && run->to != NULL) {
		if (fclose(run->to) != 0 && r == 0) {
			fprintf(run->err, "pglease-testenv: %s: %s\n", run->options->output, strerror(errno));
			r = -1;
		}
		run->to = NULL;
	}
	*ret_leaks = report_count(run->env);
	return r == 0 ? 0 : -1;
}

static int
run_command(struct run *run)
{
	int status, reported;
	unsigned leaks;

	run->pid = fork();
	if (run->pid == 0)
		become(run);
	if (run->pid < 0)
		return complain(run, TESTENV_FAILED, strerror(errno));
	wait_for_command(run);
	reported = report(run, &leaks);
	testenv_strays_end();
	if (run->timed_out)
		return complain(run, TESTENV_TIMEOUT, "the command took too long, and was ended");
	status = WIFSIGNALED(run->status) ? 128 + WTERMSIG(run->status) : WEXITSTATUS(run->status);
	if (status == 0 && reported != 0)
		return TESTENV_FAILED;
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
	/* Before the command runs, and before the mark. */
	run.to = options.output == NULL || options.quiet ? err : fopen(options.output, "we");
	if (run.to == NULL) {
		fprintf(err, "pglease-testenv: %s: %s\n", options.output, strerror(errno));
		status = TESTENV_FAILED;
		goto out;
	}
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
	if (pglease_test_mark(run.env) != 0 || pglease_test_env_free(run.env) != 0) {
		complain(&run, 0, pglease_test_error_message());
		status = status == 0 ? TESTENV_FAILED : status;
	}
	run.env = NULL;
out:
	pglease_test_env_free(run.env);
	if (run.to != NULL && run.to != err)
		fclose(run.to);
	testenv_options_fini(&options);
	return status;
}
