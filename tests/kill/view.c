/* SPDX-License-Identifier: PostgreSQL */
/* See view.h. */
#include "view.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "dial.h"
#include "queue.h"
#include "report.h"
#include "rows.h"
#include "slots.h"
#include "stats.h"
#include "wire.h"

#define PATIENCE UINT64_C(20000000000)
#define STEP_NS 50000
#define PUBLISHED_EVERY UINT64_C(500000000)

/* All that a pool counts; nothing of it may go back. */
struct totals {
	uint64_t slot[SLOT_NCOUNTERS], client[CLIENT_NCOUNTERS], broker[BROKER_NCOUNTERS];
	uint64_t generations, waits, holds;
};

static struct {
	int control;
	unsigned npools;
	char name[VIEW_MAX_POOLS][LAYOUT_NAME];
	struct segment seg[VIEW_MAX_POOLS];
	struct totals totals[VIEW_MAX_POOLS];
	uint64_t known[VIEW_MAX_CLIENTS]; /* incarnations; 0: not known */
	struct stats_reader *reader;
	struct stats_snapshot last;
	uint64_t published_at;
} view = {.control = -1};

static void
exchange(
    const void *question, size_t size, void *answer, size_t answer_size, enum wire_type type, int *ret_fd)
{
	struct pollfd p = {.fd = view.control, .events = POLLIN};
	int fd = -1;

	if (wire_send(view.control, question, size, -1) != (ssize_t)size || poll(&p, 1, 20000) != 1 ||
	    wire_recv(view.control, answer, answer_size, &fd) != (ssize_t)answer_size ||
	    !wire_is(answer, answer_size, type))
		report_fail("the broker does not answer the view's message %d", type);
	if (ret_fd != NULL)
		*ret_fd = fd;
}

void
view_open(const char *const pools[], unsigned npools)
{
	struct wire_hello hello = {
	    .layout_version = LAYOUT_VERSION, .layout_hash = layout_hash(), .program = "view"};
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	struct wire_welcome welcome;

	if (dial_broker(paths_instance(NULL), NULL, dir, &view.control, tried) != 0)
		report_fail("no broker: tried %s", tried);
	wire_header_init(&hello.header, WIRE_HELLO);
	exchange(&hello, sizeof(hello), &welcome, sizeof(welcome), WIRE_WELCOME, NULL);
	for (view.npools = 0; view.npools < npools; view.npools++) {
		struct wire_open open_message = {.pool = ""};
		struct wire_pool pool;
		int fd;

		snprintf(open_message.pool, sizeof(open_message.pool), "%s", pools[view.npools]);
		snprintf(view.name[view.npools], LAYOUT_NAME, "%s", pools[view.npools]);
		wire_header_init(&open_message.header, WIRE_OPEN);
		exchange(&open_message, sizeof(open_message), &pool, sizeof(pool), WIRE_POOL, &fd);
		if (segment_map(fd, &view.seg[view.npools]) != 0)
			report_fail("the segment of pool %s cannot be mapped", pools[view.npools]);
		close(fd);
		if (view.seg[view.npools].nclients > VIEW_MAX_CLIENTS)
			report_fail("set max_clients to %d at most", VIEW_MAX_CLIENTS);
	}
	if (stats_reader_open(paths_instance(NULL), &view.reader) != 0)
		report_fail("no statistics are published");
	memset(view.totals, 0, sizeof(view.totals));
}

void
view_close(void)
{
	if (view.control < 0)
		return;
	close(view.control);
	view.control = -1;
	while (view.npools > 0)
		segment_unmap(&view.seg[--view.npools]);
	stats_snapshot_fini(&view.last);
	memset(&view.last, 0, sizeof(view.last));
	stats_reader_close(view.reader);
	view.reader = NULL;
	view.published_at = 0;
}

struct segment *
view_segment(unsigned pool)
{
	return &view.seg[pool];
}

void
view_know_clients(void)
{
	for (uint32_t i = 0; i < view.seg[0].nclients; i++)
		view.known[i] = atomic_load(&view.seg[0].client[i].incarnation);
}

static bool
is_known(const struct segment *seg, unsigned client)
{
	return client < seg->nclients && view.known[client] != 0;
}

static bool
row_is_known(const struct segment *seg, unsigned row)
{
	return row < seg->nrows && is_known(seg, word_who(row_load(seg, row)));
}

void
view_held(unsigned pool, struct view_held *ret)
{
	const struct segment *seg = &view.seg[pool];

	ret->n = 0;
	for (uint32_t slot = 0; slot < seg->nslots && ret->n < VIEW_MAX_HELD; slot++) {
		uint64_t w = slot_load(seg, slot);

		if (word_state(w) == SLOT_LEASED && !row_is_known(seg, word_who(w)))
			ret->pid[ret->n++] = atomic_load(&seg->slot[slot].server_pid);
	}
}

