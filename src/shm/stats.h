/* SPDX-License-Identifier: PostgreSQL */
/*
 * The stats segment: one named POSIX object per instance (/pglease.<instance>), written by the broker alone,
 * read by whoever its mode lets read, without asking anyone.
 *
 * The counters themselves lie in the sealed lease segments, where their writers have them at hand
 * (stats_block, doc/protocol.md); the broker publishes them here at each tick. So no process but the broker's
 * own user can truncate what tools read, and a worker can scribble only over its own pool's numbers. Writer
 * and reader use pwrite and pread: even a truncation by the broker's own user cannot raise SIGBUS in either.
 *
 * Format: struct stats_header, then each table's rows and columns, reached by offset. A table describes its
 * columns (struct stats_column), so that an older tool prints what a newer broker publishes. `sequence` is
 * odd while the broker writes; a reader that cannot get two equal even values within a bounded number of
 * tries says that the picture is torn. The broker holds a write lock on its open file description of the
 * object, which the kernel drops when it dies, however it dies: that lock, not a heartbeat, says whether the
 * object has a living writer.
 */
#ifndef PGLEASE_SHM_STATS_H
#define PGLEASE_SHM_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"
#include "paths.h"
#include "totals.h"

#define STATS_MAGIC UINT64_C(0x3153544154534750) /* "PGSTATS1" */
#define STATS_VERSION 1u
#define STATS_MAX_TABLES 8
#define STATS_MAX_COLUMNS 192

enum stats_type {
	STATS_U32 = 1,
	STATS_U64 = 2,
	STATS_TEXT = 3, /* zero-terminated within its size */
};

/* Unit as shown to people and exporters. */
enum stats_unit {
	STATS_NONE = 0,
	STATS_DURATION_NS, /* shown in seconds */
	STATS_TIMESTAMP_NS, /* CLOCK_REALTIME; shown in seconds since the epoch */
	STATS_COUNT,
	STATS_BYTES,
	STATS_RATIO, /* in millionths; shown from 0 to 1 */
	STATS_RATE,  /* events in 1,000 seconds; shown per second */
	STATS_MILLIONTHS, /* in millionths of what the row says */
};

/* Flags of a column. */
#define STATS_MONOTONIC 0x1u /* a counter: never goes back while the instance lives */
#define STATS_NULLABLE 0x2u /* the largest value of the type means that there is none */
#define STATS_NO_U32 UINT32_MAX
#define STATS_NO_U64 UINT64_MAX

enum stats_table_id {
	STATS_POOLS = 0,
	STATS_SLOTS,
	STATS_CLIENTS,
	STATS_WAITERS,
	STATS_INSTANCE,
	STATS_HISTOGRAMS,
	STATS_ALERTS,
	STATS_NTABLES,
};

/*
 * The one list of columns per table; row structures, descriptions, pgleasestat and its manual follow from it.
 * TEXT(name, size, help), U32/U64(name, unit, flags, help). The counters of counters.h follow in the pools'
 * rows.
 */
/* clang-format off */
#define STATS_POOL_COLUMNS(TEXT, U32, U64) \
	TEXT(name, LAYOUT_NAME, "pool") \
	TEXT(database, LAYOUT_NAME, "database") \
	TEXT(user, LAYOUT_NAME, "database user") \
	TEXT(state, 16, "open, down (the server refuses connections), draining, paused, disabled, closed or new") \
	U32(max, STATS_COUNT, 0, "max_connections") \
	U32(total, STATS_COUNT, 0, "slots with a connection or about to have one") \
	U32(idle, STATS_COUNT, 0, "slots that can be leased at once") \
	U32(leased, STATS_COUNT, 0, "slots leased") \
	U32(granted, STATS_COUNT, 0, "slots set aside for a waiter, not yet taken") \
	U32(busy, STATS_COUNT, 0, "slots in the broker's hands: connecting, resetting, replacing") \
	U32(waiting, STATS_COUNT, 0, "threads waiting for a lease") \
	U64(maxwait, STATS_DURATION_NS, 0, "age of the oldest waiter") \
	U32(peak, STATS_COUNT, 0, "the most slots leased or granted at one time") \
	U32(efficiency, STATS_RATIO, 0, "share of the leases that did not wait") \
	TEXT(health, 16, "ok, degraded or down") \
	TEXT(reasons, 96, "why it is not ok") \
	U64(segment_bytes, STATS_BYTES, 0, "size of the lease segment") \
	STATS_LIMIT_COLUMNS(U32, U64) \
	U64(server_cpu, STATS_DURATION_NS, STATS_MONOTONIC | STATS_NULLABLE, \
	    "CPU time of the pool's backends, with those that have ended") \
	U64(server_memory, STATS_BYTES, STATS_NULLABLE, "resident memory of the backends, shared memory counted in each") \
	U64(server_disk_read, STATS_BYTES, STATS_MONOTONIC | STATS_NULLABLE, "bytes that the backends read from disk") \
	U64(server_disk_written, STATS_BYTES, STATS_MONOTONIC | STATS_NULLABLE, "bytes that the backends wrote to disk")

