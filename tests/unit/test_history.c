/* SPDX-License-Identifier: PostgreSQL */
/* The history's format: buckets, rows, the object and its owners, other versions, and readers beside the writer. */
#include "history_unit.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

START_TEST(test_buckets)
{
	unsigned last = 0;

	for (unsigned b = 0; b < HISTORY_BUCKETS; b++) {
		ck_assert_uint_eq(history_bucket_of(history_bucket_low(b)), b);
		if (b > 0)
			ck_assert_uint_eq(history_bucket_of(history_bucket_low(b) - 1), b - 1);
		ck_assert_uint_eq(history_bucket_of(history_bucket_middle(b)), b);
	}
	ck_assert_uint_eq(history_bucket_low(1), 128);
	ck_assert_uint_eq(history_bucket_low(HISTORY_BUCKETS - 1), UINT64_C(1) << 37);
	ck_assert_uint_eq(history_bucket_of(UINT64_MAX), HISTORY_BUCKETS - 1);
	/* What the header says of the error, for every value that is an end of a fine bucket. */
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t low = histogram_bucket_low(i), high = i + 1 < HISTOGRAM_BUCKETS ? histogram_bucket_high(i) - 1 : low;
		unsigned b = history_bucket_of(low);
		double middle = (double)history_bucket_middle(b);

		ck_assert_uint_eq(history_bucket_of(high), b); /* fine buckets fall into coarse ones */
		ck_assert_uint_ge(b, last);
		last = b;
		if (low < 128 || low >= UINT64_C(1) << 37)
			continue;
		ck_assert_msg(middle <= (double)low * 1.125 && middle >= (double)high * 0.875, "%u", i);
	}
}
END_TEST

START_TEST(test_quantiles)
{
	struct histogram_sum sum = {0};
	uint64_t bucket[HISTORY_BUCKETS];

	history_bucket_sum(&sum, bucket);
	ck_assert_uint_eq(history_bucket_quantile(bucket, 0.5), 0);
	ck_assert_uint_eq(history_bucket_max(bucket), 0);
	histogram_add_value(&sum, 0, 50);
	histogram_add_value(&sum, 1000, 45);
	histogram_add_value(&sum, 1000000, 4);
	histogram_add_value(&sum, UINT64_MAX, 1);
	history_bucket_sum(&sum, bucket);
	ck_assert_uint_eq(history_bucket_quantile(bucket, 0.5), 0);
	ck_assert_uint_eq(history_bucket_quantile(bucket, 0.51), history_bucket_middle(history_bucket_of(1000)));
	ck_assert_uint_eq(history_bucket_quantile(bucket, 0.95), history_bucket_middle(history_bucket_of(1000)));
	ck_assert_uint_eq(history_bucket_quantile(bucket, 0.99), history_bucket_middle(history_bucket_of(1000000)));
	ck_assert_uint_eq(history_bucket_quantile(bucket, 1), UINT64_C(1) << 37);
	ck_assert_uint_eq(history_bucket_max(bucket), UINT64_C(1) << 37);
}
END_TEST

START_TEST(test_describe)
{
	struct stats_column columns[HISTORY_MAX_COLUMNS];
	unsigned char covered[sizeof(struct history_row)] = {0};
	unsigned n = history_describe(columns);

	ck_assert_uint_eq(n, HISTORY_COLUMNS);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned j = 0; j < i; j++)
			ck_assert_str_ne(columns[i].name, columns[j].name);
		ck_assert_uint_gt(strlen(columns[i].help), 0);
		ck_assert_uint_le(columns[i].offset + columns[i].size, sizeof(struct history_row));
		for (unsigned b = 0; b < columns[i].size; b++)
			ck_assert_uint_eq(covered[columns[i].offset + b]++, 0);
	}
	/* All of a row is described, but for what pads it. */
	for (unsigned b = 0, holes = 0; b < sizeof(covered); b++) {
		holes += covered[b] == 0;
		ck_assert_uint_le(holes, 4);
	}
}
END_TEST

