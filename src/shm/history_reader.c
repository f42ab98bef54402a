/* SPDX-License-Identifier: PostgreSQL */
/*
 * Getting at a history: a private copy (tools, and the broker for what was there before it), or a read-only mapping (the library).
 */
#include "history_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exact_io.h"

#define MAX_BYTES (UINT64_C(512) << 20) /* a day of seconds is 265 MB */

static int
size_of(int fd, size_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (st.st_size < (off_t)sizeof(struct history_header))
		return -EBADMSG;
	if ((uint64_t)st.st_size > MAX_BYTES)
		return -EFBIG;
	*ret = (size_t)st.st_size;
	return 0;
}

/*
 * The copy is not of one moment: its rings are bounded by `done` of before it and `begun` of after it, which leaves the rows
 * that nobody wrote meanwhile.
 */
static int
copy(int fd, struct history_header *bytes, size_t size)
{
	struct history_header before, after;
	int r = exact_read(fd, &before, sizeof(before), 0);

	stats_order(); /* pairs with history_writer_append(), as the next one does */
	if (r == 0)
		r = exact_read(fd, bytes, size, 0);
	stats_order();
	if (r == 0)
		r = exact_read(fd, &after, sizeof(after), 0);
	for (unsigned i = 0; r == 0 && i < HISTORY_NRINGS; i++) {
		bytes->ring[i].done = before.ring[i].done;
		bytes->ring[i].begun = after.ring[i].begun;
	}
	return r;
}

int
history_read(int fd, struct history_bytes *ret_bytes, struct history_view *ret_view)
{
	struct history_bytes bytes = {0};
	int r = size_of(fd, &bytes.size);

	if (r != 0)
		return r;
	bytes.base = malloc(bytes.size);
	if (bytes.base == NULL)
		return -ENOMEM;
	r = copy(fd, bytes.base, bytes.size);
	if (r == 0)
		r = history_view_init(ret_view, bytes.base, bytes.size);
	if (r == 0)
		*ret_bytes = bytes;
	else
		history_bytes_fini(&bytes);
	return r;
}

int
history_open(const char *instance, const char *pool, struct history_bytes *ret_bytes, struct history_view *ret_view)
{
	char name[PATHS_MAX];
	int fd, r = paths_history_name(instance, pool, name, sizeof(name));

	if (r != 0)
		return r;
	fd = shm_open(name, O_RDONLY, 0);
	if (fd < 0)
		return -errno;
	r = history_read(fd, ret_bytes, ret_view);
	close(fd);
	return r;
}

int
history_map(int fd, struct history_bytes *ret_bytes, struct history_view *ret_view)
{
	struct history_bytes bytes = {.mapped = true};
	int r = size_of(fd, &bytes.size);

	if (r != 0)
		return r;
	bytes.base = mmap(NULL, bytes.size, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes.base == MAP_FAILED)
		return -errno;
	r = history_view_init(ret_view, bytes.base, bytes.size);
	if (r == 0)
		*ret_bytes = bytes;
	else
		history_bytes_fini(&bytes);
	return r;
}

void
history_bytes_fini(struct history_bytes *bytes)
{
	if (bytes->base != NULL && bytes->mapped)
		munmap(bytes->base, bytes->size);
	else
		free(bytes->base);
	*bytes = (struct history_bytes){0};
}

void
history_blank(struct history_bytes *bytes)
{
	if (bytes->base != NULL && bytes->mapped)
		(void)!mmap(bytes->base, bytes->size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}
