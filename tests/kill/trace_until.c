/* SPDX-License-Identifier: PostgreSQL */
/* Many breakpoints at a time, in a process that has no marks: trace_until. */
#include "trace_priv.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

struct planted {
	uintptr_t address;
	size_t index;
	uint8_t original;
	bool there;
};

static int
by_planted(const void *a, const void *b)
{
	const struct planted *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* Waits for a stop, and asks in between. */
static enum trace_end
wait_or_done(const struct tracee *t, bool (*done)(void *context), void *context)
{
	static const struct timespec step = {.tv_nsec = 50000};
	int status, sig;

	for (;;) {
		pid_t got = waitpid(t->pid, &status, __WALL | WNOHANG);

		if (got == 0) {
			if (done(context))
				return TRACE_MARK;
			nanosleep(&step, NULL);
			continue;
		}
		if (got != t->pid || !WIFSTOPPED(status))
			return TRACE_ENDED;
		sig = WSTOPSIG(status);
		if (sig == SIGTRAP && status >> 16 == 0)
			return TRACE_THERE;
		if (ptrace(PTRACE_CONT, t->pid, NULL, status >> 16 != 0 ? 0 : sig) != 0)
			return TRACE_ENDED;
	}
}

/*
 * It stopped at a breakpoint: takes it away and puts the process before its instruction. NULL: not one of
 * these.
 */
static struct planted *
arrive(const struct tracee *t, struct planted *planted, size_t n)
{
	struct planted key = {.address = trace_get_rip(t) - 1};
	struct planted *p = bsearch(&key, planted, n, sizeof(*planted), by_planted);

	if (p == NULL || !p->there)
		return NULL;
	trace_swap_byte(t, p->address, p->original);
	trace_set_rip(t, p->address);
	p->there = false;
	return p;
}

/* Whether a breakpoint's signal is on its way: it must not be what the process is left with. */
static bool
trap_is_pending(const struct tracee *t)
{
	struct __ptrace_peeksiginfo_args which = {.off = 0, .flags = 0, .nr = 8};
	siginfo_t pending[8];
	long n = ptrace(PTRACE_PEEKSIGINFO, t->pid, &which, pending);

	for (long i = 0; i < n; i++)
		if (pending[i].si_signo == SIGTRAP)
			return true;
	return false;
}

/*
 * Stops a process that runs. It may just have come to a breakpoint, which is no visit: it stops for that first, or is
 * about to.
 */
static bool
interrupt(const struct tracee *t, struct planted *planted, size_t n)
{
	int status;

	if (ptrace(PTRACE_INTERRUPT, t->pid, NULL, NULL) != 0)
		return false;
	for (;;) {
		if (waitpid(t->pid, &status, __WALL) != t->pid || !WIFSTOPPED(status))
			return false;
		if (WSTOPSIG(status) == SIGTRAP && status >> 16 == 0) {
			arrive(t, planted, n);
			return true;
		}
		if (!trap_is_pending(t))
			return true;
		if (ptrace(PTRACE_CONT, t->pid, NULL, NULL) != 0)
			return false;
	}
}

enum trace_end
trace_until(struct tracee *t, const uintptr_t *address, size_t n, bool *ret_seen, bool all,
    bool (*done)(void *context), void *context)
{
	struct planted *planted = calloc(n + 1, sizeof(*planted)), *p;
	enum trace_end end = TRACE_THERE;

	if (planted == NULL)
		trace_broken("breakpoints");
	for (size_t i = 0; i < n; i++)
		planted[i] = (struct planted){.address = address[i], .index = i, .there = true};
	qsort(planted, n, sizeof(*planted), by_planted);
	for (size_t i = 0; i < n; i++)
		planted[i].original = trace_swap_byte(t, planted[i].address, TRACE_BREAKPOINT);
	while (end == TRACE_THERE) {
		if (ptrace(PTRACE_CONT, t->pid, NULL, NULL) != 0)
			end = TRACE_ENDED;
		else
			end = wait_or_done(t, done, context);
		if (end != TRACE_THERE || (p = arrive(t, planted, n)) == NULL)
			continue;
		ret_seen[p->index] = true;
		if (!all)
			break;
	}
	if (end == TRACE_MARK && !interrupt(t, planted, n))
		end = TRACE_ENDED;
	for (size_t i = 0; end != TRACE_ENDED && i < n; i++)
		if (planted[i].there)
			trace_swap_byte(t, planted[i].address, planted[i].original);
	free(planted);
	return end;
}
