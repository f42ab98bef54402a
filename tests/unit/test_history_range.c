/* SPDX-License-Identifier: PostgreSQL */
/* Questions to a history, against a model that remembers every sample: sums, steps, the seam, gaps, restarts, clocks. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "history_range.h"
#include "unit.h"

#define SECOND UINT64_C(1000000000)
#define START (UINT64_C(1800000000) * SECOND)
#define MAX_SAMPLES 4000
#define MAX_STEPS 4096

/* What a broker saw between two samples. */
struct sample {
	uint64_t instance, mono, real, interval, leases, slow;
	bool first, minute; /* minute: a minute's row was written too */
	uint32_t active;
};

static struct sample samples[MAX_SAMPLES];
static unsigned nsamples;

/* The object, in memory. */
static unsigned char *bytes;
static struct history_header *header;
static struct history_view view;

static struct history_row minute;
static uint64_t total;  /* of leases, of this broker */
static bool minute_open, minute_first;

static uint64_t random_state;

static uint64_t
random_below(uint64_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (random_state >> 33) % n;
}

static void
make(uint64_t seconds, uint64_t minutes)
{
	uint64_t capacity[HISTORY_NRINGS] = {seconds, minutes};
	struct history_header made;
	struct stats_column columns[HISTORY_MAX_COLUMNS];
	unsigned n = history_describe(columns);

	history_header_init(&made, "unit", "app", capacity);
	bytes = calloc(1, made.size);
	ck_assert_ptr_nonnull(bytes);
	header = (struct history_header *)(void *)bytes;
	memcpy(bytes, &made, sizeof(made));
	memcpy(bytes + made.columns, columns, n * sizeof(columns[0]));
	ck_assert_int_eq(history_view_init(&view, bytes, made.size), 0);
	nsamples = 0;
	total = 0;
	minute_open = false;
}

static void
put(enum history_ring which, struct history_row row)
{
	struct history_ring_header *ring = &header->ring[which];

	if (ring->capacity == 0)
		return;
	row.number = ring->done + 1;
	memcpy(bytes + ring->offset + ring->done % ring->capacity * sizeof(row), &row, sizeof(row));
	ring->begun++;
	ring->done++;
}

static void
take(struct sample s)
{
	struct history_row row = {0};

	ck_assert_uint_lt(nsamples, MAX_SAMPLES);
	if (s.first) {
		total = 0;
		minute_open = false;
		minute_first = true;
	}
	samples[nsamples++] = s;
	total += s.leases;
	row.serial = nsamples;
	row.time = s.real;
	row.mono = s.mono;
	row.interval = s.interval;
	row.instance = s.instance;
	row.first = s.first;
	row.slot[COUNTER_LEASES_IMMEDIATE] = total;
	row.leased = s.active;
	row.active_max = s.active + 1;
	row.cpu = total * 10;
	row.server_disk = total * 7;
	row.bucket[TIME_HOLD][history_bucket_of(1000)] = (uint32_t)(s.leases - s.slow);
	row.bucket[TIME_HOLD][history_bucket_of(1000000)] = (uint32_t)s.slow;
	put(HISTORY_SECONDS, row);
	if (minute_open)
		history_row_add(&minute, &row);
	else
		minute = row;
	minute_open = true;
	if (!s.minute)
		return;
	minute.first = minute_first;
	minute_first = false;
	put(HISTORY_MINUTES, minute);
	minute_open = false;
}

/* `n` samples of one broker, the clock right; a minute's row every `every`; jitter of up to a fifth of a second. */
static void
run(uint64_t instance, uint64_t *now, unsigned n, unsigned every, bool stops_clean)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t interval = SECOND - SECOND / 10 + random_below(SECOND / 5);
		uint64_t leases = random_below(4) == 0 ? 0 : random_below(1000);

		*now += interval;
		take((struct sample){
		    .instance = instance,
		    .mono = *now - START + instance * 1000 * SECOND,
		    .real = *now,
		    .interval = interval,
		    .leases = leases,
		    .slow = leases / 10,
		    .first = i == 0,
		    .minute = i % every == every - 1 || (stops_clean && i == n - 1),
		    .active = (uint32_t)random_below(5),
		});
	}
}

/* --- What comes out. --- */

struct answer {
	unsigned n;
	uint64_t leases, covered, rows, starts, cpu, disk;
	struct history_step step[MAX_STEPS]; /* last: large, and not cleared */
};

