/* SPDX-License-Identifier: PostgreSQL */
/*
 * The history of a pool: one named POSIX object per pool (/pglease.<instance>.history.<pool>: instance names have no dot, so it
 * is nobody's stats segment), written by the broker alone, with the stats segment's mode and group.
 *
 * Two rings of rows of a fixed size: HISTORY_SECONDS has a row for each second of metrics_retention, HISTORY_MINUTES one for each
 * minute of a day. A row holds the pool's counters and gauges of one moment, and histograms of the times that ended since the
 * row before. With the defaults an object is smaller than 16 MB (HISTORY_DEFAULT_SIZE).
 *
 * Histograms are coarse: below 128 ns one bucket, which counts as 0; then 4 to each doubling up to 2^37 ns (137 s); one for all that
 * is longer, which counts as 2^37 ns. What is taken from the middle of a bucket is off by at most 12.5 %. Means are exact: they
 * come from the counters.
 *
 * Format: struct history_header, the columns (struct stats_column), the rows. Columns are found by name, so that a file saved by a
 * version with other counters is read all the same: what it does not have is 0. Nothing else about it may differ.
 *
 * Publication. Row number k of a ring (from 0) lies at place k % capacity. The writer sets `begun` to k + 1, then writes the row, then
 * sets `done` to k + 1, each by a pwrite with stats_order() between. A reader loads `done`, copies a row k < done, and loads `begun`:
 * the copy is whole if k + capacity >= begun, for then the writer had not begun to write over it. Nobody waits for anybody. A
 * broker that dies in a row leaves begun = done + 1: that row is not there, and the next broker writes it.
 *
 * Truncation. Who maps the object read-only gets SIGBUS if it is made shorter. Only the broker's own user (and root) can do so:
 * nobody else can open it for writing, and the descriptor that clients get is read-only. That user can do anything to the broker and
 * to its connections anyway. Broker and tools use pwrite and pread all the same; but for an answer of HTTP the broker maps it, when it has
 * looked at its size, and until that answer is made. An object is never cut by pglease: it is removed.
 *
 * Clocks. A row has the wall clock (time) and CLOCK_BOOTTIME (mono). The rows of one broker are in the order and distance of
 * the second, put on the wall clock by the broker's newest row: when the clock is set, back or forth, the rows before it move with it.
 * Rows of earlier brokers are moved back when they are loaded, if they would lie in the future. See history_range.h.
 */
#ifndef PGLEASE_SHM_HISTORY_H
#define PGLEASE_SHM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "stats.h"
#include "totals.h"

#define HISTORY_MAGIC UINT64_C(0x3154534948474c50) /* "PLGHIST1" */
#define HISTORY_VERSION 1u
#define HISTORY_MAX_COLUMNS 160
#define HISTORY_MAX_SECONDS 86400u /* rows */
#define HISTORY_DAY_MINUTES 1440u

#define HISTORY_LOW_BITS 7
#define HISTORY_HIGH_BITS 37
#define HISTORY_SUB_BITS 2
#define HISTORY_BUCKETS (2 + ((HISTORY_HIGH_BITS - HISTORY_LOW_BITS) << HISTORY_SUB_BITS))

/* A column's type beside those of stats.h: HISTORY_BUCKETS counts of 32 bits. */
#define HISTORY_HISTOGRAM 4

enum history_ring { HISTORY_SECONDS = 0, HISTORY_MINUTES, HISTORY_NRINGS };

/* clang-format off */
/* What every row begins with. */
#define HISTORY_PLACE_COLUMNS(U64) \
	U64(number,   STATS_NONE,         "row of its ring, from 1") \
	U64(serial,   STATS_NONE,         "sample: a minute's row has that of the second's row of the same moment") \
	U64(time,     STATS_TIMESTAMP_NS, "when it was taken") \
	U64(mono,     STATS_NONE,         "the same on CLOCK_BOOTTIME, nanoseconds") \
	U64(interval, STATS_DURATION_NS,  "since the row before, or since the broker's start: what the histograms cover") \
	U64(instance, STATS_NONE,         "the broker's random number") \
	U64(first,    STATS_NONE,         "1: the broker's first row: its counters began at 0, at the broker's start")

