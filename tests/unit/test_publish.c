/* SPDX-License-Identifier: PostgreSQL */
/* The publisher: what monitors see of a lease segment, also of one that a client has scribbled over. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "alert.h"
#include "collect.h"
#include "publish.h"
#include "queue.h"
#include "resources.h"
#include "rows.h"
#include "slots.h"
#include "health.h"
#include "stats.h"

#define SLOTS 16
#define ROWS 64
#define CLIENTS 8

static char instance[48];
static struct segment segment;
static int segment_fd;
static struct publisher *publisher;
static struct stats_snapshot snapshot;

static void
setup(void)
{
	struct segment_params params = {.instance_name = instance,
	    .pool_name = "app",
	    .user = "user\033",
	    .dbname = "db",
	    .nslots = SLOTS,
	    .nrows = ROWS,
	    .nclients = CLIENTS};
	struct publisher_params publisher_params = {
	    .instance = instance, .socket_dir = "/nowhere", .mode = 0600};
	const struct segment *pools[1] = {&segment};
	const char *error = NULL;
	bool local = true;

	ck_assert_int_eq(segment_create(&params, &segment, &segment_fd), 0);
	atomic_store(&segment.header->state, SEGMENT_OPEN);
	atomic_store(&segment.header->max_connections, 4);
	atomic_store(&segment.header->slots_used, 4);
	publisher_params.pools = pools;
	publisher_params.npools = 1;
	publisher_params.pool_is_local = &local;
	ck_assert_int_eq(publisher_new(&publisher_params, &publisher, &error), 0);
}

static void
teardown(void)
{
	stats_snapshot_fini(&snapshot);
	publisher_free(publisher);
	segment_unmap(&segment);
	close(segment_fd);
}

static void
publish(void)
{
	const struct segment *pools[1] = {&segment};
	struct stats_reader *reader;

	ck_assert_int_eq(publisher_publish(publisher, SEGMENT_OPEN, pools, 1), 0);
	ck_assert_int_eq(stats_reader_open(instance, &reader), 0);
	stats_snapshot_fini(&snapshot);
	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	ck_assert(!snapshot.torn);
	stats_reader_close(reader);
}

static const struct stats_view *
view(const char *table)
{
	const struct stats_view *found = stats_view_find(&snapshot, table);

	ck_assert_ptr_nonnull(found);
	return found;
}

/* A number that must be there; UINT64_MAX stands for none. */
static uint64_t
number(const char *table, uint32_t row, const char *column)
{
	const struct stats_column *found = stats_column_find(view(table), column);
	uint64_t value = UINT64_MAX;

	ck_assert_msg(found != NULL, "%s has no column %s", table, column);
	ck_assert_uint_lt(row, view(table)->nrows);
	stats_value_u64(view(table), row, found, &value);
	return value;
}

static const char *
text(const char *table, uint32_t row, const char *column)
{
	ck_assert_uint_lt(row, view(table)->nrows);
	return stats_value_text(view(table), row, stats_column_find(view(table), column));
}

static void
add_client(unsigned index, uint32_t pid, const char *program)
{
	atomic_store(&segment.client[index].pid, pid);
	atomic_store(&segment.client[index].uid, 1000);
	atomic_store(&segment.client[index].attached_at, clock_ns());
	snprintf(segment.client[index].program, sizeof(segment.client[index].program), "%s", program);
	atomic_store(&segment.client[index].incarnation, index + 1);
}

/* The slot becomes idle, and, if row >= 0, leased by that row. */
static void
make_slot(uint32_t slot, int row, unsigned client)
{
	uint64_t w = slot_load(&segment, slot);

	ck_assert(slot_take(&segment, slot, &w));
	ck_assert(slot_idle(&segment, slot, &w, WORD_NONE, 0));
	atomic_store(&segment.slot[slot].generation, 3);
	atomic_store(&segment.slot[slot].server_pid, 5000 + slot);
	if (row < 0)
		return;
	ck_assert(slot_lease(&segment, slot, &w, (unsigned)row, client));
	atomic_store(&segment.slot[slot].leased_at, clock_ns());
	atomic_store(&segment.slot[slot].site_line, 88);
	snprintf(segment.slot[slot].site_file, LAYOUT_SITE, "worker.c");
}

