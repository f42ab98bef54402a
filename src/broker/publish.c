/* SPDX-License-Identifier: PostgreSQL */
/*
 * What monitors see. Owns the stats writer and the rows that it publishes; only reads the lease segments.
 * Whatever is read there may have been scribbled by a client: every index is checked before use, every text
 * is copied bounded and printable, and a wrong number costs a wrong number on a screen. All reads are relaxed
 * for the same reason.
 */
#include "config.h"

#include "publish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "queue.h"
#include "rows.h"
#include "slots.h"
#include "stats.h"

#define SECOND UINT64_C(1000000000)
#define MAX_WAITER_ROWS 16384u /* published; how many there are is in stats_table.total */

/* What is costly to compute about a pool, kept between publications. */
struct pool_memory {
	char name[LAYOUT_NAME], database[LAYOUT_NAME], user[LAYOUT_NAME];
	uint64_t seen; /* leases granted and released when the histograms were last added up */
	uint64_t summed_at; /* then; CLOCK_MONOTONIC ns; 0: never */
	uint64_t scanned_at; /* when the rows were last scanned for waiters */
	struct quantiles {
		uint64_t count, p50, p95, p99, max;
	} wait, hold;
	uint32_t waiting_rows; /* published at the last scan of the rows */
};

struct publisher {
	struct stats_writer *writer;
	bool off, published; /* off: only changes of the state are published */
	uint32_t state;
	unsigned npools;
	struct pool_memory *memory;
	struct stats_pool_row *pool_rows;
	struct stats_slot_row *slot_rows;
	struct stats_client_row *client_rows;
	struct stats_waiter_row *waiter_rows;
	uint32_t *client_at; /* index of the row in client_rows by client index, or STATS_NO_U32 */
	uint32_t nslots, nclients, nwaiters, waiter_capacity, waiters_total, client_capacity, slot_capacity;
	uint64_t now, real; /* of this publication: CLOCK_MONOTONIC, CLOCK_REALTIME */
	struct histogram_sum sum;
};

static uint64_t
age(const struct publisher *p, uint64_t since)
{
	return since != 0 && since <= p->now ? p->now - since : 0;
}

/* A monotonic moment as a wall clock one. */
static uint64_t
timestamp(const struct publisher *p, uint64_t since)
{
	return since != 0 && since <= p->now && p->now - since < p->real ? p->real - (p->now - since)
	                                                                 : STATS_NO_U64;
}

static int
publisher_size(struct publisher *p, const struct publisher_params *params)
{
	uint64_t slots = 0, rows = 0, clients = 0;

	for (unsigned i = 0; i < params->npools; i++) {
		slots += params->pools[i]->nslots;
		rows += params->pools[i]->nrows;
		if (clients < params->pools[i]->nclients)
			clients = params->pools[i]->nclients;
	}
	p->npools = params->npools;
	p->slot_capacity = (uint32_t)slots;
	p->client_capacity = (uint32_t)clients;
	p->waiter_capacity = rows < MAX_WAITER_ROWS ? (uint32_t)rows : MAX_WAITER_ROWS;
	/* One more of each: no pool is no reason to fail. */
	p->memory = calloc(params->npools + 1, sizeof(*p->memory));
	p->pool_rows = calloc(params->npools + 1, sizeof(*p->pool_rows));
	p->slot_rows = calloc(slots + 1, sizeof(*p->slot_rows));
	p->client_rows = calloc(clients + 1, sizeof(*p->client_rows));
	p->client_at = calloc(clients + 1, sizeof(*p->client_at));
	p->waiter_rows = calloc((size_t)p->waiter_capacity + 1, sizeof(*p->waiter_rows));
	if (p->memory == NULL || p->pool_rows == NULL || p->slot_rows == NULL || p->client_rows == NULL ||
	    p->client_at == NULL || p->waiter_rows == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < params->npools; i++) {
		const struct segment_header *header = params->pools[i]->header;

		stats_copy_text(p->memory[i].name, LAYOUT_NAME, header->pool_name, LAYOUT_NAME);
		stats_copy_text(p->memory[i].database, LAYOUT_NAME, header->dbname, LAYOUT_NAME);
		stats_copy_text(p->memory[i].user, LAYOUT_NAME, header->user, LAYOUT_NAME);
	}
	return 0;
}