START_TEST(test_size)
{
	uint64_t capacity[HISTORY_NRINGS] = {3600, HISTORY_DAY_MINUTES};
	struct history_header header;
	struct history_writer *writer;
	struct stat st;

	history_header_init(&header, "main", "app", capacity);
	ck_assert_uint_le(header.size, HISTORY_DEFAULT_SIZE);
	ck_assert_uint_le(header.size, 16000000);
	writer = new_writer(3600);
	ck_assert_int_eq(fstat(history_writer_reader(writer), &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, header.size);
	ck_assert_uint_ge((uint64_t)st.st_blocks * 512, header.size); /* there, not only promised */
	ck_assert_uint_eq(st.st_mode & 0777, 0640);
	ck_assert_uint_eq(history_writer_size(writer), header.size);
	history_writer_free(writer, false);
	ck_assert_int_eq(shm_open(name, O_RDONLY, 0), -1);
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(test_round_trip)
{
	struct history_writer *writer = new_writer(10);
	struct history_bytes bytes, map;
	struct history_view view, mapped;

	ck_assert_int_eq(history_map(history_writer_reader(writer), &map, &mapped), 0);
	check_ring(&mapped, HISTORY_SECONDS, 0, 0, 1);
	for (uint64_t serial = 1; serial <= 37; serial++) {
		append(writer, HISTORY_SECONDS, serial);
		if (serial % 5 == 0)
			append(writer, HISTORY_MINUTES, serial / 5);
		if (serial == 7) {
			open_view(&bytes, &view);
			check_ring(&view, HISTORY_SECONDS, 0, 7, 1);
			history_bytes_fini(&bytes);
		}
	}
	open_view(&bytes, &view);
	ck_assert_str_eq(view.instance, instance);
	ck_assert_str_eq(view.pool, "app");
	check_ring(&view, HISTORY_SECONDS, 27, 37, 1);
	check_ring(&view, HISTORY_MINUTES, 0, 7, 1);
	/* The mapping made at the beginning sees what came since. */
	check_ring(&mapped, HISTORY_SECONDS, 27, 37, 1);
	check_ring(&mapped, HISTORY_MINUTES, 0, 7, 1);
	history_bytes_fini(&bytes);
	history_bytes_fini(&map);
	history_writer_free(writer, false);
}
END_TEST

START_TEST(test_no_seconds)
{
	struct history_writer *writer = new_writer(0);
	struct history_bytes bytes;
	struct history_view view;

	append(writer, HISTORY_SECONDS, 1);
	append(writer, HISTORY_MINUTES, 1);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 0, 0, 1);
	check_ring(&view, HISTORY_MINUTES, 0, 1, 1);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}
END_TEST

/* The descriptor that clients get cannot write, by no way. */
START_TEST(test_read_only)
{
	struct history_writer *writer = new_writer(3);
	int fd = history_writer_reader(writer);

	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_ne(ftruncate(fd, 0), 0);
	ck_assert_int_ne((int)pwrite(fd, "x", 1, 0), 1);
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	history_writer_free(writer, false);
}
END_TEST

/* --- Owners. --- */

START_TEST(test_taken_over)
{
	struct history_bytes bytes;
	struct history_view view;
	struct history_writer *writer;
	struct stat before, after;
	int fd;

	die_after(10, 14, 14);
	fd = shm_open(name, O_RDONLY, 0);
	ck_assert_int_eq(fstat(fd, &before), 0);
	close(fd);
	writer = new_writer(10);
	ck_assert_str_eq(why, "");
	ck_assert_int_eq(fstat(history_writer_reader(writer), &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino); /* the same: those who have it mapped see what comes */
	ck_assert_uint_eq(history_writer_sample(writer), 15);
	append(writer, HISTORY_SECONDS, 15);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 5, 15, 1);
	check_ring(&view, HISTORY_MINUTES, 0, 14, 1);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}
END_TEST

/* With another retention it is another object, with the same rows. */
START_TEST(test_other_retention)
{
	struct history_bytes bytes;
	struct history_view view;
	struct history_writer *writer;

	die_after(10, 14, 14);
	writer = new_writer(4);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 0, 4, 11);
	check_ring(&view, HISTORY_MINUTES, 0, 14, 1);
	history_bytes_fini(&bytes);
	ck_assert_uint_eq(history_writer_sample(writer), 15);
	history_writer_free(writer, false);
}
END_TEST

/* A broker that could not start leaves what it found. */
START_TEST(test_left)
{
	uint32_t seconds = _i == 0 ? 10 : 4; /* taken over; moved into another object */
	struct history_bytes bytes;
	struct history_view view;

	die_after(10, 14, 14);
	history_writer_free(new_writer(seconds), true);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_MINUTES, 0, 14, 1);
	history_bytes_fini(&bytes);
	/* Its own, new one it does not leave. */
	shm_unlink(name);
	history_writer_free(new_writer(seconds), true);
	ck_assert_int_eq(history_open(instance, "app", &bytes, &view), -ENOENT);
}
END_TEST

