/* SPDX-License-Identifier: PostgreSQL */
/* The recorder of the pools' histories; see recorder.h. */
#include "recorder.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "datadir.h"
#include "handover.h"
#include "history.h"
#include "log.h"
#include "paths.h"
#include "pool.h"
#include "publish.h"

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)

/* What a time's histogram was at the last look. */
struct time_memory {
	uint64_t count;
	bool settling; /* counted since, perhaps without what goes with it: look once more */
	uint64_t bucket[HISTORY_BUCKETS];
};

/* What others than the pool have used: the broker, and the clients of the instance. */
struct use {
	uint64_t cpu, disk, client_cpu, client_disk; /* STATS_NO_U64: unknown */
};

struct pool_recorder {
	const struct segment *seg;
	char name[LAYOUT_NAME];
	uint32_t index; /* the pool's number */
	struct history_writer *writer; /* NULL: a reload has made the pool, and there was no room for its history */
	struct time_memory time[STATS_NTIMES];
	struct history_row minute; /* what its seconds add up to; interval 0: none yet */
	struct pool_totals totals; /* of this tick */
	/* Since the last row. */
	uint32_t active_max, waiting_max, health;
	uint64_t maxwait;
	bool told; /* the log has said that it cannot be written */
	bool first, first_minute; /* no row of this segment has been written yet */
	struct use before; /* it: its rows, which begin at 0, do not have that */
};

struct recorder {
	char instance[LAYOUT_NAME];
	char folder[PATHS_MAX]; /* "": histories are not saved */
	uint64_t instance_id;
	bool seconds;    /* there are rows of seconds */
	uint64_t row_at, minute_at; /* CLOCK_BOOTTIME: the last rows */
	uint64_t row_second, row_minute; /* of the wall clock, when they were due */
	struct use used; /* then */
	const struct publisher *publisher; /* knows what processes use */
	unsigned npools;
	struct pool_recorder pool[];
};

struct moment {
	uint64_t mono, real, boot;
};

