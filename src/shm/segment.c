/* SPDX-License-Identifier: PostgreSQL */
/*
 * Lease segments: made by the broker in a sealed memfd, mapped by clients. The seals make it impossible for anyone,
 * the broker included, to shrink it under the others; a memfd leaves nothing behind when all its users are gone.
 */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_PAGE 4096u
#define SEGMENT_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static uint64_t
page_align(uint64_t n)
{
	return (n + SEGMENT_PAGE - 1) & ~(uint64_t)(SEGMENT_PAGE - 1);
}

/* Fills in the offsets and the size from the counts: the only place that knows the order of the arrays. */
static void
segment_plan(struct segment_header *h)
{
	uint64_t at = SEGMENT_PAGE;

	h->slots = at;
	at += page_align((uint64_t)h->nslots * sizeof(struct slot));
	h->rows = at;
	at += page_align((uint64_t)h->nrows * sizeof(struct row));
	h->clients = at;
	at += page_align((uint64_t)h->nclients * sizeof(struct client_row));
	h->queue = at;
	at += page_align((uint64_t)h->queue_size * sizeof(uint64_t));
	h->baselines = at;
	at += page_align((uint64_t)h->nslots * LAYOUT_BASELINE);
	h->blocks = at;
	at += page_align((uint64_t)h->nblocks * sizeof(struct stats_block));
	h->statements = at;
	at += page_align((uint64_t)h->nslots * layout_statements_size(h->nstatements));
	h->connects = at;
	at += page_align(sizeof(struct histogram));
	h->size = at;
}

/* The process's own copy of sizes and addresses. */
static void
segment_view(struct segment *seg, void *base, const struct segment_header *h)
{
	char *at = base;

	*seg = (struct segment){
	    .header = base,
	    .size = h->size,
	    .nslots = h->nslots,
	    .nrows = h->nrows,
	    .nclients = h->nclients,
	    .nblocks = h->nblocks,
	    .queue_mask = h->queue_size - 1,
	    .nstatements = h->nstatements,
	    .slot = (struct slot *)(at + h->slots),
	    .row = (struct row *)(at + h->rows),
	    .client = (struct client_row *)(at + h->clients),
	    .block = (struct stats_block *)(at + h->blocks),
	    .baseline = at + h->baselines,
	    .queue = (_Atomic uint64_t *)(at + h->queue),
	    .statements = at + h->statements,
	    .connects = (struct histogram *)(at + h->connects),
	};
}

static int
copy_name(char *dst, const char *src)
{
	size_t n = strlen(src);

	if (n >= LAYOUT_NAME)
		return -ENAMETOOLONG;
	memcpy(dst, src, n + 1);
	return 0;
}

int
segment_create(const struct segment_params *params, struct segment *ret_seg, int *ret_fd)
{
	struct segment_header plan = {
	    .magic = LAYOUT_MAGIC,
	    .version = LAYOUT_VERSION,
	    .hash = layout_hash(),
	    .instance_id = params->instance_id,
	    .pool = params->pool,
	    .broker_pid = (uint32_t)getpid(),
	    .nslots = params->nslots,
	    .nrows = params->nrows,
	    .nclients = params->nclients,
	    .nblocks = params->nslots * 2,
	    .nstatements = params->nstatements,
	    .queue_size = 2,
	};
	char name[128];
	void *base;
	int fd, r;

	if (params->nslots < 1 || params->nslots > LAYOUT_MAX_SLOTS || params->nrows < 1 ||
	    params->nrows > LAYOUT_MAX_ROWS || params->nclients < 1 || params->nclients > LAYOUT_MAX_CLIENTS ||
	    params->nstatements > LAYOUT_MAX_STATEMENTS)
		return -EINVAL;
	while (plan.queue_size < 2 * plan.nrows)
		plan.queue_size *= 2;
	segment_plan(&plan);
	if ((r = copy_name(plan.instance_name, params->instance_name)) != 0 ||
	    (r = copy_name(plan.pool_name, params->pool_name)) != 0 || (r = copy_name(plan.user, params->user)) != 0 ||
	    (r = copy_name(plan.dbname, params->dbname)) != 0)
		return r;

	snprintf(name, sizeof(name), "pglease.%.47s.%.63s", params->instance_name, params->pool_name);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	/* Others get it as a descriptor only; the mode keeps them from reopening it by /proc with more rights. */
	if (fchmod(fd, 0600) != 0) {
		r = -errno;
		goto fail;
	}
	/* Allocates: a full memory is noticed here, not by whoever touches the page. */
	r = -posix_fallocate(fd, 0, (off_t)plan.size);
	if (r != 0)
		goto fail;
	if (fcntl(fd, F_ADD_SEALS, SEGMENT_SEALS) != 0) {
		r = -errno;
		goto fail;
	}
	base = mmap(NULL, plan.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED) {
		r = -errno;
		goto fail;
	}
	memcpy(base, &plan, sizeof(plan));
	segment_view(ret_seg, base, &plan);
	/* Fresh pages are zero: slots EMPTY, rows FREE, counters 0. The tickets start at a full lap, so that no entry
	 * of the ring can be taken for one of the first lap. */
	atomic_init(&ret_seg->header->head, plan.queue_size);
	atomic_init(&ret_seg->header->tail, plan.queue_size);
	for (uint32_t i = 0; i < plan.nslots; i++) {
		atomic_init(&ret_seg->slot[i].block, i);
		atomic_init(&ret_seg->slot[i].word, word_pack(SLOT_EMPTY, 0, WORD_NONE, 0));
	}
	for (uint32_t i = 0; i < plan.nrows; i++) {
		atomic_init(&ret_seg->row[i].word, word_pack(ROW_FREE, 0, WORD_NONE, 0));
		sem_init(&ret_seg->row[i].sem, 1, 0);
	}
	*ret_fd = fd;
	return 0;

fail:
	close(fd);
	return r;
}