START_TEST(test_in_use)
{
	struct history_writer *writer = new_writer(3), *other = NULL;

	append(writer, HISTORY_SECONDS, 1);
	ck_assert_int_eq(try_writer(3, &other), -EBUSY);
	ck_assert_ptr_null(other);
	append(writer, HISTORY_SECONDS, 2);
	history_writer_free(writer, false);
}
END_TEST

/* Whatever a dead broker left in the place of the row that it was writing. */
START_TEST(test_dead_in_a_row)
{
	struct history_writer *writer;
	struct history_bytes bytes;
	struct history_view view;
	struct history_header header;
	struct history_row row;
	int fd;

	die_after(10, 14, 14);
	fd = shm_open(name, O_RDWR, 0);
	ck_assert_int_eq((int)pread(fd, &header, sizeof(header), 0), sizeof(header));
	header.ring[HISTORY_SECONDS].begun++;
	ck_assert_int_eq((int)pwrite(fd, &header, sizeof(header), 0), sizeof(header));
	make_row(&row, 15);
	row.number = 15;
	/* Half of row 14 (from 0) over the place of row 4. */
	ck_assert_int_eq((int)pwrite(fd, &row, sizeof(row) / 2,
	                     (off_t)(header.ring[HISTORY_SECONDS].offset + 4 * sizeof(row))),
	    (int)(sizeof(row) / 2));
	close(fd);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 5, 14, 1);
	history_bytes_fini(&bytes);
	writer = new_writer(10);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 5, 14, 1);
	history_bytes_fini(&bytes);
	append(writer, HISTORY_SECONDS, 15);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 5, 15, 1);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}
END_TEST

/* The seconds of a killed broker's last minute make its row. */
START_TEST(test_last_minute)
{
	struct history_writer *writer;
	struct history_bytes bytes;
	struct history_view view;
	struct history_row row, sum, next;

	die_after(10, 6, 2);
	writer = new_writer(10);
	open_view(&bytes, &view);
	ck_assert(history_view_row(&view, HISTORY_MINUTES, 2, sizeof(row), &row));
	make_row(&sum, 3);
	for (uint64_t serial = 4; serial <= 6; serial++) {
		make_row(&next, serial);
		history_row_add(&sum, &next);
	}
	sum.number = 3;
	ck_assert_uint_eq(row.interval, 4 * SECOND);
	ck_assert_uint_eq(row.serial, 6);
	ck_assert_int_eq(memcmp(&row, &sum, sizeof(row)), 0);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}
END_TEST

/* ... but not if some of its seconds are gone. */
START_TEST(test_last_minute_lost)
{
	struct history_writer *writer;
	struct history_bytes bytes;
	struct history_view view;

	die_after(3, 6, 2);
	writer = new_writer(3);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_MINUTES, 0, 2, 1);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}
END_TEST

/* The clock was set back before this broker began: what was recorded moves, so that nothing is in the future. */
START_TEST(test_future)
{
	struct history_params params = {
	    .instance = instance, .pool = "app", .seconds = 10, .mode = 0640, .now = NOW - 2000000 * SECOND};
	struct history_writer *writer;
	struct history_bytes bytes;
	struct history_view view;
	struct history_row row;

	die_after(10, 6, 6);
	ck_assert_int_eq(history_writer_new(&params, &writer, why), 0);
	open_view(&bytes, &view);
	for (uint64_t k = 0; k < 6; k++) {
		ck_assert(history_view_row(&view, HISTORY_SECONDS, k, sizeof(row), &row));
		ck_assert_uint_eq(row.time, params.now - (5 - k) * SECOND);
	}
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}
END_TEST

/* --- Other versions. --- */

