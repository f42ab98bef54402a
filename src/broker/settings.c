/* SPDX-License-Identifier: PostgreSQL */
/* The table of settings, and what its types take. */
#include "settings.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "access.h"
#include "http_address.h"
#include "log.h"

#define US UINT64_C(1000)
#define MS (1000 * US)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define SERVER_MAX (596 * HOUR) /* the server's: 2^31 - 1 milliseconds */

#define IN_INSTANCE(member) \
	offsetof(struct instance_settings, member), sizeof(((struct instance_settings *)0)->member)
#define IN_POOL(member) offsetof(struct pool_settings, member), sizeof(((struct pool_settings *)0)->member)

/* clang-format off */
#define ALERT_SETTING(id, name, unit, initial, most, text, more) \
	{SETTING_POOL, "alert_" #name, SETTING_##unit, IN_POOL(alert[ALERT_##id]), 0, most, initial, \
	    "Threshold of this alert: " text ".\n" more " 0: off.", SETTING_CHANGES},

const struct setting settings[] = {
	{SETTING_INSTANCE, "instance", SETTING_NAME, IN_INSTANCE(instance), 0, 0, "main",
	    "Name of the instance: clients and tools find it by this name.", SETTING_FIXED},
	{SETTING_INSTANCE, "socket_dir", SETTING_PATH, IN_INSTANCE(socket_dir), 0, 0, "",
	    "Folder of the broker's sockets, made if it is missing. Default: /run/pglease/INSTANCE for root, and where that is\n"
	    "there and the broker's user's own, else\n"
	    "$XDG_RUNTIME_DIR/pglease/INSTANCE, else /tmp/pglease-UID/INSTANCE.", SETTING_FIXED},
	{SETTING_INSTANCE, "data_dir", SETTING_PATH, IN_INSTANCE(data_dir), 0, 0, "",
	    "Folder of the embedded PostgreSQL and of saved histories. Default: /var/lib/pglease/INSTANCE for root, and where\n"
	    "that is there and the broker's user's own, else\n"
	    "$XDG_STATE_HOME/pglease/INSTANCE, else ~/.local/state/pglease/INSTANCE.", SETTING_FIXED},
	{SETTING_INSTANCE, "max_clients", SETTING_COUNT, IN_INSTANCE(max_clients), 1, LAYOUT_MAX_CLIENTS, "256",
	    "How many processes can be attached at a time.", SETTING_FIXED},
	{SETTING_INSTANCE, "max_clients_per_user", SETTING_COUNT, IN_INSTANCE(max_clients_per_user), 0, LAYOUT_MAX_CLIENTS, "0",
	    "How many of them can be one Unix user's, so that the workers of one pool leave places for those of another.\n"
	    "0: as many as there are.", SETTING_CHANGES},
	{SETTING_INSTANCE, "log", SETTING_LOG, IN_INSTANCE(log), 0, 0, "auto",
	    "Where the log goes. auto: to the standard error output in the foreground and to syslog in the background; but to\n"
	    "the journal, if systemd has connected the standard error output to it. journal: with fields (pgleased(8), LOG).", SETTING_CHANGES},
	{SETTING_INSTANCE, "log_level", SETTING_LEVEL, IN_INSTANCE(log_level), 0, 0, "info",
	    "How much is logged.", SETTING_CHANGES},
	{SETTING_INSTANCE, "stats_mode", SETTING_MODE, IN_INSTANCE(stats_mode), 0, 0777, "0644",
	    "Mode of the statistics segment (octal): who may read it with pgleasestat.", SETTING_CHANGES},
	{SETTING_INSTANCE, "monitoring", SETTING_BOOL, IN_INSTANCE(monitoring), 0, 1, "yes",
	    "no: nothing is counted at leases, and no statistics are published; pgleasestat says so.", SETTING_FIXED},
	{SETTING_INSTANCE, "history", SETTING_BOOL, IN_INSTANCE(history), 0, 1, "yes",
	    "yes: each pool has a history in shared memory, of a row for each second of metrics_retention and one for\n"
	    "each minute of a day; 15.9 MB with the defaults. With monitoring = no there is none.", SETTING_FIXED},
	{SETTING_INSTANCE, "metrics_retention", SETTING_DURATION, IN_INSTANCE(metrics_retention), 0, 24 * HOUR, "1h",
	    "How far back the history has rows of a second each. Each takes 3 kB: an hour 11 MB, a day 272 MB, for each\n"
	    "pool. 0: there are only rows of a minute each (4.5 MB).", SETTING_FIXED},
	{SETTING_INSTANCE, "history_save", SETTING_BOOL, IN_INSTANCE(history_save), 0, 1, "yes",
	    "yes: at a stop the histories are saved in data_dir, for the next start.", SETTING_CHANGES},
	{SETTING_INSTANCE, "monitor_group", SETTING_GROUP, IN_INSTANCE(monitor_group), 0, 0, "",
	    "Group of the statistics segment, by name or number, for a stats_mode of 0640. Default: the broker's.", SETTING_CHANGES},
	{SETTING_INSTANCE, "admin_users", SETTING_USERS, IN_INSTANCE(admin_users), 0, 0, "",
	    "Users, by name or number and separated by commas, who may give control commands (pgleasectl), besides\n"
	    "root and the broker's own user; * is everybody.", SETTING_CHANGES},
	{SETTING_INSTANCE, "admin_groups", SETTING_GROUPS, IN_INSTANCE(admin_groups), 0, 0, "",
	    "Groups whose members may do so too.", SETTING_CHANGES},
	{SETTING_INSTANCE, "drain_timeout", SETTING_DURATION, IN_INSTANCE(drain_timeout), 0, 24 * HOUR, "30s",
	    "How long a stop or drain waits for leases that are out; 0: it does not wait.", SETTING_CHANGES},
	{SETTING_INSTANCE, "pid_file", SETTING_PATH, IN_INSTANCE(pid_file), 0, 0, "",
	    "File that holds the broker's process ID while it runs. Default: none.", SETTING_FIXED},
	{SETTING_INSTANCE, "http_listen", SETTING_LISTEN, IN_INSTANCE(http_listen), 0, 0, "",
	    "Where HTTP is served: a page to look at (/), and for monitors /metrics, /stats.json, /history.json, /healthz\n"
	    "and /readyz. A Unix socket, or a port of this host's loopback address; whoever can connect can read.\n"
	    "Default: nowhere.", SETTING_FIXED},
	{SETTING_INSTANCE, "http_mode", SETTING_MODE, IN_INSTANCE(http_mode), 0, 0777, "0660",
	    "Mode of http_listen's Unix socket (octal).", SETTING_FIXED},
	{SETTING_INSTANCE, "http_page", SETTING_BOOL, IN_INSTANCE(http_page), 0, 1, "yes",
	    "no: the page at / is not served, only what monitors read.", SETTING_CHANGES},
	{SETTING_INSTANCE, "http_charts", SETTING_PATH, IN_INSTANCE(http_charts), 0, 0, "",
	    "Folder of dygraph.min.js, which draws the page's charts and is read at the start; without it the page has\n"
	    "numbers only. Default: where it was built for, usually /usr/share/javascript/dygraphs (libjs-dygraphs).", SETTING_CHANGES},
	{SETTING_INSTANCE, "alert_command", SETTING_PATH, IN_INSTANCE(alert_command), 0, 0, "",
	    "Program that is run when an alert is raised or cleared: without a shell and without arguments, as the broker's\n"
	    "user; what there is to say is in its environment (pgleased(8), ALERTS). Default: none.", SETTING_CHANGES},
	{SETTING_INSTANCE, "alert_command_limit", SETTING_DURATION, IN_INSTANCE(alert_command_limit), 10 * MS, HOUR, "10s",
	    "It is killed when it has not ended after this time.", SETTING_CHANGES},

	{SETTING_POOL, "embedded", SETTING_BOOL, IN_POOL(embedded), 0, 1, "no",
	    "yes: the upstream is the broker's own PostgreSQL, made, started and stopped by it; its socket is in\n"
	    "SOCKET_DIR/postgres. All embedded pools of an instance share it.", SETTING_REMAKES},
	{SETTING_POOL, "conninfo", SETTING_TEXT, IN_POOL(conninfo), 0, 0, "",
	    "The upstream, as a libpq connection string, when it is not embedded. sslmode and gssencmode are\n"
	    "\"disable\" unless given: an encrypted server connection cannot be leased. Another user or database makes the\n"
	    "pool anew.", SETTING_RECONNECTS},
	{SETTING_POOL, "pooling", SETTING_BOOL, IN_POOL(pooling), 0, 1, "yes",
	    "no: a server connection serves one lease and is then replaced.", SETTING_REMAKES},
	{SETTING_POOL, "min_connections", SETTING_COUNT, IN_POOL(min_connections), 0, LAYOUT_MAX_SLOTS, "1",
	    "Server connections that are kept open.", SETTING_CHANGES},
	{SETTING_POOL, "max_connections", SETTING_COUNT, IN_POOL(max_connections), 1, LAYOUT_MAX_SLOTS, "5",
	    "Server connections at most: more are opened, up to this number, while workers wait.", SETTING_CHANGES},
	{SETTING_POOL, "acquire_timeout", SETTING_DURATION, IN_POOL(acquire_timeout), 1, 24 * HOUR, "10s",
	    "How long a worker waits for a connection unless it says otherwise.", SETTING_CHANGES},
	{SETTING_POOL, "idle_timeout", SETTING_DURATION, IN_POOL(idle_timeout), 0, 365 * 24 * HOUR, "5min",
	    "Idle connections above min_connections are closed after this time.", SETTING_CHANGES},
	{SETTING_POOL, "max_lifetime", SETTING_DURATION, IN_POOL(max_lifetime), 0, 365 * 24 * HOUR, "1h",
	    "Connections are replaced at this age, some up to a tenth earlier, so that they do not all go at once.", SETTING_CHANGES},
	{SETTING_POOL, "keepalive", SETTING_DURATION, IN_POOL(keepalive), 0, 365 * 24 * HOUR, "2min",
	    "Connections that have been idle for this long are tried with an empty query, and again after as long; and at\n"
	    "once when another one of the pool was lost, or the server does not answer a new one. 0: never.", SETTING_CHANGES},
	{SETTING_POOL, "connect_timeout", SETTING_DURATION, IN_POOL(connect_timeout), MS, HOUR, "5s",
	    "How long opening a server connection may take.", SETTING_CHANGES},
	{SETTING_POOL, "connects_at_once", SETTING_COUNT, IN_POOL(connects_at_once), 1, LAYOUT_MAX_SLOTS, "4",
	    "Server connections of the pool that are being opened at a time, at most; one while the server is down.", SETTING_CHANGES},
	{SETTING_POOL, "retry_min", SETTING_DURATION, IN_POOL(retry_min), MS, HOUR, "100ms",
	    "After a failed connect the next one waits for this long, doubled with each further failure, more or less\n"
	    "a quarter ...", SETTING_CHANGES},
	{SETTING_POOL, "retry_max", SETTING_DURATION, IN_POOL(retry_max), MS, 24 * HOUR, "10s",
	    "... up to this.", SETTING_CHANGES},
	{SETTING_POOL, "fail_fast", SETTING_BOOL, IN_POOL(fail_fast), 0, 1, "no",
	    "yes: while the server takes no connections and the pool has none, workers are told so at once, in the server's\n"
	    "own words, those that wait already too. no: they wait for it, as long as for any connection.", SETTING_CHANGES},
	{SETTING_POOL, "validation_bypass", SETTING_DURATION, IN_POOL(validation_bypass), 0, HOUR, "500ms",
	    "A connection used within this time is leased again without a look at its socket.", SETTING_CHANGES},
	{SETTING_POOL, "grant_after", SETTING_DURATION, IN_POOL(grant_after), 0, HOUR, "1ms",
	    "A worker that has waited for this long gets the next connection; before, whoever comes may take it.", SETTING_CHANGES},
	{SETTING_POOL, "turn_leases", SETTING_COUNT, IN_POOL(turn_leases), 1, 1000000, "8",
	    "So many leases in a row a worker that leases again at once (within 30 us) gets of its connection while others\n"
	    "wait: then it is the next one's. More is throughput, less is fairness; 1: it hands over at each release.", SETTING_CHANGES},
	{SETTING_POOL, "turn_time", SETTING_DURATION, IN_POOL(turn_time), 0, HOUR, "5ms",
	    "Such a worker hands over sooner than after turn_leases when it has had the connection for so long.", SETTING_CHANGES},
	{SETTING_POOL, "reset", SETTING_RESET_POLICY, IN_POOL(reset), 0, 0, "handover",
	    "When a session is brought back to where it began. handover: before another process gets it, or when it has\n"
	    "been idle for reset_after; the process that left it may lease it again as it is. always: at each release.\n"
	    "never: it is not; only a LISTEN is ended before another process gets it, but not one that a function made.", SETTING_REMAKES},
	{SETTING_POOL, "reset_kind", SETTING_RESET_KIND, IN_POOL(reset_kind), 0, 0, "full",
	    "How. full: DISCARD ALL. light: all of that but plans, prepared statements and sequence caches. sql: UNLISTEN\n"
	    "and then reset_sql.", SETTING_REMAKES},
	{SETTING_POOL, "reset_sql", SETTING_TEXT, IN_POOL(reset_sql), 0, 0, "",
	    "The statements of reset_kind = sql. They must put back every setting that the server reports to clients\n"
	    "(RESET ALL does), or the connection is replaced. No blank before a semicolon: the rest would be a comment.", SETTING_REMAKES},
	{SETTING_POOL, "reset_after", SETTING_DURATION, IN_POOL(reset_after), 0, HOUR, "1ms",
	    "A session that was left dirty is reset by the broker when it has been idle for this long, so that nobody\n"
	    "has to wait for it; unless nobody has had to within the last second: then after 100 ms, or this if it is\n"
	    "more. 0: it is reset when another process leases it.", SETTING_CHANGES},
	{SETTING_POOL, "reset_timeout", SETTING_DURATION, IN_POOL(reset_timeout), MS, HOUR, "2s",
	    "How long resetting a session may take before its connection is replaced.", SETTING_CHANGES},
	{SETTING_POOL, "prepared_statements", SETTING_COUNT, IN_POOL(prepared_statements), 0, LAYOUT_MAX_STATEMENTS, "100",
	    "Statements that pglease_exec_cached keeps prepared in a session, at most; 0: none. They survive all resets\n"
	    "but those of reset_kind = full (and of a reset_sql that deallocates or discards).", SETTING_REMAKES},
	{SETTING_POOL, "leak_detection", SETTING_BOOL, IN_POOL(leak_detection), 0, 1, "yes",
	    "yes: a lease that is held for longer than leak_threshold is reported in the log, once, with who holds it\n"
	    "and where it was acquired, and counted. Nothing else happens to it.", SETTING_CHANGES},
	{SETTING_POOL, "leak_threshold", SETTING_DURATION, IN_POOL(leak_threshold), MS, 365 * 24 * HOUR, "60s",
	    "How long a lease may be held before leak_detection reports it.", SETTING_CHANGES},
	{SETTING_POOL, "lease_limit", SETTING_DURATION, IN_POOL(lease_limit), 0, 365 * 24 * HOUR, "0",
	    "A lease that is held for longer is revoked: its connection is closed, and whoever holds it gets an error\n"
	    "from the next query and from the release. 0: a lease may be held for as long as its process lives.", SETTING_CHANGES},
	{SETTING_POOL, "max_leases_per_client", SETTING_COUNT, IN_POOL(max_leases_per_client), 0, LAYOUT_MAX_SLOTS, "0",
	    "How many leases of the pool a process may hold at a time; one more is refused. 0: any number. With 1, no\n"
	    "two processes can wait for each other's connections.", SETTING_REMAKES},
	{SETTING_POOL, "broker_down", SETTING_BROKER_DOWN, IN_POOL(broker_down), 0, 0, "wait",
	    "What becomes of an acquire that needs the broker when that has gone. wait: it waits for the next broker, up to\n"
	    "its deadline. fail: it fails at once. Leases that a process can take by itself, of connections that it has had\n"
	    "before, go on in any case.", SETTING_CHANGES},
	{SETTING_POOL, "takeover_limit", SETTING_DURATION, IN_POOL(takeover_limit), 0, 365 * 24 * HOUR, "60s",
	    "After a broker was killed, its server sessions live on in the processes that have them, and end with these or\n"
	    "with their next call. What is left of them after this time the next broker ends (pg_terminate_backend);\n"
	    "after five seconds if none of these processes lives. 0: never.", SETTING_CHANGES},
	{SETTING_POOL, "reserve_connections", SETTING_COUNT, IN_POOL(reserve_connections), 0, LAYOUT_MAX_SLOTS, "0",
	    "So many connections above max_connections are opened while a worker has waited for longer than\n"
	    "reserve_after. They are closed when they have been idle for idle_timeout, as all above min_connections.", SETTING_CHANGES},
	{SETTING_POOL, "reserve_after", SETTING_DURATION, IN_POOL(reserve_after), MS, HOUR, "5s",
	    "See reserve_connections.", SETTING_CHANGES},
	{SETTING_POOL, "statement_timeout", SETTING_DURATION, IN_POOL(statement_timeout), 0, SERVER_MAX, "0",
	    "The server's setting of this name, as the default of the pool's sessions, in whole milliseconds. 0: what\n"
	    "the server has. Goes into the connection's options, after those that conninfo gives.", SETTING_RECONNECTS},
	{SETTING_POOL, "idle_in_transaction_session_timeout", SETTING_DURATION,
	    IN_POOL(idle_in_transaction_session_timeout), 0, SERVER_MAX, "0",
	    "Likewise.", SETTING_RECONNECTS},
	{SETTING_POOL, "lock_timeout", SETTING_DURATION, IN_POOL(lock_timeout), 0, SERVER_MAX, "0",
	    "Likewise.", SETTING_RECONNECTS},
	{SETTING_POOL, "tcp_keepalives_idle", SETTING_DURATION, IN_POOL(tcp_keepalives_idle), 0, 9 * HOUR, "0",
	    "TCP keepalive of server connections, in whole seconds: after how long without traffic. 0: the system's,\n"
	    "or what conninfo gives (keepalives_idle).", SETTING_RECONNECTS},
	{SETTING_POOL, "tcp_keepalives_interval", SETTING_DURATION, IN_POOL(tcp_keepalives_interval), 0, 9 * HOUR, "0",
	    "Likewise: how often.", SETTING_RECONNECTS},
	{SETTING_POOL, "tcp_keepalives_count", SETTING_COUNT, IN_POOL(tcp_keepalives_count), 0, 127, "0",
	    "Likewise: how many may be lost.", SETTING_RECONNECTS},
	{SETTING_POOL, "tcp_user_timeout", SETTING_DURATION, IN_POOL(tcp_user_timeout), 0, SERVER_MAX, "0",
	    "How long sent data may stay unacknowledged before TCP gives a server connection up, in milliseconds. 0:\n"
	    "the system's, or what conninfo gives (tcp_user_timeout).", SETTING_RECONNECTS},
	ALERTS(ALERT_SETTING)
	{SETTING_POOL, "alert_window", SETTING_DURATION, IN_POOL(alert_window), SECOND, 10 * MINUTE, "30s",
	    "What the alerts are judged by: the shares and percentiles of so much time before now.", SETTING_CHANGES},
	{SETTING_POOL, "alert_raise_after", SETTING_DURATION, IN_POOL(alert_raise_after), 0, HOUR, "5s",
	    "An alert is raised when its threshold has been reached for this long, looked at once a second. 0: at once.", SETTING_CHANGES},
	{SETTING_POOL, "alert_clear_after", SETTING_DURATION, IN_POOL(alert_clear_after), 0, HOUR, "30s",
	    "It is cleared when the value has been below four fifths of the threshold for this long. 0: at once.", SETTING_CHANGES},
	{SETTING_POOL, "match_dbname", SETTING_TEXT, IN_POOL(match_dbname), 0, 0, "",
	    "Programs under pglease-run get a lease of the pool for a connection to one of these databases, separated by\n"
	    "commas, ... Default: the database of conninfo. * is any.", SETTING_CHANGES},
	{SETTING_POOL, "match_user", SETTING_TEXT, IN_POOL(match_user), 0, 0, "",
	    "... as one of these database users ... Default: the user of conninfo. * is any.", SETTING_CHANGES},
	{SETTING_POOL, "match_host", SETTING_TEXT, IN_POOL(match_host), 0, 0, "",
	    "... on one of these hosts: HOST or HOST:PORT, or the folder of a Unix socket. Default: hosts and ports of\n"
	    "conninfo. * is any, on any port.", SETTING_CHANGES},
	{SETTING_POOL, "users", SETTING_USERS, IN_POOL(users), 0, 0, "",
	    "Users, by name or number and separated by commas, who may use the pool, besides root and the broker's\n"
	    "own user; * is everybody.", SETTING_CHANGES},
	{SETTING_POOL, "groups", SETTING_GROUPS, IN_POOL(groups), 0, 0, "",
	    "Groups whose members may use the pool too.", SETTING_CHANGES},
};
/* clang-format on */
const size_t settings_count = sizeof(settings) / sizeof(settings[0]);
static_assert(sizeof(settings) / sizeof(settings[0]) <= SETTINGS_MAX, "SETTINGS_MAX");

