/* SPDX-License-Identifier: PostgreSQL */
/*
 * TAP: one line a scenario, with its counts, or what failed. A failed check does not return: the scenario is
 * over.
 */
#ifndef PGLEASE_TESTS_KILL_REPORT_H
#define PGLEASE_TESTS_KILL_REPORT_H

#include <setjmp.h>
#include <stdbool.h>

/* Where report_fail goes to. Set by report_run. */
extern jmp_buf report_end;

/*
 * Runs one scenario; its line says `name` and what it told report_counts. False if it failed.
 */
bool report_run(const char *name, void (*scenario)(const void *arg), const void *arg);
/* For the line of the scenario that runs. */
void report_counts(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What is being done, for the message should it fail. */
void report_at(const char *format, ...) __attribute__((format(printf, 1, 2)));
void report_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* The plan, at the end, and the exit status. */
int report_finish(void);

#endif
