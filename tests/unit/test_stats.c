/* SPDX-License-Identifier: PostgreSQL */
/* The stats segment: writer, reader, and what a reader makes of a segment that is not what it should be. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stats.h"

static char instance[48], shm_name[64];
static struct stats_writer *volatile abandoned; /* of the child that dies; no leak */

static void
teardown(void)
{
	shm_unlink(shm_name);
}

static struct stats_writer *
new_writer(uint32_t capacity)
{
	struct stats_writer_params params = {
	    .instance = instance,
	    .program = "unit test 1",
	    .socket_dir = "/nowhere",
	    .instance_id = 42,
	    .mode = 0640,
	    .capacity = {capacity, capacity, capacity, capacity},
	};
	struct stats_writer *writer = NULL;
	pid_t owner;

	ck_assert_int_eq(stats_writer_new(&params, &writer, &owner), 0);
	return writer;
}

/* As the program that takes a broker's place goes on with its segment. */
static struct stats_writer *
take_over(const struct stats_writer *before, uint32_t capacity)
{
	struct stats_writer_params params = {
	    .instance = instance,
	    .program = "unit test 1",
	    .socket_dir = "/nowhere",
	    .instance_id = 42,
	    .mode = 0640,
	    .capacity = {capacity, capacity, capacity, capacity},
	    .takes_over = true,
	    .fd = fcntl(stats_writer_fd(before), F_DUPFD_CLOEXEC, 0),
	};
	struct stats_writer *writer = NULL;
	pid_t owner;

	ck_assert_int_eq(stats_writer_new(&params, &writer, &owner), 0);
	return writer;
}

static int
new_writer_error(uint32_t capacity, pid_t *ret_owner)
{
	struct stats_writer_params params = {.instance = instance,
	    .program = "unit test 2",
	    .socket_dir = "/nowhere",
	    .mode = 0600,
	    .capacity = {capacity, 0, 0, 0}};
	struct stats_writer *writer = NULL;
	int r = stats_writer_new(&params, &writer, ret_owner);

	if (r == 0)
		stats_writer_free(writer);
	return r;
}

/* Publishes `n` client rows whose every number is `value`. */
static int
publish(struct stats_writer *writer, uint32_t n, uint32_t value)
{
	struct stats_client_row row[64];
	struct stats_rows rows[STATS_NTABLES] = {{0}};

	memset(row, 0, sizeof(row));
	for (uint32_t i = 0; i < n; i++) {
		row[i].client = row[i].pid = row[i].uid = row[i].leases_held = row[i].waiting = value;
		row[i].attached_since = value;
		snprintf(row[i].program, sizeof(row[i].program), "program %u", value);
	}
	rows[STATS_CLIENTS] = (struct stats_rows){row, n, n};
	return stats_writer_publish(writer, SEGMENT_OPEN, rows);
}

static int
snapshot(struct stats_snapshot *ret)
{
	struct stats_reader *reader;
	int r = stats_reader_open(instance, &reader);

	if (r)
		return r;
	r = stats_reader_snapshot(reader, ret);
	stats_reader_close(reader);
	return r;
}

/* Overwrites part of the segment, as a broken broker of the same user could. */
static void
poke(uint64_t offset, const void *bytes, size_t size)
{
	int fd = shm_open(shm_name, O_RDWR | O_CREAT, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, bytes, size, (off_t)offset), (ssize_t)size);
	close(fd);
}

/* Rows of clients that there are, and how many there were to be told. */
static void
assert_published(uint32_t n, uint32_t total)
{
	struct stats_snapshot snap;

	ck_assert_int_eq(snapshot(&snap), 0);
	ck_assert_uint_eq(stats_view_find(&snap, "clients")->nrows, n);
	ck_assert_uint_eq(stats_view_find(&snap, "clients")->total, total);
	stats_snapshot_fini(&snap);
}

