/* SPDX-License-Identifier: PostgreSQL */
/* pgleasectl's command line. */
#ifndef PGLEASE_TOOLS_CTL_OPTIONS_H
#define PGLEASE_TOOLS_CTL_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "command.h"

enum ctl_action { CTL_COMMAND = 0, CTL_HELP, CTL_VERSION };

struct ctl_options {
	enum ctl_action action;
	const struct command_verb *verb;
	const char *instance; /* a sound name */
	const char *socket_dir; /* NULL: by the instance's name */
	const char *argument; /* "" for none; fits the message */
	bool json;
	int timeout_ms; /* -1: the instance's */
};

/* Strings point into argv. Returns 0, or -EINVAL after one line of explanation on `err`. */
int ctl_options_parse(int argc, char **argv, FILE *err, struct ctl_options *ret_options);
void ctl_options_usage(FILE *out);

#endif
