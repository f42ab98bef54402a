/* SPDX-License-Identifier: PostgreSQL */
/* How a message names what getopt_long() has answered '?' to. */
#ifndef PGLEASE_TOOLS_BAD_OPTION_H
#define PGLEASE_TOOLS_BAD_OPTION_H

#include <getopt.h>

/*
 * An unknown letter may have others behind it in its word, so getopt_long has not come to the next one: only optopt names it.
 * Where that is the letter of a known option, its long name was given a value that it does not take: "--json=x".
 */
static inline const char *
bad_option(char *const argv[], const struct option *known, char buf[static 3])
{
	while (known->name != NULL && known->val != optopt)
		known++;
	if (optopt == 0 || known->name != NULL)
		return argv[optind - 1];
	buf[0] = '-';
	buf[1] = (char)optopt;
	buf[2] = '\0';
	return buf;
}

#endif
