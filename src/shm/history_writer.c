/* SPDX-License-Identifier: PostgreSQL */
/*
 * Writing a pool's history: the broker's side. Owns the POSIX object, its lock, and what is carried over into it from the broker
 * before. What the rows say is the recorder's business (src/broker/recorder.c).
 */
#include "history_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exact_io.h"
#include "owner_lock.h"

struct history_writer {
	int fd, reader; /* the second can only read */
	char name[PATHS_MAX];
	char unfinished[PATHS_MAX + 24]; /* its name until it is whole; "": it has the name above */
	struct history_header header;
	struct stats_column columns[HISTORY_MAX_COLUMNS];
	uint64_t serial; /* of the last sample */
	bool inherited;  /* it has, or stands for, the object of a broker that died */
};

static uint64_t
row_offset(const struct history_ring_header *ring, uint64_t k)
{
	return ring->offset + k % ring->capacity * sizeof(struct history_row);
}

static int
write_counter(const struct history_writer *writer, const _Atomic uint64_t *member)
{
	uint64_t value = atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)member, memory_order_relaxed);

	return exact_write(writer->fd, &value, sizeof(value),
	    (uint64_t)((const char *)member - (const char *)&writer->header));
}

int
history_writer_append(struct history_writer *writer, enum history_ring which, struct history_row *row)
{
	struct history_ring_header *ring = &writer->header.ring[which];
	uint64_t k = ring->done;
	int r;

	if (ring->capacity == 0)
		return 0;
	row->number = k + 1;
	if (writer->serial < row->serial)
		writer->serial = row->serial;
	/* Dead before this: nothing happened. From here to the last step: row k - capacity is gone, and k not there yet. */
	ring->begun = k + 1;
	r = write_counter(writer, &ring->begun);
	if (r != 0)
		return r;
	stats_order(); /* pairs with history_view_row(): begun is seen before any of the row */
	r = exact_write(writer->fd, row, sizeof(*row), row_offset(ring, k));
	if (r != 0)
		return r;
	stats_order(); /* likewise: all of the row before done */
	ring->done = k + 1;
	return write_counter(writer, &ring->done);
}

uint64_t
history_writer_sample(struct history_writer *writer)
{
	return ++writer->serial;
}

/* The newest row of a ring but `back`, or false. */
static bool
read_newest(const struct history_writer *writer, enum history_ring which, uint64_t back, struct history_row *ret)
{
	const struct history_ring_header *ring = &writer->header.ring[which];
	uint64_t done = ring->done;

	return back < done && back < ring->capacity &&
	       exact_read(writer->fd, ret, sizeof(*ret), row_offset(ring, done - 1 - back)) == 0 &&
	       ret->number == done - back;
}

/* --- What was recorded before. --- */

/* Whether the minute after `minute` (of serial 0: none) begins with this second. */
static bool
begins_minute(const struct history_row *minute, const struct history_row *second)
{
	return second->first != 0 || (second->serial == minute->serial + 1 && second->instance == minute->instance);
}

/* A broker that was killed has not written its last minute's row: its seconds make it, if they are all there. */
static int
close_minute(struct history_writer *writer)
{
	struct history_row minute = {0}, sum, row;
	bool whole;

	if (!read_newest(writer, HISTORY_SECONDS, 0, &sum))
		return 0;
	if (read_newest(writer, HISTORY_MINUTES, 0, &minute) && minute.serial >= sum.serial)
		return 0;
	whole = begins_minute(&minute, &sum);
	for (uint64_t back = 1; !whole; back++) {
		if (!read_newest(writer, HISTORY_SECONDS, back, &row) || row.instance != sum.instance ||
		    row.serial <= minute.serial)
			return 0;
		whole = begins_minute(&minute, &row);
		history_row_add(&row, &sum);
		sum = row;
	}
	return history_writer_append(writer, HISTORY_MINUTES, &sum);
}

