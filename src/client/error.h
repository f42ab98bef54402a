/* SPDX-License-Identifier: PostgreSQL */
/* The calling thread's last failure in words. */
#ifndef PGLEASE_CLIENT_ERROR_H
#define PGLEASE_CLIENT_ERROR_H

/* Sets the thread's message and returns `code`, so that a caller can `return error_set(PGLEASE_X, ...)`. */
int error_set(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same with ": <strerror(errnum)>" appended. */
int error_set_errno(int code, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
