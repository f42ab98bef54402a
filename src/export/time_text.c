/* SPDX-License-Identifier: PostgreSQL */
/* Moments and lengths of time; see time_text.h. */
#include "time_text.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)
#define DAY (24 * 60 * 60)
#define MAX_LENGTH (10.0 * 365 * DAY)
#define MAX_YEAR 2200 /* well within 64 bits of nanoseconds */

int
time_text_length(const char *text, uint64_t *ret_ns)
{
	static const struct {
		const char *name;
		double seconds;
	} units[] = {{"ms", 1e-3}, {"s", 1}, {"min", 60}, {"h", 3600}, {"d", DAY}};
	char *end;
	double n;

	/* strtod takes blanks, signs, "inf" and hexadecimals too. */
	if (*text < '0' || *text > '9' || text[1] == 'x' || text[1] == 'X')
		return -EINVAL;
	n = strtod(text, &end);
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].name) != 0)
			continue;
		n *= units[i].seconds;
		if (!isfinite(n) || n > MAX_LENGTH)
			return -EINVAL;
		*ret_ns = (uint64_t)(n * 1e9 + 0.5);
		return 0;
	}
	return -EINVAL;
}

/* `digits` digits, of at most `max`; moves on. */
static bool
take_number(const char **at, unsigned digits, int max, int *ret)
{
	int n = 0;

	for (unsigned i = 0; i < digits; i++, (*at)++) {
		if (**at < '0' || **at > '9')
			return false;
		n = 10 * n + (**at - '0');
	}
	*ret = n;
	return n <= max;
}

static bool
take(const char **at, char c)
{
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

/* HH:MM[:SS[.fraction]] */
static bool
take_clock(const char **at, struct tm *tm, uint64_t *ret_fraction)
{
	uint64_t place = SECOND / 10;

	*ret_fraction = 0;
	tm->tm_sec = 0;
	if (!take_number(at, 2, 23, &tm->tm_hour) || !take(at, ':') || !take_number(at, 2, 59, &tm->tm_min))
		return false;
	if (!take(at, ':'))
		return true;
	if (!take_number(at, 2, 60, &tm->tm_sec))
		return false;
	if (!take(at, '.'))
		return true;
	if (**at < '0' || **at > '9')
		return false;
	for (; **at >= '0' && **at <= '9'; (*at)++, place /= 10)
		*ret_fraction += (uint64_t)(**at - '0') * place;
	return true;
}

/* Z or +HH:MM; *ret_local when there is none. */
static bool
take_offset(const char **at, long *ret_seconds, bool *ret_local)
{
	int hours, minutes;
	char sign = **at;

	*ret_seconds = 0;
	*ret_local = sign == '\0';
	if (*ret_local)
		return true;
	(*at)++;
	if (sign == 'Z' || sign == 'z')
		return true;
	if ((sign != '+' && sign != '-') || !take_number(at, 2, 23, &hours))
		return false;
	take(at, ':');
	if (!take_number(at, 2, 59, &minutes))
		return false;
	*ret_seconds = (sign == '-' ? -1L : 1L) * (hours * 3600L + minutes * 60L);
	return true;
}

static bool
take_date(const char **at, struct tm *tm)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year;

	if (!take_number(at, 4, MAX_YEAR, &year) || year < 1970 || !take(at, '-') ||
	    !take_number(at, 2, 12, &tm->tm_mon) || tm->tm_mon == 0 || !take(at, '-') ||
	    !take_number(at, 2, days[tm->tm_mon - 1], &tm->tm_mday) || tm->tm_mday == 0)
		return false;
	if (tm->tm_mon == 2 && tm->tm_mday == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
		return false;
	tm->tm_year = year - 1900;
	tm->tm_mon--;
	return true;
}

static int
moment(time_t t, uint64_t fraction, uint64_t *ret)
{
	if (t < 0)
		return -EINVAL;
	*ret = (uint64_t)t * SECOND + fraction;
	return 0;
}

/* The last time that clocks here showed this. */
static int
last_clock(const char *text, uint64_t now, uint64_t *ret_ns)
{
	time_t seconds = (time_t)(now / SECOND), t;
	uint64_t fraction;
	struct tm tm, wanted;

	if (localtime_r(&seconds, &tm) == NULL || !take_clock(&text, &tm, &fraction) || *text != '\0')
		return -EINVAL;
	tm.tm_isdst = -1;
	wanted = tm;
	t = mktime(&tm);
	if (t > seconds) {
		wanted.tm_mday--;
		t = mktime(&wanted);
	}
	return moment(t, fraction, ret_ns);
}

int
time_text_parse(const char *text, uint64_t now, uint64_t *ret_ns)
{
	struct tm tm = {.tm_isdst = -1};
	uint64_t fraction = 0, length;
	bool local = true;
	long offset = 0;

	if (strcmp(text, "now") == 0) {
		*ret_ns = now;
		return 0;
	}
	if (time_text_length(text, &length) == 0) {
		*ret_ns = length < now ? now - length : 0;
		return 0;
	}
	if (strchr(text, '-') == NULL || strcspn(text, ":") < strcspn(text, "-"))
		return last_clock(text, now, ret_ns);
	if (!take_date(&text, &tm))
		return -EINVAL;
	if (*text != '\0') {
		if (!take(&text, 'T') && !take(&text, 't') && !take(&text, ' '))
			return -EINVAL;
		if (!take_clock(&text, &tm, &fraction) || !take_offset(&text, &offset, &local) || *text != '\0')
			return -EINVAL;
	}
	return moment(local ? mktime(&tm) : timegm(&tm) - offset, fraction, ret_ns);
}
