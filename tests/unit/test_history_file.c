/* SPDX-License-Identifier: PostgreSQL */
/* Saved histories: written, read back, beside an object of a broker that died, and damaged in every way. */
#include "history_unit.h"

#include <errno.h>

static void
save(uint64_t rows, uint64_t minutes)
{
	struct history_writer *writer = new_writer(10);

	for (uint64_t serial = 1; serial <= rows; serial++) {
		append(writer, HISTORY_SECONDS, serial);
		if (serial <= minutes)
			append(writer, HISTORY_MINUTES, serial);
	}
	ck_assert_int_eq(history_writer_save(writer, file), 0);
	history_writer_free(writer, false);
}

START_TEST(test_saved)
{
	static const uint64_t rows[] = {0, 1, 9, 10, 11, 14, 200};
	uint64_t n = rows[_i], kept = n < 10 ? n : 10, minutes = n < 40 ? n : 40;
	struct history_writer *writer;
	struct history_bytes bytes;
	struct history_view view;
	struct stat st;

	save(n, minutes);
	ck_assert_int_eq(stat(file, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_uint_lt((uint64_t)st.st_size, (kept + minutes + 10) * sizeof(struct history_row));
	writer = new_writer(10);
	ck_assert_str_eq(why, "");
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 0, kept, n - kept + 1);
	if (minutes == n)
		check_ring(&view, HISTORY_MINUTES, 0, minutes, 1);
	history_bytes_fini(&bytes);
	append(writer, HISTORY_SECONDS, n + 1);
	ck_assert_uint_eq(history_writer_sample(writer), n + 2);
	ck_assert_int_eq(history_writer_save(writer, file), 0); /* over the old one */
	history_writer_free(writer, false);
}
END_TEST

/* The file is older than the object of a broker that was killed. */
START_TEST(test_object_before_file)
{
	struct history_writer *writer;
	struct history_bytes bytes;
	struct history_view view;

	save(3, 3);
	die_after(10, 5, 5); /* begins with the file's three */
	writer = new_writer(10);
	history_writer_free(writer, false);
	unlink(file);
	die_after(10, 5, 5);
	save(0, 0);
	writer = new_writer(10);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 0, 5, 1);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}
END_TEST

static void
begins_anew(const char *because)
{
	struct history_writer *writer = new_writer(10);
	struct history_bytes bytes;
	struct history_view view;

	ck_assert_msg(strstr(why, because) != NULL, "'%s' is not '%s'", why, because);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 0, 0, 1);
	check_ring(&view, HISTORY_MINUTES, 0, 0, 1);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}

/* One bit of any byte. */
START_TEST(test_damaged)
{
	unsigned char *bytes;
	struct stat st;
	int fd;

	save(2, 2);
	fd = open(file, O_RDWR);
	ck_assert_int_eq(fstat(fd, &st), 0);
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(bytes, MAP_FAILED);
	/* The header, the first columns, and then here and there. */
	for (off_t i = 0; i < st.st_size; i += i < 700 ? 1 : 97) {
		struct history_bytes loaded = {0};
		struct history_view view;
		struct history_row row;
		bool whole = true;
		int r;

		bytes[i] ^= (unsigned char)(1 << (i % 8));
		r = history_load(file, &loaded, &view, why);
		/* What lies between the parts of the file may be anything. */
		for (uint64_t k = 0; r == 0 && k < 2; k++) {
			whole = whole && history_view_row(&view, HISTORY_SECONDS, k, sizeof(row), &row);
			if (whole)
				check_row(&row, k, k + 1);
		}
		ck_assert_msg(r != 0 || (i >= (off_t)(sizeof(struct history_header) + HISTORY_COLUMNS * 128) && whole),
		    "byte %lld: %d", (long long)i, r);
		ck_assert_msg(r == 0 || *why != '\0', "byte %lld", (long long)i);
		history_bytes_fini(&loaded);
		bytes[i] ^= (unsigned char)(1 << (i % 8));
	}
	bytes[st.st_size - 100] ^= 1;
	munmap(bytes, (size_t)st.st_size);
	close(fd);
	begins_anew("damaged");
}
END_TEST

START_TEST(test_cut)
{
	struct stat st;

	save(2, 2);
	ck_assert_int_eq(stat(file, &st), 0);
	for (off_t size = 0; size < st.st_size; size += size < 300 ? 7 : 1001) {
		struct history_bytes loaded = {0};
		struct history_view view;

		save(2, 2);
		ck_assert_int_eq(truncate(file, size), 0);
		ck_assert_int_eq(history_load(file, &loaded, &view, why), -EBADMSG);
	}
	begins_anew("damaged");
}
END_TEST

static void
poke(off_t offset, const void *bytes, size_t size)
{
	int fd = open(file, O_WRONLY);

	ck_assert_int_eq((int)pwrite(fd, bytes, size, offset), (int)size);
	close(fd);
}

START_TEST(test_no_file)
{
	uint32_t version = HISTORY_VERSION + 1;

	begins_anew("");
	ck_assert_str_eq(why, ""); /* that is no reason to say anything */
	ck_assert_int_eq(mkdir(file, 0700), 0);
	begins_anew("no regular file");
	ck_assert_int_eq(rmdir(file), 0);
	ck_assert_int_eq(symlink("/etc/passwd", file), 0);
	begins_anew("symbolic link");
	ck_assert_int_eq(unlink(file), 0);
	ck_assert_int_eq(mkfifo(file, 0600), 0); /* nobody is waited for */
	begins_anew("no regular file");
	ck_assert_int_eq(unlink(file), 0);
	save(2, 2);
	poke(offsetof(struct history_header, version), &version, sizeof(version));
	begins_anew("another version");
}
END_TEST

int
main(void)
{
	static const TTest *const *const tests[] = {&test_object_before_file, &test_damaged, &test_cut, &test_no_file};
	const struct history_loop loop = {test_saved, 7};

	return history_main("history-file", tests, sizeof(tests) / sizeof(tests[0]), &loop);
}