START_TEST(test_nothing_yet)
{
	publish();
	ck_assert_uint_eq(view("pools")->nrows, 1);
	ck_assert_str_eq(text("pools", 0, "name"), "app");
	ck_assert_str_eq(text("pools", 0, "user"), "user?");
	ck_assert_str_eq(text("pools", 0, "state"), "open");
	ck_assert_uint_eq(number("pools", 0, "max"), 4);
	ck_assert_uint_eq(number("pools", 0, "total"), 0);
	ck_assert_uint_eq(
	    view("slots")->nrows, 4); /* those up to max_connections, not all that there is room for */
	ck_assert_str_eq(text("slots", 0, "state"), "empty");
	ck_assert_uint_eq(number("slots", 0, "pid"), UINT64_MAX);
	ck_assert_uint_eq(view("clients")->nrows, 0);
	ck_assert_uint_eq(view("waiters")->nrows, 0);
}
END_TEST

START_TEST(test_leases_and_waiters)
{
	uint64_t w, now = clock_ns();
	int first = row_claim(&segment, 2, 0, &w), second = row_claim(&segment, 5, 0, &w);

	ck_assert_int_ge(first, 0);
	ck_assert_int_ge(second, 0);
	add_client(2, 812, "worker\nof mine");
	add_client(5, 999, "other");
	atomic_store(&segment.row[first].tid, 813);
	make_slot(0, first, 2);
	make_slot(1, -1, 0);
	ck_assert(row_wait(&segment, (uint32_t)second, &w, now > 1000000000 ? now - 1000000000 : 1));
	publish();
	ck_assert_uint_eq(number("pools", 0, "total"), 2);
	ck_assert_uint_eq(number("pools", 0, "leased"), 1);
	ck_assert_uint_eq(number("pools", 0, "idle"), 1);
	ck_assert_uint_eq(number("pools", 0, "waiting"), 1);
	ck_assert_uint_ge(number("pools", 0, "maxwait"), 1000000000);

	ck_assert_str_eq(text("slots", 0, "state"), "leased");
	ck_assert_uint_eq(number("slots", 0, "client"), 2);
	ck_assert_uint_eq(number("slots", 0, "pid"), 812);
	ck_assert_uint_eq(number("slots", 0, "tid"), 813);
	ck_assert_uint_eq(number("slots", 0, "generation"), 3);
	ck_assert_uint_eq(number("slots", 0, "server_pid"), 5000);
	ck_assert_str_eq(text("slots", 0, "acquired_at"), "worker.c:88");
	ck_assert_uint_ne(number("slots", 0, "held_since"), UINT64_MAX);
	ck_assert_str_eq(text("slots", 1, "state"), "idle");
	ck_assert_uint_eq(number("slots", 1, "held_for"), UINT64_MAX);

	ck_assert_uint_eq(view("clients")->nrows, 2);
	ck_assert_uint_eq(number("clients", 0, "pid"), 812);
	ck_assert_uint_eq(number("clients", 0, "leases_held"), 1);
	ck_assert_uint_eq(number("clients", 0, "waiting"), 0);
	ck_assert_str_eq(text("clients", 0, "program"), "worker?of mine");
	ck_assert_uint_eq(number("clients", 1, "waiting"), 1);

	ck_assert_uint_eq(view("waiters")->nrows, 1);
	ck_assert_uint_eq(number("waiters", 0, "row"), (unsigned)second);
	ck_assert_uint_eq(number("waiters", 0, "pid"), 999);
	ck_assert_uint_ge(number("waiters", 0, "waiting_for"), 1000000000);

	/* As the library sees it, who walks the ring, there is nobody: the row has not entered it. */
	ck_assert_uint_eq(queue_length(&segment, &now), 0);
	/* It has its lease: nobody waits any more. */
	ck_assert(row_own(&segment, (uint32_t)second, &w));
	publish();
	ck_assert_uint_eq(number("pools", 0, "waiting"), 0);
	ck_assert_uint_eq(view("waiters")->nrows, 0);
}
END_TEST

/* The waits of a row, one after the other, each with a place of its own in the ring, until there is none. Stays waiting, outside. */
static void
fill_ring(int row, uint64_t *w)
{
	for (uint64_t n = 0; n <= (uint64_t)segment.queue_mask + 1; n++) {
		ck_assert(row_wait(&segment, (uint32_t)row, w, clock_ns()));
		if (!queue_enter(&segment, (uint32_t)row, word_seq(*w), 0))
			return;
		queue_served(&segment, (uint32_t)row, word_seq(*w));
		ck_assert(row_own(&segment, (uint32_t)row, w));
	}
	ck_abort_msg("the ring has no end");
}