/* A pool's settings, as far as operators compare numbers with them: told by the broker, 0 is off, none elsewhere. */
#define STATS_LIMIT_COLUMNS(U32, U64) \
	U32(min_connections, STATS_COUNT, STATS_NULLABLE, "connections that are kept open") \
	U32(reserve_connections, STATS_COUNT, STATS_NULLABLE, "connections above max while a worker waits for long") \
	U32(max_leases_per_client, STATS_COUNT, STATS_NULLABLE, "leases that a process may hold at a time") \
	U64(acquire_timeout, STATS_DURATION_NS, STATS_NULLABLE, "how long a worker waits unless it says otherwise") \
	U64(connect_timeout, STATS_DURATION_NS, STATS_NULLABLE, "how long opening a connection may take") \
	U64(reset_timeout, STATS_DURATION_NS, STATS_NULLABLE, "how long resetting a session may take") \
	U64(idle_timeout, STATS_DURATION_NS, STATS_NULLABLE, "idle connections above the minimum are closed after this") \
	U64(max_lifetime, STATS_DURATION_NS, STATS_NULLABLE, "connections are replaced at this age") \
	U64(leak_threshold, STATS_DURATION_NS, STATS_NULLABLE, "a lease held for longer is reported") \
	U64(lease_limit, STATS_DURATION_NS, STATS_NULLABLE, "a lease held for longer is revoked")

/* Of each time in STATS_TIMES (totals.h), after its name: quantiles and maximum are within 1.6 %. */
#define STATS_TIME_COLUMNS(X) \
	X(count, STATS_COUNT, STATS_MONOTONIC, "how many") \
	X(mean, STATS_DURATION_NS, 0, "mean") \
	X(p50, STATS_DURATION_NS, 0, "median, within 1.6 %") \
	X(p95, STATS_DURATION_NS, 0, "95 % are no longer, within 1.6 %") \
	X(p99, STATS_DURATION_NS, 0, "99 % are no longer, within 1.6 %") \
	X(max, STATS_DURATION_NS, 0, "longest, within 1.6 %")

/* Of each rate (enum stats_rate). */
#define STATS_RATES(X) \
	X(connections_rate, "connections opened per second, over about ten seconds") \
	X(leases_rate, "leases per second, over about ten seconds") \
	X(queries_rate, "queries per second, over about ten seconds") \
	X(transactions_rate, "transactions per second, over about ten seconds")

/* What the kernel says of a process; none for one that the broker may not look at, or that runs elsewhere. */
#define STATS_PROCESS_COLUMNS(U32, U64) \
	U64(cpu, STATS_DURATION_NS, STATS_MONOTONIC | STATS_NULLABLE, "CPU time used, user and system") \
	U64(memory, STATS_BYTES, STATS_NULLABLE, "resident memory, shared memory included") \
	U64(disk_read, STATS_BYTES, STATS_MONOTONIC | STATS_NULLABLE, "bytes read from disk") \
	U64(disk_written, STATS_BYTES, STATS_MONOTONIC | STATS_NULLABLE, "bytes written to disk")