static const char *
explain(int error, const char *instance, pid_t owner)
{
	static char text[256];

	if (error == -EBUSY && owner > 0)
		snprintf(text, sizeof(text),
		    "instance %s is in use: the broker with pid %d publishes its statistics; stop it, or "
		    "choose "
		    "another name (-n)",
		    instance, (int)owner);
	else if (error == -EBUSY)
		snprintf(text, sizeof(text),
		    "instance %s is in use by another broker; choose another name (-n)", instance);
	else if (error == -EACCES || error == -EPERM)
		snprintf(text, sizeof(text),
		    "/dev/shm/pglease.%s belongs to another user; remove it there, or choose another name "
		    "(-n)",
		    instance);
	else if (error == -ECHRNG)
		snprintf(text, sizeof(text),
		    "/dev/shm/pglease.%s cannot be given to monitor_group: the broker's user must be a member of it",
		    instance);
	else if (error == -ENOSPC)
		snprintf(text, sizeof(text),
		    "no room in /dev/shm for the statistics of instance %s; free some", instance);
	else
		snprintf(
		    text, sizeof(text), "cannot create /dev/shm/pglease.%s: %s", instance, strerror(-error));
	return text;
}

int
publisher_new(const struct publisher_params *params, struct publisher **ret, const char **ret_error)
{
	struct stats_writer_params writer_params = {
	    .instance = params->instance,
	    .program = "pgleased " PACKAGE_VERSION,
	    .socket_dir = params->socket_dir,
	    .instance_id = params->instance_id,
	    .mode = params->mode,
	    .group = params->group,
	    .off = params->off,
	};
	struct publisher *p;
	pid_t owner = 0;
	int r = -ENOMEM;

	p = calloc(1, sizeof(*p));
	if (p == NULL)
		goto fail;
	p->off = params->off;
	r = publisher_size(p, params);
	if (r)
		goto fail;
	if (!params->off) {
		writer_params.capacity[STATS_POOLS] = p->npools;
		writer_params.capacity[STATS_SLOTS] = p->slot_capacity;
		writer_params.capacity[STATS_CLIENTS] = p->client_capacity;
		writer_params.capacity[STATS_WAITERS] = p->waiter_capacity;
	}
	r = stats_writer_new(&writer_params, &p->writer, &owner);
	if (r)
		goto fail;
	*ret = p;
	return 0;
fail:
	*ret_error = explain(r, params->instance, owner);
	publisher_free(p);
	return r;
}

void
publisher_free(struct publisher *p)
{
	if (p == NULL)
		return;
	stats_writer_free(p->writer);
	free(p->memory);
	free(p->pool_rows);
	free(p->slot_rows);
	free(p->client_rows);
	free(p->client_at);
	free(p->waiter_rows);
	free(p);
}

/* The client rows are the same in every pool's segment: the first one's are taken. */
static void
collect_clients(struct publisher *p, const struct segment *seg)
{
	for (uint32_t i = 0; i < p->client_capacity; i++)
		p->client_at[i] = STATS_NO_U32;
	p->nclients = 0;
	for (uint32_t i = 0; i < seg->nclients && i < p->client_capacity; i++) {
		const struct client_row *client = &seg->client[i];
		struct stats_client_row *row = &p->client_rows[p->nclients];

		if (atomic_load_explicit(&client->incarnation, memory_order_relaxed) == 0)
			continue;
		memset(row, 0, sizeof(*row));
		row->client = i;
		row->pid = atomic_load_explicit(&client->pid, memory_order_relaxed);
		row->uid = atomic_load_explicit(&client->uid, memory_order_relaxed);
		row->attached_since =
		    timestamp(p, atomic_load_explicit(&client->attached_at, memory_order_relaxed));
		stats_copy_text(row->program, sizeof(row->program), client->program, sizeof(client->program));
		p->client_at[i] = p->nclients++;
	}
}

