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
#include <unistd.h>

#include "collect.h"
#include "handover.h"
#include "queue.h"
#include "resources.h"
#include "rows.h"
#include "slots.h"
#include "stats.h"
#include "totals.h"

#define SECOND UINT64_C(1000000000)
#define MAX_WAITER_ROWS 16384u /* published; how many there are is in stats_table.total */

/* The columns of STATS_PROCESS_COLUMNS. */
#define TAKE_PROCESS(row, from) \
	do { \
		const typeof(*(from)) *taken = (from); \
\
		(row)->cpu = taken->cpu; \
		(row)->memory = taken->memory; \
		(row)->disk_read = taken->disk_read; \
		(row)->disk_written = taken->disk_written; \
	} while (0)

/* And those of a group of processes, whose names begin with whose they are. */
#define TAKE_GROUP(row, whose, from) \
	do { \
		const struct stats_process *taken = (from); \
\
		(row)->whose##_cpu = taken->cpu; \
		(row)->whose##_memory = taken->memory; \
		(row)->whose##_disk_read = taken->disk_read; \
		(row)->whose##_disk_written = taken->disk_written; \
	} while (0)

/* What is known of a pool between publications. */
struct pool_memory {
	struct collect_names names;
	struct collect_times times;
	uint32_t index, nslots; /* the segment's */
	uint32_t first_place; /* of its slots' backends in `resources` */
	bool is_local;        /* these are processes of this host */
	const struct stats_limits *limits; /* NULL: not known */
	uint64_t scanned_at; /* when all rows were last scanned for waiters */
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
	struct stats_histogram_row *histogram_rows; /* npools * STATS_NTIMES */
	struct stats_alert_row *alert_rows;         /* npools * ALERT_N */
	struct stats_instance_row instance_row;
	/* Of the slots' backends, and behind them of the clients; a group for each pool, and behind them the clients'. */
	struct resources *resources;
	uint64_t self_seen_at; /* when instance_row got its process's numbers */
	uint32_t *client_at; /* index of the row in client_rows by client index, or STATS_NO_U32 */
	uint32_t clients_max;
	uint64_t started_at; /* CLOCK_MONOTONIC */
	uint32_t nslots, nclients, nwaiters, waiter_capacity, waiters_total, client_capacity, slot_capacity;
	uint64_t now, real; /* of this publication: CLOCK_MONOTONIC, CLOCK_REALTIME */
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
	uint32_t place = 0;

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
	p->histogram_rows = calloc(params->npools * STATS_NTIMES + 1, sizeof(*p->histogram_rows));
	p->alert_rows = calloc(params->npools * ALERT_N + 1, sizeof(*p->alert_rows));
	p->resources = resources_new(p->slot_capacity + p->client_capacity, params->npools + 1);
	if (p->memory == NULL || p->pool_rows == NULL || p->slot_rows == NULL || p->client_rows == NULL ||
	    p->client_at == NULL || p->waiter_rows == NULL || p->histogram_rows == NULL || p->alert_rows == NULL ||
	    p->resources == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < params->npools; i++) {
		p->memory[i].index = params->numbers != NULL ? params->numbers[i] : i;
		p->memory[i].nslots = params->pools[i]->nslots;
		p->memory[i].first_place = place;
		place += params->pools[i]->nslots;
		p->memory[i].is_local = params->pool_is_local != NULL && params->pool_is_local[i];
		p->memory[i].limits = params->limits != NULL ? &params->limits[i] : NULL;
		resources_group(p->resources, p->memory[i].first_place, params->pools[i]->nslots, i, true);
		collect_names(params->pools[i], &p->memory[i].names);
	}
	resources_group(p->resources, p->slot_capacity, p->client_capacity, p->npools, false);
	p->clients_max = params->clients_max;
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

/* Where the other publisher had its pools, and where they are here. */
struct places {
	uint32_t npools, slot_capacity; /* there */
	struct {
		uint32_t index, first, nslots, here;
	} pool[LAYOUT_MAX_POOLS];
	const struct publisher *here;
};

/* resources_where */
static uint32_t
where(const void *context, bool is_group, uint32_t there)
{
	const struct places *p = context;

	if (is_group)
		return there == p->npools ? p->here->npools : there < p->npools ? p->pool[there].here : UINT32_MAX;
	if (there >= p->slot_capacity)
		return p->here->slot_capacity + (there - p->slot_capacity);
	for (uint32_t i = 0; i < p->npools; i++)
		if (there >= p->pool[i].first && there - p->pool[i].first < p->pool[i].nslots)
			return p->pool[i].here != UINT32_MAX ? p->here->memory[p->pool[i].here].first_place + (there - p->pool[i].first)
			                                     : UINT32_MAX;
	return UINT32_MAX;
}

static void
fields(struct publisher *p, struct handover *h, int *fd)
{
	struct places places = {.npools = p->npools, .slot_capacity = p->slot_capacity, .here = p};

	handover_section(h, "publisher");
	handover_fd(h, fd);
	HANDOVER(h, p->started_at);
	handover_count(h, &places.npools, LAYOUT_MAX_POOLS);
	HANDOVER(h, places.slot_capacity);
	for (uint32_t i = 0; i < places.npools; i++) {
		if (!handover_reads(h)) {
			places.pool[i].index = p->memory[i].index;
			places.pool[i].first = p->memory[i].first_place;
			places.pool[i].nslots = p->memory[i].nslots;
		}
		HANDOVER(h, places.pool[i].index);
		HANDOVER(h, places.pool[i].first);
		HANDOVER(h, places.pool[i].nslots);
		places.pool[i].here = UINT32_MAX;
		for (uint32_t k = 0; k < p->npools; k++)
			if (p->memory[k].index == places.pool[i].index && p->memory[k].nslots == places.pool[i].nslots)
				places.pool[i].here = k;
	}
	resources_hand_over(p->resources, h, where, &places);
}

void
publisher_hand_over(struct publisher *p, struct handover *to)
{
	int fd = stats_writer_fd(p->writer);

	fields(p, to, &fd);
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
	p->started_at = clock_ns();
	r = publisher_size(p, params);
	if (r)
		goto fail;
	if (!params->off) {
		writer_params.capacity[STATS_POOLS] = p->npools;
		writer_params.capacity[STATS_SLOTS] = p->slot_capacity;
		writer_params.capacity[STATS_CLIENTS] = p->client_capacity;
		writer_params.capacity[STATS_WAITERS] = p->waiter_capacity;
		writer_params.capacity[STATS_INSTANCE] = 1;
		writer_params.capacity[STATS_HISTOGRAMS] = p->npools * STATS_NTIMES;
		writer_params.capacity[STATS_ALERTS] = p->npools * ALERT_N;
	}
	if (params->from != NULL) {
		fields(p, params->from, &writer_params.fd);
		writer_params.takes_over = true;
		r = -EBADF;
		if (writer_params.fd < 0)
			goto fail;
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
	free(p->histogram_rows);
	free(p->alert_rows);
	resources_free(p->resources);
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
		uint32_t pid;

		if (atomic_load_explicit(&client->incarnation, memory_order_relaxed) == 0)
			continue;
		memset(row, 0, sizeof(*row));
		row->client = i;
		pid = atomic_load_explicit(&client->pid, memory_order_relaxed);
		row->pid = pid != 0 ? pid : STATS_NO_U32; /* it has none in this namespace */
		row->uid = atomic_load_explicit(&client->uid, memory_order_relaxed);
		row->attached_since =
		    timestamp(p, atomic_load_explicit(&client->attached_at, memory_order_relaxed));
		stats_copy_text(row->program, sizeof(row->program), client->program, sizeof(client->program));
		TAKE_PROCESS(row, resources_of(p->resources, p->slot_capacity + i, pid, NULL));
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
fill_slot(struct publisher *p, const struct segment *seg, uint32_t index, uint64_t word,
    const struct pool_memory *memory, struct stats_slot_row *row)
{
	const struct slot *slot = &seg->slot[index];
	unsigned state = word_state(word);
	uint32_t pid = atomic_load_explicit(&slot->server_pid, memory_order_relaxed);

	row->slot = index;
	snprintf(row->state, sizeof(row->state), "%s", slot_state_name(state));
	if (word_flags(word) != 0)
		flags_text(word_flags(word), row->flags, sizeof(row->flags));
	row->generation = atomic_load_explicit(&slot->generation, memory_order_relaxed);
	row->leases = slot_leases(seg, index);
	row->server_pid = pid != 0 ? pid : STATS_NO_U32;
	row->client = row->pid = row->tid = STATS_NO_U32;
	row->held_since = row->held_for = row->idle_for = STATS_NO_U64;
	TAKE_PROCESS(row, resources_of(p->resources, memory->first_place + index, memory->is_local ? pid : 0, "postgres"));
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
collect_slots(struct publisher *p, const struct segment *seg, const struct pool_memory *memory,
    const struct stats_pool_row *pool)
{
	for (uint32_t i = 0; i < seg->nslots; i++) {
		uint64_t word = atomic_load_explicit(&seg->slot[i].word, memory_order_relaxed);
		struct stats_slot_row *row = &p->slot_rows[p->nslots];

		if (word_state(word) == SLOT_EMPTY && i >= pool->max)
			continue; /* room for a reload, not a slot of the pool */
		if (p->nslots == p->slot_capacity)
			continue;
		memset(row, 0, sizeof(*row));
		memcpy(row->pool, pool->name, sizeof(row->pool));
		fill_slot(p, seg, i, word, memory, row);
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
 * The rows are many and mostly free. A scan ends with as many waiters as the queue has; but when the ring is full, and once a second, it
 * looks for waiters who are not in it.
 */
static void
collect_waiters(
    struct publisher *p, const struct segment *seg, struct pool_memory *memory, struct stats_pool_row *pool)
{
	bool all = queue_is_full(seg) || p->now - memory->scanned_at >= SECOND;
	uint32_t queued = pool->waiting;

	pool->waiting = 0;
	for (uint32_t i = 0; i < seg->nrows && (all || pool->waiting < queued); i++) {
		uint64_t word = atomic_load_explicit(&seg->row[i].word, memory_order_relaxed);

		if (word_state(word) == ROW_WAITING)
			add_waiter(p, seg, i, word, pool);
	}
	if (pool->waiting == 0)
		pool->maxwait = 0;
	if (all)
		memory->scanned_at = p->now;
}

static void
collect_all_of_pool(struct publisher *p, const struct segment *seg, unsigned index)
{
	struct pool_memory *memory = &p->memory[index];
	struct stats_pool_row *pool = &p->pool_rows[index];

	collect_pool(seg, &memory->names, p->now, &memory->times, pool, &p->histogram_rows[index * STATS_NTIMES]);
	collect_alerts(seg, &memory->names, p->now, p->real, &p->alert_rows[index * ALERT_N]);
	stats_take_limits(pool, memory->limits);
	TAKE_GROUP(pool, server, resources_of_group(p->resources, index));
	collect_slots(p, seg, memory, pool);
	collect_waiters(p, seg, memory, pool);
}

static void
collect_self(struct publisher *p)
{
	struct stats_instance_row *row = &p->instance_row;
	struct resources_own own;

	if (p->self_seen_at != 0 && p->now - p->self_seen_at < SECOND)
		return;
	p->self_seen_at = p->now;
	resources_of_self(&own);
	TAKE_PROCESS(row, &own.process);
	row->pid = (uint32_t)getpid();
	row->threads = own.threads;
	row->descriptors = own.descriptors;
	row->descriptors_max = own.descriptors_max;
}

static void
collect_instance(struct publisher *p, const struct segment *const *pools, unsigned npools)
{
	struct stats_instance_row *row = &p->instance_row;
	uint32_t reasons = 0;

	collect_self(p);
	row->uptime = age(p, p->started_at);
	row->segments = 0;
	for (unsigned i = 0; i < npools; i++) {
		reasons |= atomic_load_explicit(&pools[i]->header->health, memory_order_relaxed);
		row->segments += pools[i]->size;
	}
	collect_health(reasons, row->health, row->reasons);
	row->pools = npools;
	row->clients = p->nclients;
	row->clients_max = p->clients_max;
	TAKE_GROUP(row, client, resources_of_group(p->resources, p->npools));
	row->stats_segment = stats_writer_size(p->writer);
}

static void
list_rows(const struct publisher *p, struct stats_rows rows[STATS_NTABLES])
{
	rows[STATS_POOLS] = (struct stats_rows){p->pool_rows, p->npools, p->npools};
	rows[STATS_SLOTS] = (struct stats_rows){p->slot_rows, p->nslots, p->nslots};
	rows[STATS_CLIENTS] = (struct stats_rows){p->client_rows, p->nclients, p->nclients};
	rows[STATS_WAITERS] = (struct stats_rows){p->waiter_rows, p->nwaiters, p->waiters_total};
	rows[STATS_INSTANCE] = (struct stats_rows){&p->instance_row, 1, 1};
	rows[STATS_HISTOGRAMS] =
	    (struct stats_rows){p->histogram_rows, p->npools * STATS_NTIMES, p->npools * STATS_NTIMES};
	rows[STATS_ALERTS] = (struct stats_rows){p->alert_rows, p->npools * ALERT_N, p->npools * ALERT_N};
}

int
publisher_snapshot(const struct publisher *p, struct stats_snapshot *ret)
{
	struct stats_rows rows[STATS_NTABLES] = {0};

	if (!p->off && p->now != 0)
		list_rows(p, rows);
	return stats_snapshot_of_rows(stats_writer_header(p->writer), rows, ret);
}

void
publisher_history_size(struct publisher *p, uint64_t bytes)
{
	p->instance_row.history_segments = bytes;
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
		collect_all_of_pool(p, pools[i], i);
	collect_instance(p, pools, npools);
	resources_tick(p->resources, p->now);
	list_rows(p, rows);
	return stats_writer_publish(p->writer, state, rows);
}

uint64_t
publisher_own_memory(const struct publisher *p)
{
	return p->instance_row.memory != STATS_NO_U64 ? p->instance_row.memory : 0;
}

void
publisher_own_use(const struct publisher *p, struct stats_process *ret)
{
	TAKE_PROCESS(ret, &p->instance_row);
}

const struct stats_process *
publisher_clients_use(const struct publisher *p)
{
	return resources_of_group(p->resources, p->npools);
}

const struct stats_process *
publisher_servers_use(const struct publisher *p, unsigned pool)
{
	return resources_of_group(p->resources, pool);
}