#define STATS_SLOT_COLUMNS(TEXT, U32, U64) \
	TEXT(pool, LAYOUT_NAME, "pool") \
	U32(slot, STATS_NONE, 0, "slot of the pool") \
	TEXT(state, 16, "empty, broker, idle, granted, leased or returned") \
	TEXT(flags, 32, "what is in the session (dirty, owed: a reset was sent, own), cancelling, retire") \
	U64(generation, STATS_NONE, 0, "connections that the slot has had, with this one") \
	U32(server_pid, STATS_NONE, STATS_NULLABLE, "pid of the server's backend") \
	U32(client, STATS_NONE, STATS_NULLABLE, "client that holds the slot, or last held an idle one") \
	U32(pid, STATS_NONE, STATS_NULLABLE, "pid of that client") \
	U32(tid, STATS_NONE, STATS_NULLABLE, "thread of the holder") \
	U64(held_since, STATS_TIMESTAMP_NS, STATS_NULLABLE, "when the lease began") \
	U64(held_for, STATS_DURATION_NS, STATS_NULLABLE, "age of the lease") \
	U64(idle_for, STATS_DURATION_NS, STATS_NULLABLE, "time since an idle slot was given up") \
	U64(leases, STATS_COUNT, STATS_MONOTONIC, "leases of the slot") \
	TEXT(acquired_at, 72, "file:line that acquired the lease") \
	STATS_PROCESS_COLUMNS(U32, U64) /* of the server's backend */

#define STATS_CLIENT_COLUMNS(TEXT, U32, U64) \
	U32(client, STATS_NONE, 0, "index of the client") \
	U32(pid, STATS_NONE, STATS_NULLABLE, "process") \
	U32(uid, STATS_NONE, 0, "its user") \
	TEXT(program, 40, "its program") \
	U64(attached_since, STATS_TIMESTAMP_NS, STATS_NULLABLE, "when it attached") \
	U32(leases_held, STATS_COUNT, 0, "slots leased by or granted to its threads") \
	U32(waiting, STATS_COUNT, 0, "threads of it that wait") \
	STATS_PROCESS_COLUMNS(U32, U64)

#define STATS_WAITER_COLUMNS(TEXT, U32, U64) \
	TEXT(pool, LAYOUT_NAME, "pool") \
	U32(row, STATS_NONE, 0, "lessee row of the pool") \
	U32(client, STATS_NONE, STATS_NULLABLE, "index of the client") \
	U32(pid, STATS_NONE, STATS_NULLABLE, "pid of the client") \
	U32(tid, STATS_NONE, STATS_NULLABLE, "thread") \
	U64(waiting_for, STATS_DURATION_NS, 0, "how long it has waited")

#define STATS_INSTANCE_COLUMNS(TEXT, U32, U64) \
	TEXT(health, 16, "ok, degraded or down: the worst of its pools") \
	TEXT(reasons, 96, "why it is not ok") \
	U64(uptime, STATS_DURATION_NS, 0, "time since the broker started") \
	U32(pools, STATS_COUNT, 0, "pools") \
	U32(clients, STATS_COUNT, 0, "processes attached") \
	U32(clients_max, STATS_COUNT, 0, "processes that may be attached") \
	U32(pid, STATS_NONE, 0, "the broker's process") \
	U32(threads, STATS_COUNT, STATS_NULLABLE, "threads of the broker") \
	U32(descriptors, STATS_COUNT, STATS_NULLABLE, "descriptors that the broker has open") \
	U32(descriptors_max, STATS_COUNT, 0, "descriptors that the broker may have open") \
	STATS_PROCESS_COLUMNS(U32, U64) \
	U64(segments, STATS_BYTES, 0, "lease segments, together") \
	U64(stats_segment, STATS_BYTES, 0, "this stats segment") \
	U64(history_segments, STATS_BYTES, 0, "history segments, together") \
	U64(client_cpu, STATS_DURATION_NS, STATS_MONOTONIC | STATS_NULLABLE, \
	    "CPU time of the clients since they attached, with those that have gone") \
	U64(client_memory, STATS_BYTES, STATS_NULLABLE, "resident memory of the clients, shared memory counted in each") \
	U64(client_disk_read, STATS_BYTES, STATS_MONOTONIC | STATS_NULLABLE, "bytes that the clients read from disk") \
	U64(client_disk_written, STATS_BYTES, STATS_MONOTONIC | STATS_NULLABLE, "bytes that the clients wrote to disk")

