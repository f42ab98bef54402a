/* SPDX-License-Identifier: PostgreSQL */
/* See trace.h. x86-64 only: the instruction of a breakpoint and what is atomic are this processor's. */
#include "trace_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_S 60

static void
nothing(int signal)
{
}

/* Without SA_RESTART: a wait for a tracee that never stops ends with EINTR. */
static void
patience(unsigned seconds)
{
	struct sigaction action = {.sa_handler = nothing};

	sigaction(SIGALRM, &action, NULL);
	alarm(seconds);
}

__attribute__((noinline)) void
trace_mark(void)
{
	__asm__ volatile("int3");
}

struct search {
	const char *object;
	struct range *ret;
	bool found;
};

static int
look_at_object(struct dl_phdr_info *info, size_t size, void *data)
{
	struct search *s = data;

	if (*s->object == '\0' ? *info->dlpi_name != '\0' : strstr(info->dlpi_name, s->object) == NULL)
		return 0;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) != 0) {
			s->ret->begin = info->dlpi_addr + p->p_vaddr;
			s->ret->end = s->ret->begin + p->p_memsz;
			s->ret->base = info->dlpi_addr;
			s->found = true;
			return 1;
		}
	}
	return 0;
}

bool
trace_find_text(const char *object, struct range *ret)
{
	struct search s = {.object = object, .ret = ret};

	dl_iterate_phdr(look_at_object, &s);
	return s.found;
}

static bool
in(const struct range *r, uintptr_t address)
{
	return address >= r->begin && address < r->end;
}

void
trace_broken(const char *what)
{
	fprintf(stderr, "trace: %s: %s\n", what, strerror(errno));
	abort();
}

static uintptr_t
get(const struct tracee *t, size_t offset)
{
	long value;

	errno = 0;
	value = ptrace(PTRACE_PEEKUSER, t->pid, offset, NULL);
	if (errno != 0)
		trace_broken("reading a register");
	return (uintptr_t)value;
}

uintptr_t
trace_get_rip(const struct tracee *t)
{
	return get(t, offsetof(struct user_regs_struct, rip));
}

static uintptr_t
get_rsp(const struct tracee *t)
{
	return get(t, offsetof(struct user_regs_struct, rsp));
}

void
trace_set_rip(const struct tracee *t, uintptr_t rip)
{
	if (ptrace(PTRACE_POKEUSER, t->pid, offsetof(struct user_regs_struct, rip), rip) != 0)
		trace_broken("writing a register");
}

static void
peek(const struct tracee *t, uintptr_t address, void *buf, size_t size)
{
	if (pread(t->memory, buf, size, (off_t)address) != (ssize_t)size)
		trace_broken("reading memory");
}

uint8_t
trace_swap_byte(const struct tracee *t, uintptr_t address, uint8_t byte)
{
	uint8_t old;

	peek(t, address, &old, 1);
	if (pwrite(t->memory, &byte, 1, (off_t)address) != 1)
		trace_broken("writing text");
	return old;
}

/* Waits for a stop. TRACE_THERE: SIGTRAP; other signals are passed on. */
static enum trace_end
resume(const struct tracee *t, enum __ptrace_request how)
{
	int status, sig = 0;

	for (;;) {
		pid_t got;

		if (ptrace(how, t->pid, NULL, sig) != 0)
			return TRACE_ENDED;
		/* Single steps are over at once. */
		if (how != PTRACE_SINGLESTEP)
			patience(PATIENCE_S);
		got = waitpid(t->pid, &status, __WALL);
		if (how != PTRACE_SINGLESTEP)
			alarm(0);
		if (got < 0 && errno == EINTR)
			return TRACE_STUCK;
		if (got != t->pid || !WIFSTOPPED(status))
			return TRACE_ENDED;
		sig = WSTOPSIG(status);
		if (sig == SIGTRAP && status >> 16 == 0)
			return TRACE_THERE;
		if (sig == (SIGTRAP | 0x80))
			return TRACE_CALLS;
		if (status >> 16 == PTRACE_EVENT_STOP)
			sig = 0;
	}
}

static void
open_memory(struct tracee *t)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld/mem", (long)t->pid);
	t->memory = open(path, O_RDWR | O_CLOEXEC);
	if (t->memory < 0)
		trace_broken(path);
}

void
trace_fork(struct tracee *t, void (*body)(const void *arg), const void *arg)
{
	pid_t parent = getpid();
	int status;

	fflush(stdout);
	t->pid = fork();
	if (t->pid < 0)
		trace_broken("fork");
	if (t->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(9);
		trace_mark();
		body(arg);
		_exit(0);
	}
	if (waitpid(t->pid, &status, __WALL) != t->pid || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, t->pid, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD) != 0)
		trace_broken("a child that is to be traced");
	open_memory(t);
}

