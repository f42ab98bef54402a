/* SPDX-License-Identifier: PostgreSQL */
/*
 * A process whose instructions are counted (ptrace). Counted are those of one piece of text, the watched
 * range: libpglease.so in a worker (src/client and src/shm, nothing else is in it), pgleased in a broker.
 * What it calls outside (libc, libpq, libevent) runs at full speed and is not counted.
 *
 * A single step costs several times what a breakpoint costs, so each operation is single-stepped once, which
 * records it, and is brought to its n-th instruction afterwards by breakpoints: "the k-th time at this
 * address".
 */
#ifndef PGLEASE_TESTS_KILL_TRACE_H
#define PGLEASE_TESTS_KILL_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct range {
	uintptr_t begin, end;
	uintptr_t base; /* of the object: what is to be taken off for an address in its file */
};

struct tracee {
	pid_t pid; /* 0: none */
	int memory; /* /proc/<pid>/mem */
	struct range watched;
	struct range caller; /* text that is stepped through without being counted; empty: none */
	uintptr_t sleeper; /* entry of the function in which it sleeps; 0: of no interest */
	void (*on_sleep)(void *context); /* called when it is about to; NULL: it stops there */
	void *context;
};

/* One counted instruction: its address, and the how-many-eth time it came there since the recording began. */
struct moment {
	uintptr_t address;
	uint32_t visit, visits; /* visits: how often it comes there in all */
	bool atomic; /* a locked read-modify-write, or an exchange with memory */
};

struct recording {
	struct moment *moment;
	size_t n, size;
};

enum trace_end {
	TRACE_THERE, /* at the moment asked for, before its instruction */
	TRACE_MARK, /* the tracee came to a mark */
	TRACE_ENDED, /* it has ended */
	TRACE_STUCK, /* nothing for a minute */
	TRACE_CALLS, /* at the entry or the return of a system call (trace.c only) */
	TRACE_SLEEPS, /* at the entry of `sleeper` */
};

/* In a tracee: stops it for its tracer. Kills a process that is not traced. */
void trace_mark(void);

/*
 * The text of an object of this very process ("" is the program itself): a forked tracee has it at the same
 * place.
 */
bool trace_find_text(const char *object, struct range *ret);

/* Forks a child that is traced, dies with this process, and runs body(arg). It runs from now on. */
void trace_fork(struct tracee *t, void (*body)(const void *arg), const void *arg);
/* Attaches to a running process and stops it. */
bool trace_seize(struct tracee *t, pid_t pid);
/* Lets it go and run; accepts none. */
void trace_release(struct tracee *t);
/* SIGKILL, wherever it is; reaps a child (a seized process is its parent's to reap). Accepts none. */
void trace_kill(struct tracee *t, bool child);

/* Runs it to its next mark (executed) or its sleep. */
enum trace_end trace_to_mark(struct tracee *t);
/* The same, or to this moment if that comes sooner; visits count from here on. */
enum trace_end trace_to(struct tracee *t, const struct moment *moment);
/*
 * Runs it to its n-th stop at the entry or the return of a system call, counted from here, or to its next
 * mark; *ret_stops: how many.
 */
enum trace_end trace_to_system_call(struct tracee *t, size_t n, size_t *ret_stops);
/* Lets it run to its end; its exit status, or -1. It is reaped and forgotten. */
int trace_join(struct tracee *t);
/* Single-steps it to its next mark, or until `done`, asked whenever it is outside, says so. */
enum trace_end trace_record(
    struct tracee *t, bool (*done)(void *context), void *context, struct recording *ret);
/*
 * For a process without marks: lets it run until it comes to one of these addresses (*ret_seen says which),
 * or `done`, asked all the time, says so (TRACE_MARK). With `all`, it goes on from each.
 */
enum trace_end trace_until(struct tracee *t, const uintptr_t *address, size_t n, bool *ret_seen, bool all,
    bool (*done)(void *context), void *context);
/* *r becomes the shorter of the two (if it holds one already), the other is freed. */
void recording_keep_shorter(struct recording *r, struct recording *other);
void recording_free(struct recording *r);

#endif