START_TEST(test_waiters_in_a_full_ring)
{
	uint64_t w[3];
	int row[3];

	add_client(2, 812, "worker");
	for (unsigned i = 0; i < 3; i++) {
		row[i] = row_claim(&segment, 2, 20 * i, &w[i]);
		ck_assert_int_ge(row[i], 0);
	}
	publish(); /* the look at all rows that is due once a second */
	for (unsigned i = 0; i < 2; i++) {
		ck_assert(row_wait(&segment, (uint32_t)row[i], &w[i], clock_ns()));
		ck_assert(queue_enter(&segment, (uint32_t)row[i], word_seq(w[i]), 0));
	}
	publish();
	ck_assert_uint_eq(number("pools", 0, "waiting"), 2);
	ck_assert_uint_eq(view("waiters")->nrows, 2);
	ck_assert(!queue_is_full(&segment));
	fill_ring(row[2], &w[2]);
	ck_assert(queue_is_full(&segment));
	for (unsigned i = 0; i < 3; i++) {
		publish();
		ck_assert_uint_eq(number("pools", 0, "waiting"), 3);
		ck_assert_uint_eq(view("waiters")->nrows, 3);
	}
}
END_TEST

START_TEST(test_counters_and_times)
{
	/* Two blocks of one pool, as after a revocation: both count. */
	counter_add(&segment.block[0].counter[COUNTER_LEASES_IMMEDIATE], 90);
	counter_add(&segment.block[3].counter[COUNTER_LEASES_WAITED], 10);
	counter_add(&segment.block[3].counter[COUNTER_WAIT_NS], 10 * 1000000);
	counter_add(&segment.block[0].counter[COUNTER_RELEASES], 100);
	counter_add(&segment.block[0].counter[COUNTER_HOLD_NS], 100 * 2000000);
	for (unsigned i = 0; i < 10; i++)
		histogram_record(&segment.block[3].wait, 1000000);
	for (unsigned i = 0; i < 100; i++)
		histogram_record(&segment.block[0].hold, 2000000);
	atomic_fetch_add(&segment.header->client_counter[COUNTER_TIMEOUTS], 7);
	counter_add(&segment.header->broker_counter[COUNTER_OPENED], 5);
	publish();
	ck_assert_uint_eq(number("pools", 0, "leases_immediate"), 90);
	ck_assert_uint_eq(number("pools", 0, "leases_waited"), 10);
	ck_assert_uint_eq(number("pools", 0, "timeouts"), 7);
	ck_assert_uint_eq(number("pools", 0, "opened"), 5);
	ck_assert_uint_eq(number("pools", 0, "wait_count"), 100);
	ck_assert_uint_eq(number("pools", 0, "wait_mean"), 100000);
	ck_assert_uint_eq(number("pools", 0, "wait_p50"), 0); /* nine of ten did not wait */
	ck_assert_uint_eq(number("pools", 0, "hold_count"), 100);
	ck_assert_uint_eq(number("pools", 0, "hold_mean"), 2000000);
	ck_assert_uint_ge(number("pools", 0, "wait_p99"), 1000000 - 1000000 / 60);
	ck_assert_uint_le(number("pools", 0, "wait_p99"), 1000000 + 1000000 / 60);
	ck_assert_uint_ge(number("pools", 0, "hold_p50"), 2000000 - 2000000 / 60);
	ck_assert_uint_le(number("pools", 0, "hold_max"), 2000000 + 2000000 / 30);
	ck_assert_uint_eq(number("pools", 0, "efficiency"), 900000);

	ck_assert_uint_eq(view("histograms")->nrows, STATS_NTIMES);
	ck_assert_str_eq(text("histograms", TIME_WAIT, "time"), "wait");
	ck_assert_str_eq(text("histograms", TIME_WAIT, "pool"), "app");
	ck_assert_uint_eq(number("histograms", TIME_WAIT, "count"), 100);
	ck_assert_uint_eq(number("histograms", TIME_WAIT, "sum"), 10 * 1000000);
	ck_assert_uint_eq(number("histograms", TIME_WAIT, "le_0.0000001"), 90);
	ck_assert_uint_eq(number("histograms", TIME_WAIT, "le_0.0005"), 90);
	ck_assert_uint_eq(number("histograms", TIME_WAIT, "le_0.0025"), 100);
	ck_assert_uint_eq(number("histograms", TIME_HOLD, "le_0.001"), 0);
	ck_assert_uint_eq(number("histograms", TIME_HOLD, "le_10"), 100);
	ck_assert_uint_eq(number("histograms", TIME_QUERY, "count"), 0);
}
END_TEST

