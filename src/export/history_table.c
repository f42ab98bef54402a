/* SPDX-License-Identifier: PostgreSQL */
/* The table of a history's steps; see history_table.h. */
#include "history_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "health.h"
#include "history_range.h"

#define SECOND UINT64_C(1000000000)
#define MANY_STEPS 60 /* a step that fits: no more of them */

/* Counters of counters.h, as increases, follow the times' columns. */
/* clang-format off */
#define LINE_COLUMNS(TEXT, U32, U64) \
	TEXT(pool, LAYOUT_NAME, "pool") \
	U64(time, STATS_TIMESTAMP_NS, 0, "when the step begins") \
	U64(covered, STATS_DURATION_NS, 0, "time of the step that was recorded") \
	U32(starts, STATS_COUNT, 0, "starts of a broker") \
	TEXT(health, 16, "ok, degraded or down: the worst in the step") \
	TEXT(reasons, 96, "why it was not ok") \
	U32(max, STATS_COUNT, 0, "max_connections, at the end") \
	U32(total, STATS_COUNT, 0, "slots with a connection or about to have one, at the end") \
	U32(idle, STATS_COUNT, 0, "slots that can be leased at once, at the end") \
	U32(active, STATS_COUNT, 0, "slots leased or granted, at the end") \
	U32(busy, STATS_COUNT, 0, "slots in the broker's hands, at the end") \
	U32(waiting, STATS_COUNT, 0, "threads waiting for a lease, at the end") \
	U32(clients, STATS_COUNT, 0, "processes attached, at the end") \
	U32(active_max, STATS_COUNT, 0, "the most slots leased or granted at one time") \
	U32(waiting_max, STATS_COUNT, 0, "the most threads waiting at one time") \
	U64(maxwait, STATS_DURATION_NS, 0, "the greatest age of a waiter") \
	U64(leases, STATS_COUNT, 0, "leases granted") \
	U32(efficiency, STATS_RATIO, 0, "share of the leases that did not wait") \
	U64(connections_rate, STATS_RATE, 0, "connections opened per second") \
	U64(leases_rate, STATS_RATE, 0, "leases per second") \
	U64(queries_rate, STATS_RATE, 0, "queries per second") \
	U64(transactions_rate, STATS_RATE, 0, "transactions per second") \
	U64(cpu, STATS_DURATION_NS, STATS_NULLABLE, "CPU time that the broker used") \
	U64(memory, STATS_BYTES, STATS_NULLABLE, "resident memory of the broker, at the end") \
	U64(disk, STATS_BYTES, STATS_NULLABLE, "bytes that the broker read from disk and wrote to it") \
	U64(client_cpu, STATS_DURATION_NS, STATS_NULLABLE, "CPU time that the clients of the instance used") \
	U64(client_memory, STATS_BYTES, STATS_NULLABLE, "resident memory of the clients, shared memory counted in each, at the end") \
	U64(client_disk, STATS_BYTES, STATS_NULLABLE, "bytes that the clients read from disk and wrote to it") \
	U64(server_cpu, STATS_DURATION_NS, STATS_NULLABLE, "CPU time that the pool's backends used") \
	U64(server_memory, STATS_BYTES, STATS_NULLABLE, "resident memory of the backends, shared memory counted in each, at the end") \
	U64(server_disk, STATS_BYTES, STATS_NULLABLE, "bytes that the backends read from disk and wrote to it")

#define TIME_COLUMNS(X) \
	X(count, STATS_COUNT, "how many") \
	X(mean, STATS_DURATION_NS, "mean") \
	X(p50, STATS_DURATION_NS, "median, within 12.5 %") \
	X(p95, STATS_DURATION_NS, "95 % are no longer, within 12.5 %") \
	X(p99, STATS_DURATION_NS, "99 % are no longer, within 12.5 %") \
	X(max, STATS_DURATION_NS, "longest, within 12.5 %")
/* clang-format on */

#define MEMBER_TEXT(name, size, help) char name[size];
#define MEMBER_U32(name, unit, flags, help) uint32_t name;
#define MEMBER_U64(name, unit, flags, help) uint64_t name;
struct line {
	LINE_COLUMNS(MEMBER_TEXT, MEMBER_U32, MEMBER_U64)
	struct stats_quantiles times[STATS_NTIMES];
	uint64_t slot[SLOT_NCOUNTERS];
	uint64_t client[CLIENT_NCOUNTERS];
	uint64_t broker[BROKER_NCOUNTERS];
};

