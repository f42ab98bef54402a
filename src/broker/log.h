/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's log: one line per event, to stderr in the foreground, to syslog in the background. Control characters
 * in a message (a server's error text has line ends) become spaces, so one event is always one line. Of each kind (a place in the
 * code) at most LOG_MOST lines are written in a second, so that nobody fills a disk by what he has logged; how many were left out
 * is said before the next one of that kind; debug lines are not counted. Any thread.
 * Never give a conninfo or a password to these functions.
 */
#ifndef PGLEASE_BROKER_LOG_H
#define PGLEASE_BROKER_LOG_H

#include <stdbool.h>
#include <stddef.h>

#define LOG_MOST 100

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

#define LOG_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* Sets how much is logged and where. Until it is called: warnings and errors, to stderr. */
void log_setup(enum log_level level, bool to_syslog);

void log_error(const char *format, ...) LOG_PRINTF(1, 2);
void log_warning(const char *format, ...) LOG_PRINTF(1, 2);
void log_info(const char *format, ...) LOG_PRINTF(1, 2);
void log_debug(const char *format, ...) LOG_PRINTF(1, 2);

/*
 * Why the broker cannot start: remembers the first text given and returns -1, so that start functions end with
 * `return log_refuse(...)`. Whoever started the broker prints log_reason() once, on one line.
 */
int log_refuse(const char *format, ...) LOG_PRINTF(1, 2);
const char *log_reason(void);

/* Control characters to spaces, none at the end. */
void log_flatten(char *text);

#endif