/* A reload that has more pools makes larger tables: in a new segment by the same name; without room for it, in the old one. */
START_TEST(test_other_tables)
{
	struct stats_writer *before = new_writer(2), *same, *larger, *cramped;
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
	struct stats_reader *reader;
	struct stats_snapshot snap;

	ck_assert_int_eq(publish(before, 2, 1), 0);
	ck_assert_int_eq(stats_reader_open(instance, &reader), 0);
	same = take_over(before, 2);
	ck_assert_int_eq(publish(same, 2, 2), 0);
	ck_assert_int_eq(stats_reader_snapshot(reader, &snap), 0);
	ck_assert(!snap.gone);
	stats_snapshot_fini(&snap);
	larger = take_over(same, 8);
	ck_assert_int_eq(publish(larger, 8, 3), 0);
	assert_published(8, 8);
	stats_reader_close(reader);
	signal(SIGXFSZ, SIG_IGN);
	limit.rlim_cur = stats_writer_size(larger);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cramped = take_over(larger, 32);
	ck_assert_int_eq(publish(cramped, 12, 4), 0);
	assert_published(8, 12);
	stats_writer_free(cramped);
	ck_assert_int_eq(snapshot(&snap), -ENOENT);
	/* What these have had is another's by now, or has no name: as after an exec, nothing is left of them. */
	close(stats_writer_fd(before));
	close(stats_writer_fd(same));
	close(stats_writer_fd(larger));
	free(before);
	free(same);
	free(larger);
}
END_TEST

START_TEST(test_copy_text)
{
	char out[16], wide[64];
	static const char full[4] = {'a', 'b', 'c', 'd'};

	stats_copy_text(out, sizeof(out), "pl\033[2Ja\x7f\nn", 32);
	ck_assert_str_eq(out, "pl?[2Ja??n");
	stats_copy_text(out, sizeof(out), full, sizeof(full)); /* no zero within its size */
	ck_assert_str_eq(out, "abcd");
	stats_copy_text(out, 4, "abcdef", 6);
	ck_assert_str_eq(out, "abc");
	stats_copy_text(out, 4, "ab\xc3\xa4", 5); /* a character that does not fit whole */
	ck_assert_str_eq(out, "ab");
	stats_copy_text(wide, sizeof(wide), "gr\xc3\xb6\xc3\x9f\xe2\x82\xac \xf0\x9f\x90\x98", 32);
	ck_assert_str_eq(wide, "gr\xc3\xb6\xc3\x9f\xe2\x82\xac \xf0\x9f\x90\x98");
	/* Not UTF-8: stray, overlong, surrogate, C1 control, beyond the last code point. */
	stats_copy_text(wide, sizeof(wide), "\xff|\xc0\xaf|\xed\xa0\x80|\xc2\x9b|\xf4\x90\x80\x80", 32);
	ck_assert_str_eq(wide, "?|??|???|??|????");
	stats_copy_text(out, 1, "abc", 3);
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(test_describe)
{
	static const size_t row_size[STATS_NTABLES] = {sizeof(struct stats_pool_row),
	    sizeof(struct stats_slot_row), sizeof(struct stats_client_row), sizeof(struct stats_waiter_row),
	    sizeof(struct stats_instance_row), sizeof(struct stats_histogram_row), sizeof(struct stats_alert_row)};
	struct stats_column column[STATS_MAX_COLUMNS];
	unsigned n = stats_describe((enum stats_table_id)_i, column);

	ck_assert_uint_gt(n, 0);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_uint_gt(strlen(column[i].name), 0);
		ck_assert_uint_gt(strlen(column[i].help), 0);
		ck_assert_uint_le(column[i].offset + column[i].size, row_size[_i]);
		for (unsigned j = 0; j < i; j++) {
			ck_assert_str_ne(column[i].name, column[j].name);
			ck_assert(column[i].offset + column[i].size <= column[j].offset ||
			          column[j].offset + column[j].size <= column[i].offset);
		}
	}
}
END_TEST