bool
trace_seize(struct tracee *t, pid_t pid)
{
	int status;

	t->pid = pid;
	if (ptrace(PTRACE_SEIZE, pid, NULL, 0) != 0 || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0 ||
	    waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status)) {
		t->pid = 0;
		return false;
	}
	open_memory(t);
	return true;
}

static void
forget(struct tracee *t)
{
	close(t->memory);
	t->pid = 0;
}

void
trace_release(struct tracee *t)
{
	if (t->pid == 0)
		return;
	ptrace(PTRACE_DETACH, t->pid, NULL, NULL);
	forget(t);
}

void
trace_kill(struct tracee *t, bool child)
{
	int status;

	if (t->pid == 0)
		return;
	kill(t->pid, SIGKILL);
	/* The tracer learns of the end first; the parent, if it is another process, after it. */
	while (
	    child && waitpid(t->pid, &status, __WALL) == t->pid && !WIFEXITED(status) && !WIFSIGNALED(status))
		;
	forget(t);
}

/* It stands at `address`, where a breakpoint was, with the original byte back: executes one instruction. */
static enum trace_end
step_over(const struct tracee *t, uintptr_t address, uint8_t original)
{
	enum trace_end end;

	trace_swap_byte(t, address, original);
	trace_set_rip(t, address);
	end = resume(t, PTRACE_SINGLESTEP);
	if (end == TRACE_THERE)
		trace_swap_byte(t, address, TRACE_BREAKPOINT);
	return end;
}

/*
 * To `moment`, if that is not NULL, to a mark, to its sleep if nobody wants to be called then, or to its end.
 */
static enum trace_end
run(struct tracee *t, const struct moment *moment)
{
	uint8_t original = 0, sleeper = 0;
	uint32_t visits = 0;
	enum trace_end end;

	/* It may stand at the very address: that is a visit, for its instruction has not been executed. */
	if (moment != NULL)
		original = trace_swap_byte(t, moment->address, TRACE_BREAKPOINT);
	if (t->sleeper != 0)
		sleeper = trace_swap_byte(t, t->sleeper, TRACE_BREAKPOINT);
	while ((end = resume(t, PTRACE_CONT)) == TRACE_THERE) {
		uintptr_t at = trace_get_rip(t) - 1;

		if (moment != NULL && at == moment->address) {
			if (++visits == moment->visit) {
				trace_set_rip(t, at);
				break;
			}
			end = step_over(t, at, original);
		} else if (t->sleeper != 0 && at == t->sleeper) {
			if (t->on_sleep == NULL) {
				trace_set_rip(t, at);
				end = TRACE_SLEEPS;
				break;
			}
			t->on_sleep(t->context);
			end = step_over(t, at, sleeper);
		} else {
			end = TRACE_MARK;
		}
		if (end != TRACE_THERE)
			break;
	}
	if (end != TRACE_ENDED && end != TRACE_STUCK) {
		if (moment != NULL)
			trace_swap_byte(t, moment->address, original);
		if (t->sleeper != 0)
			trace_swap_byte(t, t->sleeper, sleeper);
	}
	return end;
}

enum trace_end
trace_to_mark(struct tracee *t)
{
	return run(t, NULL);
}

enum trace_end
trace_to(struct tracee *t, const struct moment *moment)
{
	return run(t, moment);
}

enum trace_end
trace_to_system_call(struct tracee *t, size_t n, size_t *ret_stops)
{
	enum trace_end end = TRACE_CALLS;

	for (*ret_stops = 0; *ret_stops < n; ++*ret_stops) {
		end = resume(t, PTRACE_SYSCALL);
		if (end != TRACE_CALLS)
			break;
	}
	return end == TRACE_CALLS ? TRACE_THERE : end == TRACE_THERE ? TRACE_MARK : end;
}