/* clang-format off */
#define COLUMN_TEXT(field, bytes, text) \
	{.name = #field, .help = text, .type = STATS_TEXT, .offset = offsetof(struct line, field), .size = (bytes)},
#define COLUMN_U32(field, what, bits, text) \
	{.name = #field, .help = text, .type = STATS_U32, .unit = (what), .flags = (bits), \
	    .offset = offsetof(struct line, field), .size = 4},
#define COLUMN_U64(field, what, bits, text) \
	{.name = #field, .help = text, .type = STATS_U64, .unit = (what), .flags = (bits), \
	    .offset = offsetof(struct line, field), .size = 8},
#define COLUMN_TIME(field, what, text) \
	{.name = #field, .help = text, .type = STATS_U64, .unit = (what), \
	    .offset = offsetof(struct stats_quantiles, field), .size = 8},
/* clang-format on */
static const struct stats_column line_columns[] = {LINE_COLUMNS(COLUMN_TEXT, COLUMN_U32, COLUMN_U64)};
static const struct stats_column time_columns[] = {TIME_COLUMNS(COLUMN_TIME)};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
static_assert(COUNT_OF(line_columns) + STATS_NTIMES * COUNT_OF(time_columns) + SLOT_NCOUNTERS + CLIENT_NCOUNTERS +
                      BROKER_NCOUNTERS <=
                  STATS_MAX_COLUMNS,
    "columns of a step");
static_assert(sizeof(struct line) <= UINT16_MAX, "offsets of columns");

static struct stats_column *
describe_counters(struct stats_column *at, size_t offset, const struct counter_info *info, unsigned n)
{
	for (unsigned i = 0; i < n; i++, at++) {
		*at = (struct stats_column){
		    .type = STATS_U64,
		    .unit = STATS_COUNT,
		    .offset = (uint16_t)(offset + i * sizeof(uint64_t)),
		    .size = sizeof(uint64_t),
		};
		snprintf(at->name, sizeof(at->name), "%s", info[i].name);
		snprintf(at->help, sizeof(at->help), "%s", info[i].help);
	}
	return at;
}

unsigned
history_table_describe(struct stats_column *ret)
{
	struct stats_column *at = ret;

	memcpy(at, line_columns, sizeof(line_columns));
	at += COUNT_OF(line_columns);
	for (unsigned t = 0; t < STATS_NTIMES; t++) {
		for (unsigned i = 0; i < COUNT_OF(time_columns); i++, at++) {
			*at = time_columns[i];
			at->offset = (uint16_t)(at->offset + offsetof(struct line, times) + t * sizeof(struct stats_quantiles));
			snprintf(at->name, sizeof(at->name), "%.15s_%.15s", stats_time_info[t].name,
			    time_columns[i].name);
			snprintf(at->help, sizeof(at->help), "%.15s: %.60s", stats_time_info[t].name,
			    time_columns[i].help);
		}
	}
	at = describe_counters(at, offsetof(struct line, slot), slot_counter_info, SLOT_NCOUNTERS);
	at = describe_counters(at, offsetof(struct line, client), client_counter_info, CLIENT_NCOUNTERS);
	at = describe_counters(at, offsetof(struct line, broker), broker_counter_info, BROKER_NCOUNTERS);
	return (unsigned)(at - ret);
}

void
history_table_settle(struct history_table_range *range)
{
	static const uint64_t steps[] = {1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200};
	uint64_t length = range->to > range->from ? range->to - range->from : 0;
	unsigned i = 0;

	if (range->step == 0) {
		while (i < COUNT_OF(steps) - 1 && length / (steps[i] * SECOND) > MANY_STEPS)
			i++;
		range->step = steps[i] * SECOND;
	}
	range->from -= range->from % range->step;
}

/* --- The rows. --- */

struct collection {
	const char *pool;
	struct line *lines;
	uint32_t n, room;
};

/* Events in 1,000 seconds. */
static uint64_t
rate(uint64_t n, uint64_t ns)
{
	return ns != 0 ? counter_whole((double)n * 1e12 / (double)ns + 0.5) : 0;
}

static int
add_line(void *context, const struct history_step *step)
{
	struct collection *c = context;
	const struct pool_totals *t = &step->totals;
	struct line *line;

	if (c->n == c->room) {
		uint32_t room = c->room == 0 ? 64 : 2 * c->room;
		struct line *more = realloc(c->lines, (size_t)room * sizeof(*more));

		if (more == NULL)
			return -ENOMEM;
		c->lines = more;
		c->room = room;
	}
	line = &c->lines[c->n++];
	*line = (struct line){
	    .time = step->from,
	    .covered = step->covered,
	    .starts = step->starts,
	    .max = t->max,
	    .total = t->total,
	    .idle = t->idle,
	    .active = t->leased + t->granted,
	    .busy = t->busy,
	    .waiting = t->waiting,
	    .clients = t->clients,
	    .active_max = step->active_max,
	    .waiting_max = step->waiting_max,
	    .maxwait = t->maxwait,
	    .leases = totals_acquired(t),
	    .efficiency = (uint32_t)(totals_efficiency(t) * 1e6),
	    .connections_rate = rate(t->broker[COUNTER_OPENED], step->covered),
	    .leases_rate = rate(totals_acquired(t), step->covered),
	    .queries_rate = rate(t->slot[COUNTER_QUERIES], step->covered),
	    .transactions_rate = rate(t->slot[COUNTER_TRANSACTIONS], step->covered),
#define USE(name, unit, help) .name = step->name,
	    HISTORY_USE_COLUMNS(USE) HISTORY_MEMORY_COLUMNS(USE)
#undef USE
	};
	snprintf(line->pool, sizeof(line->pool), "%s", c->pool);
	snprintf(line->health, sizeof(line->health), "%s", health_level_name(health_level(step->health)));
	health_names(step->health, line->reasons);
	memcpy(line->times, step->time, sizeof(line->times));
	memcpy(line->slot, t->slot, sizeof(line->slot));
	memcpy(line->client, t->client, sizeof(line->client));
	memcpy(line->broker, t->broker, sizeof(line->broker));
	return 0;
}

/* One pool's; *ret_any when it has a history, be it empty. */
static int
ask_pool(struct collection *c, const char *instance, const struct history_table_range *range,
    const struct history_table_source *source, bool *ret_any, struct text *notes)
{
	struct history_view *view = malloc(sizeof(*view));
	struct history_range asked = {.from = range->from, .to = range->to, .step = range->step};
	struct history_bytes bytes = {0};
	int r;

	if (view == NULL)
		return -ENOMEM;
	if (paths_check_name(c->pool) != 0)
		r = -EBADMSG;
	else if (source != NULL)
		r = source->open(source->context, c->pool, &bytes, view);
	else
		r = history_open(instance, c->pool, &bytes, view);
	if (r == 0) {
		*ret_any = true;
		r = range->from < range->to ? history_range_walk(view, &asked, add_line, c) : 0;
	} else if (r != -ENOMEM) {
		text_add(notes, "no history of pool ");
		text_add(notes, c->pool);
		text_add(notes, ": ");
		text_add(notes,
		    r == -ENOENT                    ? "its broker keeps none (history = no in its configuration)"
		    : r == -EACCES || r == -EPERM ? "not permitted; ask for another stats_mode in pgleased's configuration"
		    : r == -EPROTO                  ? "it is of another version of pglease"
		    : r == -EBADMSG                 ? "it is damaged, or its broker has not finished starting"
						    : strerror(-r));
		text_add_char(notes, '\n');
		r = 0;
	}
	history_bytes_fini(&bytes);
	free(view);
	return r;
}

int
history_table_add(struct stats_snapshot *snapshot, const char *pool, const struct history_table_range *range,
    const struct history_table_source *source, struct text *notes)
{
	const struct stats_view *pools = stats_view_find(snapshot, stats_table_name(STATS_POOLS));
	const struct stats_column *name = pools != NULL ? stats_column_find(pools, "name") : NULL;
	struct stats_column *columns = calloc(STATS_MAX_COLUMNS, sizeof(*columns));
	struct collection c = {0};
	bool any = false, known = false;
	int r = columns == NULL ? -ENOMEM : 0;

	for (uint32_t row = 0; r == 0 && name != NULL && name->type == STATS_TEXT && row < pools->nrows; row++) {
		c.pool = stats_value_text(pools, row, name);
		if (pool != NULL && strcmp(pool, c.pool) != 0)
			continue;
		known = true;
		r = ask_pool(&c, snapshot->header.instance, range, source, &any, notes);
	}
	if (r == 0 && pool != NULL && !known) {
		text_add(notes, "no '");
		text_add(notes, pool);
		text_add(notes, "' among the ");
		text_add_u64(notes, pools != NULL ? pools->nrows : 0);
		text_add(notes, " pools\n");
		r = -ENOENT;
	}
	if (r == 0 && !any)
		r = -ENODATA;
	if (r == 0 && snapshot->ntables == STATS_MAX_TABLES)
		r = -ENOMEM;
	if (r != 0) {
		free(columns);
		free(c.lines);
		return r;
	}
	snapshot->table[snapshot->ntables++] = (struct stats_view){
	    .name = HISTORY_TABLE_NAME,
	    .column = columns,
	    .ncolumns = history_table_describe(columns),
	    .rows = (unsigned char *)c.lines,
	    .row_size = sizeof(struct line),
	    .nrows = c.n,
	    .total = c.n,
	};
	return 0;
}
