/* SPDX-License-Identifier: PostgreSQL */
/* pglease-run: a command with libpglease-preload.so before it. */
#ifndef PGLEASE_TOOLS_LAUNCH_H
#define PGLEASE_TOOLS_LAUNCH_H

#include <stdio.h>

/* Becomes the command; returns the exit status when there is none to become. */
int launch(int argc, char **argv, FILE *out, FILE *err);

#endif