static int
note(void *context, const struct history_step *step)
{
	struct answer *a = context;

	ck_assert_uint_lt(a->n, MAX_STEPS);
	ck_assert_uint_lt(step->from, step->to);
	if (a->n > 0)
		ck_assert_uint_ge(step->from, a->step[a->n - 1].to); /* in order, none twice */
	ck_assert_uint_gt(step->rows, 0);
	a->leases += totals_acquired(&step->totals);
	a->covered += step->covered;
	a->rows += step->rows;
	a->starts += step->starts;
	a->cpu += step->cpu;
	a->disk += step->server_disk;
	/* Counters and histograms tell the same. */
	ck_assert_uint_eq(step->time[TIME_WAIT].count, totals_acquired(&step->totals));
	a->step[a->n++] = *step;
	return 0;
}

static struct answer *
ask(uint64_t from, uint64_t to, uint64_t step)
{
	struct answer *a = malloc(sizeof(*a));
	struct history_range range = {.from = from, .to = to, .step = step};

	ck_assert_ptr_nonnull(a);
	memset(a, 0, offsetof(struct answer, step));
	ck_assert_int_eq(history_range_walk(&view, &range, note, a), 0);
	return a;
}

/* --- The model: which samples count, as which row. --- */

struct used {
	uint64_t middle, leases, slow, covered;
	bool first;
};

static struct used used[MAX_SAMPLES];
static unsigned nused;

static void
use(unsigned from, unsigned to, bool first)
{
	struct used *u = &used[nused++];

	*u = (struct used){.first = first};
	for (unsigned i = from; i <= to; i++) {
		u->leases += samples[i].leases;
		u->slow += samples[i].slow;
		u->covered += samples[i].interval;
	}
	u->middle = samples[to].real - u->covered / 2;
}

static void
model(uint64_t seconds, uint64_t minutes)
{
	unsigned oldest = nsamples > seconds ? nsamples - (unsigned)seconds : 0, seam = 0, from = 0, rows = 0, n = 0;
	bool first = true;

	nused = 0;
	for (unsigned i = 0; i < nsamples; i++)
		rows += samples[i].minute;
	/* Minutes: all that are left; the oldest of them counts only if it is a broker's first. */
	for (unsigned i = 0; i < nsamples; i++) {
		if (samples[i].first) {
			from = i;
			first = true;
		}
		if (!samples[i].minute)
			continue;
		if (seconds != 0 && i >= oldest && samples[oldest].first)
			break; /* the seconds lack nothing */
		if (n + minutes >= rows) {
			if (first || n + minutes > rows)
				use(from, i, first);
			seam = i + 1;
			if (seconds != 0 && i >= oldest)
				break;
		}
		n++;
		from = i + 1;
		first = false;
	}
	for (unsigned i = seam > oldest ? seam : oldest; seconds != 0 && i < nsamples; i++)
		if (samples[i].first || i > oldest)
			use(i, i, samples[i].first);
}

static void
check_range(uint64_t from, uint64_t to, uint64_t step)
{
	struct answer *a = ask(from, to, step);
	uint64_t leases = 0, covered = 0, rows = 0;

	for (unsigned u = 0; u < nused; u++) {
		if (used[u].middle < from || used[u].middle >= to)
			continue;
		leases += used[u].leases;
		covered += used[u].covered;
		rows++;
	}
	ck_assert_uint_eq(a->leases, leases);
	ck_assert_uint_eq(a->covered, covered);
	ck_assert_uint_eq(a->rows, rows);
	ck_assert_uint_eq(a->cpu, leases * 10);
	ck_assert_uint_eq(a->disk, leases * 7);
	for (unsigned i = 0; i < a->n; i++) {
		const struct history_step *s = &a->step[i];
		uint64_t slow = 0, rank;

		leases = 0;
		for (unsigned u = 0; u < nused; u++) {
			if (used[u].middle >= s->from && used[u].middle < s->to) {
				leases += used[u].leases;
				slow += used[u].slow;
			}
		}
		ck_assert_uint_eq(totals_acquired(&s->totals), leases);
		if (leases == 0)
			continue;
		rank = (95 * leases + 99) / 100;
		ck_assert_uint_eq(s->time[TIME_HOLD].p95,
		    history_bucket_middle(history_bucket_of(rank > leases - slow ? 1000000 : 1000)));
		ck_assert_uint_eq(s->time[TIME_HOLD].max, history_bucket_middle(history_bucket_of(slow != 0 ? 1000000 : 1000)));
	}
	free(a);
}