/* A file of a version that has a counter less, another more, in another order, and larger rows. */
START_TEST(test_other_columns)
{
	enum { ROW = 8192 };
	static unsigned char bytes[65536], *rows;
	struct history_header *h = (struct history_header *)(void *)bytes;
	struct stats_column *columns = (struct stats_column *)(void *)(bytes + sizeof(*h)), ours[HISTORY_MAX_COLUMNS];
	uint64_t none[HISTORY_NRINGS] = {0, 0};
	struct history_view view;
	struct history_row row, expected;
	unsigned n = history_describe(ours);
	uint64_t value;

	history_header_init(h, "x", "app", none);
	h->row_size = ROW;
	h->ncolumns = n;
	for (unsigned i = 0; i < n; i++) {
		columns[i] = ours[n - 1 - i];
		columns[i].offset = (uint16_t)(columns[i].offset + 1024);
		if (strcmp(columns[i].name, "timeouts") == 0)
			snprintf(columns[i].name, sizeof(columns[i].name), "something_new");
	}
	h->ring[HISTORY_SECONDS].offset = sizeof(*h) + n * sizeof(*columns);
	rows = bytes + h->ring[HISTORY_SECONDS].offset;
	h->size = sizeof(bytes);
	h->ring[HISTORY_SECONDS].capacity = 2;
	h->ring[HISTORY_SECONDS].begun = h->ring[HISTORY_SECONDS].done = 1;
	h->ring[HISTORY_MINUTES].offset = h->ring[HISTORY_SECONDS].offset;
	make_row(&row, 5);
	row.number = 1;
	memcpy(rows + 1024, &row, sizeof(row));
	ck_assert_int_eq(history_view_init(&view, bytes, sizeof(bytes)), 0);
	expected = row;
	expected.client[COUNTER_TIMEOUTS] = 0;
	memset(&row, 0x5a, sizeof(row));
	ck_assert(history_view_row(&view, HISTORY_SECONDS, 0, sizeof(row), &row));
	ck_assert_int_eq(memcmp(row.slot, expected.slot, sizeof(row.slot)), 0);
	ck_assert_int_eq(memcmp(row.client, expected.client, sizeof(row.client)), 0);
	ck_assert_int_eq(memcmp(row.bucket, expected.bucket, sizeof(row.bucket)), 0);
	ck_assert_uint_eq(row.serial, 5);
	ck_assert_uint_eq(row.waiting_max, expected.waiting_max);
	/* A row that does not know its own number is none. */
	rows[1024]++;
	ck_assert(!history_view_row(&view, HISTORY_SECONDS, 0, sizeof(row), &row));
	rows[1024]--;

	/* Without a place, with another kind of place, with a column outside: not to be read. */
	for (unsigned i = 0; i < n; i++) {
		struct stats_column good = columns[i];

		columns[i].offset = ROW - 4;
		ck_assert_int_eq(history_view_init(&view, bytes, sizeof(bytes)), good.type == STATS_U32 ? 0 : -EBADMSG);
		columns[i] = good;
		columns[i].offset++;
		ck_assert_int_eq(history_view_init(&view, bytes, sizeof(bytes)), -EBADMSG);
		columns[i] = good;
		columns[i].size++;
		ck_assert_int_eq(history_view_init(&view, bytes, sizeof(bytes)), -EBADMSG);
		columns[i] = good;
		columns[i].name[0] = '!';
		ck_assert_int_eq(history_view_init(&view, bytes, sizeof(bytes)), good.offset < 1024 + HISTORY_PLACE_SIZE ? -EBADMSG : 0);
		columns[i] = good;
		columns[i].type = 99;
		ck_assert_int_eq(history_view_init(&view, bytes, sizeof(bytes)), good.offset < 1024 + HISTORY_PLACE_SIZE ? -EBADMSG : 0);
		columns[i] = good;
	}
	/* Each word of the header, at its extremes: refused, or read within bounds (the sanitizer's and valgrind's matter). */
	for (size_t at = 0; at < offsetof(struct history_header, instance); at += 4) {
		static const uint32_t values[] = {0, 1, 7, 0x7fffffff, 0x80000000, 0xffffffff};
		uint32_t good;

		memcpy(&good, bytes + at, 4);
		for (unsigned v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
			uint64_t first, end;

			memcpy(bytes + at, &values[v], 4);
			if (history_view_init(&view, bytes, sizeof(bytes)) != 0)
				continue;
			for (unsigned ring = 0; ring < HISTORY_NRINGS; ring++) {
				history_view_range(&view, ring, &first, &end);
				ck_assert_uint_le(end - first, view.ring[ring].capacity);
				for (uint64_t k = first; k < end; k++)
					history_view_row(&view, ring, k, sizeof(row), &row);
				for (value = 1; value != 0; value <<= 1)
					history_view_row(&view, ring, value - 1, sizeof(row), &row);
			}
		}
		memcpy(bytes + at, &good, 4);
	}
}
END_TEST

/* --- Reader and writer at the same time. --- */

enum { RACE_ROWS = 60000, RACE_ROWS_A_REST = 2000 };

struct race {
	struct history_writer *writer;
	_Atomic uint64_t passes; /* how often the reader has read all rows, in the mapping and in a copy */
	_Atomic bool over;
};

/* Lets the reader read all rows once with the writer at rest: a pass begun before this rest, and one in it. */
static void
rest(struct race *race)
{
	uint64_t passes = atomic_load(&race->passes);

	while (atomic_load(&race->passes) < passes + 2)
		sched_yield();
}

