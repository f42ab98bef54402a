/* SPDX-License-Identifier: PostgreSQL */
/* What a benchmark says. Owns the tables of this process and their samples. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <jansson.h>
#include <libpq-fe.h>

#include "measure.h"

#define TABLES 16
#define ROWS 96
#define HEADLINES 32

struct cell {
	double *values;
	unsigned n;
};

struct row {
	char group[48], label[80];
	const char *note;
	struct cell cell[REPORT_COLUMNS];
};

struct report_table {
	const struct report_table_about *about;
	unsigned ncolumns, nrows;
	struct row row[ROWS];
};

struct headline {
	struct report_table *table;
	unsigned row, column;
	char what[96];
	enum report_aim aim;
	double number;
	bool brief;
};

static const struct options *options;
static struct report_table *tables[TABLES];
static struct headline headlines[HEADLINES];
static unsigned ntables, nheadlines;

void
report_begin(const struct options *given)
{
	options = given;
}

struct report_table *
report_table(const struct report_table_about *about)
{
	struct report_table *table = calloc(1, sizeof(*table));

	if (table == NULL || ntables == TABLES)
		measure_die(about->id, "too many tables");
	table->about = about;
	while (table->ncolumns < REPORT_COLUMNS && about->columns[table->ncolumns].name != NULL)
		table->ncolumns++;
	tables[ntables++] = table;
	return table;
}

unsigned
report_row(struct report_table *table, const char *group, const char *label)
{
	struct row *row = &table->row[table->nrows];

	if (table->nrows == ROWS)
		measure_die(table->about->id, "too many rows");
	snprintf(row->group, sizeof(row->group), "%s", group);
	snprintf(row->label, sizeof(row->label), "%s", label);
	return table->nrows++;
}

void
report_row_note(struct report_table *table, unsigned row, const char *note)
{
	table->row[row].note = note;
}

void
report_sample(struct report_table *table, unsigned row, unsigned column, double value)
{
	struct cell *cell = &table->row[row].cell[column];
	double *values = realloc(cell->values, (cell->n + 1) * sizeof(*values));

	if (values == NULL)
		measure_die(table->about->id, "out of memory");
	values[cell->n++] = value;
	cell->values = values;
}

void
report_ratio(struct report_table *table, unsigned row, unsigned column, unsigned of, unsigned base)
{
	const struct cell *a = &table->row[row].cell[of], *b = &table->row[base].cell[of];

	if (a->n != 0 && b->n == a->n)
		report_sample(table, row, column, a->values[a->n - 1] / b->values[b->n - 1]);
}

double
report_last(const struct report_table *table, unsigned row, unsigned column)
{
	const struct cell *cell = &table->row[row].cell[column];

	if (cell->n == 0)
		measure_die(table->about->id, "an empty cell has no last sample");
	return cell->values[cell->n - 1];
}

struct summary {
	double median, min, max;
};

/* Leaves the samples in their order: the JSON has them as they were measured. */
static struct summary
summarize(const struct cell *cell)
{
	double *sorted = malloc(cell->n * sizeof(*sorted));
	struct summary s;

	if (sorted == NULL)
		measure_die("report", "out of memory");
	memcpy(sorted, cell->values, cell->n * sizeof(*sorted));
	s.median = measure_median(sorted, cell->n);
	s.min = sorted[0];
	s.max = sorted[cell->n - 1];
	free(sorted);
	return s;
}

double
report_median(const struct report_table *table, unsigned row, unsigned column)
{
	if (table->row[row].cell[column].n == 0)
		measure_die(table->about->id, "an empty cell has no median");
	return summarize(&table->row[row].cell[column]).median;
}

static void
add_headline(struct headline headline, const char *what)
{
	if (headline.table->row[headline.row].cell[headline.column].n == 0)
		return;
	if (nheadlines == HEADLINES)
		measure_die(headline.table->about->id, "too many headlines");
	snprintf(headline.what, sizeof(headline.what), "%s", what);
	headlines[nheadlines++] = headline;
}

void
report_headline(struct report_table *table, unsigned row, unsigned column, const char *what, enum report_aim aim,
    double number)
{
	add_headline((struct headline){.table = table, .row = row, .column = column, .aim = aim, .number = number}, what);
}

void
report_brief(struct report_table *table, unsigned row, unsigned column, const char *what, enum report_aim aim, double number)
{
	add_headline(
	    (struct headline){.table = table, .row = row, .column = column, .aim = aim, .number = number, .brief = true}, what);
}

static void
format_cell(const struct report_column *column, const struct cell *cell, char *buf, size_t size)
{
	struct summary s;

	buf[0] = '\0';
	if (cell->n == 0)
		return;
	s = summarize(cell);
	if (column->spread)
		snprintf(buf, size, "%.*f [%.*f..%.*f]", column->digits, s.median, column->digits, s.min, column->digits,
		    s.max);
	else
		snprintf(buf, size, "%.*f", column->digits, s.median);
}

static void
format_head(const struct report_column *column, char *buf, size_t size)
{
	snprintf(buf, size, column->unit[0] != '\0' ? "%s, %s" : "%s%s", column->name, column->unit);
}

static unsigned
wider(unsigned width, const char *text)
{
	return strlen(text) > width ? (unsigned)strlen(text) : width;
}

