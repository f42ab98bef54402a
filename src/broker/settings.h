/* SPDX-License-Identifier: PostgreSQL */
/*
 * The one table of settings: parser, messages, the sample etc/pgleased.ini, `pgleased --help-config` and the table in
 * pgleased.ini(5) follow from it. What a value may be is said here; where values come from is configuration.c's matter.
 */
#ifndef PGLEASE_BROKER_SETTINGS_H
#define PGLEASE_BROKER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "alert.h"
#include "layout.h"
#include "paths.h"

#define SETTINGS_CONNINFO 256
#define SETTINGS_LIST 192 /* a list of users or groups */
#define SETTINGS_MAX 96 /* of one section and the other together */

struct instance_settings {
	char instance[LAYOUT_NAME];
	char socket_dir[PATHS_MAX]; /* empty: paths_default_socket_dir() */
	char data_dir[PATHS_MAX]; /* empty: embedded_default_data_dir() */
	uint64_t max_clients;
	uint64_t max_clients_per_user; /* 0: no limit */
	uint64_t log; /* enum log_target */
	uint64_t log_level; /* enum log_level */
	uint64_t stats_mode; /* mode_t */
	uint64_t monitoring; /* 0 or 1 */
	uint64_t history, history_save; /* 0 or 1 */
	uint64_t metrics_retention; /* nanoseconds; 0: no rows of seconds */
	char monitor_group[LAYOUT_NAME]; /* empty: the broker's own */
	char admin_users[SETTINGS_LIST], admin_groups[SETTINGS_LIST]; /* besides root and the broker's user */
	uint64_t drain_timeout; /* nanoseconds; 0: no waiting */
	char pid_file[PATHS_MAX]; /* empty: none */
	char http_listen[PATHS_MAX]; /* http_address_parse(); empty: no HTTP */
	uint64_t http_mode; /* mode_t */
	uint64_t http_page; /* 0 or 1 */
	char http_charts[PATHS_MAX]; /* empty: HTTP_CHARTS_FOLDER */
	char alert_command[PATHS_MAX]; /* empty: none */
	uint64_t alert_command_limit; /* nanoseconds */
};

struct pool_settings {
	char name[LAYOUT_NAME];
	uint64_t embedded; /* 0 or 1 */
	char conninfo[SETTINGS_CONNINFO];
	uint64_t min_connections, max_connections;
	uint64_t connects_at_once;
	uint64_t pooling, leak_detection; /* 0 or 1 */
	uint64_t reset;                   /* enum reset_policy */
	uint64_t reset_kind;              /* enum reset_kind */
	char reset_sql[LAYOUT_RESET_SQL];
	uint64_t prepared_statements; /* of a session; 0: off */
	/* Nanoseconds; 0: off. */
	uint64_t acquire_timeout, idle_timeout, max_lifetime, keepalive, connect_timeout, retry_min, retry_max,
	    validation_bypass, grant_after, turn_time, reset_after, reset_timeout, leak_threshold, lease_limit, reserve_after;
	uint64_t broker_down;    /* enum broker_down */
	uint64_t takeover_limit; /* nanoseconds; 0: never */
	uint64_t max_leases_per_client; /* 0: no limit */
	uint64_t fail_fast; /* 0 or 1 */
	uint64_t turn_leases;
	uint64_t reserve_connections;
	/* Of the server's sessions and sockets; nanoseconds but for the count; 0: the server's or the system's own. */
	uint64_t statement_timeout, idle_in_transaction_session_timeout, lock_timeout;
	uint64_t tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count, tcp_user_timeout;
	uint64_t alert[ALERT_N]; /* in each one's unit (alert.h); 0: off */
	uint64_t alert_window, alert_raise_after, alert_clear_after; /* nanoseconds */
	char match_dbname[SETTINGS_LIST], match_user[SETTINGS_LIST], match_host[SETTINGS_LIST]; /* empty: as conninfo says */
	char users[SETTINGS_LIST], groups[SETTINGS_LIST]; /* who may open it, besides root and the broker's user */
};

enum setting_section { SETTING_INSTANCE, SETTING_POOL };

enum setting_type {
	SETTING_NAME,
	SETTING_PATH,
	SETTING_TEXT,
	SETTING_BOOL,
	SETTING_COUNT,
	SETTING_SHARE, /* millionths */
	SETTING_SIZE, /* bytes */
	SETTING_DURATION,
	SETTING_MODE,
	SETTING_LEVEL,
	SETTING_LOG,
	SETTING_RESET_POLICY,
	SETTING_RESET_KIND,
	SETTING_BROKER_DOWN,
	SETTING_USERS,
	SETTING_GROUPS,
	SETTING_GROUP,
	SETTING_LISTEN,
};

/* What a reload or restart (pgleasectl) does about one that has changed. */
enum setting_change {
	SETTING_CHANGES,    /* it is in force at once */
	SETTING_RECONNECTS, /* the pool's connections are replaced as they come back */
	SETTING_REMAKES,    /* the pool is made anew: its segment has been made by it, or clients must not see it change */
	SETTING_FIXED,      /* refuses: what is handed over has been made by it */
};

struct setting {
	enum setting_section section;
	const char *name;
	enum setting_type type;
	size_t offset, size; /* within its struct; size for texts */
	uint64_t min, max; /* numbers and durations; a duration with min 1 cannot be switched off */
	const char *initial; /* as it would be written in the file */
	const char *help;
	enum setting_change change;
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
/* A value as it would be written in the file. */
void settings_show(const struct setting *setting, const void *values, char *buf, size_t size);
/* A number that follows from all values that change so. */
uint64_t settings_number(enum setting_section section, enum setting_change change, const void *values);
/* "from 1 to 1024" and the like: what a value may be. */
void settings_describe(const struct setting *setting, char *buf, size_t size);

/* The sample configuration file; the table for people; the table of pgleased.ini(5), in mdoc. */
void settings_print_sample(FILE *out);
void settings_print_help(FILE *out);
void settings_print_manual(FILE *out);

#endif