/*
 * What processes have used in a broker's life, or, of a pool that a reload has made, since the last row before it; STATS_NO_U64 for unknown: the
 * broker, its clients, the pool's backends.
 */
#define HISTORY_USE_COLUMNS(U64) \
	U64(cpu,         STATS_DURATION_NS, "CPU time that the broker has used") \
	U64(disk,        STATS_BYTES,       "bytes that the broker has read from disk and written to it") \
	U64(client_cpu,  STATS_DURATION_NS, "CPU time that the clients have used") \
	U64(client_disk, STATS_BYTES,       "bytes that the clients have read from disk and written to it") \
	U64(server_cpu,  STATS_DURATION_NS, "CPU time that the pool's backends have used") \
	U64(server_disk, STATS_BYTES,       "bytes that the backends have read from disk and written to it")

/* Likewise: what they have. */
#define HISTORY_MEMORY_COLUMNS(U64) \
	U64(memory,        STATS_BYTES, "the broker's resident memory") \
	U64(client_memory, STATS_BYTES, "the clients' resident memory") \
	U64(server_memory, STATS_BYTES, "the backends' resident memory")

#define HISTORY_GAUGE_COLUMNS(U32, U64) \
	U64(maxwait,     STATS_DURATION_NS, "the greatest age of a waiter since the row before") \
	HISTORY_USE_COLUMNS(U64) \
	HISTORY_MEMORY_COLUMNS(U64) \
	U32(max,         STATS_COUNT,       "max_connections") \
	U32(total,       STATS_COUNT,       "slots with a connection or about to have one") \
	U32(idle,        STATS_COUNT,       "slots that can be leased at once") \
	U32(leased,      STATS_COUNT,       "slots leased") \
	U32(granted,     STATS_COUNT,       "slots set aside for a waiter") \
	U32(busy,        STATS_COUNT,       "slots in the broker's hands") \
	U32(waiting,     STATS_COUNT,       "threads waiting for a lease") \
	U32(clients,     STATS_COUNT,       "processes attached") \
	U32(peak,        STATS_COUNT,       "the most slots leased or granted since the broker's start") \
	U32(active_max,  STATS_COUNT,       "the most slots leased or granted since the row before, as seen ten times a second") \
	U32(waiting_max, STATS_COUNT,       "the most threads waiting, likewise") \
	U32(health,      STATS_NONE,        "reasons against the pool (enum health_reason) at any time since the row before")
/* clang-format on */

#define HISTORY_MEMBER_PLACE(name, unit, help) uint64_t name;
#define HISTORY_MEMBER_U32(name, unit, help) uint32_t name;
#define HISTORY_MEMBER_U64(name, unit, help) uint64_t name;
struct history_row {
	HISTORY_PLACE_COLUMNS(HISTORY_MEMBER_PLACE)
	uint64_t slot[SLOT_NCOUNTERS];
	uint64_t client[CLIENT_NCOUNTERS];
	uint64_t broker[BROKER_NCOUNTERS];
	HISTORY_GAUGE_COLUMNS(HISTORY_MEMBER_U32, HISTORY_MEMBER_U64)
	uint32_t bucket[STATS_NTIMES][HISTORY_BUCKETS];
};
#undef HISTORY_MEMBER_PLACE
#undef HISTORY_MEMBER_U32
#undef HISTORY_MEMBER_U64
static_assert(sizeof(struct history_row) % 8 == 0, "rows keep their alignment");
/* The beginning of a row, which says where it belongs. */
#define HISTORY_PLACE_SIZE offsetof(struct history_row, slot)

/*
 * `begun` and `done` are written by the broker alone, in the order above; both are read with stats_order(). All else is written
 * once, `magic` last.
 */