static uint64_t
clock_get(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static struct moment
moment_now(void)
{
	return (struct moment){
	    .mono = clock_ns(), .real = clock_get(CLOCK_REALTIME), .boot = clock_get(CLOCK_BOOTTIME)};
}

/* CPU time and resident memory of this process. */
static void
use_of_self(uint64_t *ret_cpu, uint64_t *ret_memory)
{
	struct rusage usage;
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	*ret_cpu = *ret_memory = STATS_NO_U64;
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		*ret_cpu = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SECOND +
		           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
	if (file == NULL)
		return;
	if (fscanf(file, "%*u %lu", &pages) == 1)
		*ret_memory = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
	fclose(file);
}

/* At each tick: what a row tells of the time since the row before it. */
static void
look(struct pool_recorder *p, uint64_t now)
{
	uint32_t active;

	totals_read(p->seg, now, &p->totals);
	active = p->totals.leased + p->totals.granted;
	if (p->active_max < active)
		p->active_max = active;
	if (p->waiting_max < p->totals.waiting)
		p->waiting_max = p->totals.waiting;
	if (p->maxwait < p->totals.maxwait)
		p->maxwait = p->totals.maxwait;
	p->health |= atomic_load_explicit(&p->seg->header->health, memory_order_relaxed);
}

/* The observations since the last look. Histograms are big: one that has not been counted in is not added up. */
static void
take_time(struct pool_recorder *p, enum stats_time time, uint32_t ret[HISTORY_BUCKETS])
{
	struct time_memory *m = &p->time[time];
	uint64_t count = totals_time_count(&p->totals, time), now[HISTORY_BUCKETS];
	struct histogram_sum sum;

	memset(ret, 0, HISTORY_BUCKETS * sizeof(ret[0]));
	if (count == m->count && !m->settling)
		return;
	m->settling = count != m->count;
	m->count = count;
	totals_times(p->seg, time, &sum);
	history_bucket_sum(&sum, now);
	for (unsigned b = 0; b < HISTORY_BUCKETS; b++) {
		/* Clients can write the histograms: one that went back counts as unchanged. */
		uint64_t n = now[b] > m->bucket[b] ? now[b] - m->bucket[b] : 0;

		ret[b] = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
		m->bucket[b] = now[b];
	}
}

static uint64_t
disk_of(const struct stats_process *process)
{
	return process->disk_read == STATS_NO_U64 || process->disk_written == STATS_NO_U64
	           ? STATS_NO_U64
	           : process->disk_read + process->disk_written;
}

static struct use
use_now(const struct recorder *recorder, const struct stats_process *self)
{
	const struct stats_process *clients = publisher_clients_use(recorder->publisher);

	return (struct use){.cpu = self->cpu,
	    .disk = disk_of(self),
	    .client_cpu = clients->cpu,
	    .client_disk = disk_of(clients)};
}

/* What was not known before began at 0. */
static uint64_t
since(uint64_t before, uint64_t now)
{
	return now == STATS_NO_U64 || before == STATS_NO_U64 || now < before ? now : now - before;
}

static void
fill_use(const struct recorder *recorder, const struct pool_recorder *p, const struct stats_process *self, struct history_row *row)
{
	const struct stats_process *servers = publisher_servers_use(recorder->publisher, (unsigned)(p - recorder->pool));
	struct use now = use_now(recorder, self);

	row->cpu = since(p->before.cpu, now.cpu);
	row->disk = since(p->before.disk, now.disk);
	row->client_cpu = since(p->before.client_cpu, now.client_cpu);
	row->client_disk = since(p->before.client_disk, now.client_disk);
	row->memory = self->memory;
	row->client_memory = publisher_clients_use(recorder->publisher)->memory;
	row->server_cpu = servers->cpu;
	row->server_memory = servers->memory;
	row->server_disk = disk_of(servers);
}

static void
fill_row(struct recorder *recorder, struct pool_recorder *p, const struct moment *now, const struct stats_process *self,
    struct history_row *row)
{
	const struct pool_totals *t = &p->totals;

	memset(row, 0, sizeof(*row));
	row->serial = history_writer_sample(p->writer);
	row->time = now->real;
	row->mono = now->boot;
	row->interval = now->boot - recorder->row_at;
	row->instance = recorder->instance_id;
	row->first = p->first;
	memcpy(row->slot, t->slot, sizeof(row->slot));
	memcpy(row->client, t->client, sizeof(row->client));
	memcpy(row->broker, t->broker, sizeof(row->broker));
	row->maxwait = p->maxwait;
	fill_use(recorder, p, self, row);
	row->max = t->max;
	row->total = t->total;
	row->idle = t->idle;
	row->leased = t->leased;
	row->granted = t->granted;
	row->busy = t->busy;
	row->waiting = t->waiting;
	row->clients = t->clients;
	row->peak = t->peak;
	row->active_max = p->active_max;
	row->waiting_max = p->waiting_max;
	row->health = p->health;
	for (unsigned time = 0; time < STATS_NTIMES; time++)
		take_time(p, time, row->bucket[time]);
	p->active_max = p->waiting_max = p->health = 0;
	p->maxwait = 0;
}

static void
record(struct recorder *recorder, struct pool_recorder *p, const struct moment *now, const struct stats_process *self,
    bool minute)
{
	struct history_row row;
	int r, also = 0;

	if (p->writer == NULL)
		return;
	fill_row(recorder, p, now, self, &row);
	if (p->minute.interval == 0)
		p->minute = row;
	else
		history_row_add(&p->minute, &row);
	r = history_writer_append(p->writer, HISTORY_SECONDS, &row);
	if (minute) {
		p->minute.first = p->first_minute;
		also = history_writer_append(p->writer, HISTORY_MINUTES, &p->minute);
		p->minute.interval = 0;
	}
	if (r == 0)
		r = also;
	if (r != 0 && !p->told)
		log_warning("the history of pool %s cannot be written: %s", p->name, strerror(-r));
	p->told = r != 0;
	p->first = false;
	p->first_minute = p->first_minute && !minute;
}

static void
record_all(struct recorder *recorder, const struct moment *now, bool minute)
{
	/* Of this moment; its disk as the publisher saw it within the last second. */
	struct stats_process self;

	publisher_own_use(recorder->publisher, &self);
	use_of_self(&self.cpu, &self.memory);
	for (unsigned i = 0; i < recorder->npools; i++)
		record(recorder, &recorder->pool[i], now, &self, minute);
	recorder->row_at = now->boot;
	recorder->row_second = now->real / SECOND;
	recorder->used = use_now(recorder, &self);
	if (!minute)
		return;
	recorder->minute_at = now->boot;
	recorder->row_minute = now->real / MINUTE;
}

/* A period of the wall clock has begun, or, when that is set, as much time has passed. */
static bool
is_due(uint64_t real, uint64_t last, uint64_t elapsed, uint64_t period)
{
	return (real / period != last && elapsed >= period / 2) || elapsed >= period + period / 2;
}

void
recorder_tick(struct recorder *recorder)
{
	struct moment now = moment_now();
	bool minute;

	if (recorder == NULL)
		return;
	for (unsigned i = 0; i < recorder->npools; i++)
		look(&recorder->pool[i], now.mono);
	minute = is_due(now.real, recorder->row_minute, now.boot - recorder->minute_at, MINUTE);
	if (minute || (recorder->seconds && is_due(now.real, recorder->row_second, now.boot - recorder->row_at, SECOND)))
		record_all(recorder, &now, minute);
}

int
recorder_reader(const struct recorder *recorder, unsigned pool)
{
	return recorder != NULL && pool < recorder->npools && recorder->pool[pool].writer != NULL ? history_writer_reader(recorder->pool[pool].writer) : -1;
}

int
recorder_reader_of(const struct recorder *recorder, const char *pool)
{
	for (unsigned i = 0; recorder != NULL && i < recorder->npools; i++)
		if (strcmp(recorder->pool[i].name, pool) == 0)
			return recorder_reader(recorder, i);
	return -1;
}

uint64_t
recorder_size(const struct recorder *recorder)
{
	uint64_t size = 0;

	for (unsigned i = 0; recorder != NULL && i < recorder->npools; i++)
		size += recorder->pool[i].writer == NULL ? 0 : history_writer_size(recorder->pool[i].writer);
	return size;
}

static int
refuse(int error, const struct recorder_params *params, const char *pool)
{
	uint64_t capacity[HISTORY_NRINGS] = {params->seconds, HISTORY_DAY_MINUTES};
	struct history_header header;

	history_header_init(&header, params->instance, pool, capacity);
	switch (error) {
	case -ENOSPC:
		return log_refuse("no room in /dev/shm for the history of pool %s (%.1f MB): free some, or set a shorter "
		                  "metrics_retention, or history = no",
		    pool, (double)header.size / 1e6);
	case -EACCES:
	case -EPERM:
		return log_refuse("/dev/shm/pglease.%s.history.%s belongs to another user: remove it there, or choose "
		                  "another name (-n)",
		    params->instance, pool);
	case -EBUSY:
		return log_refuse("/dev/shm/pglease.%s.history.%s is in use by another process", params->instance, pool);
	case -ECHRNG:
		return log_refuse("/dev/shm/pglease.%s.history.%s cannot be given to monitor_group: the broker's user must "
		                  "be a member of it",
		    params->instance, pool);
	default:
		return log_refuse("cannot create /dev/shm/pglease.%s.history.%s: %s", params->instance, pool, strerror(-error));
	}
}

static const char *
file_of(const struct recorder *recorder, const struct pool_recorder *p, char buf[static 2 * PATHS_MAX])
{
	if (recorder->folder[0] == '\0')
		return NULL;
	snprintf(buf, 2 * PATHS_MAX, "%s/history.%s", recorder->folder, p->name);
	return buf;
}

static bool
is_of(const char *pool, const struct segment *const *pools, unsigned npools)
{
	for (unsigned i = 0; i < npools; i++)
		if (strcmp(pools[i]->header->pool_name, pool) == 0)
			return true;
	return false;
}

void
recorder_remove_others(const char *instance, const struct segment *const *pools, unsigned npools)
{
	char pattern[PATHS_MAX + 16] = "/dev/shm";
	size_t before;
	glob_t found;

	/* No name has a character that means something in a pattern. */
	if (paths_history_name(instance, "*", pattern + strlen(pattern), PATHS_MAX) != 0 ||
	    glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return;
	before = strlen(pattern) - 1;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *pool = found.gl_pathv[i] + before;

		/* With a dot: one that had not been finished. */
		if (!is_of(pool, pools, npools) && history_remove(instance, pool) == 0 && strchr(pool, '.') == NULL)
			log_info("the history of pool %s, left by a broker that was killed, has been removed: there is no such "
			         "pool any more, or no history of it",
			    pool);
	}
	globfree(&found);
}

/* The words of struct recorder, without the pools. */
static void
fields(struct recorder *recorder, uint32_t *npools, struct handover *h)
{
	handover_section(h, "recorder");
	HANDOVER(h, recorder->row_at);
	HANDOVER(h, recorder->minute_at);
	HANDOVER(h, recorder->row_second);
	HANDOVER(h, recorder->row_minute);
	HANDOVER(h, recorder->used);
	handover_count(h, npools, LAYOUT_MAX_POOLS);
}

/* Whose history it is: of a pool made anew it goes on, by its name. */
struct place {
	uint32_t index;
	char name[LAYOUT_NAME];
	int fd, reader; /* -1: there is none */
};

/* Of struct pool_recorder; what it holds of this tick is taken anew. */
static void
pool_fields(struct pool_recorder *p, struct place *place, struct handover *h)
{
	handover_section(h, "history");
	HANDOVER(h, place->index);
	HANDOVER(h, place->name);
	place->name[LAYOUT_NAME - 1] = '\0';
	handover_fd(h, &place->fd);
	handover_fd(h, &place->reader);
	HANDOVER(h, p->time);
	HANDOVER(h, p->minute);
	HANDOVER(h, p->active_max);
	HANDOVER(h, p->waiting_max);
	HANDOVER(h, p->health);
	HANDOVER(h, p->maxwait);
	HANDOVER(h, p->told);
	HANDOVER(h, p->first);
	HANDOVER(h, p->first_minute);
	HANDOVER(h, p->before);
}

void
recorder_hand_over(struct recorder *recorder, struct handover *to)
{
	uint32_t n = recorder->npools;

	fields(recorder, &n, to);
	for (unsigned i = 0; i < recorder->npools; i++) {
		struct pool_recorder *p = &recorder->pool[i];
		struct place place = {.index = p->index, .fd = -1, .reader = -1};

		memcpy(place.name, p->name, sizeof(place.name));
		if (p->writer != NULL) {
			place.fd = history_writer_fd(p->writer);
			place.reader = history_writer_reader(p->writer);
		}
		pool_fields(p, &place, to);
	}
}

static struct history_params
params_of(const struct recorder_params *params, const char *pool)
{
	return (struct history_params){
	    .instance = params->instance,
	    .pool = pool,
	    .instance_id = params->instance_id,
	    .seconds = params->seconds,
	    .mode = params->mode,
	    .group = params->group,
	    .now = clock_get(CLOCK_REALTIME),
	};
}

static void
save(const struct recorder *recorder, const struct pool_recorder *p)
{
	char file[2 * PATHS_MAX];
	int r;

	if (p->writer == NULL || file_of(recorder, p, file) == NULL)
		return;
	r = datadir_make(recorder->folder, 0755);
	if (r == 0)
		r = history_writer_save(p->writer, file);
	if (r != 0)
		log_warning("the history of pool %s is lost: it cannot be saved in %s: %s", p->name, file, strerror(-r));
}

/* The seconds of one that was made anew which are in no minute's row yet: the next one's counters begin at 0 again. */
static void
end_minute(struct pool_recorder *gone, struct history_writer *writer)
{
	int r;

	if (gone->minute.interval == 0)
		return;
	gone->minute.first = gone->first_minute;
	r = history_writer_append(writer, HISTORY_MINUTES, &gone->minute);
	if (r != 0)
		log_warning("the history of pool %s cannot be written: %s", gone->name, strerror(-r));
}

/* One that was handed over: of a pool that goes on, or has been made anew; or that has gone, and then it ends here. */
static int
take_pool(struct recorder *recorder, const struct recorder_params *params)
{
	struct pool_recorder *gone = calloc(1, sizeof(*gone)), *p = gone;
	struct place place = {.fd = -1, .reader = -1};
	struct history_params history;
	int r = -ENOMEM;

	if (gone == NULL)
		return log_refuse("out of memory");
	pool_fields(gone, &place, params->from);
	if (handover_check(params->from, false) != 0)
		goto out;
	for (unsigned i = 0; i < params->npools; i++) {
		struct pool_recorder *here = &recorder->pool[i];

		if (strcmp(here->name, place.name) != 0)
			continue;
		p = here;
		if (here->index == place.index) {
			gone->seg = here->seg;
			gone->index = here->index;
			*here = *gone;
		}
	}
	memcpy(p->name, place.name, sizeof(p->name));
	r = 0;
	if (place.fd < 0)
		goto out;
	history = params_of(params, place.name);
	r = history_writer_take_over(&history, place.fd, place.reader, &p->writer);
	if (r != 0)
		r = refuse(r, params, place.name);
	else if (p == gone) {
		save(recorder, gone);
		history_writer_free(gone->writer, false);
		log_info("pool %s has gone: its history is closed", place.name);
	} else if (p->index != place.index) {
		end_minute(gone, p->writer);
	}
out:
	free(gone);
	return r;
}

/* A new one, with what was saved. */
static int
open_pool(struct recorder *recorder, struct pool_recorder *p, const struct recorder_params *params)
{
	char why[HISTORY_WHY], file[2 * PATHS_MAX];
	struct history_params history = params_of(params, p->name);
	int r;

	history.file = file_of(recorder, p, file);
	r = history_writer_new(&history, &p->writer, why);
	if (r != 0 && params->from == NULL)
		return refuse(r, params, p->name);
	if (r != 0) /* no reason to end what serves */
		log_warning("pool %s has no history: %s", p->name, strerror(-r));
	else if (*why != '\0')
		log_warning("pool %s begins a new history: %s%s%s", p->name, history.file != NULL ? history.file : "",
		    history.file != NULL ? ": " : "", why);
	return 0;
}

int
recorder_new(const struct recorder_params *params, struct recorder **ret)
{
	struct recorder *recorder = calloc(1, sizeof(*recorder) + params->npools * sizeof(recorder->pool[0]));
	struct moment now = moment_now();
	uint32_t taken = 0;

	if (recorder == NULL)
		return log_refuse("out of memory");
	snprintf(recorder->instance, sizeof(recorder->instance), "%s", params->instance);
	recorder->instance_id = params->instance_id;
	recorder->publisher = params->publisher;
	recorder->seconds = params->seconds != 0;
	recorder->row_at = recorder->minute_at = now.boot;
	recorder->row_second = now.real / SECOND;
	recorder->row_minute = now.real / MINUTE;
	if (params->save &&
	    datadir_path(params->instance, params->data_dir, recorder->folder, sizeof(recorder->folder)) != 0) {
		recorder->folder[0] = '\0';
		log_warning("histories will not be saved: there is no place for them: set data_dir, or history_save = no");
	}
	for (unsigned i = 0; i < params->npools; i++) {
		struct pool_recorder *p = &recorder->pool[i];

		p->seg = params->pools[i];
		/* The broker's own: what is in the segment a client can write over. */
		p->index = params->of[i]->index;
		snprintf(p->name, sizeof(p->name), "%s", params->of[i]->settings->name);
		p->first = p->first_minute = true;
	}
	recorder->npools = params->npools;
	if (params->from != NULL) {
		fields(recorder, &taken, params->from);
		/* Of those that are new; the others bring their own. */
		for (unsigned i = 0; i < recorder->npools; i++)
			recorder->pool[i].before = recorder->used;
		for (uint32_t i = 0; i < taken; i++)
			if (take_pool(recorder, params) != 0)
				return -1;
		if (handover_check(params->from, false) != 0)
			return -1;
	}
	for (unsigned i = 0; i < recorder->npools; i++) {
		if (recorder->pool[i].writer == NULL && open_pool(recorder, &recorder->pool[i], params) != 0) {
			recorder_free(recorder, false);
			return -1;
		}
	}
	*ret = recorder;
	return 0;
}

void
recorder_free(struct recorder *recorder, bool has_run)
{
	struct moment now = moment_now();

	if (recorder == NULL)
		return;
	for (unsigned i = 0; has_run && i < recorder->npools; i++)
		look(&recorder->pool[i], now.mono);
	if (has_run && now.boot > recorder->row_at)
		record_all(recorder, &now, true);
	for (unsigned i = 0; i < recorder->npools; i++) {
		if (has_run)
			save(recorder, &recorder->pool[i]);
		history_writer_free(recorder->pool[i].writer, !has_run);
	}
	free(recorder);
}
