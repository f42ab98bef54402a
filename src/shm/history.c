/* SPDX-License-Identifier: PostgreSQL */
/*
 * The history's format: its columns, its coarse histograms, and the reading of rows from bytes in it. Objects and files are made
 * in history_writer.c and history_file.c, opened in history_reader.c.
 */
#include "history.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* --- Histograms. --- */

unsigned
history_bucket_of(uint64_t ns)
{
	unsigned exponent;

	if (ns < UINT64_C(1) << HISTORY_LOW_BITS)
		return 0;
	exponent = 63u - (unsigned)__builtin_clzll(ns);
	if (exponent >= HISTORY_HIGH_BITS)
		return HISTORY_BUCKETS - 1;
	return 1 + ((exponent - HISTORY_LOW_BITS) << HISTORY_SUB_BITS) +
	       (unsigned)((ns >> (exponent - HISTORY_SUB_BITS)) & ((1u << HISTORY_SUB_BITS) - 1));
}

static unsigned
exponent_of(unsigned bucket)
{
	return HISTORY_LOW_BITS + ((bucket - 1) >> HISTORY_SUB_BITS);
}

uint64_t
history_bucket_low(unsigned bucket)
{
	unsigned exponent, sub;

	if (bucket == 0)
		return 0;
	exponent = exponent_of(bucket);
	sub = (bucket - 1) & ((1u << HISTORY_SUB_BITS) - 1);
	return (UINT64_C(1) << exponent) + ((uint64_t)sub << (exponent - HISTORY_SUB_BITS));
}

uint64_t
history_bucket_middle(unsigned bucket)
{
	if (bucket == 0 || bucket == HISTORY_BUCKETS - 1)
		return history_bucket_low(bucket);
	return history_bucket_low(bucket) + ((UINT64_C(1) << (exponent_of(bucket) - HISTORY_SUB_BITS)) - 1) / 2;
}

void
history_bucket_sum(const struct histogram_sum *sum, uint64_t ret[HISTORY_BUCKETS])
{
	memset(ret, 0, HISTORY_BUCKETS * sizeof(ret[0]));
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		if (sum->bucket[i] != 0)
			ret[history_bucket_of(histogram_bucket_low(i))] += sum->bucket[i];
}

uint64_t
history_bucket_quantile(const uint64_t bucket[HISTORY_BUCKETS], double q)
{
	uint64_t count = 0, seen = 0, rank;

	for (unsigned i = 0; i < HISTORY_BUCKETS; i++)
		count += bucket[i];
	if (count == 0)
		return 0;
	rank = counter_whole(ceil(q * (double)count));
	if (rank == 0)
		rank = 1;
	for (unsigned i = 0; i < HISTORY_BUCKETS; i++) {
		seen += bucket[i];
		if (seen >= rank)
			return history_bucket_middle(i);
	}
	return history_bucket_max(bucket);
}

uint64_t
history_bucket_max(const uint64_t bucket[HISTORY_BUCKETS])
{
	for (unsigned i = HISTORY_BUCKETS; i-- > 0;)
		if (bucket[i] != 0)
			return history_bucket_middle(i);
	return 0;
}

/* --- Rows. --- */

static uint32_t
add_saturated(uint32_t a, uint32_t b)
{
	return a <= UINT32_MAX - b ? a + b : UINT32_MAX;
}

void
history_row_add(struct history_row *sum, const struct history_row *next)
{
	struct history_row before = *sum;

	*sum = *next;
	sum->interval += before.interval;
	sum->first |= before.first;
	sum->health |= before.health;
	if (sum->maxwait < before.maxwait)
		sum->maxwait = before.maxwait;
	if (sum->active_max < before.active_max)
		sum->active_max = before.active_max;
	if (sum->waiting_max < before.waiting_max)
		sum->waiting_max = before.waiting_max;
	for (unsigned t = 0; t < STATS_NTIMES; t++)
		for (unsigned b = 0; b < HISTORY_BUCKETS; b++)
			sum->bucket[t][b] = add_saturated(sum->bucket[t][b], before.bucket[t][b]);
}