/* Of each pool and time; the columns of STATS_BOUNDS follow. */
#define STATS_HISTOGRAM_COLUMNS(TEXT, U32, U64) \
	TEXT(pool, LAYOUT_NAME, "pool") \
	TEXT(database, LAYOUT_NAME, "database") \
	TEXT(time, 16, "what is timed: wait, hold, connect, query or transaction") \
	U64(count, STATS_COUNT, STATS_MONOTONIC, "observations") \
	U64(sum, STATS_DURATION_NS, STATS_MONOTONIC, "their total")

/* Of each pool and alert (alert.h). */
#define STATS_ALERT_COLUMNS(TEXT, U32, U64) \
	TEXT(pool, LAYOUT_NAME, "pool") \
	TEXT(alert, 24, "what the pool is watched for") \
	TEXT(state, 8, "raised, ok or off") \
	U64(value, STATS_MILLIONTHS, STATS_NULLABLE, "what it is now, in the row's unit; none: too little has happened") \
	U64(threshold, STATS_MILLIONTHS, STATS_NULLABLE, "from where on it is raised") \
	TEXT(unit, 8, "seconds, ratio, bytes or count") \
	U64(since, STATS_TIMESTAMP_NS, STATS_NULLABLE, "when the state began") \
	U64(state_for, STATS_DURATION_NS, STATS_NULLABLE, "for how long it has been so") \
	U64(count, STATS_COUNT, STATS_MONOTONIC, "how often it was raised") \
	U32(raised, STATS_NONE, 0, "1: it is raised")

/*
 * The ladder of the exported histograms, X(ns, seconds): it contains the bounds that OpenTelemetry advises for database
 * operations. A bound counts the buckets of histogram.h whose middle is not above it: its place is right within 1.6 %.
 */
#define STATS_BOUNDS(X) \
	X(100, "0.0000001") X(250, "0.00000025") X(500, "0.0000005") \
	X(1000, "0.000001") X(2500, "0.0000025") X(5000, "0.000005") \
	X(10000, "0.00001") X(25000, "0.000025") X(50000, "0.00005") \
	X(100000, "0.0001") X(250000, "0.00025") X(500000, "0.0005") \
	X(1000000, "0.001") X(2500000, "0.0025") X(5000000, "0.005") \
	X(10000000, "0.01") X(25000000, "0.025") X(50000000, "0.05") \
	X(100000000, "0.1") X(250000000, "0.25") X(500000000, "0.5") \
	X(1000000000, "1") X(2500000000, "2.5") X(5000000000, "5") X(10000000000, "10")
#define STATS_BOUND_COUNT(ns, seconds) + 1
#define STATS_NBOUNDS (0 STATS_BOUNDS(STATS_BOUND_COUNT))
/* A bound's column: this, and the bound in seconds. */
#define STATS_BOUND_PREFIX "le_"
/* clang-format on */

#define STATS_MEMBER_TEXT(name, size, help) char name[size];
#define STATS_MEMBER_U32(name, unit, flags, help) uint32_t name;
#define STATS_MEMBER_U64(name, unit, flags, help) uint64_t name;

struct stats_quantiles {
#define STATS_MEMBER_TIME(name, unit, flags, help) uint64_t name;
	STATS_TIME_COLUMNS(STATS_MEMBER_TIME)
#undef STATS_MEMBER_TIME
};

struct stats_limits {
	STATS_LIMIT_COLUMNS(STATS_MEMBER_U32, STATS_MEMBER_U64)
};

struct stats_process {
	STATS_PROCESS_COLUMNS(STATS_MEMBER_U32, STATS_MEMBER_U64)
};

struct stats_pool_row {
	STATS_POOL_COLUMNS(STATS_MEMBER_TEXT, STATS_MEMBER_U32, STATS_MEMBER_U64)
	struct stats_quantiles time[STATS_NTIMES];
	uint64_t rate[STATS_NRATES];
	uint64_t slot_counter[SLOT_NCOUNTERS];
	uint64_t client_counter[CLIENT_NCOUNTERS];
	uint64_t broker_counter[BROKER_NCOUNTERS];
};

struct stats_slot_row {
	STATS_SLOT_COLUMNS(STATS_MEMBER_TEXT, STATS_MEMBER_U32, STATS_MEMBER_U64)
};