static int
array_fits(uint64_t offset, uint64_t n, uint64_t size, uint64_t total)
{
	return offset >= SEGMENT_PAGE && offset % SEGMENT_PAGE == 0 && offset <= total && n * size <= total - offset;
}

static int
header_is_sound(const struct segment_header *h, uint64_t size)
{
	return h->size == size && h->nslots >= 1 && h->nslots <= LAYOUT_MAX_SLOTS && h->nrows >= 1 &&
	       h->nrows <= LAYOUT_MAX_ROWS && h->nclients >= 1 && h->nclients <= LAYOUT_MAX_CLIENTS &&
	       h->nblocks >= h->nslots && h->nblocks <= 2 * LAYOUT_MAX_SLOTS && h->queue_size >= 2 &&
	       h->queue_size <= 4 * LAYOUT_MAX_ROWS && (h->queue_size & (h->queue_size - 1)) == 0 &&
	       h->nstatements <= LAYOUT_MAX_STATEMENTS &&
	       array_fits(h->slots, h->nslots, sizeof(struct slot), size) &&
	       array_fits(h->rows, h->nrows, sizeof(struct row), size) &&
	       array_fits(h->clients, h->nclients, sizeof(struct client_row), size) &&
	       array_fits(h->queue, h->queue_size, sizeof(uint64_t), size) &&
	       array_fits(h->baselines, h->nslots, LAYOUT_BASELINE, size) &&
	       array_fits(h->blocks, h->nblocks, sizeof(struct stats_block), size) &&
	       array_fits(h->statements, h->nslots, layout_statements_size(h->nstatements), size) &&
	       array_fits(h->connects, 1, sizeof(struct histogram), size) &&
	       memchr(h->pool_name, 0, LAYOUT_NAME) && memchr(h->instance_name, 0, LAYOUT_NAME) &&
	       memchr(h->user, 0, LAYOUT_NAME) && memchr(h->dbname, 0, LAYOUT_NAME);
}

static int
segment_map_prot(int fd, int prot, struct segment *ret_seg)
{
	struct segment_header copy;
	struct stat st;
	void *base;
	int seals;

	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return errno == EINVAL ? -EBADMSG : -errno;
	if ((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
		return -EBADMSG;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (st.st_size < (off_t)sizeof(copy))
		return -EBADMSG;
	base = mmap(NULL, (size_t)st.st_size, prot, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	/* Checked in a private copy: nobody can change it between check and use. */
	memcpy(&copy, base, sizeof(copy));
	if (copy.magic != LAYOUT_MAGIC || copy.version != LAYOUT_VERSION || copy.hash != layout_hash()) {
		munmap(base, (size_t)st.st_size);
		return copy.magic == LAYOUT_MAGIC ? -EPROTO : -EBADMSG;
	}
	if (!header_is_sound(&copy, (uint64_t)st.st_size)) {
		munmap(base, (size_t)st.st_size);
		return -EBADMSG;
	}
	segment_view(ret_seg, base, &copy);
	return 0;
}

int
segment_map(int fd, struct segment *ret_seg)
{
	return segment_map_prot(fd, PROT_READ | PROT_WRITE, ret_seg);
}

int
segment_map_readonly(int fd, struct segment *ret_seg)
{
	return segment_map_prot(fd, PROT_READ, ret_seg);
}

void
segment_unmap(struct segment *seg)
{
	if (seg->header != NULL)
		munmap(seg->header, seg->size);
	*seg = (struct segment){0};
}

void
segment_blank(struct segment *seg)
{
	/* If that fails it stays what it was. */
	if (seg->header != NULL)
		(void)!mmap(seg->header, seg->size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

const char *
baseline_next(const char *base, size_t *at, const char **ret_value)
{
	const char *end = base + LAYOUT_BASELINE, *name = base + *at, *value, *next;

	if (name >= end || *name == '\0')
		return NULL;
	value = memchr(name, 0, (size_t)(end - name));
	if (value == NULL || ++value == end)
		return NULL;
	next = memchr(value, 0, (size_t)(end - value));
	if (next == NULL)
		return NULL;
	*at = (size_t)(next + 1 - base);
	*ret_value = value;
	return name;
}

const char *
baseline_find(const char *base, const char *name, unsigned *ret_bit)
{
	const char *found, *value;
	unsigned bit = 0;

	for (size_t at = 0; (found = baseline_next(base, &at, &value)) != NULL; bit++) {
		if (strcmp(found, name) == 0) {
			*ret_bit = bit < 63 ? bit : 63;
			return value;
		}
	}
	return NULL;
}