START_TEST(test_round_trip)
{
	struct stats_writer *writer = new_writer(8);
	struct stats_snapshot s;
	const struct stats_view *view;
	struct stat st;
	uint64_t value = 0;
	int fd;

	ck_assert_int_eq(publish(writer, 3, 7), 0);
	ck_assert_int_eq(snapshot(&s), 0);
	ck_assert(!s.torn);
	ck_assert(!s.gone);
	ck_assert_str_eq(s.header.instance, instance);
	ck_assert_str_eq(s.header.program, "unit test 1");
	ck_assert_uint_eq(s.header.broker_pid, (unsigned)getpid());
	ck_assert_uint_eq(s.header.state, SEGMENT_OPEN);
	view = stats_view_find(&s, "clients");
	ck_assert_ptr_nonnull(view);
	ck_assert_uint_eq(view->nrows, 3);
	ck_assert(stats_value_u64(view, 2, stats_column_find(view, "uid"), &value));
	ck_assert_uint_eq(value, 7);
	ck_assert_str_eq(stats_value_text(view, 1, stats_column_find(view, "program")), "program 7");
	ck_assert_uint_eq(stats_view_find(&s, "waiters")->nrows, 0);
	ck_assert_ptr_null(stats_view_find(&s, "nothing"));
	ck_assert_ptr_null(stats_column_find(view, "nothing"));
	stats_snapshot_fini(&s);

	fd = shm_open(shm_name, O_RDONLY, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	close(fd);
	ck_assert_uint_eq(st.st_mode & 0777, 0640); /* whatever the umask */

	stats_writer_free(writer);
	ck_assert_int_eq(snapshot(&s), -ENOENT);
}
END_TEST

START_TEST(test_nothing_there)
{
	struct stats_snapshot s;

	ck_assert_int_eq(snapshot(&s), -ENOENT);
}
END_TEST

START_TEST(test_null_values)
{
	struct stats_writer *writer = new_writer(8);
	struct stats_slot_row row = {
	    .client = STATS_NO_U32, .held_for = STATS_NO_U64, .pid = 5, .slot = STATS_NO_U32};
	struct stats_rows rows[STATS_NTABLES] = {{0}};
	struct stats_snapshot s;
	const struct stats_view *view;
	uint64_t value = 1;

	rows[STATS_SLOTS] = (struct stats_rows){&row, 1, 1};
	ck_assert_int_eq(stats_writer_publish(writer, SEGMENT_OPEN, rows), 0);
	ck_assert_int_eq(snapshot(&s), 0);
	view = stats_view_find(&s, "slots");
	ck_assert(!stats_value_u64(view, 0, stats_column_find(view, "client"), &value));
	ck_assert(!stats_value_u64(view, 0, stats_column_find(view, "held_for"), &value));
	ck_assert_uint_eq(value, 1);
	ck_assert(stats_value_u64(view, 0, stats_column_find(view, "pid"), &value));
	ck_assert_uint_eq(value, 5);
	ck_assert(stats_value_u64(view, 0, stats_column_find(view, "slot"), &value)); /* not nullable */
	ck_assert_uint_eq(value, UINT32_MAX);
	stats_snapshot_fini(&s);
	stats_writer_free(writer);
}
END_TEST

START_TEST(test_more_than_capacity)
{
	struct stats_writer *writer = new_writer(4);
	struct stats_snapshot s;

	ck_assert_int_eq(publish(writer, 9, 1), 0);
	ck_assert_int_eq(snapshot(&s), 0);
	ck_assert_uint_eq(stats_view_find(&s, "clients")->nrows, 4);
	ck_assert_uint_eq(stats_view_find(&s, "clients")->total, 9);
	stats_snapshot_fini(&s);
	stats_writer_free(writer);
}
END_TEST

START_TEST(test_one_writer)
{
	struct stats_writer *writer = new_writer(4);
	struct stats_snapshot s;
	pid_t owner = -1;

	ck_assert_int_eq(publish(writer, 1, 1), 0);
	ck_assert_int_eq(new_writer_error(4, &owner), -EBUSY);
	ck_assert_int_eq(owner, getpid());
	ck_assert_int_eq(snapshot(&s), 0); /* and it did no harm */
	stats_snapshot_fini(&s);
	stats_writer_free(writer);
}
END_TEST

START_TEST(test_dead_writer)
{
	struct stats_writer *writer;
	struct stats_snapshot s;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		abandoned = new_writer(4);
		_exit(publish(abandoned, 2, 9)); /* dies without removing it */
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);

	ck_assert_int_eq(snapshot(&s), 0);
	ck_assert(s.gone);
	ck_assert(!s.torn);
	ck_assert_uint_eq(s.header.broker_pid, (unsigned)pid);
	ck_assert_uint_eq(stats_view_find(&s, "clients")->nrows, 2);
	stats_snapshot_fini(&s);

	writer = new_writer(4);
	ck_assert_int_eq(publish(writer, 1, 1), 0);
	ck_assert_int_eq(snapshot(&s), 0);
	ck_assert(!s.gone);
	ck_assert_uint_eq(s.header.broker_pid, (unsigned)getpid());
	stats_snapshot_fini(&s);
	stats_writer_free(writer);
}
END_TEST

START_TEST(test_replaced_by_hand)
{
	struct stats_writer *first = new_writer(4), *second;
	struct stats_snapshot s;

	ck_assert_int_eq(shm_unlink(shm_name), 0);
	second = new_writer(4);
	ck_assert_int_eq(publish(second, 1, 1), 0);
	stats_writer_free(first); /* leaves the other's object alone */
	ck_assert_int_eq(snapshot(&s), 0);
	stats_snapshot_fini(&s);
	stats_writer_free(second);
}
END_TEST