struct history_header {
	uint64_t magic;
	uint32_t version;
	uint32_t ncolumns;
	uint64_t size;    /* of all of it */
	uint64_t columns; /* offset */
	uint32_t row_size;
	uint32_t sub_bits, low_bits, high_bits; /* of the histograms */
	struct history_ring_header {
		uint64_t offset;   /* of its rows */
		uint64_t capacity; /* rows */
		_Atomic uint64_t begun, done;
	} ring[HISTORY_NRINGS];
	char instance[LAYOUT_NAME];
	char pool[LAYOUT_NAME];
	uint64_t checksum; /* of a saved file: of all else; an object has none */
	uint64_t reserved;
};
static_assert(offsetof(struct history_header, ring) == 48, "rings at 48");
static_assert(sizeof(struct history_header) == 256, "header size");

#define HISTORY_COLUMNS (7u + SLOT_NCOUNTERS + CLIENT_NCOUNTERS + BROKER_NCOUNTERS + 22 + STATS_NTIMES)
#define HISTORY_DEFAULT_SIZE \
	(sizeof(struct history_header) + HISTORY_COLUMNS * sizeof(struct stats_column) + 4096 + \
	    (3600u + HISTORY_DAY_MINUTES) * sizeof(struct history_row))
static_assert(HISTORY_DEFAULT_SIZE <= 16000000, "16 MB per pool with the default retention");

/* --- Histograms. --- */

unsigned history_bucket_of(uint64_t ns);
/* First value of a bucket; what stands for its values. */
uint64_t history_bucket_low(unsigned bucket);
uint64_t history_bucket_middle(unsigned bucket);
/* The fine histogram of histogram.h in these buckets, which it falls into exactly. */
void history_bucket_sum(const struct histogram_sum *sum, uint64_t ret[HISTORY_BUCKETS]);
/* As histogram_quantile and histogram_max. */
uint64_t history_bucket_quantile(const uint64_t bucket[HISTORY_BUCKETS], double q);
uint64_t history_bucket_max(const uint64_t bucket[HISTORY_BUCKETS]);

/* --- The format. --- */

/* The columns as this version writes them; HISTORY_COLUMNS. */
unsigned history_describe(struct stats_column ret[HISTORY_MAX_COLUMNS]);
/* Header and columns of an object with these capacities, whose offsets and size follow. */
void history_header_init(struct history_header *header, const char *instance, const char *pool,
    const uint64_t capacity[HISTORY_NRINGS]);
/* FNV-1a by 64-bit words, continued from `sum` (HISTORY_CHECKSUM_INIT to begin with); size: a multiple of 8. */
#define HISTORY_CHECKSUM_INIT UINT64_C(0xcbf29ce484222325)
uint64_t history_checksum(uint64_t sum, const void *bytes, size_t size);
/*
 * Makes `sum`, rows of one broker in a row, longer by the one that follows: the gauges of the new one, what goes by
 * intervals of both.
 */
void history_row_add(struct history_row *sum, const struct history_row *next);

/*
 * Somebody's bytes in this format, read through private copies of all that says where things are. Rows come out in this version's
 * structure whatever the writer's was.
 */
struct history_view {
	const unsigned char *base;
	uint64_t size;
	struct history_view_ring {
		uint64_t offset, capacity;
	} ring[HISTORY_NRINGS];
	uint32_t row_size;
	uint32_t nparts;
	struct history_part {
		uint32_t from, to, size; /* bytes that belong together, in the writer's row and in ours */
	} part[HISTORY_MAX_COLUMNS];
	char instance[LAYOUT_NAME], pool[LAYOUT_NAME];
};

/*
 * Returns 0; -EBADMSG when the bytes are no history, or damaged; -EPROTO when they are one of another version.
 * The bytes must stay where they are; they may change, as far as the broker changes them.
 */
int history_view_init(struct history_view *ret, const void *base, size_t size);
/* Rows that are there now: numbers from *ret_first to before *ret_end, at most the ring's capacity. */
void history_view_range(
    const struct history_view *view, enum history_ring ring, uint64_t *ret_first, uint64_t *ret_end);
