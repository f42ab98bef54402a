/* SPDX-License-Identifier: PostgreSQL */
/* Moments and lengths of time at the command line. Pure. */
#ifndef PGLEASE_EXPORT_TIME_TEXT_H
#define PGLEASE_EXPORT_TIME_TEXT_H

#include <stdint.h>

/* What time_text_parse takes, for messages. */
#define TIME_TEXT_ALLOWED \
	"a time back from now (30s, 10min, 2h, 1d), HH:MM[:SS], a date (2026-11-25) with or without a time, or now"
#define TIME_TEXT_LENGTH_ALLOWED "a number with a unit (s, min, h, d)"

/* "90s", "1min", "1.5h", "1d". 0 or -EINVAL; at most 10 years. */
int time_text_length(const char *text, uint64_t *ret_ns);
/*
 * A moment (CLOCK_REALTIME ns), as seen at `now`: a length means so long ago; "now"; HH:MM or HH:MM:SS the last moment of that
 * local time; YYYY-MM-DD the beginning of that day; RFC 3339 with 'T' or a blank, fractions of a second, and an offset or Z (local
 * time without). 0 or -EINVAL.
 */
int time_text_parse(const char *text, uint64_t now, uint64_t *ret_ns);

#endif