/* From the smallest on, then NULL. */
static const struct unit {
	const char *name;
	uint64_t size;
} times[] = {{"us", US}, {"ms", MS}, {"s", SECOND}, {"min", MINUTE}, {"h", HOUR}, {NULL, 0}},
  sizes[] = {{"kB", UINT64_C(1) << 10}, {"MB", UINT64_C(1) << 20}, {"GB", UINT64_C(1) << 30}, {"TB", UINT64_C(1) << 40}, {NULL, 0}};

static const char *const levels[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
    NULL,
};

static const char *const logs[] = {
    [LOG_TO_AUTO] = "auto",
    [LOG_TO_STDERR] = "stderr",
    [LOG_TO_SYSLOG] = "syslog",
    [LOG_TO_JOURNAL] = "journal",
    NULL,
};

static const char *const policies[] = {
    [RESET_HANDOVER] = "handover",
    [RESET_ALWAYS] = "always",
    [RESET_NEVER] = "never",
    NULL,
};

static const char *const kinds[] = {
    [RESET_FULL] = "full",
    [RESET_LIGHT] = "light",
    [RESET_SQL] = "sql",
    NULL,
};

static const char *const broker_downs[] = {
    [BROKER_DOWN_WAIT] = "wait",
    [BROKER_DOWN_FAIL] = "fail",
    NULL,
};