struct stats_client_row {
	STATS_CLIENT_COLUMNS(STATS_MEMBER_TEXT, STATS_MEMBER_U32, STATS_MEMBER_U64)
};

struct stats_waiter_row {
	STATS_WAITER_COLUMNS(STATS_MEMBER_TEXT, STATS_MEMBER_U32, STATS_MEMBER_U64)
};

struct stats_instance_row {
	STATS_INSTANCE_COLUMNS(STATS_MEMBER_TEXT, STATS_MEMBER_U32, STATS_MEMBER_U64)
};

struct stats_alert_row {
	STATS_ALERT_COLUMNS(STATS_MEMBER_TEXT, STATS_MEMBER_U32, STATS_MEMBER_U64)
};

struct stats_histogram_row {
	STATS_HISTOGRAM_COLUMNS(STATS_MEMBER_TEXT, STATS_MEMBER_U32, STATS_MEMBER_U64)
	uint64_t below[STATS_NBOUNDS];
};
#undef STATS_MEMBER_TEXT
#undef STATS_MEMBER_U32
#undef STATS_MEMBER_U64

struct stats_column {
	char name[32];
	char help[88];
	uint8_t type; /* enum stats_type */
	uint8_t unit; /* enum stats_unit */
	uint8_t flags;
	uint8_t reserved;
	uint16_t offset, size; /* within the row */
};
static_assert(sizeof(struct stats_column) == 128, "column size");

struct stats_table {
	char name[16];
	uint64_t offset; /* of the first row, from the start of the segment */
	uint64_t columns; /* offset of its stats_column array */
	uint32_t ncolumns;
	uint32_t row_size;
	uint32_t nrows; /* now */
	uint32_t capacity;
	uint32_t total; /* rows that there were to publish: more than nrows if they did not fit */
	uint32_t reserved;
};
static_assert(sizeof(struct stats_table) == 56, "table size");

struct stats_header {
	uint64_t magic;
	uint32_t version;
	uint32_t ntables;
	uint64_t size;
	uint64_t sequence;
	uint64_t instance_id;
	char instance[LAYOUT_NAME];
	char program[32]; /* name and version of the broker */
	char socket_dir[PATHS_MAX];
	uint32_t broker_pid;
	uint32_t state; /* enum segment_state */
	uint64_t started_at; /* CLOCK_REALTIME ns */
	uint64_t published_at; /* CLOCK_REALTIME ns */
	uint64_t published_mono; /* CLOCK_MONOTONIC ns */
	uint32_t off; /* 1: monitoring is off, there are no rows */
	uint32_t pid_namespace; /* what processes' numbers mean: inode of /proc/self/ns/pid; 0: unknown */
	struct stats_table table[STATS_MAX_TABLES];
};
static_assert(offsetof(struct stats_header, sequence) == 24, "sequence at 24");

/*
 * Orders the reads before it before those after it, and likewise writes, in the kernel's copies too (plain
 * loads and stores of this thread). An exchange rather than a fence, which ThreadSanitizer does not know.
 */
static inline void
stats_order(void)
{
	_Atomic unsigned here = 0;

	(void)atomic_exchange_explicit(&here, 1, memory_order_acq_rel);
}

/*
 * Copies text that another process may be writing at this moment: at most src_size bytes, until the first
 * zero. Always terminates. Control characters and whatever is not UTF-8 become '?'; a character cut in half
 * is left out.
 */
void stats_copy_text(char *dst, size_t dst_size, const char *src, size_t src_size);

/* The observations up to each bound of the ladder. */
void stats_bounds_count(const struct histogram_sum *sum, uint64_t ret_below[STATS_NBOUNDS]);

/* Limits into a pool's row; NULL: they are not known. */
void stats_take_limits(struct stats_pool_row *row, const struct stats_limits *limits);

/* Name of a table, and its columns as this version publishes them (at most STATS_MAX_COLUMNS; returns the
 * number). */
const char *stats_table_name(enum stats_table_id id);
unsigned stats_describe(enum stats_table_id id, struct stats_column *ret_columns);
uint32_t stats_row_size(enum stats_table_id id);

/* This process's, for stats_header.pid_namespace; 0 when it cannot be had. */
uint32_t stats_pid_namespace(void);

/* --- The writer: the broker. --- */

struct stats_writer;

