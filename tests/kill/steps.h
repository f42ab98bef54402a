/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's steps. What it does is not the same twice (its tick comes at any time), so its steps are the
 * addresses that it comes to while it serves something, seen once with a breakpoint on every instruction of
 * its text (src/broker and src/shm are all that is in it). It is at one of them when it comes there for the
 * first time after it has been asked.
 */
#ifndef PGLEASE_TESTS_KILL_STEPS_H
#define PGLEASE_TESTS_KILL_STEPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace.h"

struct steps {
	uintptr_t *address; /* offsets in the program */
	size_t n;
};

/* The stage's broker, while it is traced. */
extern struct tracee steps_broker;

/* Once, before the others: reads the program, and looks at what the broker does at rest. */
void steps_prepare(void);
/* Its ticks' own. */
void steps_at_rest(struct steps *ret);
/* Traces the stage's broker, and stops it. trace_release lets it go. */
void steps_seize(void);
/* Lets it run until `done`: the steps that it comes to, without those of its ticks. */
void steps_find(bool (*done)(void *context), void *context, struct steps *ret);
/* Lets it run to this step (true), or until `done`. */
bool steps_to(uintptr_t step, bool (*done)(void *context), void *context);
void steps_add(struct steps *s, uintptr_t address);

#endif
