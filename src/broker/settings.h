/* SPDX-License-Identifier: PostgreSQL */
/*
 * The one table of settings: parser, messages and the sample etc/pgleased.ini follow from it. What a value may be is
 * said here; where values come from is config.c's matter.
 */
#ifndef PGLEASE_BROKER_SETTINGS_H
#define PGLEASE_BROKER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "layout.h"
#include "paths.h"

#define SETTINGS_CONNINFO 256

struct instance_settings {
	char instance[LAYOUT_NAME];
	char socket_dir[PATHS_MAX]; /* empty: paths_default_socket_dir() */
	char data_dir[PATHS_MAX]; /* empty: embedded_default_data_dir() */
	uint64_t max_clients;
	uint64_t log_level; /* enum log_level */
	uint64_t stats_mode; /* mode_t */
};

struct pool_settings {
	char name[LAYOUT_NAME];
	uint64_t embedded; /* 0 or 1 */
	char conninfo[SETTINGS_CONNINFO];
	uint64_t min_connections, max_connections;
	/* Nanoseconds; 0: off. */
	uint64_t acquire_timeout, idle_timeout, max_lifetime, connect_timeout, validation_bypass, grant_after,
	    reset_timeout;
};

enum setting_section { SETTING_INSTANCE, SETTING_POOL };

enum setting_type {
	SETTING_NAME,
	SETTING_PATH,
	SETTING_TEXT,
	SETTING_BOOL,
	SETTING_COUNT,
	SETTING_DURATION,
	SETTING_MODE,
	SETTING_LEVEL,
};

struct setting {
	enum setting_section section;
	const char *name;
	enum setting_type type;
	size_t offset, size; /* within its struct; size for texts */
	uint64_t min, max; /* numbers and durations; a duration with min 1 cannot be switched off */
	const char *initial; /* as it would be written in the file */
	const char *help;
};

extern const struct setting settings[];
extern const size_t settings_count;

const struct setting *settings_find(enum setting_section section, const char *name);
/* All defaults of a section into its struct. */
void settings_init(enum setting_section section, void *values);
/*
 * Parses `value` into `values`. 0, or -1 with a text in `why` that says what is allowed.
 */
int settings_set(const struct setting *setting, void *values, const char *value, char *why, size_t why_size);
/* The sample configuration file. */
void settings_print_sample(FILE *out);

#endif