static void *
write_on(void *arg)
{
	struct race *race = arg;
	struct history_row row;

	for (uint64_t serial = 1; serial <= RACE_ROWS; serial++) {
		make_row(&row, serial);
		if (history_writer_append(race->writer, HISTORY_SECONDS, &row) != 0)
			abort();
		if (serial % RACE_ROWS_A_REST == 0)
			rest(race);
	}
	atomic_store(&race->over, true);
	return NULL;
}

/* What comes out is whole, in a mapping and in a copy, however fast the writer is. */
START_TEST(test_race)
{
	struct race race = {.writer = new_writer(3)};
	struct history_bytes map, bytes;
	struct history_view mapped, view;
	struct history_row row;
	uint64_t whole = 0, lost = 0, copied = 0, first, end;
	pthread_t thread;

	ck_assert_int_eq(history_map(history_writer_reader(race.writer), &map, &mapped), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, write_on, &race), 0);
	while (!atomic_load(&race.over)) {
		for (unsigned i = 0; i < 16; i++) {
			history_view_range(&mapped, HISTORY_SECONDS, &first, &end);
			for (uint64_t k = first; k < end; k++) {
				if (history_view_row(&mapped, HISTORY_SECONDS, k, sizeof(row), &row)) {
					check_row(&row, k, k + 1);
					whole++;
				} else {
					lost++;
				}
			}
		}
		open_view(&bytes, &view);
		history_view_range(&view, HISTORY_SECONDS, &first, &end);
		for (uint64_t k = first; k < end; k++) {
			ck_assert(history_view_row(&view, HISTORY_SECONDS, k, sizeof(row), &row));
			check_row(&row, k, k + 1);
			copied++;
		}
		history_bytes_fini(&bytes);
		atomic_fetch_add(&race.passes, 1);
	}
	pthread_join(thread, NULL);
	printf("# %llu rows whole, %llu written over meanwhile, %llu in copies\n", (unsigned long long)whole,
	    (unsigned long long)lost, (unsigned long long)copied);
	/* In each rest one pass finds all that the ring gives. */
	ck_assert_uint_ge(whole, RACE_ROWS / RACE_ROWS_A_REST);
	ck_assert_uint_ge(copied, RACE_ROWS / RACE_ROWS_A_REST);
	history_bytes_fini(&map);
	history_writer_free(race.writer, false);
}
END_TEST

/* Killed at any moment: the next broker goes on after the last whole row. */
START_TEST(test_killed_anywhere)
{
	for (unsigned round = 0; round < 50; round++) {
		struct history_bytes bytes;
		struct history_view view;
		struct history_row row;
		struct history_writer *writer;
		uint64_t first, end;
		int pair[2], status;
		char byte;
		pid_t pid;

		ck_assert_int_eq(pipe(pair), 0);
		pid = check_fork();
		if (pid == 0) {
			writer = new_writer(10);
			for (uint64_t serial = 1;; serial++) {
				append(writer, HISTORY_SECONDS, serial);
				if (serial == 1 + round * 3 && write(pair[1], "x", 1) != 1)
					_exit(1);
			}
		}
		close(pair[1]);
		ck_assert_int_eq((int)read(pair[0], &byte, 1), 1);
		close(pair[0]);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		open_view(&bytes, &view);
		history_view_range(&view, HISTORY_SECONDS, &first, &end);
		ck_assert_uint_ge(end, 1 + round * 3);
		ck_assert_uint_ge(end - first, end < 10 ? end : 9);
		check_ring(&view, HISTORY_SECONDS, first, end, 1);
		history_bytes_fini(&bytes);
		writer = new_writer(10);
		ck_assert_str_eq(why, "");
		append(writer, HISTORY_SECONDS, end + 1);
		open_view(&bytes, &view);
		ck_assert(history_view_row(&view, HISTORY_SECONDS, end, sizeof(row), &row));
		check_row(&row, end, end + 1);
		history_bytes_fini(&bytes);
		history_writer_free(writer, false);
	}
}
END_TEST

int
main(void)
{
	static const TTest *const *const tests[] = {&test_buckets, &test_quantiles, &test_describe, &test_size,
	    &test_round_trip, &test_no_seconds, &test_read_only, &test_taken_over,
	    &test_other_retention, &test_in_use, &test_dead_in_a_row, &test_last_minute, &test_last_minute_lost,
	    &test_future, &test_other_columns, &test_race, &test_killed_anywhere};
	const struct history_loop loop = {test_left, 2};

	return history_main("history", tests, sizeof(tests) / sizeof(tests[0]), &loop);
}