static void
print_table(const struct report_table *table)
{
	unsigned label = 0, width[REPORT_COLUMNS] = {0};
	const char *group = "";
	char text[96];

	for (unsigned r = 0; r < table->nrows; r++)
		label = wider(label, table->row[r].label);
	for (unsigned c = 0; c < table->ncolumns; c++) {
		format_head(&table->about->columns[c], text, sizeof(text));
		width[c] = wider(0, text);
		for (unsigned r = 0; r < table->nrows; r++) {
			format_cell(&table->about->columns[c], &table->row[r].cell[c], text, sizeof(text));
			width[c] = wider(width[c], text);
		}
	}
	printf("\n%s (%u rounds)\n", table->about->title, options->rounds);
	printf("  %-*s", (int)label, "");
	for (unsigned c = 0; c < table->ncolumns; c++) {
		format_head(&table->about->columns[c], text, sizeof(text));
		printf("  %*s", (int)width[c], text);
	}
	putchar('\n');
	for (unsigned r = 0; r < table->nrows; r++) {
		const struct row *row = &table->row[r];

		if (strcmp(group, row->group) != 0)
			printf(" %s\n", row->group);
		group = row->group;
		printf("  %-*s", (int)label, row->label);
		for (unsigned c = 0; c < table->ncolumns && row->cell[0].n != 0; c++) {
			format_cell(&table->about->columns[c], &row->cell[c], text, sizeof(text));
			printf("  %*s", (int)width[c], text);
		}
		if (row->note != NULL)
			printf("  (%s)", row->note);
		putchar('\n');
	}
	if (table->about->note != NULL)
		printf("  %s\n", table->about->note);
}

static json_t *
cell_json(const struct cell *cell)
{
	struct summary s;
	json_t *samples;

	if (cell->n == 0)
		return json_null();
	s = summarize(cell);
	samples = json_array();
	for (unsigned i = 0; i < cell->n; i++)
		json_array_append_new(samples, json_real(cell->values[i]));
	return json_pack("{s:f, s:f, s:f, s:o}", "median", s.median, "min", s.min, "max", s.max, "samples", samples);
}

static json_t *
table_json(const struct report_table *table)
{
	const struct report_table_about *about = table->about;
	json_t *columns = json_array(), *rows = json_array();

	for (unsigned c = 0; c < table->ncolumns; c++)
		json_array_append_new(columns,
		    json_pack("{s:s, s:s, s:i, s:b}", "name", about->columns[c].name, "unit", about->columns[c].unit, "digits",
		        about->columns[c].digits, "spread", about->columns[c].spread));
	for (unsigned r = 0; r < table->nrows; r++) {
		const struct row *row = &table->row[r];
		json_t *cells = json_array();

		for (unsigned c = 0; c < table->ncolumns; c++)
			json_array_append_new(cells, cell_json(&row->cell[c]));
		json_array_append_new(rows, json_pack("{s:s, s:s, s:s?, s:o}", "group", row->group, "label", row->label, "note",
		                                row->note, "cells", cells));
	}
	return json_pack("{s:s, s:s, s:s?, s:i, s:{s:i, s:b}, s:o, s:o}", "id", about->id, "title", about->title, "note",
	    about->note, "rounds", (int)options->rounds, "plot", "column", (int)about->plot.column, "log", about->plot.log,
	    "columns", columns, "rows", rows);
}

static json_t *
headline_json(const struct headline *h)
{
	struct summary s = summarize(&h->table->row[h->row].cell[h->column]);
	const struct report_column *column = &h->table->about->columns[h->column];

	return json_pack("{s:s, s:f, s:f, s:f, s:s, s:i, s:s, s:f, s:b}", "what", h->what, "median", s.median, "min", s.min, "max",
	    s.max, "unit", column->unit, "digits", column->digits, "aim", h->aim == REPORT_AT_LEAST ? "at least" : "at most",
	    "number", h->number, "brief", h->brief);
}

static void
write_json(void)
{
	json_t *all = json_array(), *lines = json_array(), *document;

	for (unsigned i = 0; i < ntables; i++)
		json_array_append_new(all, table_json(tables[i]));
	for (unsigned i = 0; i < nheadlines; i++)
		json_array_append_new(lines, headline_json(&headlines[i]));
	document = json_pack("{s:s, s:i, s:o, s:o}", "program", program_invocation_short_name, "libpq", PQlibVersion(), "tables",
	    all, "headlines", lines);
	/* Seven digits: more than any of these measurements has. */
	if (document == NULL || json_dump_file(document, options->json, JSON_INDENT(1) | JSON_REAL_PRECISION(7)) != 0)
		measure_die(options->json, "cannot be written");
	json_decref(document);
}

void
report_finish(void)
{
	for (unsigned i = 0; i < ntables; i++)
		print_table(tables[i]);
	if (options->json != NULL)
		write_json();
	for (unsigned i = 0; i < ntables; i++) {
		for (unsigned r = 0; r < tables[i]->nrows; r++)
			for (unsigned c = 0; c < REPORT_COLUMNS; c++)
				free(tables[i]->row[r].cell[c].values);
		free(tables[i]);
	}
	ntables = nheadlines = 0;
}