/* How far the rows of a ring lie in the future. */
static uint64_t
ahead(const struct history_view *view, enum history_ring ring, uint64_t now)
{
	struct history_row row;
	uint64_t first, end;

	history_view_range(view, ring, &first, &end);
	return first < end && history_view_row(view, ring, end - 1, HISTORY_PLACE_SIZE, &row) && row.time > now
	           ? row.time - now
	           : 0;
}

/* The rows of another object or file, as many as there is room for. */
static int
carry(struct history_writer *writer, const struct history_view *view, uint64_t now)
{
	uint64_t shift = ahead(view, HISTORY_SECONDS, now), first, end, capacity;
	uint64_t also = ahead(view, HISTORY_MINUTES, now);
	struct history_row row;
	int r;

	if (shift < also)
		shift = also;
	for (unsigned ring = 0; ring < HISTORY_NRINGS; ring++) {
		history_view_range(view, ring, &first, &end);
		capacity = writer->header.ring[ring].capacity;
		if (end - first > capacity)
			first = end - capacity;
		for (uint64_t k = first; k < end; k++) {
			if (!history_view_row(view, ring, k, sizeof(row), &row))
				continue;
			row.time = row.time > shift ? row.time - shift : 0;
			r = history_writer_append(writer, ring, &row);
			if (r != 0)
				return r;
		}
	}
	return 0;
}

/* --- The object. --- */

/*
 * Whether the dead broker's object is just what this one would make, and may be written on. `view`: its rows must not lie in the
 * future; NULL: they are this process's.
 */
static bool
is_as_wanted(struct history_writer *writer, int fd, const struct history_view *view, off_t size, uint64_t now)
{
	struct stats_column columns[HISTORY_MAX_COLUMNS];
	struct history_header theirs, *ours = &writer->header;

	if ((uint64_t)size != ours->size || exact_read(fd, &theirs, sizeof(theirs), 0) != 0 ||
	    theirs.ncolumns != HISTORY_COLUMNS ||
	    exact_read(fd, columns, HISTORY_COLUMNS * sizeof(columns[0]), sizeof(theirs)) != 0 ||
	    memcmp(columns, writer->columns, HISTORY_COLUMNS * sizeof(columns[0])) != 0)
		return false;
	for (unsigned r = 0; r < HISTORY_NRINGS; r++) {
		uint64_t begun = theirs.ring[r].begun, done = theirs.ring[r].done;

		if (begun < done || begun - done > 1 || (view != NULL && ahead(view, r, now) != 0))
			return false;
		theirs.ring[r].begun = ours->ring[r].begun;
		theirs.ring[r].done = ours->ring[r].done;
		if (memcmp(&theirs.ring[r], &ours->ring[r], sizeof(ours->ring[r])) != 0)
			return false;
		ours->ring[r].begun = begun;
		ours->ring[r].done = done;
	}
	return true;
}

static void
note_serial(struct history_writer *writer)
{
	struct history_row row;

	for (unsigned r = 0; r < HISTORY_NRINGS; r++)
		if (read_newest(writer, r, 0, &row) && writer->serial < row.serial)
			writer->serial = row.serial;
}

static void
refuse(char why[HISTORY_WHY], const char *what, int error)
{
	snprintf(why, HISTORY_WHY, "%s: %s", what,
	    error == -EPROTO    ? "it is of another version"
	    : error == -EBADMSG ? "it is damaged, or no history"
	                        : strerror(-error));
}

/*
 * A dead broker's object: taken over as it is (writer->fd), or read (*ret_bytes), and then another one comes in its place. One
 * without content was left by a broker that died while it made it. Without the memory to read it, it stays.
 */
static int
take_over(struct history_writer *writer, int fd, off_t size, bool is_locked, uint64_t now, struct history_bytes *ret_bytes,
    struct history_view *ret_view, char why[HISTORY_WHY])
{
	const struct history_header as_new = writer->header;
	int r = size == 0 ? 0 : history_read(fd, ret_bytes, ret_view);