/*
 * Copies the first `size` bytes of row k (HISTORY_PLACE_SIZE or the whole structure). False when it is not there, or not any
 * more, or has been written over meanwhile.
 */
bool history_view_row(
    const struct history_view *view, enum history_ring ring, uint64_t k, size_t size, struct history_row *ret);

/* --- The writer: the broker. --- */

struct history_writer;

struct history_params {
	const char *instance, *pool;
	uint64_t instance_id;
	uint32_t seconds; /* rows of the first ring; may be 0 */
	mode_t mode;
	const gid_t *group; /* NULL: the writer's own */
	const char *file;   /* where it was saved; NULL: nowhere */
	uint64_t now;       /* CLOCK_REALTIME ns */
};

#define HISTORY_WHY 160

/*
 * Makes the object, with what was recorded before: by a broker of this name that died (its object is taken over), or saved by one
 * that stopped. What is no history of this version is left behind, and `why` says why (else it is ""); the history then begins anew.
 * A failure changes nothing: a dead broker's object is there until another one, whole, takes its name. The caller holds the
 * instance's stats segment: no other broker of this name lives.
 * Returns 0; -EACCES when the name is another user's; -EBUSY when somebody else holds its lock; -ECHRNG when it cannot be given to
 * that group; -ENOSPC; or another -errno.
 */
int history_writer_new(const struct history_params *params, struct history_writer **ret, char why[HISTORY_WHY]);
/*
 * Goes on in the object of a broker in the same process, by its two descriptors, which are the writer's from then on: 0, -EPROTO when it is not as
 * this writer would make it, or another -errno; then they are still the caller's.
 */
int history_writer_take_over(const struct history_params *params, int fd, int reader, struct history_writer **ret);
int history_writer_fd(const struct history_writer *writer); /* the other one: with the lock */
/*
 * Appends a row; the writer sets its number. Samples are counted here: the rows of one moment have one serial, which
 * history_writer_sample() gives.
 */
uint64_t history_writer_sample(struct history_writer *writer);
int history_writer_append(struct history_writer *writer, enum history_ring ring, struct history_row *row);
/* A descriptor of the object that can only read; the writer's. */
int history_writer_reader(const struct history_writer *writer);
uint64_t history_writer_size(const struct history_writer *writer);
/* Removes the object that a broker that was killed has left of a pool, or one that it had not finished (its name goes on): 0; -EBUSY: somebody writes it; -EACCES: another user's; or another -errno. */
int history_remove(const char *instance, const char *pool);
/* Saves all rows: into a temporary file beside `path`, which is then renamed. 0 or -errno. */
int history_writer_save(const struct history_writer *writer, const char *path);
/*
 * Removes the name, if it is still this writer's, and frees; `leave`: unless the object has rows of a broker that died, which then are
 * left for the next one. Accepts NULL.
 */
void history_writer_free(struct history_writer *writer, bool leave);

/* --- Readers. --- */

/* Private memory, or a read-only mapping. */
struct history_bytes {
	void *base;
	size_t size;
	bool mapped;
};

/* A copy of what a descriptor has: of an object that is written meanwhile too. 0, -EBADMSG, -EPROTO, -ENOMEM, -EFBIG or -errno. */
int history_read(int fd, struct history_bytes *ret_bytes, struct history_view *ret_view);
/* By the names of instance and pool. Also -ENOENT, -EACCES. */
int history_open(const char *instance, const char *pool, struct history_bytes *ret_bytes, struct history_view *ret_view);
/* Maps an object: rows are then read without a system call. */
int history_map(int fd, struct history_bytes *ret_bytes, struct history_view *ret_view);
void history_bytes_fini(struct history_bytes *bytes); /* accepts a zeroed one */
/* Empty pages in place of a mapping that readers may still look at: an empty history. Accepts a zeroed one. */
void history_blank(struct history_bytes *bytes);

/* A saved file: as history_read, but it is the caller's own regular file and its checksum is right. `why` says what is wrong. */
int history_load(const char *path, struct history_bytes *ret_bytes, struct history_view *ret_view, char why[HISTORY_WHY]);

#endif