/* A client counts before it records: when the last one is seen between the two, no later count tells of it. */
START_TEST(test_counted_before_it_is_recorded)
{
	static struct collect_times times;
	struct stats_histogram_row rows[STATS_NTIMES];
	struct stats_pool_row row;
	struct collect_names names;
	uint64_t now = clock_ns();

	collect_names(&segment, &names);
	counter_add(&segment.block[0].counter[COUNTER_RELEASES], 1);
	collect_pool(&segment, &names, now, &times, &row, rows);
	ck_assert_uint_eq(rows[TIME_HOLD].count, 0);
	counter_add(&segment.block[0].counter[COUNTER_HOLD_NS], 2000000);
	histogram_record(&segment.block[0].hold, 2000000);
	/* At most once a second. */
	collect_pool(&segment, &names, now + UINT64_C(999999999), &times, &row, rows);
	ck_assert_uint_eq(rows[TIME_HOLD].count, 0);
	collect_pool(&segment, &names, now + UINT64_C(1000000000), &times, &row, rows);
	ck_assert_uint_eq(rows[TIME_HOLD].count, 1);
	ck_assert_uint_eq(rows[TIME_HOLD].sum, 2000000);
	ck_assert_uint_ge(row.time[TIME_HOLD].p50, 2000000 - 2000000 / 60);
}
END_TEST

START_TEST(test_alerts)
{
	struct alert alert = {.state = ALERT_RAISED, .value = 2500000000, .limit = 1000000000, .since = clock_ns() - 5000000000, .count = 3};
	uint64_t real = (uint64_t)time(NULL) * 1000000000;

	publish();
	ck_assert_uint_eq(view("alerts")->nrows, ALERT_N);
	for (unsigned i = 0; i < ALERT_N; i++) {
		ck_assert_str_eq(text("alerts", i, "pool"), "app");
		ck_assert_str_eq(text("alerts", i, "alert"), alert_name(i));
		ck_assert_str_eq(text("alerts", i, "state"), "off");
		ck_assert_uint_eq(number("alerts", i, "threshold"), STATS_NO_U64);
		ck_assert_uint_eq(number("alerts", i, "since"), STATS_NO_U64);
	}
	alert_publish(&segment, ALERT_MAXWAIT, &alert);
	publish();
	ck_assert_str_eq(text("alerts", ALERT_MAXWAIT, "state"), "raised");
	ck_assert_str_eq(text("alerts", ALERT_MAXWAIT, "unit"), "seconds");
	ck_assert_uint_eq(number("alerts", ALERT_MAXWAIT, "value"), 2500000);
	ck_assert_uint_eq(number("alerts", ALERT_MAXWAIT, "threshold"), 1000000);
	ck_assert_uint_eq(number("alerts", ALERT_MAXWAIT, "count"), 3);
	ck_assert_uint_eq(number("alerts", ALERT_MAXWAIT, "raised"), 1);
	ck_assert_uint_ge(number("alerts", ALERT_MAXWAIT, "state_for"), 5000000000);
	ck_assert_uint_lt(number("alerts", ALERT_MAXWAIT, "since"), real);
	ck_assert_uint_gt(number("alerts", ALERT_MAXWAIT, "since"), real - 600000000000);
	ck_assert_str_eq(text("alerts", ALERT_LEAKS, "state"), "off");
	/* One that is being written to is not there; and what a client writes is no state. */
	atomic_fetch_add(&segment.header->alert[ALERT_MAXWAIT].sequence, 1);
	atomic_store(&segment.header->alert[ALERT_LEAKS].state, UINT64_MAX);
	publish();
	ck_assert_str_eq(text("alerts", ALERT_MAXWAIT, "state"), "off");
	ck_assert_str_eq(text("alerts", ALERT_LEAKS, "state"), "off");
}
END_TEST