	if (r != 0 && r != -EPROTO && r != -EBADMSG && r != -EFBIG)
		return r;
	if (r != 0) {
		refuse(why, "the history of the broker before cannot be read", r);
	} else if (size != 0 && is_locked && is_as_wanted(writer, fd, ret_view, size, now)) {
		writer->fd = fd;
		writer->inherited = true;
		note_serial(writer);
		return 0;
	}
	writer->header = as_new;
	return 0;
}

/* A dead broker's object, if there is one. It is the only one that is there: the caller holds the instance's stats segment. */
static int
look_for_object(struct history_writer *writer, uint64_t now, struct history_bytes *bytes, struct history_view *view, char why[HISTORY_WHY])
{
	struct stat st;
	int fd = shm_open(writer->name, O_RDWR, 0), r, held;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	held = owner_lock(fd);
	r = fstat(fd, &st) != 0 ? -errno : st.st_uid != geteuid() ? -EACCES : held == -EUSERS ? 0 : held;
	if (r == 0)
		r = take_over(writer, fd, st.st_size, held == 0, now, bytes, view, why);
	if (writer->fd < 0)
		close(fd); /* without the lock: nobody else looks for it */
	return r;
}

/* A new, empty one, with the lock, under a name that nobody else can have taken before. */
static int
new_object(struct history_writer *writer)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -errno;
	snprintf(writer->unfinished, sizeof(writer->unfinished), "%s.%016" PRIx64, writer->name, random);
	writer->fd = shm_open(writer->unfinished, O_RDWR | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR);
	return writer->fd < 0 ? -errno : owner_lock(writer->fd);
}

/* It is whole: in the place of the dead broker's, which was there until now. */
static int
name_object(struct history_writer *writer)
{
	char from[sizeof(writer->unfinished) + 16], to[PATHS_MAX + 16];

	/* As shm_open(3) finds them. */
	snprintf(from, sizeof(from), "/dev/shm%s", writer->unfinished);
	snprintf(to, sizeof(to), "/dev/shm%s", writer->name);
	if (rename(from, to) != 0)
		return -errno;
	writer->unfinished[0] = '\0';
	return 0;
}

/* Space, columns, and the header without its magic: an object whose maker dies here is no history. */
static int
fill_object(struct history_writer *writer)
{
	struct history_header header = writer->header;
	int r = posix_fallocate(writer->fd, 0, (off_t)header.size);

	if (r != 0)
		return -r;
	header.magic = 0;
	r = exact_write(writer->fd, &header, sizeof(header), 0);
	if (r == 0)
		r = exact_write(writer->fd, writer->columns, HISTORY_COLUMNS * sizeof(writer->columns[0]),
		    header.columns);
	return r;
}

/* The reader's descriptor, group and mode; the mode last: it may forbid even us to read. */
static int
open_to_readers(struct history_writer *writer, const struct history_params *params)
{
	if (fchmod(writer->fd, S_IRUSR | S_IWUSR) != 0)
		return -errno;
	writer->reader = shm_open(*writer->unfinished != '\0' ? writer->unfinished : writer->name, O_RDONLY, 0);
	if (writer->reader < 0)
		return -errno;
	if (params->group != NULL && fchown(writer->fd, (uid_t)-1, *params->group) != 0)
		return errno == EPERM ? -ECHRNG : -errno;
	return fchmod(writer->fd, params->mode) != 0 ? -errno : 0;
}