/* --- The columns. --- */

/* clang-format off */
#define COLUMN_PLACE(field, what, text) \
	{.name = #field, .help = text, .type = STATS_U64, .unit = (what), \
	    .offset = offsetof(struct history_row, field), .size = 8},
#define COLUMN_U64(field, what, text) COLUMN_PLACE(field, what, text)
#define COLUMN_U32(field, what, text) \
	{.name = #field, .help = text, .type = STATS_U32, .unit = (what), \
	    .offset = offsetof(struct history_row, field), .size = 4},
/* clang-format on */

static const struct stats_column place_columns[] = {HISTORY_PLACE_COLUMNS(COLUMN_PLACE)};
static const struct stats_column gauge_columns[] = {HISTORY_GAUGE_COLUMNS(COLUMN_U32, COLUMN_U64)};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
static_assert(COUNT_OF(place_columns) + COUNT_OF(gauge_columns) + SLOT_NCOUNTERS + CLIENT_NCOUNTERS +
                      BROKER_NCOUNTERS + STATS_NTIMES ==
                  HISTORY_COLUMNS,
    "columns of a row");
static_assert(HISTORY_COLUMNS <= HISTORY_MAX_COLUMNS, "columns of a row");
static_assert(sizeof(struct history_row) <= UINT16_MAX, "offsets of columns");

static struct stats_column *
describe(struct stats_column *at, const struct counter_info *info, unsigned n, size_t offset, unsigned type, size_t size)
{
	for (unsigned i = 0; i < n; i++, at++) {
		memset(at, 0, sizeof(*at));
		snprintf(at->name, sizeof(at->name), "%s", info[i].name);
		snprintf(at->help, sizeof(at->help), "%s", info[i].help);
		at->type = (uint8_t)type;
		at->unit = type == HISTORY_HISTOGRAM ? STATS_DURATION_NS : STATS_COUNT;
		at->flags = type == HISTORY_HISTOGRAM ? 0 : STATS_MONOTONIC;
		at->offset = (uint16_t)(offset + i * size);
		at->size = (uint16_t)size;
	}
	return at;
}

unsigned
history_describe(struct stats_column ret[HISTORY_MAX_COLUMNS])
{
	struct stats_column *at = ret;

	memcpy(at, place_columns, sizeof(place_columns));
	at += COUNT_OF(place_columns);
	at = describe(at, slot_counter_info, SLOT_NCOUNTERS, offsetof(struct history_row, slot), STATS_U64, 8);
	at = describe(at, client_counter_info, CLIENT_NCOUNTERS, offsetof(struct history_row, client), STATS_U64, 8);
	at = describe(at, broker_counter_info, BROKER_NCOUNTERS, offsetof(struct history_row, broker), STATS_U64, 8);
	memcpy(at, gauge_columns, sizeof(gauge_columns));
	at += COUNT_OF(gauge_columns);
	at = describe(at, stats_time_info, STATS_NTIMES, offsetof(struct history_row, bucket), HISTORY_HISTOGRAM,
	    HISTORY_BUCKETS * sizeof(uint32_t));
	return (unsigned)(at - ret);
}

static uint64_t
align_line(uint64_t offset)
{
	return (offset + LAYOUT_LINE - 1) & ~(uint64_t)(LAYOUT_LINE - 1);
}

void
history_header_init(struct history_header *header, const char *instance, const char *pool,
    const uint64_t capacity[HISTORY_NRINGS])
{
	uint64_t at;

	memset(header, 0, sizeof(*header));
	header->magic = HISTORY_MAGIC;
	header->version = HISTORY_VERSION;
	header->ncolumns = HISTORY_COLUMNS;
	header->columns = sizeof(*header);
	header->row_size = sizeof(struct history_row);
	header->sub_bits = HISTORY_SUB_BITS;
	header->low_bits = HISTORY_LOW_BITS;
	header->high_bits = HISTORY_HIGH_BITS;
	at = align_line(header->columns + HISTORY_COLUMNS * sizeof(struct stats_column));
	for (unsigned r = 0; r < HISTORY_NRINGS; r++) {
		header->ring[r].offset = at;
		header->ring[r].capacity = capacity[r];
		at = align_line(at + capacity[r] * sizeof(struct history_row));
	}
	header->size = at;
	snprintf(header->instance, sizeof(header->instance), "%s", instance);
	snprintf(header->pool, sizeof(header->pool), "%s", pool);
}

