/* SPDX-License-Identifier: PostgreSQL */
/*
 * A history in a file, between a clean stop of a broker and its next start: the object's format, without the places that have no
 * row yet, and with a checksum.
 */
#include "history_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exact_io.h"

#define CHUNK_ROWS 32

/* The rows of a ring, oldest first; they are the file's next bytes. */
static int
save_ring(int from, int to, const struct history_ring_header *source, struct history_ring_header *ring, uint64_t *sum)
{
	struct history_row *rows = malloc(CHUNK_ROWS * sizeof(*rows));
	uint64_t first = source->begun > source->capacity ? source->begun - source->capacity : 0, at = ring->offset;
	uint64_t number = 0;
	int r = rows == NULL ? -ENOMEM : 0;

	for (uint64_t k = first; r == 0 && k < source->done;) {
		uint64_t place = k % source->capacity, n = source->done - k;

		if (n > CHUNK_ROWS)
			n = CHUNK_ROWS;
		if (n > source->capacity - place)
			n = source->capacity - place;
		r = exact_read(from, rows, n * sizeof(*rows), source->offset + place * sizeof(*rows));
		for (uint64_t i = 0; i < n; i++)
			rows[i].number = ++number;
		*sum = history_checksum(*sum, rows, n * sizeof(*rows));
		if (r == 0)
			r = exact_write(to, rows, n * sizeof(*rows), at);
		at += n * sizeof(*rows);
		k += n;
	}
	free(rows);
	return r;
}

static int
save_to(int from, int to, const struct history_header *source)
{
	struct stats_column columns[HISTORY_MAX_COLUMNS];
	struct history_header header;
	uint64_t capacity[HISTORY_NRINGS], sum = HISTORY_CHECKSUM_INIT;
	int r;

	for (unsigned i = 0; i < HISTORY_NRINGS; i++) {
		uint64_t begun = source->ring[i].begun, done = source->ring[i].done;
		uint64_t first = begun > source->ring[i].capacity ? begun - source->ring[i].capacity : 0;

		capacity[i] = done > first ? done - first : 0;
	}
	history_header_init(&header, source->instance, source->pool, capacity);
	for (unsigned i = 0; i < HISTORY_NRINGS; i++)
		header.ring[i].begun = header.ring[i].done = capacity[i];
	history_describe(columns);
	if (ftruncate(to, (off_t)header.size) != 0)
		return -errno;
	sum = history_checksum(sum, &header, sizeof(header));
	sum = history_checksum(sum, columns, HISTORY_COLUMNS * sizeof(columns[0]));
	r = exact_write(to, columns, HISTORY_COLUMNS * sizeof(columns[0]), header.columns);
	for (unsigned i = 0; r == 0 && i < HISTORY_NRINGS; i++)
		r = save_ring(from, to, &source->ring[i], &header.ring[i], &sum);
	header.checksum = sum;
	if (r == 0)
		r = exact_write(to, &header, sizeof(header), 0);
	if (r == 0 && fsync(to) != 0)
		r = -errno;
	return r;
}

/* The rename outlives a crash of the machine when its folder is on the disk. */
static int
sync_folder(const char *path)
{
	char folder[PATHS_MAX * 2];
	const char *slash = strrchr(path, '/');
	int fd, r = 0;

	if (slash == NULL || (size_t)(slash - path) >= sizeof(folder))
		return -EINVAL;
	snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
	fd = open(slash == path ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) != 0 && errno != EINVAL)
		r = -errno;
	close(fd);
	return r;
}

int
history_save(int from, const struct history_header *header, const char *path)
{
	char temporary[PATHS_MAX * 2];
	int to, r, n;

	n = snprintf(temporary, sizeof(temporary), "%s.new", path);
	if (n < 0 || (size_t)n >= sizeof(temporary))
		return -ENAMETOOLONG;
	/* One that is left of a broker that died while it saved. */
	if (unlink(temporary) != 0 && errno != ENOENT)
		return -errno;
	to = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (to < 0)
		return -errno;
	r = save_to(from, to, header);
	if (close(to) != 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(temporary, path) != 0)
		r = -errno;
	if (r == 0)
		return sync_folder(path);
	unlink(temporary);
	return r;
}

static int
check_sum(const struct history_bytes *bytes)
{
	struct history_header header;
	uint64_t sum = HISTORY_CHECKSUM_INIT, columns_end, expected;

	memcpy(&header, bytes->base, sizeof(header));
	expected = header.checksum;
	header.checksum = 0;
	columns_end = header.columns + header.ncolumns * sizeof(struct stats_column);
	sum = history_checksum(sum, &header, sizeof(header));
	sum = history_checksum(sum, (char *)bytes->base + header.columns, columns_end - header.columns);
	for (unsigned i = 0; i < HISTORY_NRINGS; i++)
		sum = history_checksum(sum, (char *)bytes->base + header.ring[i].offset,
		    header.ring[i].capacity * header.row_size);
	return sum == expected ? 0 : -EBADMSG;
}

static int
refuse(char why[HISTORY_WHY], int error, const char *text)
{
	snprintf(why, HISTORY_WHY, "%s", text);
	return error;
}

int
history_load(const char *path, struct history_bytes *ret_bytes, struct history_view *ret_view, char why[HISTORY_WHY])
{
	struct history_bytes bytes = {0};
	struct stat st;
	int fd, r;

	*why = '\0';
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : refuse(why, -errno, strerror(errno));
	if (fstat(fd, &st) != 0)
		r = refuse(why, -errno, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		r = refuse(why, -EBADMSG, "it is no regular file");
	else if (st.st_uid != geteuid())
		r = refuse(why, -EBADMSG, "it is another user's");
	else
		r = history_read(fd, &bytes, ret_view);
	close(fd);
	if (r == 0)
		r = check_sum(&bytes);
	if (r == -EPROTO)
		refuse(why, r, "it was saved by another version of pglease");
	else if (r != 0 && *why == '\0')
		refuse(why, r, r == -EBADMSG ? "it is damaged, or no saved history" : strerror(-r));
	if (r == 0)
		*ret_bytes = bytes;
	else
		history_bytes_fini(&bytes);
	return r;
}