int
trace_join(struct tracee *t)
{
	int status = -1;

	patience(PATIENCE_S);
	if (ptrace(PTRACE_DETACH, t->pid, NULL, NULL) != 0 || waitpid(t->pid, &status, __WALL) != t->pid) {
		alarm(0);
		trace_kill(t, true);
		return -1;
	}
	alarm(0);
	forget(t);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Runs until it comes back to `address` with the stack at `sp`: a call is over, not one within it. */
static enum trace_end
finish_call(const struct tracee *t, uintptr_t address, uintptr_t sp)
{
	uint8_t original = trace_swap_byte(t, address, TRACE_BREAKPOINT);
	enum trace_end end;

	while ((end = resume(t, PTRACE_CONT)) == TRACE_THERE) {
		uintptr_t at = trace_get_rip(t) - 1;

		if (at != address) {
			end = TRACE_MARK;
			break;
		}
		if (get_rsp(t) == sp) {
			trace_set_rip(t, at);
			break;
		}
		end = step_over(t, at, original);
		if (end != TRACE_THERE)
			break;
	}
	if (end != TRACE_ENDED && end != TRACE_STUCK)
		trace_swap_byte(t, address, original);
	return end;
}

/* LOCK, or XCHG with memory, which locks by itself, after any other prefixes. */
static bool
is_atomic(const uint8_t *code)
{
	bool locked = false;
	unsigned i = 0;

	for (; i < 4; i++) {
		if (code[i] == 0xf0)
			locked = true;
		else if (code[i] != 0x66 && code[i] != 0xf2 && code[i] != 0xf3)
			break;
	}
	if (locked)
		return true;
	if ((code[i] & 0xf0) == 0x40) /* REX */
		i++;
	return (code[i] == 0x86 || code[i] == 0x87) && (code[i + 1] & 0xc0) != 0xc0;
}

static void
note(const struct tracee *t, struct recording *r, uintptr_t address)
{
	uint8_t code[8] = {0};

	if (r->n == r->size) {
		r->size = r->size == 0 ? 4096 : 2 * r->size;
		r->moment = reallocarray(r->moment, r->size, sizeof(*r->moment));
		if (r->moment == NULL)
			trace_broken("a recording");
	}
	peek(t, address, code, sizeof(code));
	r->moment[r->n++] = (struct moment){.address = address, .atomic = is_atomic(code)};
}

static int
by_address(const void *a, const void *b)
{
	const struct moment *const *x = a, *const *y = b;

	if ((*x)->address != (*y)->address)
		return (*x)->address < (*y)->address ? -1 : 1;
	return *x < *y ? -1 : *x > *y;
}

/* Which visit of its address each moment is. */
static void
number(struct recording *r)
{
	struct moment **sorted = calloc(r->n + 1, sizeof(*sorted));

	if (sorted == NULL)
		trace_broken("a recording");
	for (size_t i = 0; i < r->n; i++)
		sorted[i] = &r->moment[i];
	qsort(sorted, r->n, sizeof(*sorted), by_address);
	for (size_t i = 0; i < r->n; i++)
		sorted[i]->visit =
		    i > 0 && sorted[i]->address == sorted[i - 1]->address ? sorted[i - 1]->visit + 1 : 1;
	for (size_t i = r->n; i-- > 0;)
		sorted[i]->visits = i + 1 < r->n && sorted[i]->address == sorted[i + 1]->address
		                        ? sorted[i + 1]->visits
		                        : sorted[i]->visit;
	free(sorted);
}

static bool
is_return(const struct tracee *t, uintptr_t address)
{
	uint8_t code[2];

	peek(t, address, code, sizeof(code));
	return code[0] == 0xc3 || code[0] == 0xc2 || (code[0] == 0xf3 && code[1] == 0xc3);
}

/* It stands outside, whence `from` has led it. */
static enum trace_end
outside(struct tracee *t, uintptr_t rip, uintptr_t from)
{
	uintptr_t back, sp = get_rsp(t);

	if (t->sleeper != 0 && rip == t->sleeper && t->on_sleep != NULL)
		t->on_sleep(t->context);
	/*
	 * Whoever called it gets it back, as from a call-back; or it has called: the return address is on top
	 * of the stack.
	 */
	if (from == 0 || is_return(t, from))
		return resume(t, PTRACE_SINGLESTEP);
	peek(t, sp, &back, sizeof(back));
	return finish_call(t, back, sp + sizeof(back));
}

enum trace_end
trace_record(struct tracee *t, bool (*done)(void *context), void *context, struct recording *ret)
{
	enum trace_end end = TRACE_THERE;
	uintptr_t from = 0; /* the last instruction, if it was watched or the caller's */

	while (end == TRACE_THERE) {
		uintptr_t rip = trace_get_rip(t);
		uint8_t code;

		if (in(&t->watched, rip)) {
			note(t, ret, rip);
			from = rip;
			end = resume(t, PTRACE_SINGLESTEP);
		} else if (in(&t->caller, rip)) {
			from = rip;
			peek(t, rip, &code, 1);
			end = code == TRACE_BREAKPOINT ? TRACE_MARK : resume(t, PTRACE_SINGLESTEP);
		} else {
			if (done != NULL && done(context))
				break;
			end = outside(t, rip, from);
			from = 0;
		}
	}
	number(ret);
	return end;
}

void
recording_keep_shorter(struct recording *r, struct recording *other)
{
	if (r->moment != NULL && r->n <= other->n) {
		recording_free(other);
		return;
	}
	recording_free(r);
	*r = *other;
}

void
recording_free(struct recording *r)
{
	free(r->moment);
	*r = (struct recording){.n = 0};
}