START_TEST(test_instance)
{
	publish();
	ck_assert_uint_eq(view("instance")->nrows, 1);
	ck_assert_str_eq(text("instance", 0, "health"), "ok");
	ck_assert_str_eq(text("instance", 0, "reasons"), "");
	ck_assert_uint_eq(number("instance", 0, "pid"), (uint64_t)getpid());
	ck_assert_uint_ge(number("instance", 0, "threads"), 1);
	ck_assert_uint_ge(number("instance", 0, "descriptors"), 3);
	ck_assert_uint_lt(number("instance", 0, "descriptors"), number("instance", 0, "descriptors_max"));
	ck_assert_uint_gt(number("instance", 0, "memory"), 100000);
	ck_assert_uint_eq(number("instance", 0, "segments"), segment.size);
	ck_assert_uint_gt(number("instance", 0, "stats_segment"), 10000);
	/* Bits that this version does not know are no reasons. */
	atomic_store(&segment.header->health, 1u << 31 | HEALTH_CONNECTS | HEALTH_WAITING);
	publish();
	ck_assert_str_eq(text("pools", 0, "health"), "degraded");
	ck_assert_str_eq(text("pools", 0, "reasons"), "connects,waiting");
	ck_assert_str_eq(text("instance", 0, "health"), "degraded");
}
END_TEST

START_TEST(test_processes)
{
	/* This process is a client, and, for once, a server; a process of another name is no server. */
	add_client(2, (uint32_t)getpid(), "me");
	make_slot(0, -1, 0);
	atomic_store(&segment.slot[0].server_pid, (uint32_t)getpid());
	publish();
	ck_assert_uint_eq(number("clients", 0, "memory"), UINT64_MAX); /* not looked at yet */
	publish();
	ck_assert_uint_gt(number("clients", 0, "memory"), 100000);
	ck_assert_uint_ne(number("clients", 0, "cpu"), UINT64_MAX);
	ck_assert_uint_eq(number("slots", 0, "memory"), UINT64_MAX);
	/* Another process at that place. */
	atomic_store(&segment.client[2].pid, UINT32_MAX / 2);
	publish();
	ck_assert_uint_eq(number("clients", 0, "memory"), UINT64_MAX);
	publish();
	ck_assert_uint_eq(number("clients", 0, "memory"), UINT64_MAX);
}
END_TEST

/* What a group's processes use: what is gone does not come back as memory, and is not lost as CPU time or disk. */
START_TEST(test_groups_of_processes)
{
	struct resources *r = resources_new(3, 2);
	const struct stats_process *born = resources_of_group(r, 0), *met = resources_of_group(r, 1);
	uint64_t cpu, memory;
	uint32_t pid = (uint32_t)getpid();
	struct timespec ts;

	do /* this process has used some CPU time: a tick of the kernel's clock at least */
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	while (ts.tv_sec == 0 && ts.tv_nsec < 30000000);
	resources_group(r, 0, 2, 0, true);
	resources_group(r, 2, 1, 1, false);
	ck_assert(born->memory == STATS_NO_U64 && born->cpu == STATS_NO_U64);
	(void)resources_of(r, 0, pid, NULL);
	(void)resources_of(r, 2, pid, NULL);
	resources_tick(r, 1000000000);
	memory = born->memory;
	cpu = born->cpu;
	ck_assert(memory != STATS_NO_U64 && memory != 0);
	ck_assert(cpu != STATS_NO_U64 && cpu >= 10000000);
	ck_assert_uint_eq(met->cpu, 0); /* not what it had used before it came */
	ck_assert(met->memory != STATS_NO_U64 && met->memory != 0); /* read by itself: the kernel's count moves */
	(void)resources_of(r, 1, pid, NULL); /* twice the same: twice as much */
	resources_tick(r, 3000000000);
	ck_assert_uint_gt(born->memory, memory);
	ck_assert_uint_ge(born->cpu, 2 * cpu);
	cpu = born->cpu;
	(void)resources_of(r, 0, 0, NULL);
	(void)resources_of(r, 1, 0, NULL);
	ck_assert_uint_eq(born->memory, 0);
	ck_assert_uint_eq(born->cpu, cpu);
	ck_assert_uint_gt(met->memory, 0);
	resources_free(r);
}
END_TEST