START_TEST(test_model)
{
	static const unsigned shapes[][4] = {/* seconds, minutes, a minute's seconds, samples of a broker */
	    {60, 20, 6, 50}, {60, 20, 6, 400}, {3, 20, 6, 400}, {400, 5, 6, 700}, {0, 10, 6, 100}, {7, 7, 7, 30}, {1, 1, 1, 9},
	    {100, 100, 60, 3000}};
	const unsigned *shape = shapes[_i];

	for (unsigned round = 0; round < 20; round++) {
		uint64_t now = START, end;

		random_state = round * 1000 + (uint64_t)_i;
		make(shape[0], shape[1]);
		for (uint64_t instance = 1; instance <= 1 + round % 4; instance++) {
			unsigned n = 1 + (unsigned)random_below(shape[3] / (1 + round % 4));

			/* A killed broker's last minute is closed by the next one: as if it had stopped. */
			run(instance, &now, n, shape[2], true);
			now += random_below(100) * SECOND;
		}
		end = now + SECOND;
		model(shape[0], shape[1]);
		check_range(0, UINT64_MAX, 0);
		check_range(0, UINT64_MAX, UINT64_MAX);
		for (unsigned i = 0; i < 10; i++) {
			uint64_t from = START + random_below((end - START) / 1000) * 1000;
			uint64_t to = from + 1 + random_below((end - from) / 1000 + 1) * 1000;
			uint64_t between = from + random_below((to - from) / 1000 + 1) * 1000;
			struct answer *whole = ask(from, to, 0), *left, *right;

			check_range(from, to, 0);
			check_range(from, to, SECOND * (1 + random_below(100)));
			left = from < between ? ask(from, between, 0) : calloc(1, sizeof(*left));
			right = between < to ? ask(between, to, 0) : calloc(1, sizeof(*right));
			ck_assert_uint_eq(left->leases + right->leases, whole->leases);
			ck_assert_uint_eq(left->covered + right->covered, whole->covered);
			ck_assert_uint_eq(left->rows + right->rows, whole->rows);
			free(whole);
			free(left);
			free(right);
		}
		free(bytes);
	}
}
END_TEST

/* Each second of an hour that no row stands for is in no step. */
START_TEST(test_gap)
{
	uint64_t now = START;
	struct answer *a;

	make(600, 100);
	run(1, &now, 100, 60, true);
	now += 300 * SECOND;
	run(2, &now, 100, 60, true);
	a = ask(START, now + SECOND, 10 * SECOND);
	for (unsigned i = 1; i < a->n; i++)
		if (a->step[i].starts != 0)
			ck_assert_uint_ge(a->step[i].from - a->step[i - 1].to, 280 * SECOND);
	ck_assert_uint_eq(a->starts, 2);
	ck_assert_uint_le(a->n, 24);
	free(a);
	free(bytes);
}
END_TEST

START_TEST(test_gauges)
{
	struct answer *a;
	uint64_t at = START;

	make(100, 10);
	for (unsigned i = 0; i < 4; i++, at += SECOND)
		take((struct sample){.instance = 1, .mono = at - START + SECOND, .real = at + SECOND, .interval = SECOND,
		    .leases = 10, .first = i == 0, .active = i == 3 ? 1 : 2 * i});
	a = ask(START, at + SECOND, 0);
	ck_assert_uint_eq(a->n, 1);
	ck_assert_uint_eq(a->step[0].totals.leased, 1);
	ck_assert_uint_eq(a->step[0].active_max, 5);
	ck_assert_double_eq_tol(a->step[0].active_mean, (0 + 2 + 4 + 1) / 4.0, 1e-9);
	ck_assert_uint_eq(a->step[0].from, START);
	ck_assert_uint_eq(a->step[0].to, at + SECOND);
	free(a);
	free(bytes);
}
END_TEST

