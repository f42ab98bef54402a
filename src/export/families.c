/* SPDX-License-Identifier: PostgreSQL */
/* The table of families.h. */
#include "families.h"

#include "health.h"

/* Of the columns `state`, `health` and `reasons`. */
static const char *const state_words[] = {"new", "open", "down", "draining", "paused", "disabled", "closed", NULL};
static const char *const health_words[] = {"ok", "degraded", "down", NULL};
#define REASON_WORD(id, level, name, text) name,
static const char *const reason_words[] = {HEALTH_REASONS(REASON_WORD) NULL};
#undef REASON_WORD

/* clang-format off */
#define POOL(type, name, columns, extra, help) \
	{FAMILY_##type, name, help, STATS_POOLS, LABELS_POOL, columns, extra, NULL},
#define OTEL(type, name, columns, extra, help) \
	{FAMILY_##type, name, help, STATS_POOLS, LABELS_OTEL, columns, extra, NULL},
#define INSTANCE(type, name, columns, extra, help) \
	{FAMILY_##type, name, help, STATS_INSTANCE, LABELS_NONE, columns, extra, NULL},
#define STATES(table, labels, name, columns, label, words, help) \
	{FAMILY_STATES, name, help, STATS_##table, LABELS_##labels, columns, label, words},
#define TIME(labels, name, time, help) \
	{FAMILY_HISTOGRAM, name, help, STATS_HISTOGRAMS, LABELS_##labels, time, NULL, NULL},
#define ALERT(type, name, columns, help) \
	{FAMILY_##type, name, help, STATS_ALERTS, LABELS_ALERT, columns, NULL, NULL},
/* More samples of the family above. */
#define AND_POOL(columns, extra) POOL(SAME, NULL, columns, extra, NULL)
#define AND_OTEL(columns, extra) OTEL(SAME, NULL, columns, extra, NULL)
#define AND_INSTANCE(columns, extra) INSTANCE(SAME, NULL, columns, extra, NULL)

const struct family families[] = {
	/* OpenTelemetry's. Linters keep names in _count for histograms, but leave what has no type alone. */
	OTEL(UNKNOWN, "db_client_connection_count", "idle", "db_client_connection_state=\"idle\"",
	    "Server connections that can be leased at once, and that are leased.")
	AND_OTEL("leased+granted", "db_client_connection_state=\"used\"")
	OTEL(GAUGE, "db_client_connection_idle_min", "min_connections", NULL, "Server connections that are kept open.")
	OTEL(GAUGE, "db_client_connection_idle_max", "max", NULL, "Server connections that may be idle, at most.")
	OTEL(GAUGE, "db_client_connection_max", "max", NULL, "Server connections at most.")
	OTEL(GAUGE, "db_client_connection_pending_requests", "waiting", NULL, "Threads that wait for a lease.")
	OTEL(COUNTER, "db_client_connection_timeouts", "timeouts", NULL, "Acquires that ended at their deadline.")
	TIME(OTEL, "db_client_connection_create_time_seconds", "connect", "Time that opening a server connection took.")
	TIME(OTEL, "db_client_connection_wait_time_seconds", "wait", "Wait for a lease; none counts as 0.")
	TIME(OTEL, "db_client_connection_use_time_seconds", "hold", "Time that a lease was held until its clean release.")
	TIME(OPERATION, "db_client_operation_duration_seconds", "query", "Time of queries made by the library's own calls.")
	TIME(POOL, "pglease_transaction_duration_seconds", "transaction", "Time of transactions, single queries included.")

	/* How a pool is. */
	POOL(INFO, "pglease_pool_info", "database,user", NULL, "Database and user of the pool.")
	STATES(POOLS, POOL, "pglease_pool_state", "state", "state", state_words, "Whether the pool is in this state.")
	STATES(POOLS, POOL, "pglease_pool_health", "health", "health", health_words, "Whether the pool's health is this.")
	STATES(POOLS, POOL, "pglease_pool_health_reason", "reasons", "reason", reason_words,
	    "Whether this is a reason why the pool is not ok.")
	POOL(GAUGE, "pglease_connections", "idle", "state=\"idle\"", "Server connections by state.")
	AND_POOL("leased", "state=\"leased\"")
	AND_POOL("granted", "state=\"granted\"")
	AND_POOL("busy", "state=\"busy\"")
	POOL(GAUGE, "pglease_connections_peak", "peak", NULL, "The most connections leased or granted at one time.")
	POOL(GAUGE, "pglease_maxwait_seconds", "maxwait", NULL, "Age of the oldest waiter; 0 when nobody waits.")
	POOL(GAUGE, "pglease_efficiency_ratio", "efficiency", NULL, "Share of the leases that did not wait.")
	POOL(GAUGE, "pglease_time_max_seconds", "wait_max", "time=\"wait\"", "The longest there was, within 1.6 %.")
	AND_POOL("hold_max", "time=\"hold\"")
	AND_POOL("connect_max", "time=\"connect\"")
	AND_POOL("query_max", "time=\"query\"")
	AND_POOL("transaction_max", "time=\"transaction\"")

	/* Its limits. */
	POOL(GAUGE, "pglease_reserve_connections", "reserve_connections", NULL,
	    "Connections above the maximum that are opened when a worker waits for long.")
	POOL(GAUGE, "pglease_client_leases_max", "max_leases_per_client", NULL,
	    "Leases that a process may hold at a time; 0: any number.")
	POOL(GAUGE, "pglease_limit_seconds", "acquire_timeout", "setting=\"acquire_timeout\"",
	    "Times that are set for the pool; 0: off.")
	AND_POOL("connect_timeout", "setting=\"connect_timeout\"")
	AND_POOL("reset_timeout", "setting=\"reset_timeout\"")
	AND_POOL("idle_timeout", "setting=\"idle_timeout\"")
	AND_POOL("max_lifetime", "setting=\"max_lifetime\"")
	AND_POOL("leak_threshold", "setting=\"leak_threshold\"")
	AND_POOL("lease_limit", "setting=\"lease_limit\"")

	/* Leases. leases_granted is a part of leases_waited: a family of its own, so that a sum is right. */
	POOL(COUNTER, "pglease_leases", "leases_immediate", "how=\"immediate\"", "Leases, without and after waiting.")
	AND_POOL("leases_waited", "how=\"waited\"")
	POOL(COUNTER, "pglease_leases_granted", "leases_granted", NULL, "Leases taken from a grant; a part of how=\"waited\".")
	POOL(COUNTER, "pglease_releases", "releases", "how=\"clean\"",
	    "Leases that ended: clean, or returned to the broker as broken, in doubt or wanted back.")
	AND_POOL("returns", "how=\"returned\"")
	POOL(COUNTER, "pglease_acquire_failures", "timeouts", "cause=\"timeout\"", "Acquires that gave no lease.")
	AND_POOL("failures", "cause=\"other\"")
	POOL(COUNTER, "pglease_handovers", "handovers", NULL, "Releases that granted the connection to a waiter.")
	POOL(COUNTER, "pglease_broker_grants", "broker_grants", NULL, "Connections granted to a waiter by the broker.")
	POOL(COUNTER, "pglease_grants_repaired", "grants_repaired", NULL,
	    "Grants completed or taken back for a granter that died.")
	POOL(COUNTER, "pglease_revocations", "revoked_death", "cause=\"death\"", "Leases taken back.")
	AND_POOL("revoked_detach", "cause=\"detach\"")
	AND_POOL("revoked_limit", "cause=\"limit\"")
	AND_POOL("revoked_admin", "cause=\"admin\"")
	POOL(COUNTER, "pglease_takeover_sessions_ended", "takeover_ended", NULL,
	    "Server sessions of a broker that was killed, ended by this one.")
	POOL(COUNTER, "pglease_leaks", "leaks", NULL, "Leases held for longer than leak_threshold.")
	POOL(COUNTER, "pglease_cancels", "cancels", "result=\"forwarded\"", "Cancel requests.")
	AND_POOL("cancels_refused", "result=\"refused\"")

	/* Sessions. */
	POOL(COUNTER, "pglease_adoptions", "adoptions", NULL, "Connections taken into a process.")
	POOL(COUNTER, "pglease_adoption_requests", "adoptions_served", "result=\"served\"", "Descriptors asked for.")
	AND_POOL("adoptions_refused", "result=\"refused\"")
	POOL(COUNTER, "pglease_resets", "resets_full", "by=\"lessee\",kind=\"full\",result=\"ok\"",
	    "Sessions brought back to where they began. A failed one, of whatever kind, has cost the connection.")
	AND_POOL("resets_light", "by=\"lessee\",kind=\"light\",result=\"ok\"")
	AND_POOL("resets_sql", "by=\"lessee\",kind=\"sql\",result=\"ok\"")
	AND_POOL("resets_unlisten", "by=\"lessee\",kind=\"unlisten\",result=\"ok\"")
	AND_POOL("resets_failed", "by=\"lessee\",kind=\"any\",result=\"failed\"")
	AND_POOL("broker_resets_full", "by=\"broker\",kind=\"full\",result=\"ok\"")
	AND_POOL("broker_resets_light", "by=\"broker\",kind=\"light\",result=\"ok\"")
	AND_POOL("broker_resets_sql", "by=\"broker\",kind=\"sql\",result=\"ok\"")
	AND_POOL("broker_resets_unlisten", "by=\"broker\",kind=\"unlisten\",result=\"ok\"")
	AND_POOL("broker_resets_failed", "by=\"broker\",kind=\"any\",result=\"failed\"")
	POOL(COUNTER, "pglease_resets_sent", "resets", "how=\"waited\"",
	    "Resets that lessees sent: waited for, or ahead of the next lessee.")
	AND_POOL("resets_pipelined", "how=\"pipelined\"")
	POOL(COUNTER, "pglease_resets_late", "resets_late", NULL, "Answers to resets that were left to the broker.")
	POOL(COUNTER, "pglease_resets_spared", "resets_spared", NULL,
	    "Leases of a session that the same process had left dirty.")
	POOL(COUNTER, "pglease_rollbacks", "rollbacks", NULL, "Transactions rolled back at release.")
	POOL(COUNTER, "pglease_peeks", "peeks", NULL, "Looks at the socket of a connection that had been idle for long.")
	POOL(COUNTER, "pglease_keepalives", "keepalives", NULL, "Idle connections tried and found alive.")
	POOL(COUNTER, "pglease_statements", "statements_prepared", "action=\"prepared\"",
	    "Prepared statements that the library keeps.")
	AND_POOL("statements_reused", "action=\"reused\"")
	AND_POOL("statements_evicted", "action=\"evicted\"")

	/* Queries made by the library's own calls. */
	POOL(COUNTER, "pglease_queries", "queries", NULL, "Queries.")
	POOL(COUNTER, "pglease_query_errors", "query_errors", NULL, "Queries that the server or libpq refused.")
	POOL(COUNTER, "pglease_query_rows", "query_rows", NULL, "Rows that queries returned or changed.")
	POOL(COUNTER, "pglease_transactions", "transactions", NULL, "Transactions ended, single queries included.")

	/* Server connections. */
	POOL(COUNTER, "pglease_connections_opened", "opened", NULL, "Server connections opened.")
	POOL(COUNTER, "pglease_connects_failed", "open_failed_08", "sqlstate_class=\"08\"",
	    "Connects that failed; class 08 also when there was no SQLSTATE.")
	AND_POOL("open_failed_28", "sqlstate_class=\"28\"")
	AND_POOL("open_failed_3d", "sqlstate_class=\"3D\"")
	AND_POOL("open_failed_53", "sqlstate_class=\"53\"")
	AND_POOL("open_failed_57", "sqlstate_class=\"57\"")
	AND_POOL("open_failed_other", "sqlstate_class=\"other\"")
	POOL(COUNTER, "pglease_connections_closed", "closed_idle", "cause=\"idle\"", "Server connections closed.")
	AND_POOL("closed_lifetime", "cause=\"lifetime\"")
	AND_POOL("closed_broken", "cause=\"broken\"")
	AND_POOL("closed_upstream", "cause=\"upstream\"")
	AND_POOL("closed_unpooled", "cause=\"unpooled\"")
	AND_POOL("closed_renewed", "cause=\"renewed\"")
	AND_POOL("closed_admin", "cause=\"admin\"")
	POOL(GAUGE, "pglease_segment_bytes", "segment_bytes", NULL, "Size of the pool's lease segment.")
	POOL(COUNTER, "pglease_server_cpu_seconds", "server_cpu", NULL,
	    "CPU time of the pool's backends on this host, with those that have ended.")
	POOL(GAUGE, "pglease_server_memory_bytes", "server_memory", NULL,
	    "Resident memory of the pool's backends on this host, shared memory counted in each.")
	POOL(COUNTER, "pglease_server_disk_read_bytes", "server_disk_read", NULL, "Bytes that the backends read from disk.")
	POOL(COUNTER, "pglease_server_disk_written_bytes", "server_disk_written", NULL,
	    "Bytes that the backends wrote to disk.")

	/* Alerts. Values and thresholds are in seconds, shares from 0 to 1, bytes, or numbers, as each alert's name says. */
	ALERT(GAUGE, "pglease_alert_raised", "raised", "Whether the alert is raised.")
	ALERT(GAUGE, "pglease_alert_value", "value", "What the alert is judged by, where enough has happened.")
	ALERT(GAUGE, "pglease_alert_threshold", "threshold", "From where on the alert is raised; none when it is off.")
	ALERT(COUNTER, "pglease_alerts", "count", "How often the alert was raised.")

	/* The instance. */
	STATES(INSTANCE, NONE, "pglease_health", "health", "health", health_words,
	    "Whether the instance's health, which is that of its worst pool, is this.")
	STATES(INSTANCE, NONE, "pglease_health_reason", "reasons", "reason", reason_words,
	    "Whether this is a reason why the instance is not ok.")
	INSTANCE(GAUGE, "pglease_pools", "pools", NULL, "Pools.")
	INSTANCE(GAUGE, "pglease_clients", "clients", NULL, "Processes attached.")
	INSTANCE(GAUGE, "pglease_clients_max", "clients_max", NULL, "Processes that may be attached.")
	INSTANCE(COUNTER, "pglease_client_cpu_seconds", "client_cpu", NULL,
	    "CPU time of the clients since they attached, with those that have gone.")
	INSTANCE(GAUGE, "pglease_client_memory_bytes", "client_memory", NULL,
	    "Resident memory of the clients, shared memory counted in each.")
	INSTANCE(COUNTER, "pglease_client_disk_read_bytes", "client_disk_read", NULL, "Bytes that the clients read from disk.")
	INSTANCE(COUNTER, "pglease_client_disk_written_bytes", "client_disk_written", NULL,
	    "Bytes that the clients wrote to disk.")
	INSTANCE(COUNTER, "pglease_broker_cpu_seconds", "cpu", NULL, "CPU time of the broker.")
	INSTANCE(GAUGE, "pglease_broker_memory_bytes", "memory", NULL, "Resident memory of the broker, shared memory included.")
	INSTANCE(COUNTER, "pglease_broker_disk_read_bytes", "disk_read", NULL, "Bytes that the broker read from disk.")
	INSTANCE(COUNTER, "pglease_broker_disk_written_bytes", "disk_written", NULL, "Bytes that the broker wrote to disk.")
	INSTANCE(GAUGE, "pglease_broker_threads", "threads", NULL, "Threads of the broker.")
	INSTANCE(GAUGE, "pglease_broker_descriptors", "descriptors", NULL, "Descriptors that the broker has open.")
	INSTANCE(GAUGE, "pglease_broker_descriptors_max", "descriptors_max", NULL,
	    "Descriptors that the broker may have open.")
	INSTANCE(GAUGE, "pglease_shared_memory_bytes", "segments", "segment=\"lease\"",
	    "Shared memory: lease segments, this stats segment, history.")
	AND_INSTANCE("stats_segment", "segment=\"stats\"")
	AND_INSTANCE("history_segments", "segment=\"history\"")
};
/* clang-format on */
const size_t families_count = sizeof(families) / sizeof(families[0]);

static const char quantiles[] = "computed from the histograms by who reads them",
		  in_histograms[] = "count and sum of a histogram", parts[] = "the sum of what is exported",
		  rows[] = "a series for each slot, process or thread would be without bound; JSON has them";

const struct family_left_out families_left_out[] = {
    {STATS_POOLS, "name", "a label"},
    {STATS_POOLS, "*_p50", quantiles},
    {STATS_POOLS, "*_p95", quantiles},
    {STATS_POOLS, "*_p99", quantiles},
    {STATS_POOLS, "*_mean", quantiles},
    {STATS_POOLS, "*_count", in_histograms},
    {STATS_POOLS, "*_ns", in_histograms},
    {STATS_POOLS, "*_rate", "rate() of a counter"},
    {STATS_POOLS, "total", parts},
    {STATS_POOLS, "broker_resets", parts},
    {STATS_POOLS, "open_failed", parts},
    {STATS_SLOTS, "*", rows},
    {STATS_CLIENTS, "*", rows},
    {STATS_WAITERS, "*", rows},
    {STATS_INSTANCE, "uptime", "pglease_start_time_seconds"},
    {STATS_INSTANCE, "pid", "no quantity; JSON has it"},
    {STATS_ALERTS, "pool", "a label"},
    {STATS_ALERTS, "alert", "a label"},
    {STATS_ALERTS, "state", "pglease_alert_raised; one that is off has no threshold"},
    {STATS_ALERTS, "unit", "in the alert's name"},
    {STATS_ALERTS, "since", "changes() of pglease_alert_raised"},
    {STATS_ALERTS, "state_for", "changes() of pglease_alert_raised"},
    {STATS_HISTOGRAMS, "pool", "a label"},
    {STATS_HISTOGRAMS, "database", "a label"},
    {STATS_HISTOGRAMS, "time", "the family"},
    {STATS_HISTOGRAMS, "count", in_histograms},
    {STATS_HISTOGRAMS, "sum", in_histograms},
    {STATS_HISTOGRAMS, STATS_BOUND_PREFIX "*", "the buckets of a histogram"},
};
const size_t families_left_out_count = sizeof(families_left_out) / sizeof(families_left_out[0]);