uint64_t
history_checksum(uint64_t sum, const void *bytes, size_t size)
{
	const unsigned char *at = bytes;
	uint64_t word;

	for (size_t i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
		memcpy(&word, at + i, sizeof(word));
		sum = (sum ^ word) * UINT64_C(0x100000001b3);
		sum ^= sum >> 32; /* the product carries upwards only */
	}
	return sum;
}

/* --- Views. --- */

static int
check_header(const struct history_header *h, uint64_t size)
{
	if (h->magic != HISTORY_MAGIC)
		return -EBADMSG;
	if (h->version != HISTORY_VERSION || h->sub_bits != HISTORY_SUB_BITS || h->low_bits != HISTORY_LOW_BITS ||
	    h->high_bits != HISTORY_HIGH_BITS)
		return -EPROTO;
	if (h->size > size || h->ncolumns == 0 || h->ncolumns > HISTORY_MAX_COLUMNS || h->columns > h->size ||
	    h->columns % 8 != 0 || h->ncolumns * sizeof(struct stats_column) > h->size - h->columns ||
	    h->row_size == 0 || h->row_size > UINT16_MAX || h->row_size % 8 != 0)
		return -EBADMSG;
	for (unsigned r = 0; r < HISTORY_NRINGS; r++) {
		const struct history_ring_header *ring = &h->ring[r];

		if (ring->offset > h->size || ring->offset % 8 != 0 ||
		    ring->capacity > (h->size - ring->offset) / h->row_size)
			return -EBADMSG;
	}
	return 0;
}

static bool
column_is_sound(const struct stats_column *column, uint32_t row_size)
{
	static const uint16_t sizes[] = {
	    [STATS_U32] = 4, [STATS_U64] = 8, [HISTORY_HISTOGRAM] = HISTORY_BUCKETS * sizeof(uint32_t)};

	if (column->type >= COUNT_OF(sizes) || sizes[column->type] == 0)
		return true; /* of a type that this version does not know, and never reads */
	return column->size == sizes[column->type] && column->offset % (column->type == STATS_U64 ? 8 : 4) == 0 &&
	       (uint32_t)column->offset + column->size <= row_size;
}

static void
add_part(struct history_view *view, const struct stats_column *theirs, const struct stats_column *ours)
{
	struct history_part *last = view->nparts != 0 ? &view->part[view->nparts - 1] : NULL;

	if (last != NULL && last->from + last->size == theirs->offset && last->to + last->size == ours->offset) {
		last->size += ours->size;
		return;
	}
	view->part[view->nparts++] = (struct history_part){
	    .from = theirs->offset,
	    .to = ours->offset,
	    .size = ours->size,
	};
}

/* Which of the writer's bytes are which of ours. */
static int
match(struct history_view *view, const struct history_header *h, struct stats_column *ours, struct stats_column *theirs)
{
	unsigned n = history_describe(ours);

	memcpy(theirs, view->base + h->columns, h->ncolumns * sizeof(theirs[0]));
	for (unsigned t = 0; t < h->ncolumns; t++) {
		theirs[t].name[sizeof(theirs[t].name) - 1] = '\0';
		if (!column_is_sound(&theirs[t], h->row_size))
			return -EBADMSG;
	}
	for (unsigned o = 0; o < n; o++) {
		unsigned t = o < h->ncolumns && strcmp(theirs[o].name, ours[o].name) == 0 ? o : 0;

		while (t < h->ncolumns && strcmp(theirs[t].name, ours[o].name) != 0)
			t++;
		if (t < h->ncolumns && theirs[t].type == ours[o].type)
			add_part(view, &theirs[t], &ours[o]);
		else if (ours[o].offset < HISTORY_PLACE_SIZE)
			return -EBADMSG; /* without its place a row is of no use */
	}
	return 0;
}