/* A counter that a client has written over: nothing negative, and what follows is right again. */
START_TEST(test_counter_went_back)
{
	uint64_t now = START;
	struct answer *a;

	random_state = 1;
	make(100, 10);
	run(1, &now, 5, 60, false);
	total = 1;
	now += SECOND;
	take((struct sample){.instance = 1, .mono = now - START + 1000 * SECOND, .real = now, .interval = SECOND});
	now += SECOND;
	take((struct sample){.instance = 1, .mono = now - START + 1000 * SECOND, .real = now, .interval = SECOND, .leases = 7});
	a = ask(now - 2 * SECOND, now, 0);
	ck_assert_uint_eq(a->leases, 7);
	free(a);
	free(bytes);
}
END_TEST

/* The clock is set in a broker's life, by an hour, back or forth: its rows stay together, in order, and end at the new time. */
START_TEST(test_clock_set)
{
	int64_t by = (_i == 0 ? -3600 : 3600) * (int64_t)SECOND;
	uint64_t now = START, leases = 0;
	struct answer *a;

	make(1000, 100);
	for (unsigned i = 0; i < 400; i++) {
		now += SECOND;
		take((struct sample){.instance = 1, .mono = now - START + SECOND, .interval = SECOND,
		    .real = i < 200 ? now : (uint64_t)((int64_t)now + by), .leases = i, .first = i == 0, .minute = i % 60 == 59});
		leases += i;
	}
	now = (uint64_t)((int64_t)now + by);
	a = ask(now - 400 * SECOND, now, SECOND);
	ck_assert_uint_eq(a->n, 400);
	ck_assert_uint_eq(a->leases, leases);
	for (unsigned i = 0; i < 400; i++)
		ck_assert_uint_eq(totals_acquired(&a->step[i].totals), i);
	free(a);
	a = ask(0, UINT64_MAX, 0);
	ck_assert_uint_eq(a->leases, leases);
	free(a);
	free(bytes);
}
END_TEST

/* Set back between two brokers, and later in the life of the second: nothing is lost or counted twice, order is kept. */
START_TEST(test_clock_set_back_later)
{
	uint64_t now = START, leases = 0;
	struct answer *a;

	make(1000, 100);
	for (unsigned i = 0; i < 300; i++) {
		now += SECOND;
		take((struct sample){.instance = i < 100 ? 1 : 2, .mono = now - START + SECOND, .interval = SECOND,
		    .real = i < 200 ? now : now - 3600 * SECOND, .leases = i, .first = i == 0 || i == 100, .minute = i % 60 == 59});
		leases += i;
	}
	a = ask(0, UINT64_MAX, SECOND);
	ck_assert_uint_eq(a->leases, leases);
	free(a);
	/* The second's are held at the end of the first, not before it. */
	a = ask(START + 99 * SECOND, UINT64_MAX, 0);
	ck_assert_uint_eq(a->rows, 201);
	ck_assert_uint_eq(a->leases, leases - 98 * 99 / 2);
	free(a);
	free(bytes);
}
END_TEST

/* A row is lost: neither it nor the one that would be compared with it counts, and all others do. */
START_TEST(test_hole)
{
	uint64_t at = START, leases = 0;
	struct answer *a;

	make(100, 10);
	for (unsigned i = 0; i < 10; i++, at += SECOND) {
		take((struct sample){.instance = 1, .mono = at - START + SECOND, .real = at + SECOND, .interval = SECOND,
		    .leases = 10 + i, .first = i == 0});
		leases += i == 5 || i == 6 ? 0 : 10 + i;
	}
	bytes[header->ring[HISTORY_SECONDS].offset + 5 * sizeof(struct history_row)] ^= 1; /* its number */
	a = ask(START, at + SECOND, SECOND);
	ck_assert_uint_eq(a->n, 8);
	ck_assert_uint_eq(a->leases, leases);
	free(a);
	free(bytes);
}
END_TEST

static unsigned char *guarded; /* of this size, page by page */
static size_t guarded_size, page_size;
static volatile sig_atomic_t pages_touched;

static void
on_touch(int number, siginfo_t *info, void *context)
{
	unsigned char *at = info->si_addr;

	if (at < guarded || at >= guarded + guarded_size ||
	    mprotect(at - (uintptr_t)at % page_size, page_size, PROT_READ) != 0)
		abort();
	pages_touched++;
}

