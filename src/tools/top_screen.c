/* SPDX-License-Identifier: PostgreSQL */
/* The screen of pgleasestat --top. Draws what there is; knows nothing of keys but their names. */
#include <curses.h>
#include <stdio.h>
#include <string.h>

#include "health.h"
#include "stat_output_priv.h"
#include "top_priv.h"

#define HEAD_LINES 5 /* above the rows: three of summary, an empty one, the columns' titles */

enum { PAIR_OK = 1, PAIR_DEGRADED, PAIR_DOWN };

static int
attribute_of(const char *health)
{
	static bool made;

	if (!has_colors())
		return strcmp(health, "ok") == 0 ? A_NORMAL : A_BOLD;
	if (!made) {
		init_pair(PAIR_OK, COLOR_GREEN, -1);
		init_pair(PAIR_DEGRADED, COLOR_YELLOW, -1);
		init_pair(PAIR_DOWN, COLOR_RED, -1);
		made = true;
	}
	if (strcmp(health, "ok") == 0)
		return COLOR_PAIR(PAIR_OK);
	return strcmp(health, "degraded") == 0 ? COLOR_PAIR(PAIR_DEGRADED) | A_BOLD : COLOR_PAIR(PAIR_DOWN) | A_BOLD;
}

/* To the end of the line, and no further. Returns where it ended: beyond the last column curses goes on to the next line. */
static int __attribute__((format(printf, 3, 4))) put(int y, int x, const char *format, ...)
{
	char text[1024];
	va_list args;

	if (y >= LINES || x >= COLS)
		return x;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	mvaddnstr(y, x, text, COLS - x);
	return strlen(text) < (size_t)(COLS - x) ? getcurx(stdscr) : COLS;
}

static const char *
text_of(const struct top *top, enum stats_table_id id, const char *name)
{
	const struct stats_view *view = stats_view_find(&top->snapshot, stats_table_name(id));
	const struct stats_column *column = view != NULL && view->nrows > 0 ? stats_column_find(view, name) : NULL;

	return column != NULL && column->type == STATS_TEXT ? stats_value_text(view, 0, column) : "";
}

static void
sum_of(const struct top *top, enum stats_table_id id, const char *name, char buf[static 32])
{
	const struct stats_view *view = stats_view_find(&top->snapshot, stats_table_name(id));
	const struct stats_column *column = view != NULL ? stats_column_find(view, name) : NULL;
	uint64_t sum = 0, value;

	if (column == NULL || column->type == STATS_TEXT) {
		snprintf(buf, 32, "-");
		return;
	}
	for (uint32_t row = 0; row < view->nrows; row++)
		if (stats_value_u64(view, row, column, &value))
			sum += value;
	stat_output_value(sum, column->unit, false, buf, 32);
}

static void
draw_state(const struct top *top)
{
	const struct stats_header *h = &top->snapshot.header;
	const char *health = text_of(top, STATS_INSTANCE, "health"), *reasons = text_of(top, STATS_INSTANCE, "reasons");
	char uptime[32], age[32];
	int x;

	if (top->error != 0) {
		attron(attribute_of("down"));
		put(0, 0, "pglease %s: cannot be read: %s", top->options->instance, strerror(-top->error));
		attroff(attribute_of("down"));
		return;
	}
	sum_of(top, STATS_INSTANCE, "uptime", uptime);
	stat_output_duration(top->snapshot.age_ns, age, sizeof(age));
	if (top->snapshot.gone || top->snapshot.age_ns > HEALTH_TICK_LIMIT) {
		attron(attribute_of("down"));
		put(0, 0, "pglease %s: the broker (pid %u) %s; these are its numbers of %s ago", h->instance, h->broker_pid,
		    top->snapshot.gone ? "is gone" : "does not answer", age);
		attroff(attribute_of("down"));
		return;
	}
	x = put(0, 0, "pglease %s: %s, pid %u, up %s: ", h->instance, h->program, h->broker_pid, uptime);
	attron(attribute_of(health));
	put(0, x, "%s%s%s", h->off ? "monitoring is off" : health, reasons[0] != '\0' ? ": " : "", reasons);
	attroff(attribute_of(health));
}

