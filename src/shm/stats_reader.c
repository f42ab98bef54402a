/* SPDX-License-Identifier: PostgreSQL */
/*
 * Reading the stats segment: the tools' side. Copies one consistent moment into private memory and validates
 * all of it there; nothing that lies in the segment is used in place, so neither a truncation nor a scribbler
 * can harm a reader.
 */
#include "stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "exact_io.h"

#define SNAPSHOT_TRIES 100
#define SNAPSHOT_PAUSE_NS 1000000L /* between two tries; a publication takes well under a millisecond */
#define SNAPSHOT_MAX_BYTES (UINT64_C(256) << 20)

struct stats_reader {
	int fd;
};

int
stats_reader_open(const char *instance, struct stats_reader **ret_reader)
{
	struct stats_reader *reader;
	char name[PATHS_MAX];
	int r;

	r = paths_stats_name(instance, name, sizeof(name));
	if (r)
		return r;
	reader = malloc(sizeof(*reader));
	if (reader == NULL)
		return -ENOMEM;
	reader->fd = shm_open(name, O_RDONLY, 0);
	if (reader->fd < 0) {
		r = -errno;
		free(reader);
		return r;
	}
	*ret_reader = reader;
	return 0;
}

void
stats_reader_close(struct stats_reader *reader)
{
	if (reader == NULL)
		return;
	close(reader->fd);
	free(reader);
}

static bool
inside(uint64_t offset, uint64_t count, uint64_t each, uint64_t size)
{
	return offset <= size && (each == 0 || count <= (size - offset) / each);
}

static int
check_header(const struct stats_header *header)
{
	if (header->magic != STATS_MAGIC)
		return -EBADMSG;
	if (header->version != STATS_VERSION)
		return -EPROTO;
	if (header->ntables > STATS_MAX_TABLES || header->size > SNAPSHOT_MAX_BYTES)
		return -EBADMSG;
	for (uint32_t i = 0; i < header->ntables; i++) {
		const struct stats_table *table = &header->table[i];

		if (table->ncolumns > STATS_MAX_COLUMNS || table->row_size == 0 ||
		    table->row_size > UINT16_MAX || table->nrows > table->capacity ||
		    !inside(table->columns, table->ncolumns, sizeof(struct stats_column), header->size) ||
		    !inside(table->offset, table->capacity, table->row_size, header->size))
			return -EBADMSG;
	}
	return 0;
}

/* Columns of a type that this version does not know are left out; bad ones condemn the segment. */
static int
check_columns(struct stats_view *view)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < view->ncolumns; i++) {
		struct stats_column *column = &view->column[i];

		if ((uint32_t)column->offset + column->size > view->row_size)
			return -EBADMSG;
		if ((column->type == STATS_U32 && column->size != 4) ||
		    (column->type == STATS_U64 && column->size != 8) ||
		    (column->type == STATS_TEXT && column->size == 0))
			return -EBADMSG;
		if (column->type != STATS_U32 && column->type != STATS_U64 && column->type != STATS_TEXT)
			continue;
		stats_copy_text(column->name, sizeof(column->name), column->name, sizeof(column->name));
		stats_copy_text(column->help, sizeof(column->help), column->help, sizeof(column->help));
		view->column[kept++] = *column;
	}
	view->ncolumns = kept;
	return 0;
}

static void
clean_texts(struct stats_view *view)
{
	for (uint32_t row = 0; row < view->nrows; row++) {
		for (uint32_t i = 0; i < view->ncolumns; i++) {
			char *text =
			    (char *)view->rows + (size_t)row * view->row_size + view->column[i].offset;

			if (view->column[i].type == STATS_TEXT)
				stats_copy_text(text, view->column[i].size, text, view->column[i].size);
		}
	}
}

static int
read_table(int fd, const struct stats_table *table, struct stats_view *ret_view)
{
	int r;

	stats_copy_text(ret_view->name, sizeof(ret_view->name), table->name, sizeof(table->name));
	ret_view->ncolumns = table->ncolumns;
	ret_view->row_size = table->row_size;
	ret_view->nrows = table->nrows;
	ret_view->total = table->total;
	/* One more of each, so that an empty table has memory too. */
	ret_view->column = calloc((size_t)table->ncolumns + 1, sizeof(struct stats_column));
	ret_view->rows = calloc((size_t)table->nrows + 1, table->row_size);
	if (ret_view->column == NULL || ret_view->rows == NULL)
		return -ENOMEM;
	r = exact_read(fd, ret_view->column, table->ncolumns * sizeof(struct stats_column), table->columns);
	if (r == 0)
		r = exact_read(fd, ret_view->rows, (size_t)table->nrows * table->row_size, table->offset);
	if (r == 0)
		r = check_columns(ret_view);
	return r;
}

/* One try. *ret_torn when the broker was writing before, during or after it. */
static int
read_once(int fd, struct stats_snapshot *snapshot, bool *ret_torn)
{
	struct stats_header *header = &snapshot->header;
	uint64_t after;
	int r;

	r = exact_read(fd, header, sizeof(*header), 0);
	if (r == 0)
		r = check_header(header);
	if (r)
		return r;
	stats_order(); /* pairs with stats_writer_publish(), as the one below does */
	for (snapshot->ntables = 0; snapshot->ntables < header->ntables; snapshot->ntables++) {
		r = read_table(fd, &header->table[snapshot->ntables], &snapshot->table[snapshot->ntables]);
		if (r) {
			snapshot->ntables++; /* half read: fini frees it */
			return r;
		}
	}
	stats_order();
	r = exact_read(fd, &after, sizeof(after), offsetof(struct stats_header, sequence));
	if (r)
		return r;
	*ret_torn = (header->sequence & 1) || header->sequence != after;
	return 0;
}