/* Pages of rows that are looked at for this range: as for any other length of the history. */
static unsigned
count_pages(uint64_t from, uint64_t to, uint64_t rows)
{
	struct sigaction action = {.sa_sigaction = on_touch, .sa_flags = SA_SIGINFO}, before;
	struct answer *a;

	ck_assert_int_eq(mprotect(guarded, guarded_size, PROT_NONE), 0);
	pages_touched = 0;
	ck_assert_int_eq(sigaction(SIGSEGV, &action, &before), 0);
	a = ask(from, to, SECOND);
	ck_assert_int_eq(sigaction(SIGSEGV, &before, NULL), 0);
	ck_assert_uint_ge(a->rows, rows);
	free(a);
	return (unsigned)pages_touched;
}

/* A short range of a long history: the rows of all else are not read, wherever it lies. */
START_TEST(test_only_the_range_is_read)
{
	unsigned char *copy;
	uint64_t now = START;
	size_t rows, all;

	page_size = (size_t)sysconf(_SC_PAGESIZE);
	make(3600, 1440);
	for (uint64_t instance = 1; instance <= 3; instance++)
		run(instance, &now, 1200, 6, true);
	rows = (header->ring[HISTORY_SECONDS].offset + page_size - 1) / page_size * page_size;
	copy = mmap(NULL, header->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(copy, MAP_FAILED);
	memcpy(copy, bytes, header->size);
	ck_assert_int_eq(history_view_init(&view, copy, header->size), 0);
	guarded = copy + rows;
	guarded_size = (header->size - rows) / page_size * page_size;
	/* Of pages of 4 KiB all of it are some 4,000. */
	all = guarded_size / page_size;
	ck_assert_uint_gt(count_pages(0, UINT64_MAX, 3600), all / 2);
	ck_assert_uint_lt(count_pages(now - 10 * SECOND, now + SECOND, 9), all / 10);
	ck_assert_uint_lt(count_pages(START + 1800 * SECOND, START + 1810 * SECOND, 9), all / 10);
	ck_assert_uint_lt(count_pages(START + 10 * SECOND, START + 20 * SECOND, 9), all / 10);
	ck_assert_uint_lt(count_pages(now + 10 * SECOND, now + 20 * SECOND, 0), all / 10);
	munmap(copy, header->size);
	free(bytes);
}
END_TEST

static int
stop_at_third(void *context, const struct history_step *step)
{
	unsigned *n = context;

	return ++*n == 3 ? -42 : 0;
}

START_TEST(test_handler_stops)
{
	struct history_range range = {.from = 0, .to = UINT64_MAX, .step = SECOND};
	uint64_t now = START;
	unsigned n = 0;

	make(100, 10);
	ck_assert_int_eq(history_range_walk(&view, &range, stop_at_third, &n), 0);
	ck_assert_uint_eq(n, 0); /* of nothing */
	run(1, &now, 50, 60, false);
	ck_assert_int_eq(history_range_walk(&view, &range, stop_at_third, &n), -42);
	ck_assert_uint_eq(n, 3);
	free(bytes);
}
END_TEST

/* Rows of anything: what comes out may be nonsense, but it comes, in order. */
START_TEST(test_nonsense)
{
	for (unsigned round = 0; round < 200; round++) {
		uint64_t now = START;

		random_state = round;
		make(50, 20);
		run(1, &now, 100, 6, false);
		for (unsigned i = 0; i < 200; i++) {
			uint64_t at = header->ring[0].offset + random_below((header->size - header->ring[0].offset) / 8) * 8;
			uint64_t value = random_below(3) == 0 ? UINT64_MAX : random_below(UINT32_MAX) << random_below(33);

			memcpy(bytes + at, &value, 8);
		}
		for (unsigned i = 0; i < 3; i++) {
			static const uint64_t steps[] = {0, SECOND * 1000, UINT64_MAX};
			struct history_range range = {.from = i * START, .to = UINT64_MAX, .step = steps[i]};
			unsigned n = 0;

			history_range_walk(&view, &range, stop_at_third, &n);
		}
		free(bytes);
	}
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("history_range");
	TCase *tcase = tcase_create("history_range");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, test_model, 0, 8);
	tcase_add_test(tcase, test_gap);
	tcase_add_test(tcase, test_gauges);
	tcase_add_test(tcase, test_counter_went_back);
	tcase_add_loop_test(tcase, test_clock_set, 0, 2);
	tcase_add_test(tcase, test_clock_set_back_later);
	tcase_add_test(tcase, test_hole);
	tcase_add_test(tcase, test_only_the_range_is_read);
	tcase_add_test(tcase, test_handler_stops);
	tcase_add_test(tcase, test_nonsense);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
