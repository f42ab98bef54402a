/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's log: one line per event, to stderr, syslog or the journal. Control characters in a message (a server's error
 * text has line ends) become spaces, so one event is always one line. Of each kind (a place in the code) at most LOG_MOST
 * lines are written in a second, so that nobody fills a disk by what he has logged; how many were left out is said before the
 * next one of that kind; debug lines are not counted. Any thread.
 *
 * The broker waits for nobody who reads its log: a line that a full pipe, a terminal that stands still, syslog or the journal does not
 * take at once is lost, and how many were is said before the next one that is taken. Only a syslog that listens on a stream, files, and
 * a terminal that is another user's and has some room but too little, are waited for.
 *
 * What an event is about goes into the line and, in the journal, into fields too. Never give a conninfo, a password or a query
 * to these functions.
 */
#ifndef PGLEASE_BROKER_LOG_H
#define PGLEASE_BROKER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_MOST 100

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
/* AUTO: stderr in the foreground, syslog in the background; the journal, if stderr is connected to it. */
enum log_target { LOG_TO_AUTO, LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_JOURNAL };

#define LOG_PRINTF(text, first) __attribute__((format(printf, text, first)))

/*
 * Sets how much is logged, where, and of which instance. Until it is called: warnings and errors, to stderr. `instance` must
 * stay; NULL: not known.
 */
void log_setup(enum log_level level, enum log_target target, bool background, const char *instance);
/* Whether that works: 0, or -1 with log_refuse(): no journal listens. Lines are lost then. */
int log_check(enum log_target target);
/* Tests listen elsewhere than at /dev/log. A string that stays. */
void log_set_syslog_path(const char *path);
/* Whether lines go to this process's stderr. */
bool log_is_on_stderr(void);

void log_error(const char *format, ...) LOG_PRINTF(1, 2);
void log_warning(const char *format, ...) LOG_PRINTF(1, 2);
void log_info(const char *format, ...) LOG_PRINTF(1, 2);
void log_debug(const char *format, ...) LOG_PRINTF(1, 2);

/*
 * What an event is about; 0 and NULL: nothing. Pool and slot stand before the text in a line ("pool app: slot 3: "), an
 * SQLSTATE behind it; pids and the cause are in the text's words. In the journal they are fields: PGLEASE_POOL, PGLEASE_SLOT,
 * PGLEASE_CLIENT_PID, PGLEASE_SERVER_PID, PGLEASE_CAUSE, PGLEASE_SQLSTATE; of every line there are PGLEASE_INSTANCE and
 * SYSLOG_IDENTIFIER.
 */
struct log_about {
	const char *pool;
	bool has_slot;
	uint32_t slot;
	long client_pid, server_pid;
	const char *cause; /* a word that stays the same: a counter's name, an alert's */
	const char *sqlstate;
};
#define LOG_ABOUT(...) (&(const struct log_about){__VA_ARGS__})

void log_event(enum log_level level, const struct log_about *about, const char *format, ...) LOG_PRINTF(3, 4);

/*
 * Why the broker cannot start: remembers the first text given and returns -1, so that start functions end with
 * `return log_refuse(...)`. Whoever started the broker prints log_reason() once, on one line.
 */
int log_refuse(const char *format, ...) LOG_PRINTF(1, 2);
const char *log_reason(void);

/* Control characters to spaces, none at the end. */
void log_flatten(char *text);

#endif