/* The copy that HTTP shows is what was published. */
START_TEST(test_snapshot_is_what_was_published)
{
	struct stats_snapshot copy;

	ck_assert_int_eq(publisher_snapshot(publisher, &copy), 0);
	ck_assert_uint_eq(copy.ntables, 0); /* nothing yet */
	stats_snapshot_fini(&copy);
	publish();
	ck_assert_int_eq(publisher_snapshot(publisher, &copy), 0);
	ck_assert_uint_eq(copy.ntables, snapshot.ntables);
	ck_assert_str_eq(copy.header.instance, instance);
	for (unsigned i = 0; i < copy.ntables; i++) {
		const struct stats_view *a = &copy.table[i], *b = view(a->name);

		ck_assert_uint_eq(a->nrows, b->nrows);
		ck_assert_uint_eq(a->row_size, b->row_size);
		ck_assert_uint_eq(a->ncolumns, b->ncolumns);
		ck_assert_int_eq(memcmp(a->column, b->column, a->ncolumns * sizeof(*a->column)), 0);
		ck_assert_int_eq(memcmp(a->rows, b->rows, (size_t)a->nrows * a->row_size), 0);
	}
	stats_snapshot_fini(&copy);
}
END_TEST

/* A client of the pool can write all of the segment. The publisher must survive it, under sanitizers too. */
START_TEST(test_scribbled)
{
	static const unsigned char pattern[] = {0xff, 0x7f, 0x80, 0x01, 0x45, 0x3a, 0x2f};
	size_t words;
	struct segment view_of_broker = segment; /* its own copy of the sizes stays what it is */
	unsigned char fill = pattern[_i];

	add_client(1, 77, "before");
	make_slot(0, 0, 1);
	/* Not the rows' and slots' words alone: everything after the header's page, and the header's changing
	 * part. */
	memset((char *)segment.header + offsetof(struct segment_header, state), fill, sizeof(uint32_t));
	memset((char *)segment.header + offsetof(struct segment_header, instance_name), fill,
	    sizeof(struct segment_header) - offsetof(struct segment_header, instance_name));
	memset((char *)segment.header + 4096, fill, segment.size - 4096);
	publish();
	ck_assert_str_eq(text("pools", 0, "name"), "app");
	ck_assert_uint_le(view("slots")->nrows, SLOTS);
	ck_assert_uint_le(view("waiters")->nrows, ROWS);
	ck_assert_uint_le(view("clients")->nrows, CLIENTS);
	/* Every state a word can have, naming every row and client there is not. */
	words = SLOTS;
	for (unsigned state = 0; state < 16; state++) {
		for (size_t i = 0; i < words; i++)
			atomic_store(
			    &segment.slot[i].word, word_pack(state, (unsigned)i, (unsigned)(i * 4369), i));
		for (size_t i = 0; i < ROWS; i++)
			atomic_store(
			    &segment.row[i].word, word_pack(state, (unsigned)i, (unsigned)(i * 1040), i));
		publish();
	}
	segment = view_of_broker;
}
END_TEST

START_TEST(test_name_in_use)
{
	struct publisher_params params = {.instance = instance, .socket_dir = "/nowhere", .mode = 0600};
	struct publisher *second = NULL;
	const char *error = NULL;

	publish();
	ck_assert_int_eq(publisher_new(&params, &second, &error), -EBUSY);
	ck_assert_ptr_nonnull(strstr(error, instance));
	ck_assert_ptr_null(second);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("publish");
	TCase *tcase = tcase_create("publish");
	SRunner *runner;
	char shm_name[64];
	int failed;

	snprintf(instance, sizeof(instance), "unit-publish-%d", (int)getpid());
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_nothing_yet);
	tcase_add_test(tcase, test_leases_and_waiters);
	tcase_add_test(tcase, test_waiters_in_a_full_ring);
	tcase_add_test(tcase, test_counters_and_times);
	tcase_add_test(tcase, test_counted_before_it_is_recorded);
	tcase_add_test(tcase, test_alerts);
	tcase_add_test(tcase, test_instance);
	tcase_add_test(tcase, test_processes);
	tcase_add_test(tcase, test_groups_of_processes);
	tcase_add_test(tcase, test_snapshot_is_what_was_published);
	tcase_add_loop_test(tcase, test_scribbled, 0, 7);
	tcase_add_test(tcase, test_name_in_use);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	snprintf(shm_name, sizeof(shm_name), "/pglease.%s", instance);
	shm_unlink(shm_name); /* what a failed test left */
	return failed != 0;
}