/* The published row of a client, or NULL: a word may name anything. */
static struct stats_client_row *
client_of(const struct publisher *p, uint32_t client)
{
	if (client >= p->client_capacity || p->client_at[client] == STATS_NO_U32)
		return NULL;
	return &p->client_rows[p->client_at[client]];
}

static void
flags_text(unsigned flags, char *buf, size_t size)
{
	static const char *const session[] = {
	    [0] = "", [SLOT_DIRTY] = ",dirty", [SLOT_OWED] = ",owed", [SLOT_OWN] = ",own"};

	snprintf(buf, size, "%s%s%s", session[flags & SLOT_SESSION],
	    flags & SLOT_CANCELLING ? ",cancelling" : "", flags & SLOT_RETIRE ? ",retire" : "");
	memmove(buf, buf + 1, strlen(buf)); /* without the first comma */
}

/* Whose a leased or granted slot is. */
static void
fill_holder(const struct publisher *p, const struct segment *seg, const struct slot *slot, uint64_t word,
    struct stats_slot_row *row)
{
	struct stats_client_row *client;
	unsigned lessee = word_who(word);
	char site[SLOT_SITE];
	uint64_t since;

	if (lessee < seg->nrows) {
		row->client = word_who(atomic_load_explicit(&seg->row[lessee].word, memory_order_relaxed));
		row->tid = atomic_load_explicit(&seg->row[lessee].tid, memory_order_relaxed);
		client = client_of(p, row->client);
		if (client != NULL) {
			row->pid = client->pid;
			client->leases_held++;
		} else {
			row->client = STATS_NO_U32;
		}
	}
	if (word_state(word) != SLOT_LEASED)
		return;
	/* Written after S6/S7: for a moment this is the lease before. */
	since = atomic_load_explicit(&slot->leased_at, memory_order_relaxed);
	row->held_since = timestamp(p, since);
	row->held_for = age(p, since);
	slot_site(seg, (uint32_t)(slot - seg->slot), site);
	snprintf(row->acquired_at, sizeof(row->acquired_at), "%s", site);
}

static void
fill_slot(const struct publisher *p, const struct segment *seg, uint32_t index, uint64_t word,
    struct stats_slot_row *row)
{
	const struct slot *slot = &seg->slot[index];
	unsigned state = word_state(word);
	uint32_t pid = atomic_load_explicit(&slot->server_pid, memory_order_relaxed);

	row->slot = index;
	snprintf(row->state, sizeof(row->state), "%s", slot_state_name(state));
	if (word_flags(word) != 0)
		flags_text(word_flags(word), row->flags, sizeof(row->flags));
	row->generation = atomic_load_explicit(&slot->generation, memory_order_relaxed);
	row->leases = atomic_load_explicit(&slot->leases, memory_order_relaxed);
	row->server_pid = pid != 0 ? pid : STATS_NO_U32;
	row->client = row->pid = row->tid = STATS_NO_U32;
	row->held_since = row->held_for = row->idle_for = STATS_NO_U64;
	if (state == SLOT_LEASED || state == SLOT_GRANTED) {
		fill_holder(p, seg, slot, word, row);
	} else if (state == SLOT_IDLE) {
		const struct stats_client_row *client = client_of(p, word_who(word));

		row->idle_for = age(p, atomic_load_explicit(&slot->idle_since, memory_order_relaxed));
		if (client != NULL) {
			row->client = client->client;
			row->pid = client->pid;
		}
	}
}