START_TEST(test_no_room)
{
	struct stats_snapshot s;
	pid_t owner;
	int r = new_writer_error(UINT32_MAX, &owner); /* terabytes */

	ck_assert_msg(r == -ENOSPC || r == -EFBIG || r == -ENOMEM, "%d", r);
	ck_assert_int_eq(snapshot(&s), -ENOENT);
}
END_TEST

START_TEST(test_foreign)
{
	struct stats_snapshot s;
	char junk[8192];

	memset(junk, 0x5a, sizeof(junk));
	poke(0, junk, sizeof(junk));
	ck_assert_int_eq(snapshot(&s), -EBADMSG);
}
END_TEST

START_TEST(test_other_version)
{
	struct stats_writer *writer = new_writer(4);
	uint32_t version = STATS_VERSION + 1;
	struct stats_snapshot s;

	ck_assert_int_eq(publish(writer, 1, 1), 0);
	poke(offsetof(struct stats_header, version), &version, sizeof(version));
	ck_assert_int_eq(snapshot(&s), -EPROTO);
	stats_writer_free(writer);
}
END_TEST

START_TEST(test_never_published)
{
	struct stats_writer *writer = new_writer(4);
	struct stats_snapshot s;

	ck_assert_int_eq(snapshot(&s), -EBADMSG);
	stats_writer_free(writer);
}
END_TEST