/*
 * The segment is memory: there is nothing to wait on, so it is looked at, and the deadline only ends a
 * failure.
 */
void
view_await(unsigned pool, view_condition condition, const void *arg, const char *what)
{
	static const struct timespec step = {.tv_nsec = STEP_NS};

	for (uint64_t start = clock_ns(); clock_ns() - start < PATIENCE; nanosleep(&step, NULL))
		if (condition(&view.seg[pool], arg))
			return;
	report_fail("pool %s: never came: %s", view.name[pool], what);
}

static bool
one_waits(const struct segment *seg, const void *arg)
{
	for (uint32_t row = 0; row < seg->nrows; row++) {
		uint64_t w = row_load(seg, row);
		/* The number of those who sleep, as glibc has it (rows.c posts by the same). */
		uint64_t sleepers = atomic_load((_Atomic uint64_t *)(void *)&seg->row[row].sem) >> 32;

		if (word_state(w) == ROW_WAITING && is_known(seg, word_who(w)) && sleepers != 0)
			return true;
	}
	return false;
}

void
view_await_waiting(unsigned pool)
{
	view_await(pool, one_waits, NULL, "a waiter");
}

static bool
none_attached(const struct segment *seg, const void *arg)
{
	for (uint32_t i = 0; i < seg->nclients; i++) {
		uint64_t incarnation = atomic_load(&seg->client[i].incarnation);

		if (incarnation != 0 && incarnation != view.known[i])
			return false;
	}
	for (uint32_t slot = 0; slot < seg->nslots; slot++) {
		uint64_t w = slot_load(seg, slot);

		if (word_state(w) == SLOT_LEASED && !row_is_known(seg, word_who(w)))
			return false;
	}
	return true;
}

static ino_t
inode(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

void
view_cut_off(pid_t pid)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0);
	unsigned cut = 0;

	for (int i = 3; i < 64; i++) {
		struct sockaddr_un peer = {.sun_family = AF_UNSPEC};
		socklen_t length = sizeof(peer);
		int fd = (int)syscall(SYS_pidfd_getfd, process, i, 0);

		if (fd < 0)
			continue;
		/* It has inherited this view's, too. */
		if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sun_family == AF_UNIX &&
		    strstr(peer.sun_path, "/control") != NULL && inode(fd) != inode(view.control) &&
		    shutdown(fd, SHUT_RDWR) == 0)
			cut++;
		close(fd);
	}
	close(process);
	if (cut != 1)
		report_fail("the victim has %u control connections", cut);
}

bool
view_none_else(void)
{
	for (unsigned pool = 0; pool < view.npools; pool++)
		if (!none_attached(&view.seg[pool], NULL))
			return false;
	return true;
}

void
view_await_none_else(void)
{
	for (unsigned pool = 0; pool < view.npools; pool++)
		view_await(pool, none_attached, NULL, "the end of an attachment");
}

static bool
is_cancelling(const struct segment *seg)
{
	uint64_t w = slot_load(seg, 0);

	return word_state(w) == SLOT_LEASED && (word_flags(w) & SLOT_CANCELLING) != 0;
}

static bool
is_cancel_decided(const struct segment *seg, const void *arg)
{
	uint64_t w = slot_load(seg, 0);

	return word_state(w) != SLOT_LEASED || row_is_known(seg, word_who(w)) || is_cancelling(seg) ||
	       counter_get(&seg->header->broker_counter[COUNTER_CANCELS_REFUSED]) != *(const uint64_t *)arg;
}

bool
view_await_cancelling(unsigned pool, uint64_t refused)
{
	view_await(pool, is_cancel_decided, &refused, "what becomes of a cancel");
	return is_cancelling(&view.seg[pool]);
}

unsigned
view_state(unsigned pool)
{
	return word_state(slot_load(&view.seg[pool], 0));
}

/* NULL, or what is not as it must be. */
static const char *
unsettled(const struct segment *seg)
{
	static char text[160];

	for (uint32_t i = 0; i < seg->nclients; i++) {
		uint64_t incarnation = atomic_load(&seg->client[i].incarnation);

		if (incarnation != 0 && incarnation != view.known[i]) {
			snprintf(text, sizeof(text), "client %u of pid %u is still attached", i,
			    atomic_load(&seg->client[i].pid));
			return text;
		}
	}
	for (uint32_t row = 0; row < seg->nrows; row++) {
		uint64_t w = row_load(seg, row);

		if (word_state(w) == ROW_FREE || (word_state(w) == ROW_OWNED && is_known(seg, word_who(w))))
			continue;
		snprintf(text, sizeof(text), "row %u is %s by client %u", row, row_state_name(word_state(w)),
		    word_who(w));
		return text;
	}
	for (uint32_t slot = 0; slot < seg->nslots; slot++) {
		uint64_t w = slot_load(seg, slot);
		unsigned state = word_state(w);

		if (state == SLOT_EMPTY || state == SLOT_BROKER ||
		    (state == SLOT_IDLE && (word_who(w) == WORD_NONE || is_known(seg, word_who(w)))))
			continue;
		snprintf(text, sizeof(text),
		    "slot %u is %s, its word names %u, which is dead or holds nothing", slot,
		    slot_state_name(state), word_who(w));
		return text;
	}
	return NULL;
}

