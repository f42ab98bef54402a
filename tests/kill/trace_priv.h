/* SPDX-License-Identifier: PostgreSQL */
/* What trace.c and trace_until.c share: the registers and the text of a tracee that is stopped. */
#ifndef PGLEASE_TESTS_KILL_TRACE_PRIV_H
#define PGLEASE_TESTS_KILL_TRACE_PRIV_H

#include "trace.h"

#define TRACE_BREAKPOINT 0xcc

/* Says what cannot be done, with errno, and aborts. */
void trace_broken(const char *what);
uintptr_t trace_get_rip(const struct tracee *t);
void trace_set_rip(const struct tracee *t, uintptr_t rip);
/* Returns the byte that was there. */
uint8_t trace_swap_byte(const struct tracee *t, uintptr_t address, uint8_t byte);

#endif