static void
draw_summary(const struct top *top)
{
	char leased[32], open[32], max[32], waiting[32], leases[32], queries[32], clients[32], interval[32], note[64];
	int x;

	if (top->error == 0) {
		sum_of(top, STATS_POOLS, "leased", leased);
		sum_of(top, STATS_POOLS, "total", open);
		sum_of(top, STATS_POOLS, "max", max);
		sum_of(top, STATS_POOLS, "waiting", waiting);
		sum_of(top, STATS_POOLS, "leases_rate", leases);
		sum_of(top, STATS_POOLS, "queries_rate", queries);
		sum_of(top, STATS_INSTANCE, "clients", clients);
		put(1, 0, "%s of %s leased, at most %s; %s waiting; %s clients; %s leases/s, %s queries/s", leased, open, max, waiting,
		    clients, leases, queries);
	}
	x = put(2, 0, "%s by %s%s: %u", top_tables[top->view].title, top_tables[top->view].column[top->sorted_by[top->view]].title,
	    top->reversed[top->view] ? ", reversed" : "", top->nrows);
	if (top->typing || top->filter[0] != '\0')
		x = put(2, x, " with \"%s%s", top->filter, top->typing ? "_" : "\"");
	stat_output_duration(top->interval_ns, interval, sizeof(interval));
	snprintf(note, sizeof(note), top->paused ? "paused; h: help" : "every %s; h: help", interval);
	if (COLS - (int)strlen(note) > x)
		put(2, COLS - (int)strlen(note), "%s", note);
}

static void
draw_titles(const struct top *top)
{
	const struct top_table *table = &top_tables[top->view];
	int x = 0;

	attron(A_REVERSE);
	mvhline(HEAD_LINES - 1, 0, ' ', COLS);
	for (unsigned i = 0; i < table->count && x + table->column[i].width <= COLS; i++) {
		const struct top_column *c = &table->column[i];
		bool by = i == top->sorted_by[top->view];

		if (by)
			attron(A_UNDERLINE | A_BOLD);
		put(HEAD_LINES - 1, x, c->number ? "%*s" : "%-*s", c->width, c->title);
		if (by)
			attroff(A_UNDERLINE | A_BOLD);
		x += c->width + 1;
	}
	attroff(A_REVERSE);
}

static void
draw_row(const struct top *top, int y, uint32_t row, bool selected)
{
	const struct top_table *table = &top_tables[top->view];
	char cell[256], pool[LAYOUT_NAME] = "";
	int x = 0;

	if (top->view == TOP_POOLS)
		top_cell(top, row, &table->column[0], pool, sizeof(pool));
	if (selected)
		attron(A_REVERSE);
	mvhline(y, 0, ' ', COLS);
	for (unsigned i = 0; i < table->count && x + table->column[i].width <= COLS; i++) {
		const struct top_column *c = &table->column[i];
		/* The last one that fits has the rest of the line. */
		bool last = i + 1 == table->count || x + c->width + 1 + table->column[i + 1].width > COLS;
		int width = last && !c->number ? COLS - x : c->width, how = A_NORMAL;

		if (c->name == NULL)
			top_sparkline(top_spark_of(top, pool), c->width, top->utf8, cell, sizeof(cell));
		else
			top_cell(top, row, c, cell, sizeof(cell));
		if (c->name != NULL && strcmp(c->name, "health") == 0)
			how = attribute_of(cell);
		attron(how);
		if (c->name == NULL)
			mvaddstr(y, x, cell); /* several bytes to a column; it fits, as width was looked at */
		else
			put(y, x, c->number ? "%*.*s" : "%-*.*s", width, c->number ? (int)sizeof(cell) : width, cell);
		attroff(how);
		x += c->width + 1;
	}
	if (selected)
		attroff(A_REVERSE);
}

/* From the table of keys. */
static void
draw_help(void)
{
	int y = 2;

	put(0, 0, "pgleasestat --top: what the keys do");
	for (unsigned i = 0; i < top_nkeys; i++) {
		char names[64];
		size_t used = (size_t)snprintf(names, sizeof(names), "%s", top_keys[i].name);

		if (top_keys[i].help == NULL)
			continue;
		for (unsigned also = i + 1; also < top_nkeys && top_keys[also].help == NULL && used < sizeof(names); also++)
			used += (size_t)snprintf(names + used, sizeof(names) - used, ", %s", top_keys[also].name);
		put(y++, 2, "%-10s %s", names, top_keys[i].help);
	}
}

int
top_screen_rows(const struct top *top)
{
	(void)top;
	return LINES > HEAD_LINES + 1 ? LINES - HEAD_LINES : 1;
}

void
top_draw(struct top *top)
{
	unsigned fit = (unsigned)top_screen_rows(top);

	erase();
	if (top->help) {
		draw_help();
		refresh();
		return;
	}
	top_arrange(top);
	if (top->selected >= top->nrows)
		top->selected = top->nrows > 0 ? top->nrows - 1 : 0;
	if (top->selected < top->first)
		top->first = top->selected;
	if (top->selected >= top->first + fit)
		top->first = top->selected - fit + 1;
	draw_state(top);
	draw_summary(top);
	draw_titles(top);
	for (unsigned i = 0; i < fit && top->first + i < top->nrows; i++)
		draw_row(top, HEAD_LINES + (int)i, top->row[top->first + i], top->first + i == top->selected);
	refresh();
}