/* Whether no broker holds the object's write lock: it died, or it is on its way out. */
static bool
writer_is_gone(int fd)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

int
stats_reader_snapshot(struct stats_reader *reader, struct stats_snapshot *ret_snapshot)
{
	static const struct timespec pause = {.tv_nsec = SNAPSHOT_PAUSE_NS};
	struct stats_snapshot snapshot;
	struct stats_header *header = &snapshot.header;
	struct timespec now;
	uint64_t now_ns;
	int r;

	for (int i = 0;; i++) {
		memset(&snapshot, 0, sizeof(snapshot));
		r = read_once(reader->fd, &snapshot, &snapshot.torn);
		/* A broker that starts has a segment that is not filled yet: worth a pause, as a torn picture
		 * is. */
		if (r == -EBADMSG && (header->magic == 0 || (header->sequence & 1)))
			snapshot.torn = true;
		if (!snapshot.torn || i == SNAPSHOT_TRIES - 1)
			break;
		stats_snapshot_fini(&snapshot);
		nanosleep(&pause, NULL);
	}
	if (r) {
		stats_snapshot_fini(&snapshot);
		return r;
	}
	for (unsigned i = 0; i < snapshot.ntables; i++)
		clean_texts(&snapshot.table[i]);
	stats_copy_text(
	    header->instance, sizeof(header->instance), header->instance, sizeof(header->instance));
	stats_copy_text(header->program, sizeof(header->program), header->program, sizeof(header->program));
	stats_copy_text(
	    header->socket_dir, sizeof(header->socket_dir), header->socket_dir, sizeof(header->socket_dir));
	snapshot.gone = writer_is_gone(reader->fd);
	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
	snapshot.age_ns = now_ns > header->published_mono ? now_ns - header->published_mono : 0;
	*ret_snapshot = snapshot;
	return 0;
}

int
stats_snapshot_of_rows(const struct stats_header *header, const struct stats_rows rows[STATS_NTABLES],
    struct stats_snapshot *ret_snapshot)
{
	struct stats_snapshot snapshot = {.header = *header};

	for (enum stats_table_id id = 0; id < STATS_NTABLES; id++) {
		struct stats_view *view = &snapshot.table[snapshot.ntables];
		size_t size;

		if (rows[id].rows == NULL)
			continue;
		snapshot.ntables++;
		snprintf(view->name, sizeof(view->name), "%s", stats_table_name(id));
		view->row_size = stats_row_size(id);
		view->nrows = rows[id].nrows;
		view->total = rows[id].total;
		size = (size_t)view->row_size * view->nrows;
		view->column = malloc(STATS_MAX_COLUMNS * sizeof(*view->column));
		view->rows = malloc(size + 1);
		if (view->column == NULL || view->rows == NULL) {
			stats_snapshot_fini(&snapshot);
			return -ENOMEM;
		}
		view->ncolumns = stats_describe(id, view->column);
		memcpy(view->rows, rows[id].rows, size);
	}
	*ret_snapshot = snapshot;
	return 0;
}

void
stats_snapshot_fini(struct stats_snapshot *snapshot)
{
	for (unsigned i = 0; i < snapshot->ntables; i++) {
		free(snapshot->table[i].column);
		free(snapshot->table[i].rows);
	}
	snapshot->ntables = 0;
}

const struct stats_view *
stats_view_find(const struct stats_snapshot *snapshot, const char *table)
{
	for (unsigned i = 0; i < snapshot->ntables; i++)
		if (strcmp(snapshot->table[i].name, table) == 0)
			return &snapshot->table[i];
	return NULL;
}

const struct stats_column *
stats_column_find(const struct stats_view *view, const char *column)
{
	for (uint32_t i = 0; i < view->ncolumns; i++)
		if (strcmp(view->column[i].name, column) == 0)
			return &view->column[i];
	return NULL;
}

bool
stats_value_u64(const struct stats_view *view, uint32_t row, const struct stats_column *column, uint64_t *ret)
{
	const unsigned char *p = view->rows + (size_t)row * view->row_size + column->offset;
	uint64_t value;
	uint32_t small;

	assert(row < view->nrows);
	if (column->type == STATS_U32) {
		memcpy(&small, p, sizeof(small));
		value = small;
		if ((column->flags & STATS_NULLABLE) && small == STATS_NO_U32)
			return false;
	} else {
		assert(column->type == STATS_U64);
		memcpy(&value, p, sizeof(value));
		if ((column->flags & STATS_NULLABLE) && value == STATS_NO_U64)
			return false;
	}
	*ret = value;
	return true;
}

const char *
stats_value_text(const struct stats_view *view, uint32_t row, const struct stats_column *column)
{
	assert(row < view->nrows && column->type == STATS_TEXT);
	return (const char *)view->rows + (size_t)row * view->row_size + column->offset;
}