struct stats_writer_params {
	const char *instance, *program, *socket_dir;
	uint64_t instance_id;
	mode_t mode;
	const gid_t *group; /* the object's; NULL: the writer's own */
	bool off; /* says that monitoring is off; no rows will be published */
	bool takes_over; /* from a broker in the same process, whose segment `fd` is: it has the lock */
	int fd;
	uint32_t capacity[STATS_NTABLES]; /* rows */
};

/* One table's rows, in the layout of stats_describe(). */
struct stats_rows {
	const void *rows;
	uint32_t nrows;
	uint32_t total; /* at least nrows */
};

/*
 * Creates the segment and allocates its space, so that a full /dev/shm fails here. One that a dead broker
 * left is replaced; one that is taken over is gone on with, if it is as this writer would make it. Returns 0; -EBUSY when a living broker has that name (*ret_owner is its pid, 0: unknown);
 * -EACCES when the name is another user's; -ECHRNG when the writer may not give it to that group; -ENOSPC; or
 * another -errno. The first stats_writer_publish makes it readable.
 */
int stats_writer_new(
    const struct stats_writer_params *params, struct stats_writer **ret_writer, pid_t *ret_owner);
/* Publishes all tables. 0, or -errno when a write failed (the picture stays marked as torn). */
int stats_writer_publish(
    struct stats_writer *writer, uint32_t state, const struct stats_rows rows[STATS_NTABLES]);
/* What was last published, but for the rows; lives as long as the writer. */
const struct stats_header *stats_writer_header(const struct stats_writer *writer);
int stats_writer_fd(const struct stats_writer *writer); /* of the segment: with the lock */
uint64_t stats_writer_size(const struct stats_writer *writer); /* of the segment; bytes */
/* Removes the name, if it is still this writer's, and frees. Accepts NULL. */
void stats_writer_free(struct stats_writer *writer);

/* --- The reader: tools. --- */

struct stats_reader;

/* A table in a snapshot: private memory, validated; every text is terminated and printable. */
struct stats_view {
	char name[16];
	struct stats_column *column;
	uint32_t ncolumns;
	unsigned char *rows;
	uint32_t row_size, nrows, total;
};

struct stats_snapshot {
	struct stats_header header; /* validated; texts terminated and printable */
	bool torn; /* not one consistent moment: the broker died while publishing */
	bool gone; /* no broker holds the segment any more: these are its last numbers */
	uint64_t age_ns; /* since it was published */
	unsigned ntables;
	struct stats_view table[STATS_MAX_TABLES];
};

/*
 * Opens an instance's segment. Returns 0; -ENOENT when there is none, -EACCES when it may not be read; or
 * another -errno.
 */
int stats_reader_open(const char *instance, struct stats_reader **ret_reader);
/*
 * Copies the state of one moment. Tries a bounded number of times (about a tenth of a second) for a
 * consistent one. Returns 0; -EBADMSG when it is no sound stats segment (foreign, cut, or never published),
 * -EPROTO when it is one of another version, -ENOMEM, or -errno.
 */
int stats_reader_snapshot(struct stats_reader *reader, struct stats_snapshot *ret_snapshot);
void stats_reader_close(struct stats_reader *reader); /* accepts NULL */

/*
 * A snapshot of rows in the layout of stats_describe(), which are copied; tables without rows are left out (.rows NULL).
 * Texts must be terminated and printable. 0 or -ENOMEM.
 */
int stats_snapshot_of_rows(const struct stats_header *header, const struct stats_rows rows[STATS_NTABLES],
    struct stats_snapshot *ret_snapshot);
void stats_snapshot_fini(struct stats_snapshot *snapshot); /* accepts a zeroed one */
/* The table of that name, or NULL: a broker of another version may have others. */
const struct stats_view *stats_view_find(const struct stats_snapshot *snapshot, const char *table);
const struct stats_column *stats_column_find(const struct stats_view *view, const char *column);
/* A number's value. False when there is none (STATS_NULLABLE). */
bool stats_value_u64(
    const struct stats_view *view, uint32_t row, const struct stats_column *column, uint64_t *ret);
/* A text's value; never NULL; lives as long as the snapshot. */
const char *stats_value_text(const struct stats_view *view, uint32_t row, const struct stats_column *column);

#endif