/* The words of a type that has such, by value, then NULL. */
static const char *const *const words[] = {
    [SETTING_LEVEL] = levels,
    [SETTING_LOG] = logs,
    [SETTING_RESET_POLICY] = policies,
    [SETTING_RESET_KIND] = kinds,
    [SETTING_BROKER_DOWN] = broker_downs,
};

const struct setting *
settings_find(enum setting_section section, const char *name)
{
	for (size_t i = 0; i < settings_count; i++)
		if (settings[i].section == section && strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

void
settings_init(enum setting_section section, void *values)
{
	char why[128];

	for (size_t i = 0; i < settings_count; i++) {
		if (settings[i].section != section)
			continue;
		if (*settings[i].initial == '\0')
			memset((char *)values + settings[i].offset, 0, settings[i].size);
		else if (settings_set(&settings[i], values, settings[i].initial, why, sizeof(why)) != 0)
			assert(!"a setting's own default is allowed");
	}
}

/* Digits only, in the base: no sign, no space. Returns the end, NULL when there is no number or it is too big. */
static const char *
parse_number(const char *text, int base, uint64_t *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return NULL;
	errno = 0;
	*ret = strtoull(text, &end, base);
	return errno != 0 ? NULL : end;
}

static void
format_with_unit(const struct unit *units, uint64_t n, char *buf, size_t size)
{
	const struct unit *unit = units;

	for (const struct unit *larger = unit + 1; larger->name != NULL; larger++)
		if (n >= larger->size && n % larger->size == 0)
			unit = larger;
	snprintf(buf, size, "%" PRIu64 "%s", n / unit->size, unit->name);
}

static void
format_duration(uint64_t ns, char *buf, size_t size)
{
	format_with_unit(times, ns, buf, size);
}

/* Millionths, without zeros at the end. */
static void
format_share(uint64_t n, char *buf, size_t size)
{
	char digits[32];
	size_t length = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64 ".%06" PRIu64, n / 1000000, n % 1000000);

	while (digits[length - 1] == '0')
		digits[--length] = '\0';
	if (digits[length - 1] == '.')
		digits[--length] = '\0';
	snprintf(buf, size, "%s", digits);
}

void
settings_describe(const struct setting *setting, char *buf, size_t size)
{
	char low[32], high[32];

	switch (setting->type) {
	case SETTING_NAME:
		snprintf(buf, size, "1 to 47 letters, digits, '_' and '-'");
		break;
	case SETTING_PATH:
		snprintf(buf, size, "an absolute path");
		break;
	case SETTING_TEXT:
		snprintf(buf, size, "up to %zu characters", setting->size - 1);
		break;
	case SETTING_BOOL:
		snprintf(buf, size, "yes, no");
		break;
	case SETTING_COUNT:
		snprintf(buf, size, "a number from %" PRIu64 " to %" PRIu64, setting->min, setting->max);
		break;
	case SETTING_DURATION:
		format_duration(setting->max, high, sizeof(high));
		if (setting->min == 0) {
			snprintf(buf, size, "a number with a unit (us, ms, s, min, h) up to %s, or 0 for off", high);
			break;
		}
		format_duration(setting->min < US ? US : setting->min, low, sizeof(low));
		snprintf(buf, size, "a number with a unit (us, ms, s, min, h) from %s to %s", low, high);
		break;
	case SETTING_SHARE:
		format_share(setting->max, high, sizeof(high));
		snprintf(buf, size, "a share from 0.000001 to %s, or 0 for off", high);
		break;
	case SETTING_SIZE:
		format_with_unit(sizes, setting->max, high, sizeof(high));
		snprintf(buf, size, "a number with a unit (kB, MB, GB, TB) up to %s, or 0 for off", high);
		break;
	case SETTING_MODE:
		snprintf(buf, size, "an octal mode up to 0%" PRIo64, setting->max);
		break;
	case SETTING_LEVEL:
	case SETTING_LOG:
	case SETTING_RESET_POLICY:
	case SETTING_RESET_KIND:
	case SETTING_BROKER_DOWN:
		for (size_t i = 0, used = 0; words[setting->type][i] != NULL && used < size; i++)
			used += (size_t)snprintf(
			    buf + used, size - used, "%s%s", i == 0 ? "" : ", ",
			    words[setting->type][i]);
		break;
	case SETTING_USERS:
		snprintf(buf, size, "users, by name or number, separated by commas; or *");
		break;
	case SETTING_GROUPS:
		snprintf(buf, size, "groups, by name or number, separated by commas; or *");
		break;
	case SETTING_GROUP:
		snprintf(buf, size, "a group, by name or number");
		break;
	case SETTING_LISTEN:
		snprintf(buf, size, HTTP_ADDRESS_ALLOWED);
		break;
	}
}

void
settings_show(const struct setting *setting, const void *values, char *buf, size_t size)
{
	const void *at = (const char *)values + setting->offset;
	uint64_t n = 0;

	switch (setting->type) {
	case SETTING_NAME:
	case SETTING_PATH:
	case SETTING_TEXT:
	case SETTING_USERS:
	case SETTING_GROUPS:
	case SETTING_GROUP:
	case SETTING_LISTEN:
		snprintf(buf, size, "%s", (const char *)at);
		return;
	default:
		memcpy(&n, at, sizeof(n));
		break;
	}
	switch (setting->type) {
	case SETTING_BOOL:
		snprintf(buf, size, "%s", n != 0 ? "yes" : "no");
		break;
	case SETTING_DURATION:
		format_duration(n, buf, size);
		break;
	case SETTING_SHARE:
		format_share(n, buf, size);
		break;
	case SETTING_SIZE:
		format_with_unit(sizes, n, buf, size);
		break;
	case SETTING_MODE:
		snprintf(buf, size, "0%" PRIo64, n);
		break;
	case SETTING_LEVEL:
	case SETTING_LOG:
	case SETTING_RESET_POLICY:
	case SETTING_RESET_KIND:
	case SETTING_BROKER_DOWN:
		snprintf(buf, size, "%s", words[setting->type][n]);
		break;
	default:
		snprintf(buf, size, "%" PRIu64, n);
		break;
	}
}

static bool
parse_with_unit(const struct setting *setting, const struct unit *units, const char *value, uint64_t *ret)
{
	uint64_t n = 0, size = 0;
	const char *unit = parse_number(value, 10, &n);
	bool known = false;

	if (unit != NULL && *unit == '\0' && n == 0) {
		known = true;
	} else if (unit != NULL) {
		while (*unit == ' ')
			unit++;
		for (size_t i = 0; units[i].name != NULL && !known; i++) {
			if (strcmp(unit, units[i].name) != 0)
				continue;
			known = true;
			if (__builtin_mul_overflow(n, units[i].size, &size))
				size = UINT64_MAX;
		}
	}
	if (!known || size < setting->min || size > setting->max)
		return false;
	*ret = size;
	return true;
}

/* A decimal fraction with up to six digits after the point, in millionths. */
static bool
parse_share(const struct setting *setting, const char *value, uint64_t *ret)
{
	uint64_t whole = 0, part = 0, n;
	const char *end = parse_number(value, 10, &whole), *point = end;
	size_t digits = 0;

	if (end != NULL && *end == '.') {
		end = parse_number(point + 1, 10, &part);
		digits = end != NULL ? (size_t)(end - point) - 1 : 0;
	}
	if (end == NULL || *end != '\0' || digits > 6 || whole > setting->max / 1000000)
		return false;
	for (; digits < 6; digits++)
		part *= 10;
	n = whole * 1000000 + part;
	if (n < setting->min || n > setting->max)
		return false;
	*ret = n;
	return true;
}

static bool
parse_word(enum setting_type type, const char *value, uint64_t *ret)
{
	for (size_t i = 0; words[type][i] != NULL; i++) {
		if (strcmp(value, words[type][i]) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

int
settings_set(const struct setting *setting, void *values, const char *value, char *why, size_t why_size)
{
	void *to = (char *)values + setting->offset;
	struct http_address address;
	char allowed[128];
	uint64_t n = 0;
	const char *end;
	bool sound = false, text = false;

	switch (setting->type) {
	case SETTING_NAME:
		sound = paths_check_name(value) == 0;
		text = true;
		break;
	case SETTING_PATH:
		sound = value[0] == '/';
		text = true;
		break;
	case SETTING_TEXT:
		sound = true;
		text = true;
		break;
	case SETTING_USERS:
	case SETTING_GROUPS:
	case SETTING_GROUP:
		/* These say better than the table what is wrong. */
		if (access_check(setting->type == SETTING_USERS ? ACCESS_USERS : ACCESS_GROUPS, value,
		        setting->type != SETTING_GROUP, why, why_size) != 0)
			return -1;
		sound = true;
		text = true;
		break;
	case SETTING_LISTEN: /* likewise */
		if (http_address_parse(value, &address, why, why_size) != 0)
			return -1;
		sound = true;
		text = true;
		break;
	case SETTING_DURATION:
		sound = parse_with_unit(setting, times, value, &n);
		break;
	case SETTING_SIZE:
		sound = parse_with_unit(setting, sizes, value, &n);
		break;
	case SETTING_SHARE:
		sound = parse_share(setting, value, &n);
		break;
	case SETTING_BOOL:
		n = value[0] == 'y';
		sound = strcmp(value, n ? "yes" : "no") == 0;
		break;
	case SETTING_LEVEL:
	case SETTING_LOG:
	case SETTING_RESET_POLICY:
	case SETTING_RESET_KIND:
	case SETTING_BROKER_DOWN:
		sound = parse_word(setting->type, value, &n);
		break;
	case SETTING_COUNT:
	case SETTING_MODE:
		end = parse_number(value, setting->type == SETTING_MODE ? 8 : 10, &n);
		sound = end != NULL && *end == '\0' && n >= setting->min && n <= setting->max;
		break;
	}
	if (sound && text && strlen(value) >= setting->size) {
		snprintf(why, why_size, "allowed: up to %zu characters", setting->size - 1);
		return -1;
	}
	if (!sound) {
		settings_describe(setting, allowed, sizeof(allowed));
		snprintf(why, why_size, "allowed: %s", allowed);
		return -1;
	}
	if (text)
		strcpy(to, value);
	else
		*(uint64_t *)to = n;
	return 0;
}

uint64_t
settings_number(enum setting_section section, enum setting_change change, const void *values)
{
	uint64_t n = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	char value[SETTINGS_CONNINFO + 1];

	for (size_t i = 0; i < settings_count; i++) {
		if (settings[i].section != section || settings[i].change != change)
			continue;
		settings_show(&settings[i], values, value, sizeof(value));
		for (const char *c = value;; c++) {
			n = (n ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
			if (*c == '\0')
				break;
		}
	}
	return n;
}
