/* SPDX-License-Identifier: PostgreSQL */
/*
 * Writing the stats segment: the broker's side. Owns the POSIX object, its lock and its layout; what the rows
 * say is the publisher's business (src/broker/publish.c).
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
#include "owner_lock.h"

#define CREATE_TRIES 16

struct stats_writer {
	int fd;
	char name[PATHS_MAX];
	struct stats_header header; /* the sequence in it is even but for the time of a publication */
};

static uint64_t
clock_get(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

uint32_t
stats_pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? (uint32_t)st.st_ino : 0;
}

/* The pid in a living broker's segment; 0 when it has not published yet. */
static pid_t
owner_pid(int fd)
{
	struct stats_header header;

	if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) || header.magic != STATS_MAGIC ||
	    header.version != STATS_VERSION)
		return 0;
	return (pid_t)header.broker_pid;
}

/*
 * A new, empty, locked object of that name. The lock decides between two brokers that start at once: an
 * object is ours when we hold its lock, it still has its name, and nobody has written to it. One that only a reader has locked is
 * stale too: its writer's death gave him the lock, and nobody but he ends it.
 */
static int
create_locked(const char *name, int *ret_fd, pid_t *ret_owner)
{
	struct stat st;
	int fd, r, held;

	for (int i = 0; i < CREATE_TRIES; i++) {
		/* Without O_CREAT first: with it, fs.protected_regular forbids opening a stale object of
		 * another user. */
		fd = shm_open(name, O_RDWR, 0);
		if (fd < 0 && errno == ENOENT)
			fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR);
		if (fd < 0 && (errno == EEXIST || errno == ENOENT))
			continue; /* another broker is as fast: look again */
		if (fd < 0)
			return -errno;
		held = owner_lock(fd);
		if (held != 0 && held != -EUSERS) {
			if (held == -EBUSY)
				*ret_owner = owner_pid(fd);
			close(fd);
			return held;
		}
		if (fstat(fd, &st)) {
			r = -errno;
			close(fd);
			return r;
		}
		if (held == 0 && st.st_nlink > 0 && st.st_size == 0 && st.st_uid == geteuid()) {
			*ret_fd = fd;
			return 0;
		}
		/* Stale: its writer is dead, or we would have found his lock. */
		if (st.st_nlink > 0 && shm_unlink(name) && errno != ENOENT) {
			r = -errno;
			close(fd);
			return r;
		}
		close(fd);
	}
	return -EBUSY;
}

static uint64_t
align_line(uint64_t offset)
{
	return (offset + LAYOUT_LINE - 1) & ~(uint64_t)(LAYOUT_LINE - 1);
}

/* Lays the tables out in the header. */
static void
plan_layout(struct stats_writer *writer, const struct stats_writer_params *params,
    struct stats_column columns[STATS_NTABLES][STATS_MAX_COLUMNS])
{
	struct stats_header *header = &writer->header;
	uint64_t offset = sizeof(*header);

	for (enum stats_table_id id = 0; id < STATS_NTABLES; id++) {
		struct stats_table *table = &header->table[id];

		snprintf(table->name, sizeof(table->name), "%s", stats_table_name(id));
		table->ncolumns = stats_describe(id, columns[id]);
		table->row_size = stats_row_size(id);
		table->capacity = params->capacity[id];
		table->columns = align_line(offset);
		table->offset = align_line(table->columns + table->ncolumns * sizeof(struct stats_column));
		offset = table->offset + (uint64_t)table->row_size * table->capacity;
	}
	header->size = align_line(offset);
}

/* Space, and the columns, which never change afterwards. */
static int
write_layout(struct stats_writer *writer, struct stats_column columns[STATS_NTABLES][STATS_MAX_COLUMNS])
{
	struct stats_header *header = &writer->header;
	int r;

	r = posix_fallocate(writer->fd, 0, (off_t)header->size);
	if (r)
		return -r;
	for (enum stats_table_id id = 0; id < STATS_NTABLES; id++) {
		r = exact_write(writer->fd, columns[id],
		    header->table[id].ncolumns * sizeof(struct stats_column), header->table[id].columns);
		if (r)
			return r;
	}
	return 0;
}

