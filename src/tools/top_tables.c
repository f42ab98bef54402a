/* SPDX-License-Identifier: PostgreSQL */
/* What pgleasestat --top shows: its columns, which rows, in which order. Nothing here knows the terminal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stat_output_priv.h"
#include "top_priv.h"

/* clang-format off */
static const struct top_column pools[] = {
	{"name", "POOL", 10, false},
	{"health", "HEALTH", 8, false},
	{"leased", "LEASED", 6, true},
	{"idle", "IDLE", 5, true},
	{"total", "OPEN", 5, true},
	{"max", "MAX", 5, true},
	{"waiting", "WAIT", 5, true},
	{"maxwait", "LONGEST", 7, true},
	{"leases_rate", "LEASE/S", 8, true},
	{NULL, "", 12, false},
	{"queries_rate", "QUERY/S", 8, true},
	{"wait_p99", "WAIT99", 7, true},
	{"hold_p99", "HOLD99", 7, true},
	{"query_p99", "QUERY99", 7, true},
	{"timeouts", "TIMEOUT", 7, true},
	{"leaks", "LEAKS", 5, true},
	{"server_cpu", "CPU", 7, true},
	{"server_memory", "MEMORY", 7, true},
	{"reasons", "WHY", 30, false},
};
static const struct top_column slots[] = {
	{"pool", "POOL", 10, false},
	{"slot", "SLOT", 4, true},
	{"state", "STATE", 8, false},
	{"pid", "PID", 7, true},
	{"held_for", "HELD", 7, true},
	{"idle_for", "IDLE", 7, true},
	{"leases", "LEASES", 7, true},
	{"acquired_at", "ACQUIRED AT", 22, false},
	{"server_pid", "SERVER", 7, true},
	{"cpu", "CPU", 7, true},
	{"memory", "MEMORY", 7, true},
	{"flags", "FLAGS", 12, false},
};
static const struct top_column clients[] = {
	{"client", "CLIENT", 6, true},
	{"pid", "PID", 7, true},
	{"uid", "UID", 6, true},
	{"program", "PROGRAM", 16, false},
	{"leases_held", "LEASES", 6, true},
	{"waiting", "WAIT", 5, true},
	{"cpu", "CPU", 7, true},
	{"memory", "MEMORY", 7, true},
	{"disk_read", "READ", 7, true},
	{"disk_written", "WRITTEN", 7, true},
};
static const struct top_column waiters[] = {
	{"pool", "POOL", 10, false},
	{"waiting_for", "WAITS", 8, true},
	{"pid", "PID", 7, true},
	{"tid", "THREAD", 7, true},
	{"client", "CLIENT", 6, true},
	{"row", "ROW", 5, true},
};
/* clang-format on */

#define COLUMNS(a) .count = sizeof(a) / sizeof((a)[0]), .column = (a)
const struct top_table top_tables[TOP_NVIEWS] = {
    [TOP_POOLS] = {"Pools", "pools", "name,database,user,health", 0, COLUMNS(pools)},
    [TOP_SLOTS] = {"Slots", "slots", "pool,state,acquired_at,pid,server_pid", 4, COLUMNS(slots)},
    [TOP_CLIENTS] = {"Clients", "clients", "program,pid,uid", 4, COLUMNS(clients)},
    [TOP_WAITERS] = {"Waiters", "waiters", "pool,pid,tid", 1, COLUMNS(waiters)},
};

void
top_cell(const struct top *top, uint32_t row, const struct top_column *column, char *buf, size_t size)
{
	const struct stats_view *view = stats_view_find(&top->snapshot, top_tables[top->view].stats);
	const struct stats_column *found = view != NULL && column->name != NULL ? stats_column_find(view, column->name) : NULL;

	if (found != NULL)
		stat_output_cell(view, row, found, false, buf, size);
	else
		snprintf(buf, size, "-");
}

static bool
is_wanted(const struct top *top, const struct stats_view *view, uint32_t row)
{
	const char *at = top_tables[top->view].searched;
	char name[32], cell[128];

	if (top->options->id != NULL) {
		const struct stats_column *pool = stats_column_find(view, top->view == TOP_POOLS ? "name" : "pool");

		if (pool != NULL && strcmp(stats_value_text(view, row, pool), top->options->id) != 0)
			return false;
	}
	if (top->filter[0] == '\0')
		return true;
	while (*at != '\0') {
		size_t n = strcspn(at, ",");
		const struct stats_column *column;

		snprintf(name, sizeof(name), "%.*s", (int)n, at);
		at += n + (at[n] == ',');
		column = stats_column_find(view, name);
		if (column == NULL)
			continue;
		stat_output_cell(view, row, column, true, cell, sizeof(cell));
		if (strcasestr(cell, top->filter) != NULL)
			return true;
	}
	return false;
}