static int
match_columns(struct history_view *view, const struct history_header *h)
{
	/* Not on the stack, nor from malloc: whoever attaches would keep these pages for a moment's work. */
	const size_t size = 2 * HISTORY_MAX_COLUMNS * sizeof(struct stats_column);
	struct stats_column *columns = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (columns == MAP_FAILED)
		return -errno;
	r = match(view, h, columns, columns + HISTORY_MAX_COLUMNS);
	munmap(columns, size);
	return r;
}

static struct history_ring_header *
live_ring(const struct history_view *view, enum history_ring ring)
{
	return &((struct history_header *)(uintptr_t)view->base)->ring[ring];
}

int
history_view_init(struct history_view *ret, const void *base, size_t size)
{
	struct history_view view = {.base = base};
	struct history_header h;
	int r;

	if (size < sizeof(h))
		return -EBADMSG;
	/* Checked in a private copy. */
	memcpy(&h, base, sizeof(h));
	r = check_header(&h, size);
	if (r != 0)
		return r;
	view.size = h.size;
	view.row_size = h.row_size;
	for (unsigned i = 0; i < HISTORY_NRINGS; i++) {
		view.ring[i].offset = h.ring[i].offset;
		view.ring[i].capacity = h.ring[i].capacity;
	}
	stats_copy_text(view.instance, sizeof(view.instance), h.instance, sizeof(h.instance));
	stats_copy_text(view.pool, sizeof(view.pool), h.pool, sizeof(h.pool));
	r = match_columns(&view, &h);
	if (r == 0)
		*ret = view;
	return r;
}

void
history_view_range(const struct history_view *view, enum history_ring ring, uint64_t *ret_first, uint64_t *ret_end)
{
	struct history_ring_header *live = live_ring(view, ring);
	uint64_t capacity = view->ring[ring].capacity, done, begun;

	/* `done` first: pairs with history_writer_append(), as does history_view_row(). */
	done = atomic_load_explicit(&live->done, memory_order_acquire);
	stats_order();
	begun = atomic_load_explicit(&live->begun, memory_order_relaxed);
	*ret_first = begun > capacity ? begun - capacity : 0;
	*ret_end = done;
	/* Nonsense is an empty history. */
	if (capacity == 0 || done > begun || *ret_first > done || done == UINT64_MAX)
		*ret_first = *ret_end = 0;
}

/* A row that is there. Word by word: another process may be writing them. */
static void
copy_row(const struct history_view *view, const unsigned char *from, size_t size, struct history_row *ret)
{
	for (uint32_t p = 0; p < view->nparts; p++) {
		const struct history_part *part = &view->part[p];
		const _Atomic uint32_t *word = (const _Atomic uint32_t *)(const void *)(from + part->from);
		unsigned char *to = (unsigned char *)ret + part->to;
		size_t n = part->to >= size ? 0 : part->size < size - part->to ? part->size : size - part->to;

		for (size_t i = 0; i < n / 4; i++) {
			uint32_t value = atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)&word[i], memory_order_relaxed);

			memcpy(to + 4 * i, &value, 4);
		}
	}
}

bool
history_view_row(
    const struct history_view *view, enum history_ring ring, uint64_t k, size_t size, struct history_row *ret)
{
	struct history_ring_header *live = live_ring(view, ring);
	uint64_t capacity = view->ring[ring].capacity, begun;

	if (capacity == 0 || k >= atomic_load_explicit(&live->done, memory_order_acquire))
		return false;
	stats_order(); /* pairs with history_writer_append(): done before the row ... */
	memset(ret, 0, size);
	copy_row(view, view->base + view->ring[ring].offset + k % capacity * view->row_size, size, ret);
	stats_order(); /* ... and the row before begun */
	begun = atomic_load_explicit(&live->begun, memory_order_relaxed);
	return k + capacity >= begun && ret->number == k + 1;
}