/* Whether the segment of the broker before is what this one would make; what goes on is taken from it. */
static bool
is_as_planned(struct stats_writer *writer, struct stats_column columns[STATS_NTABLES][STATS_MAX_COLUMNS])
{
	struct stats_column there[STATS_MAX_COLUMNS];
	struct stats_header header, *mine = &writer->header;

	if (exact_read(writer->fd, &header, sizeof(header), 0) != 0 || header.magic != STATS_MAGIC)
		return false;
	mine->started_at = header.started_at;
	if (header.version != STATS_VERSION || header.ntables != STATS_NTABLES || header.size != mine->size)
		return false;
	for (enum stats_table_id id = 0; id < STATS_NTABLES; id++) {
		const struct stats_table *a = &header.table[id], *b = &mine->table[id];
		size_t size = b->ncolumns * sizeof(struct stats_column);

		if (memcmp(a->name, b->name, sizeof(a->name)) != 0 || a->offset != b->offset || a->columns != b->columns ||
		    a->ncolumns != b->ncolumns || a->row_size != b->row_size || a->capacity != b->capacity ||
		    exact_read(writer->fd, there, size, a->columns) != 0 || memcmp(there, columns[id], size) != 0)
			return false;
	}
	mine->sequence = header.sequence;
	return true;
}

/*
 * There is no room for another one: the segment of the broker before goes on, with the tables as large as they are there, if it is of
 * this version. What does not fit is not published, as their totals tell.
 */
static bool
can_stay(struct stats_writer *writer, struct stats_column columns[STATS_NTABLES][STATS_MAX_COLUMNS])
{
	struct stats_column there[STATS_MAX_COLUMNS];
	struct stats_header header, *mine = &writer->header;

	if (exact_read(writer->fd, &header, sizeof(header), 0) != 0 || header.magic != STATS_MAGIC ||
	    header.version != STATS_VERSION || header.ntables != STATS_NTABLES)
		return false;
	for (enum stats_table_id id = 0; id < STATS_NTABLES; id++) {
		const struct stats_table *a = &header.table[id], *b = &mine->table[id];
		size_t size = b->ncolumns * sizeof(struct stats_column);

		if (memcmp(a->name, b->name, sizeof(a->name)) != 0 || a->ncolumns != b->ncolumns || a->row_size != b->row_size ||
		    exact_read(writer->fd, there, size, a->columns) != 0 || memcmp(there, columns[id], size) != 0)
			return false;
	}
	memcpy(mine->table, header.table, sizeof(mine->table));
	mine->size = header.size;
	mine->sequence = header.sequence;
	return true;
}

/*
 * Another one in its place, whole before it has the name: whoever looks for it finds one or the other, and who has the old one open
 * sees that it is gone.
 */
static int
replace_segment(
    struct stats_writer *writer, struct stats_column columns[STATS_NTABLES][STATS_MAX_COLUMNS], pid_t *ret_owner)
{
	char name[PATHS_MAX + 8], from[sizeof(name) + 16], to[sizeof(name) + 16];
	int old = writer->fd, r;

	snprintf(name, sizeof(name), "%s.new", writer->name);
	writer->fd = -1;
	r = create_locked(name, &writer->fd, ret_owner);
	if (r == 0)
		r = write_layout(writer, columns);
	/* As shm_open(3) finds them. */
	snprintf(from, sizeof(from), "/dev/shm%s", name);
	snprintf(to, sizeof(to), "/dev/shm%s", writer->name);
	if (r == 0 && rename(from, to) != 0)
		r = -errno;
	if (r == 0) {
		close(old);
		return 0;
	}
	if (writer->fd >= 0) {
		shm_unlink(name);
		close(writer->fd);
	}
	writer->fd = old;
	return can_stay(writer, columns) ? 0 : r;
}

int
stats_writer_fd(const struct stats_writer *writer)
{
	return writer->fd;
}

