/* SPDX-License-Identifier: PostgreSQL */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static struct segment_params
params(void)
{
	return (struct segment_params){.instance_name = "i",
	    .pool_name = "p",
	    .user = "u",
	    .dbname = "d",
	    .instance_id = 99,
	    .nslots = 5,
	    .nrows = 10,
	    .nclients = 4,
	    .nstatements = 6};
}

START_TEST(made_and_mapped_again)
{
	struct segment_params p = params();
	struct segment made, mapped;
	int fd;

	ck_assert_int_eq(segment_create(&p, &made, &fd), 0);
	ck_assert_int_eq(segment_map(fd, &mapped), 0);
	ck_assert_ptr_ne(made.header, mapped.header);
	ck_assert_uint_eq(mapped.nslots, 5);
	ck_assert_uint_eq(mapped.queue_mask, 31);
	ck_assert_str_eq(mapped.header->pool_name, "p");
	atomic_store(&made.slot[4].word, 42);
	ck_assert_uint_eq(atomic_load(&mapped.slot[4].word), 42);
	segment_unmap(&mapped);
	segment_unmap(&made);
	segment_unmap(&made); /* accepts a zeroed one */
	close(fd);
}
END_TEST

START_TEST(cannot_be_truncated_or_grown)
{
	struct segment_params p = params();
	struct segment seg;
	int fd;

	ck_assert_int_eq(segment_create(&p, &seg, &fd), 0);
	ck_assert_int_eq(ftruncate(fd, 4096), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(ftruncate(fd, (off_t)seg.size * 2), -1);
	ck_assert_int_eq(errno, EPERM);
	close(fd);
	segment_unmap(&seg);
}
END_TEST

/* A descriptor with `size` bytes of `header`, sealed or not. */
static int
forge(const struct segment_header *header, uint64_t size, unsigned seals)
{
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	ck_assert_int_eq(pwrite(fd, header, sizeof(*header), 0), (int)sizeof(*header));
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

START_TEST(other_layouts_and_unsound_ones_are_told_apart)
{
	static const struct {
		size_t offset;
		uint32_t value;
		int error;
	} cases[] = {
	    {offsetof(struct segment_header, magic), 1, -EBADMSG},
	    {offsetof(struct segment_header, version), LAYOUT_VERSION + 1, -EPROTO},
	    {offsetof(struct segment_header, hash), 1, -EPROTO},
	    {offsetof(struct segment_header, size), 4096, -EBADMSG},
	    {offsetof(struct segment_header, nslots), LAYOUT_MAX_SLOTS + 1, -EBADMSG},
	    {offsetof(struct segment_header, nslots), 0, -EBADMSG},
	    {offsetof(struct segment_header, nrows), 10000, -EBADMSG},
	    {offsetof(struct segment_header, queue_size), 33, -EBADMSG},
	    {offsetof(struct segment_header, blocks), 0xfffff000, -EBADMSG},
	    {offsetof(struct segment_header, slots), 4097, -EBADMSG},
	    {offsetof(struct segment_header, nstatements), LAYOUT_MAX_STATEMENTS + 1, -EBADMSG},
	    {offsetof(struct segment_header, nstatements), LAYOUT_MAX_STATEMENTS, -EBADMSG}, /* more than there is room */
	    {offsetof(struct segment_header, statements), 0xfffff000, -EBADMSG},
	};
	struct segment_params p = params();
	struct segment seg, mapped = {0};
	int fd;

	ck_assert_int_eq(segment_create(&p, &seg, &fd), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct segment_header header;
		int forged;

		memcpy(&header, seg.header, sizeof(header));
		memcpy((char *)&header + cases[i].offset, &cases[i].value, sizeof(uint32_t));
		forged = forge(&header, seg.size, F_SEAL_SHRINK | F_SEAL_GROW);
		ck_assert_msg(segment_map(forged, &mapped) == cases[i].error, "case %zu", i);
		close(forged);
	}
	fd = forge(seg.header, seg.size, 0);
	ck_assert_int_eq(segment_map(fd, &mapped), -EBADMSG); /* not sealed */
	close(fd);
	ck_assert_ptr_null(mapped.header);
}
END_TEST

START_TEST(counts_out_of_range_are_refused)
{
	struct segment_params p = params();
	struct segment seg;
	int fd;

	p.nslots = LAYOUT_MAX_SLOTS + 1;
	ck_assert_int_eq(segment_create(&p, &seg, &fd), -EINVAL);
	p = params();
	p.nstatements = LAYOUT_MAX_STATEMENTS + 1;
	ck_assert_int_eq(segment_create(&p, &seg, &fd), -EINVAL);
	p = params();
	p.pool_name = "0123456789012345678901234567890123456789012345678901234567890123456789";
	ck_assert_int_eq(segment_create(&p, &seg, &fd), -ENAMETOOLONG);
}
END_TEST

START_TEST(baseline_values)
{
	struct segment_params p = params();
	struct segment seg;
	unsigned bit;
	int fd;

	ck_assert_int_eq(segment_create(&p, &seg, &fd), 0);
	memcpy(segment_baseline(&seg, 1), "a\0one\0b\0\0c\0three\0", 18);
	ck_assert_str_eq(baseline_find(segment_baseline(&seg, 1), "a", &bit), "one");
	ck_assert_str_eq(baseline_find(segment_baseline(&seg, 1), "b", &bit), "");
	ck_assert_str_eq(baseline_find(segment_baseline(&seg, 1), "c", &bit), "three");
	ck_assert_uint_eq(bit, 2);
	ck_assert_ptr_null(baseline_find(segment_baseline(&seg, 1), "d", &bit));
	ck_assert_ptr_null(baseline_find(segment_baseline(&seg, 0), "a", &bit));
	memset(segment_baseline(&seg, 2), 'x', LAYOUT_BASELINE); /* scribbled on: no zero anywhere */
	ck_assert_ptr_null(baseline_find(segment_baseline(&seg, 2), "a", &bit));
	close(fd);
	segment_unmap(&seg);
}
END_TEST

UNIT_MAIN("segment", made_and_mapped_again, cannot_be_truncated_or_grown,
    other_layouts_and_unsound_ones_are_told_apart, counts_out_of_range_are_refused, baseline_values)