int
history_writer_new(const struct history_params *params, struct history_writer **ret, char why[HISTORY_WHY])
{
	uint64_t capacity[HISTORY_NRINGS] = {params->seconds, HISTORY_DAY_MINUTES};
	struct history_writer *writer = calloc(1, sizeof(*writer));
	struct history_bytes bytes = {0};
	struct history_view *view = calloc(1, sizeof(*view));
	int r = -ENOMEM;

	*why = '\0';
	if (writer == NULL || view == NULL)
		goto fail;
	writer->fd = writer->reader = -1;
	history_header_init(&writer->header, params->instance, params->pool, capacity);
	history_describe(writer->columns);
	r = paths_history_name(params->instance, params->pool, writer->name, sizeof(writer->name));
	if (r == 0)
		r = look_for_object(writer, params->now, &bytes, view, why);
	if (r != 0)
		goto fail;
	if (writer->fd < 0) {
		bool from_object = bytes.base != NULL;

		r = new_object(writer);
		if (r == 0)
			r = fill_object(writer);
		if (r == 0 && !from_object && params->file != NULL) {
			r = history_load(params->file, &bytes, view, why);
			r = r == -ENOMEM ? r : 0; /* a bad file is no reason not to start */
		}
		if (r == 0 && bytes.base != NULL)
			r = carry(writer, view, params->now);
		if (r == 0)
			r = exact_write(writer->fd, &writer->header.magic, sizeof(writer->header.magic), 0);
		writer->inherited = r == 0 && from_object;
	}
	if (r == 0)
		r = close_minute(writer);
	if (r == 0)
		r = open_to_readers(writer, params);
	if (r == 0 && *writer->unfinished != '\0')
		r = name_object(writer);
	if (r != 0)
		goto fail;
	history_bytes_fini(&bytes);
	free(view);
	*ret = writer;
	return 0;

fail:
	history_bytes_fini(&bytes);
	free(view);
	history_writer_free(writer, true);
	return r;
}

int
history_writer_take_over(const struct history_params *params, int fd, int reader, struct history_writer **ret)
{
	uint64_t capacity[HISTORY_NRINGS] = {params->seconds, HISTORY_DAY_MINUTES};
	struct history_writer *writer = calloc(1, sizeof(*writer));
	struct stat st;
	int r;

	if (writer == NULL)
		return -ENOMEM;
	writer->fd = writer->reader = -1;
	history_header_init(&writer->header, params->instance, params->pool, capacity);
	history_describe(writer->columns);
	r = paths_history_name(params->instance, params->pool, writer->name, sizeof(writer->name));
	if (r == 0 && fstat(fd, &st) != 0)
		r = -errno;
	if (r == 0 && !is_as_wanted(writer, fd, NULL, st.st_size, params->now))
		r = -EPROTO;
	if (r == 0 && params->group != NULL && fchown(fd, (uid_t)-1, *params->group) != 0)
		r = errno == EPERM ? -ECHRNG : -errno;
	if (r == 0 && fchmod(fd, params->mode) != 0)
		r = -errno;
	if (r != 0) {
		free(writer);
		return r;
	}
	writer->fd = fd;
	writer->reader = reader;
	note_serial(writer);
	*ret = writer;
	return 0;
}

int
history_remove(const char *instance, const char *pool)
{
	char name[PATHS_MAX];
	struct stat st;
	int r = paths_history_name(instance, pool, name, sizeof(name)), fd;

	if (r != 0)
		return r;
	fd = shm_open(name, O_RDWR, 0);
	if (fd < 0)
		return -errno;
	r = fstat(fd, &st) != 0 ? -errno : st.st_uid != geteuid() ? -EACCES : owner_lock(fd);
	if (r == -EUSERS)
		r = 0; /* nobody's */
	if (r == 0 && shm_unlink(name) != 0)
		r = -errno;
	close(fd);
	return r;
}

int
history_writer_fd(const struct history_writer *writer)
{
	return writer->fd;
}

int
history_writer_reader(const struct history_writer *writer)
{
	return writer->reader;
}

uint64_t
history_writer_size(const struct history_writer *writer)
{
	return writer->header.size;
}

int
history_writer_save(const struct history_writer *writer, const char *path)
{
	return history_save(writer->fd, &writer->header, path);
}

void
history_writer_free(struct history_writer *writer, bool leave)
{
	struct stat st;

	if (writer == NULL)
		return;
	if (writer->fd >= 0) {
		/* No link left: somebody removed it by hand, and the name may be another's by now. */
		if (*writer->unfinished != '\0')
			shm_unlink(writer->unfinished);
		else if (!(leave && writer->inherited) && fstat(writer->fd, &st) == 0 && st.st_nlink > 0)
			shm_unlink(writer->name);
		close(writer->fd); /* drops the lock, after the name */
	}
	if (writer->reader >= 0)
		close(writer->reader);
	free(writer);
}