bool
view_is_settled(unsigned pool, bool clean)
{
	const struct segment *seg = &view.seg[pool];

	return unsettled(seg) == NULL && (!clean || word_flags(slot_load(seg, 0)) == 0);
}

static uint64_t
histogram_count(const struct histogram *h)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		n += counter_get(&h->bucket[i]);
	return n;
}

static void
add_up(const struct segment *seg, struct totals *ret)
{
	*ret = (struct totals){.waits = 0};
	for (uint32_t b = 0; b < seg->nblocks; b++) {
		for (unsigned i = 0; i < SLOT_NCOUNTERS; i++)
			ret->slot[i] += counter_get(&seg->block[b].counter[i]);
		ret->waits += histogram_count(&seg->block[b].wait);
		ret->holds += histogram_count(&seg->block[b].hold);
	}
	for (unsigned i = 0; i < CLIENT_NCOUNTERS; i++)
		ret->client[i] = counter_get(&seg->header->client_counter[i]);
	for (unsigned i = 0; i < BROKER_NCOUNTERS; i++)
		ret->broker[i] = counter_get(&seg->header->broker_counter[i]);
	for (uint32_t slot = 0; slot < seg->nslots; slot++)
		ret->generations += counter_get(&seg->slot[slot].generation);
}

static void
check(unsigned pool, const char *name, uint64_t before, uint64_t after)
{
	if (after < before)
		report_fail("pool %s: %s went back from %llu to %llu", view.name[pool], name,
		    (unsigned long long)before, (unsigned long long)after);
}

static void
check_totals(unsigned pool)
{
	struct totals now, *before = &view.totals[pool];

	add_up(&view.seg[pool], &now);
	for (unsigned i = 0; i < SLOT_NCOUNTERS; i++)
		check(pool, slot_counter_info[i].name, before->slot[i], now.slot[i]);
	for (unsigned i = 0; i < CLIENT_NCOUNTERS; i++)
		check(pool, client_counter_info[i].name, before->client[i], now.client[i]);
	for (unsigned i = 0; i < BROKER_NCOUNTERS; i++)
		check(pool, broker_counter_info[i].name, before->broker[i], now.broker[i]);
	check(pool, "the slots' generations", before->generations, now.generations);
	check(pool, "the number of waits", before->waits, now.waits);
	check(pool, "the number of holds", before->holds, now.holds);
	*before = now;
}

void
view_settle(unsigned pool)
{
	static const struct timespec step = {.tv_nsec = STEP_NS};
	const char *what = NULL;

	for (uint64_t start = clock_ns(); clock_ns() - start < PATIENCE; nanosleep(&step, NULL))
		if ((what = unsettled(&view.seg[pool])) == NULL)
			break;
	if (what != NULL)
		report_fail("pool %s: %s", view.name[pool], what);
	check_totals(pool);
	view_published(false);
}

/* Row by row: the instance's pools keep their places. */
static void
compare_published(const struct stats_snapshot *before, const struct stats_snapshot *now)
{
	const struct stats_view *old = stats_view_find(before, "pools"), *new = stats_view_find(now, "pools");

	for (uint32_t row = 0; row < new->nrows &&row < old->nrows; row++) {
		for (uint32_t c = 0; c < new->ncolumns; c++) {
			uint64_t a = 0, b = 0;

			if ((new->column[c].flags &STATS_MONOTONIC) == 0)
				continue;
			stats_value_u64(old, row, &old->column[c], &a);
			stats_value_u64(new, row, &new->column[c], &b);
			check(row, new->column[c].name, a, b);
		}
	}
}

void
view_published(bool now)
{
	struct stats_snapshot snapshot;

	if (!now && clock_ns() - view.published_at < PUBLISHED_EVERY)
		return;
	if (stats_reader_snapshot(view.reader, &snapshot) != 0 || snapshot.gone ||
	    stats_view_find(&snapshot, "pools") == NULL)
		report_fail("the published statistics cannot be read");
	if (view.published_at != 0)
		compare_published(&view.last, &snapshot);
	stats_snapshot_fini(&view.last);
	view.last = snapshot;
	view.published_at = clock_ns();
}

uint64_t
view_broker_counter(unsigned pool, enum broker_counter counter)
{
	return counter_get(&view.seg[pool].header->broker_counter[counter]);
}