static void
collect_slots(struct publisher *p, const struct segment *seg, struct stats_pool_row *pool)
{
	uint32_t max = pool->max;

	for (uint32_t i = 0; i < seg->nslots; i++) {
		uint64_t word = atomic_load_explicit(&seg->slot[i].word, memory_order_relaxed);
		struct stats_slot_row *row = &p->slot_rows[p->nslots];

		if (word_state(word) == SLOT_EMPTY && i >= max)
			continue; /* room for a reload, not a slot of the pool */
		switch (word_state(word)) {
		case SLOT_EMPTY:
			break;
		case SLOT_IDLE:
			pool->idle++;
			pool->total++;
			break;
		case SLOT_LEASED:
			pool->leased++;
			pool->total++;
			break;
		case SLOT_GRANTED:
			pool->granted++;
			pool->total++;
			break;
		default:
			pool->busy++;
			pool->total++;
		}
		if (p->nslots == p->slot_capacity)
			continue;
		memset(row, 0, sizeof(*row));
		memcpy(row->pool, pool->name, sizeof(row->pool));
		fill_slot(p, seg, i, word, row);
		p->nslots++;
	}
}

static void
add_waiter(struct publisher *p, const struct segment *seg, uint32_t index, uint64_t word,
    struct stats_pool_row *pool)
{
	const struct row *lessee = &seg->row[index];
	struct stats_waiter_row *row = &p->waiter_rows[p->nwaiters];
	struct stats_client_row *client = client_of(p, word_who(word));
	uint64_t waited = age(p, atomic_load_explicit(&lessee->wait_since, memory_order_relaxed));

	pool->waiting++;
	if (waited > pool->maxwait)
		pool->maxwait = waited;
	if (client != NULL)
		client->waiting++;
	p->waiters_total++;
	if (p->nwaiters == p->waiter_capacity)
		return;
	memset(row, 0, sizeof(*row));
	memcpy(row->pool, pool->name, sizeof(row->pool));
	row->row = index;
	row->client = client != NULL ? client->client : STATS_NO_U32;
	row->pid = client != NULL ? client->pid : STATS_NO_U32;
	row->tid = atomic_load_explicit(&lessee->tid, memory_order_relaxed);
	row->waiting_for = waited;
	p->nwaiters++;
}

/*
 * The rows are many and mostly free: they are scanned when the queue says that somebody waits, when somebody
 * waited at the last scan, and once a second for waiters that found the ring full.
 */
static void
collect_waiters(
    struct publisher *p, const struct segment *seg, struct pool_memory *memory, struct stats_pool_row *pool)
{
	if (!queue_maybe_waiting(seg) && memory->waiting_rows == 0 && p->now - memory->scanned_at < SECOND)
		return;
	for (uint32_t i = 0; i < seg->nrows; i++) {
		uint64_t word = atomic_load_explicit(&seg->row[i].word, memory_order_relaxed);

		if (word_state(word) == ROW_WAITING)
			add_waiter(p, seg, i, word, pool);
	}
	memory->waiting_rows = pool->waiting;
	memory->scanned_at = p->now;
}

static void
take_quantiles(const struct histogram_sum *sum, struct quantiles *ret)
{
	ret->count = sum->count;
	ret->p50 = histogram_quantile(sum, 0.50);
	ret->p95 = histogram_quantile(sum, 0.95);
	ret->p99 = histogram_quantile(sum, 0.99);
	ret->max = histogram_max(sum);
}

/* The histograms are big: added up at most once a second, and only after something was leased or released. */
static void
collect_times(
    struct publisher *p, const struct segment *seg, struct pool_memory *memory, struct stats_pool_row *pool)
{
	const uint64_t *counter = pool->slot_counter;
	uint64_t leases = counter[COUNTER_LEASES_IMMEDIATE] + counter[COUNTER_LEASES_WAITED];
	uint64_t released = counter[COUNTER_RELEASES]; /* a lease that ends otherwise has no hold noted */