START_TEST(test_truncated)
{
	static const off_t size[] = {0, 1, sizeof(struct stats_header) - 1, sizeof(struct stats_header),
	    sizeof(struct stats_header) + 100};
	struct stats_writer *writer = new_writer(4);
	struct stats_snapshot s;
	int fd = shm_open(shm_name, O_RDWR, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(publish(writer, 2, 1), 0);
	ck_assert_int_eq(ftruncate(fd, size[_i]), 0);
	close(fd);
	ck_assert_int_eq(snapshot(&s), -EBADMSG);
	ck_assert_int_eq(publish(writer, 2, 1), 0); /* the writer is not killed either */
	stats_writer_free(writer);
}
END_TEST

START_TEST(test_torn)
{
	struct stats_writer *writer = new_writer(4);
	uint64_t odd = 12345;
	struct stats_snapshot s;

	ck_assert_int_eq(publish(writer, 2, 1), 0);
	poke(offsetof(struct stats_header, sequence), &odd, sizeof(odd));
	ck_assert_int_eq(snapshot(&s), 0);
	ck_assert(s.torn);
	ck_assert_uint_eq(stats_view_find(&s, "clients")->nrows, 2);
	stats_snapshot_fini(&s);
	stats_writer_free(writer);
}
END_TEST

/* No value of any field of the header or of a column makes the reader do more than refuse. */
START_TEST(test_scribbled)
{
	static const uint64_t evil[] = {
	    0, 1, 7, 0x7fffffff, 0xffffffff, UINT64_C(0x7fffffffffffffff), UINT64_MAX, UINT64_MAX - 63};
	struct stats_writer *writer = new_writer(4);
	uint64_t columns;
	struct stats_snapshot s;
	struct stats_header good;
	unsigned refused = 0, accepted = 0;
	int fd = shm_open(shm_name, O_RDONLY, 0);

	ck_assert_int_eq(publish(writer, 2, 1), 0);
	ck_assert_int_eq(pread(fd, &good, sizeof(good), 0), (ssize_t)sizeof(good));
	columns = good.table[STATS_CLIENTS].columns;
	close(fd);
	for (size_t at = offsetof(struct stats_header, table) + 16; at < sizeof(struct stats_header);
	     at += 4) {
		size_t e = (at / 4) % (sizeof(evil) / sizeof(evil[0]));
		int r;

		poke(0, &good, sizeof(good));
		poke(at, &evil[e], at + 8 <= sizeof(good) ? 8 : 4);
		r = snapshot(&s);
		ck_assert_msg(r == 0 || r == -EBADMSG, "offset %zu: %d", at, r);
		refused += r != 0;
		accepted += r == 0;
		if (r == 0)
			stats_snapshot_fini(&s);
	}
	ck_assert_uint_gt(refused, 0);
	ck_assert_uint_gt(accepted, 0); /* what lies beyond ntables does not matter */
	for (unsigned e = 0; e < sizeof(evil) / sizeof(evil[0]); e++) {
		int r;

		poke(0, &good, sizeof(good));
		poke(columns + offsetof(struct stats_column, type), &evil[e], 8);
		r = snapshot(&s);
		ck_assert_msg(r == 0 || r == -EBADMSG, "column, value %u: %d", e, r);
		if (r == 0)
			stats_snapshot_fini(&s);
	}
	stats_writer_free(writer);
}
END_TEST

START_TEST(test_unknown_type)
{
	struct stats_writer *writer = new_writer(4);
	const struct stats_view *view;
	struct stats_snapshot s;
	struct stats_header header;
	uint8_t type = 77;
	uint32_t all;
	int fd;

	ck_assert_int_eq(publish(writer, 1, 1), 0);
	fd = shm_open(shm_name, O_RDONLY, 0);
	ck_assert_int_eq(pread(fd, &header, sizeof(header), 0), (ssize_t)sizeof(header));
	close(fd);
	all = header.table[STATS_CLIENTS].ncolumns;
	poke(header.table[STATS_CLIENTS].columns + offsetof(struct stats_column, type), &type, 1);
	ck_assert_int_eq(snapshot(&s), 0);
	view = stats_view_find(&s, "clients");
	ck_assert_uint_eq(
	    view->ncolumns, all - 1); /* a newer broker's column is left out, the others are read */
	ck_assert_ptr_null(stats_column_find(view, "client"));
	ck_assert_ptr_nonnull(stats_column_find(view, "pid"));
	stats_snapshot_fini(&s);
	stats_writer_free(writer);
}
END_TEST

#define PUBLICATIONS 4000

static void *
publish_many(void *arg)
{
	for (uint32_t i = 1; i <= PUBLICATIONS; i++)
		if (publish(arg, 1 + i % 50, i))
			return arg;
	return NULL;
}

/* What is not said to be torn is of one moment. */
START_TEST(test_consistent)
{
	struct stats_writer *writer = new_writer(64);
	struct stats_snapshot s;
	uint64_t value, last = 0;
	pthread_t thread;
	void *failed;

	ck_assert_int_eq(publish(writer, 1, 0), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, publish_many, writer), 0);
	while (last < PUBLICATIONS) {
		const struct stats_view *view;
		uint64_t first = 0;

		ck_assert_int_eq(snapshot(&s), 0);
		view = stats_view_find(&s, "clients");
		for (uint32_t row = 0; !s.torn && row < view->nrows; row++) {
			ck_assert(stats_value_u64(view, row, stats_column_find(view, "pid"), &value));
			if (row == 0)
				first = value;
			ck_assert_uint_eq(value, first);
			ck_assert(stats_value_u64(view, row, stats_column_find(view, "waiting"), &value));
			ck_assert_uint_eq(value, first);
		}
		if (!s.torn) {
			ck_assert_uint_eq(view->nrows, first == 0 ? 1 : 1 + first % 50);
			ck_assert_uint_ge(first, last);
			last = first;
		}
		stats_snapshot_fini(&s);
	}
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	stats_writer_free(writer);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("stats");
	TCase *tcase = tcase_create("stats");
	SRunner *runner;
	int failed;

	snprintf(instance, sizeof(instance), "unit-stats-%d", (int)getpid());
	snprintf(shm_name, sizeof(shm_name), "/pglease.%s", instance);
	tcase_add_checked_fixture(tcase, NULL, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_copy_text);
	tcase_add_loop_test(tcase, test_describe, 0, STATS_NTABLES);
	tcase_add_test(tcase, test_round_trip);
	tcase_add_test(tcase, test_nothing_there);
	tcase_add_test(tcase, test_null_values);
	tcase_add_test(tcase, test_more_than_capacity);
	tcase_add_test(tcase, test_one_writer);
	tcase_add_test(tcase, test_dead_writer);
	tcase_add_test(tcase, test_replaced_by_hand);
	tcase_add_test(tcase, test_no_room);
	tcase_add_test(tcase, test_other_tables);
	tcase_add_test(tcase, test_foreign);
	tcase_add_test(tcase, test_other_version);
	tcase_add_test(tcase, test_never_published);
	tcase_add_loop_test(tcase, test_truncated, 0, 5);
	tcase_add_test(tcase, test_torn);
	tcase_add_test(tcase, test_scribbled);
	tcase_add_test(tcase, test_unknown_type);
	tcase_add_test(tcase, test_consistent);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	shm_unlink(shm_name); /* what a failed test left */
	return failed != 0;
}
