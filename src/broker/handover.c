/* SPDX-License-Identifier: PostgreSQL */
/* The stream of a handover. Each value has its size before it, so that reader and writer cannot get out of step. */
#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define HANDOVER_MAGIC UINT64_C(0x5245564f53474c50) /* "PLGSOVER" */
#define NAME 16
#define MOST ((size_t)1 << 30)

struct handover {
	bool reads, failed;
	char section[NAME]; /* the present one, for messages */
	uint8_t *bytes;
	size_t size, capacity, at;
	int *fds; /* writing: those in it */
	size_t nfds, fds_size;
};

struct head {
	uint64_t magic, size;
	uint32_t version, reserved;
};

struct handover *
handover_new(void)
{
	return calloc(1, sizeof(struct handover));
}

void
handover_free(struct handover *h)
{
	if (h == NULL)
		return;
	if (h->bytes != NULL)
		explicit_bzero(h->bytes, h->capacity); /* nonces and keys */
	free(h->bytes);
	free(h->fds);
	free(h);
}

bool
handover_reads(const struct handover *h)
{
	return h->reads;
}

static bool
make_room(struct handover *h, size_t more)
{
	size_t capacity = h->capacity != 0 ? h->capacity : 65536;
	uint8_t *bytes;

	while (capacity < h->size + more)
		capacity *= 2;
	if (capacity == h->capacity)
		return true;
	bytes = malloc(capacity);
	if (bytes == NULL)
		return false;
	if (h->bytes != NULL) {
		memcpy(bytes, h->bytes, h->size);
		explicit_bzero(h->bytes, h->capacity);
	}
	free(h->bytes);
	h->bytes = bytes;
	h->capacity = capacity;
	return true;
}

static void
put(struct handover *h, const void *value, size_t size)
{
	uint32_t length = (uint32_t)size;

	if (h->failed || size > MOST || !make_room(h, sizeof(length) + size)) {
		h->failed = true;
		return;
	}
	memcpy(h->bytes + h->size, &length, sizeof(length));
	if (size != 0)
		memcpy(h->bytes + h->size + sizeof(length), value, size);
	h->size += sizeof(length) + size;
}

static void
get(struct handover *h, void *value, size_t size)
{
	uint32_t length;

	if (h->failed || h->size - h->at < sizeof(length) ||
	    (memcpy(&length, h->bytes + h->at, sizeof(length)), length != size) || h->size - h->at - sizeof(length) < size) {
		h->failed = true;
		if (size != 0)
			memset(value, 0, size);
		return;
	}
	if (size != 0)
		memcpy(value, h->bytes + h->at + sizeof(length), size);
	h->at += sizeof(length) + size;
}

void
handover_bytes(struct handover *h, void *value, size_t size)
{
	if (h->reads)
		get(h, value, size);
	else
		put(h, value, size);
}

void
handover_section(struct handover *h, const char *name)
{
	char mine[NAME] = "", there[NAME];

	strncpy(mine, name, NAME - 1);
	memcpy(there, mine, NAME);
	handover_bytes(h, there, NAME);
	if (memcmp(there, mine, NAME) != 0)
		h->failed = true;
	if (!h->failed)
		memcpy(h->section, mine, NAME);
}

static bool
note_fd(struct handover *h, int fd)
{
	if (h->nfds == h->fds_size) {
		size_t size = h->fds_size != 0 ? 2 * h->fds_size : 64;
		int *fds = reallocarray(h->fds, size, sizeof(*fds));

		if (fds == NULL)
			return false;
		h->fds = fds;
		h->fds_size = size;
	}
	h->fds[h->nfds++] = fd;
	return true;
}

static bool
set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0;
}

void
handover_fd(struct handover *h, int *fd)
{
	int32_t number = *fd;

	handover_bytes(h, &number, sizeof(number));
	if (!h->reads) {
		if (number >= 0 && !note_fd(h, number))
			h->failed = true;
		return;
	}
	*fd = h->failed ? -1 : number;
	if (*fd >= 0 && !set_cloexec(*fd, true)) {
		h->failed = true; /* it is not open */
		*fd = -1;
	}
}

void
handover_fail(struct handover *h)
{
	h->failed = true;
}

void
handover_count(struct handover *h, uint32_t *count, uint32_t max)
{
	handover_bytes(h, count, sizeof(*count));
	if (*count > max) {
		h->failed = true;
		*count = 0;
	}
}

int
handover_check(const struct handover *h, bool whole)
{
	if (h->failed)
		return log_refuse("the state that was handed over cannot be used: something is wrong in or after its section %s",
		    h->section[0] != '\0' ? h->section : "(none)");
	if (whole && h->at != h->size)
		return log_refuse("the state that was handed over cannot be used: there is more in it than is known here");
	return 0;
}

int
handover_open(int fd, struct handover **ret)
{
	struct handover *h = handover_new();
	struct head head;
	struct stat st;

	if (h == NULL) {
		close(fd);
		return log_refuse("out of memory");
	}
	h->reads = true;
	if (fstat(fd, &st) != 0 || pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) || head.magic != HANDOVER_MAGIC ||
	    head.size > MOST || (uint64_t)st.st_size != sizeof(head) + head.size) {
		log_refuse("descriptor %d has no state of a broker: --take-over is for pgleasectl restart", fd);
		goto fail;
	}
	if (head.version != HANDOVER_VERSION) {
		log_refuse("the state that was handed over is of version %u, and %u is known here", head.version, HANDOVER_VERSION);
		goto fail;
	}
	h->size = h->capacity = (size_t)head.size;
	h->bytes = malloc(h->capacity + 1);
	if (h->bytes == NULL) {
		log_refuse("out of memory");
		goto fail;
	}
	if (pread(fd, h->bytes, h->size, sizeof(head)) != (ssize_t)h->size) {
		log_refuse("the state that was handed over cannot be read: %m");
		goto fail;
	}
	close(fd);
	*ret = h;
	return 0;

fail:
	close(fd);
	handover_free(h);
	return -1;
}

static int
write_all(int fd, const void *buf, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = write(fd, (const char *)buf + at, size - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (size_t)n;
	}
	return 0;
}

int
handover_write(struct handover *h, int *ret_fd)
{
	struct head head = {.magic = HANDOVER_MAGIC, .version = HANDOVER_VERSION, .size = h->size};
	int fd, r;

	if (h->failed)
		return -ENOMEM;
	fd = memfd_create("pglease handover", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = write_all(fd, &head, sizeof(head));
	if (r == 0)
		r = write_all(fd, h->bytes, h->size);
	for (size_t i = 0; r == 0 && i < h->nfds; i++)
		if (!set_cloexec(h->fds[i], false))
			r = -errno;
	if (r == 0 && !set_cloexec(fd, false))
		r = -errno;
	if (r != 0) {
		handover_undo(h, fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

void
handover_undo(struct handover *h, int fd)
{
	for (size_t i = 0; i < h->nfds; i++)
		set_cloexec(h->fds[i], true);
	close(fd);
}