/* The segment: that of the broker before, or a new one. */
static int
open_segment(struct stats_writer *writer, const struct stats_writer_params *params, pid_t *ret_owner)
{
	struct stats_column columns[STATS_NTABLES][STATS_MAX_COLUMNS];
	int r;

	plan_layout(writer, params, columns);
	if (params->takes_over) {
		writer->fd = params->fd;
		if (is_as_planned(writer, columns))
			return 0;
		/* Of another version, or of other pools. */
		return replace_segment(writer, columns, ret_owner);
	}
	r = create_locked(writer->name, &writer->fd, ret_owner);
	return r == 0 ? write_layout(writer, columns) : r;
}

int
stats_writer_new(const struct stats_writer_params *params, struct stats_writer **ret_writer, pid_t *ret_owner)
{
	struct stats_writer *writer;
	int r;

	writer = calloc(1, sizeof(*writer));
	if (writer == NULL)
		return -ENOMEM;
	writer->fd = -1;
	r = paths_stats_name(params->instance, writer->name, sizeof(writer->name));
	if (r)
		goto fail;
	*ret_owner = 0;
	writer->header.magic = STATS_MAGIC;
	writer->header.version = STATS_VERSION;
	writer->header.ntables = STATS_NTABLES;
	writer->header.instance_id = params->instance_id;
	writer->header.broker_pid = (uint32_t)getpid();
	writer->header.started_at = clock_get(CLOCK_REALTIME);
	writer->header.off = params->off;
	writer->header.pid_namespace = stats_pid_namespace();
	snprintf(writer->header.instance, sizeof(writer->header.instance), "%s", params->instance);
	snprintf(writer->header.program, sizeof(writer->header.program), "%s", params->program);
	snprintf(writer->header.socket_dir, sizeof(writer->header.socket_dir), "%s", params->socket_dir);
	r = open_segment(writer, params, ret_owner);
	if (r)
		goto fail;
	if (params->group != NULL && fchown(writer->fd, (uid_t)-1, *params->group)) {
		r = errno == EPERM ? -ECHRNG : -errno;
		goto fail;
	}
	if (fchmod(writer->fd, params->mode)) { /* shm_open's mode is cut by the umask */
		r = -errno;
		goto fail;
	}
	*ret_writer = writer;
	return 0;
fail:
	stats_writer_free(writer);
	return r;
}

int
stats_writer_publish(struct stats_writer *writer, uint32_t state, const struct stats_rows rows[STATS_NTABLES])
{
	struct stats_header *header = &writer->header;
	int r;

	header->sequence |= 1;
	r = exact_write(
	    writer->fd, &header->sequence, sizeof(header->sequence), offsetof(struct stats_header, sequence));
	if (r)
		return r;
	stats_order(); /* pairs with read_once(): odd is seen before the rows, the rows before even */
	for (enum stats_table_id id = 0; id < STATS_NTABLES; id++) {
		struct stats_table *table = &header->table[id];

		table->nrows = rows[id].nrows < table->capacity ? rows[id].nrows : table->capacity;
		table->total = rows[id].total;
		r = exact_write(
		    writer->fd, rows[id].rows, (size_t)table->nrows * table->row_size, table->offset);
		if (r)
			return r;
	}
	header->state = state;
	header->published_at = clock_get(CLOCK_REALTIME);
	header->published_mono = clock_get(CLOCK_MONOTONIC);
	r = exact_write(writer->fd, header, sizeof(*header), 0);
	if (r)
		return r;
	stats_order();
	header->sequence++;
	return exact_write(
	    writer->fd, &header->sequence, sizeof(header->sequence), offsetof(struct stats_header, sequence));
}

const struct stats_header *
stats_writer_header(const struct stats_writer *writer)
{
	return &writer->header;
}

uint64_t
stats_writer_size(const struct stats_writer *writer)
{
	return writer->header.size;
}

void
stats_writer_free(struct stats_writer *writer)
{
	struct stat st;

	if (writer == NULL)
		return;
	if (writer->fd >= 0) {
		/* No link left: somebody removed our object by hand, and the name may be another broker's by
		 * now. */
		if (fstat(writer->fd, &st) == 0 && st.st_nlink > 0)
			shm_unlink(writer->name);
		close(writer->fd); /* drops the lock, after the name */
	}
	free(writer);
}