/* For qsort(), which passes nothing on; there is one thread. */
static const struct stats_view *sorted;
static const struct stats_column *key;
static int direction;

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	uint64_t u = 0, v = 0;
	int order;

	if (key->type == STATS_TEXT) {
		order = strcmp(stats_value_text(sorted, x, key), stats_value_text(sorted, y, key));
	} else {
		/* Those without the number come after those with 0. */
		u = stats_value_u64(sorted, x, key, &u) ? u + 1 : 0;
		v = stats_value_u64(sorted, y, key, &v) ? v + 1 : 0;
		order = u < v ? 1 : u > v ? -1 : 0;
	}
	return order != 0 ? order * direction : x < y ? -1 : x > y;
}

void
top_arrange(struct top *top)
{
	const struct top_table *table = &top_tables[top->view];
	const char *name = table->column[top->sorted_by[top->view]].name;

	top->nrows = 0;
	sorted = top->error == 0 ? stats_view_find(&top->snapshot, table->stats) : NULL;
	if (sorted == NULL)
		return;
	for (uint32_t row = 0; row < sorted->nrows && top->nrows < TOP_ROWS; row++)
		if (is_wanted(top, sorted, row))
			top->row[top->nrows++] = row;
	key = name != NULL ? stats_column_find(sorted, name) : NULL;
	direction = top->reversed[top->view] ? -1 : 1;
	if (key != NULL)
		qsort(top->row, top->nrows, sizeof(top->row[0]), compare);
}

const struct top_spark *
top_spark_of(const struct top *top, const char *pool)
{
	for (unsigned i = 0; i < top->nsparks; i++)
		if (strcmp(top->spark[i].pool, pool) == 0)
			return &top->spark[i];
	return NULL;
}

static void
add_sample(struct top_spark *spark, uint64_t value)
{
	if (spark->n == TOP_SAMPLES)
		memmove(spark->value, spark->value + 1, sizeof(spark->value) - sizeof(spark->value[0]));
	else
		spark->n++;
	spark->value[spark->n - 1] = value;
}

void
top_remember(struct top *top)
{
	const struct stats_view *view = stats_view_find(&top->snapshot, stats_table_name(STATS_POOLS));
	const struct stats_column *name, *rate;

	if (view == NULL || (name = stats_column_find(view, "name")) == NULL ||
	    (rate = stats_column_find(view, "leases_rate")) == NULL)
		return;
	for (uint32_t row = 0; row < view->nrows; row++) {
		const char *pool = stats_value_text(view, row, name);
		struct top_spark *spark = (struct top_spark *)top_spark_of(top, pool);
		uint64_t value = 0;

		if (spark == NULL && top->nsparks < LAYOUT_MAX_POOLS) {
			spark = &top->spark[top->nsparks++];
			snprintf(spark->pool, sizeof(spark->pool), "%s", pool);
		}
		stats_value_u64(view, row, rate, &value);
		if (spark != NULL)
			add_sample(spark, value);
	}
}

void
top_sparkline(const struct top_spark *spark, int width, bool utf8, char *buf, size_t size)
{
	static const char *const blocks[] = {" ", "\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588"};
	static const char *const plain[] = {" ", ".", ".", ":", ":", "+", "+", "#", "#"};
	unsigned n = spark != NULL ? spark->n : 0, shown = n < (unsigned)width ? n : (unsigned)width;
	uint64_t most = 0;
	size_t used = 0;

	buf[0] = '\0';
	for (unsigned i = n - shown; i < n; i++)
		most = spark->value[i] > most ? spark->value[i] : most;
	for (unsigned i = 0; i < (unsigned)width - shown && used + 4 < size; i++)
		used += (size_t)snprintf(buf + used, size - used, " ");
	for (unsigned i = n - shown; i < n && used + 4 < size; i++) {
		uint64_t value = spark->value[i];
		/* Whatever is not 0 shows. */
		unsigned level = value == 0 ? 0 : 1 + (unsigned)((double)value / (double)most * 7.0);

		used += (size_t)snprintf(buf + used, size - used, "%s", (utf8 ? blocks : plain)[level > 8 ? 8 : level]);
	}
}