	if (memory->summed_at == 0 ||
	    (memory->seen != leases + released && p->now - memory->summed_at >= SECOND)) {
		memset(&p->sum, 0, sizeof(p->sum));
		for (uint32_t i = 0; i < seg->nblocks; i++)
			histogram_add(&p->sum, &seg->block[i].wait);
		histogram_add_value(&p->sum, 0, counter[COUNTER_LEASES_IMMEDIATE]);
		take_quantiles(&p->sum, &memory->wait);
		memset(&p->sum, 0, sizeof(p->sum));
		for (uint32_t i = 0; i < seg->nblocks; i++)
			histogram_add(&p->sum, &seg->block[i].hold);
		take_quantiles(&p->sum, &memory->hold);
		memory->seen = leases + released;
		memory->summed_at = p->now;
	}
	pool->wait_count = leases;
	pool->wait_mean = leases != 0 ? counter[COUNTER_WAIT_NS] / leases : 0;
	pool->wait_p50 = memory->wait.p50;
	pool->wait_p95 = memory->wait.p95;
	pool->wait_p99 = memory->wait.p99;
	pool->wait_max = memory->wait.max;
	pool->hold_count = released;
	pool->hold_mean = released != 0 ? counter[COUNTER_HOLD_NS] / released : 0;
	pool->hold_p50 = memory->hold.p50;
	pool->hold_p95 = memory->hold.p95;
	pool->hold_p99 = memory->hold.p99;
	pool->hold_max = memory->hold.max;
}

static const char *
pool_state(const struct segment_header *header)
{
	switch (atomic_load_explicit(&header->state, memory_order_relaxed)) {
	case SEGMENT_NEW:
		return "new";
	case SEGMENT_OPEN:
		return atomic_load_explicit(&header->upstream_down, memory_order_relaxed) != 0 ? "down"
		                                                                               : "open";
	case SEGMENT_DRAINING:
		return "draining";
	case SEGMENT_CLOSED:
		return "closed";
	default:
		return "?";
	}
}

static void
collect_pool(
    struct publisher *p, const struct segment *seg, struct pool_memory *memory, struct stats_pool_row *pool)
{
	const struct segment_header *header = seg->header;

	memset(pool, 0, sizeof(*pool));
	memcpy(pool->name, memory->name, sizeof(pool->name));
	memcpy(pool->database, memory->database, sizeof(pool->database));
	memcpy(pool->user, memory->user, sizeof(pool->user));
	snprintf(pool->state, sizeof(pool->state), "%s", pool_state(header));
	pool->max = atomic_load_explicit(&header->max_connections, memory_order_relaxed);
	for (uint32_t i = 0; i < seg->nblocks; i++)
		for (unsigned c = 0; c < SLOT_NCOUNTERS; c++)
			pool->slot_counter[c] += counter_get(&seg->block[i].counter[c]);
	for (unsigned c = 0; c < CLIENT_NCOUNTERS; c++)
		pool->client_counter[c] = counter_get(&header->client_counter[c]);
	for (unsigned c = 0; c < BROKER_NCOUNTERS; c++)
		pool->broker_counter[c] = counter_get(&header->broker_counter[c]);
	collect_slots(p, seg, pool);
	collect_waiters(p, seg, memory, pool);
	collect_times(p, seg, memory, pool);
}

int
publisher_publish(struct publisher *p, uint32_t state, const struct segment *const *pools, unsigned npools)
{
	struct stats_rows rows[STATS_NTABLES] = {0};
	struct timespec real;
	int r;

	assert(npools == p->npools);
	if (p->off) {
		if (p->published && p->state == state)
			return 0;
		r = stats_writer_publish(p->writer, state, rows);
		p->published = r == 0;
		p->state = state;
		return r;
	}
	clock_gettime(CLOCK_REALTIME, &real);
	p->real = (uint64_t)real.tv_sec * SECOND + (uint64_t)real.tv_nsec;
	p->now = clock_ns();
	p->nslots = p->nclients = p->nwaiters = p->waiters_total = 0;
	if (npools > 0)
		collect_clients(p, pools[0]);
	for (unsigned i = 0; i < npools; i++)
		collect_pool(p, pools[i], &p->memory[i], &p->pool_rows[i]);
	rows[STATS_POOLS] = (struct stats_rows){p->pool_rows, npools, npools};
	rows[STATS_SLOTS] = (struct stats_rows){p->slot_rows, p->nslots, p->nslots};
	rows[STATS_CLIENTS] = (struct stats_rows){p->client_rows, p->nclients, p->nclients};
	rows[STATS_WAITERS] = (struct stats_rows){p->waiter_rows, p->nwaiters, p->waiters_total};
	return stats_writer_publish(p->writer, state, rows);
}
