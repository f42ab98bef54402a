/* SPDX-License-Identifier: PostgreSQL */
/*
 * A snapshot as Prometheus text or OpenMetrics; see export.h. The formats:
 * prometheus.io/docs/instrumenting/exposition_formats, and "OpenMetrics, a cloud-native, highly scalable metrics protocol",
 * version 1.0.0. They differ here in the names of counters' families, in one type's name and in the end.
 */
#include <stdio.h>
#include <string.h>

#include "export.h"
#include "families.h"
#include "health.h"

struct writer {
	const struct stats_snapshot *snapshot;
	enum export_format format;
	struct text *to;
	const struct family *head; /* the family that lines are written for, ... */
	bool headed;               /* ... and whether its HELP and TYPE are written: they come with its first sample */
};

const char *
export_content_type(enum export_format format)
{
	return format == EXPORT_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
					    : "text/plain; version=0.0.4; charset=utf-8";
}

static const char *
type_name(const struct writer *w)
{
	switch (w->head->type) {
	case FAMILY_COUNTER:
		return "counter";
	case FAMILY_HISTOGRAM:
		return "histogram";
	case FAMILY_UNKNOWN:
		return w->format == EXPORT_OPENMETRICS ? "unknown" : "untyped";
	case FAMILY_SAME:
	case FAMILY_GAUGE:
	case FAMILY_STATES:
	case FAMILY_INFO:
		break;
	}
	return "gauge";
}

static void
add_family_name(struct writer *w)
{
	text_add(w->to, w->head->name);
	if (w->head->type == FAMILY_COUNTER && w->format == EXPORT_PROMETHEUS)
		text_add(w->to, "_total");
}

static void
write_head(struct writer *w)
{
	if (w->headed)
		return;
	w->headed = true;
	text_add(w->to, "# HELP ");
	add_family_name(w);
	text_add_char(w->to, ' ');
	for (const char *s = w->head->help; *s != '\0'; s++) {
		if (*s == '"' && w->format == EXPORT_OPENMETRICS)
			text_add_char(w->to, '\\');
		text_add_char(w->to, *s);
	}
	text_add(w->to, "\n# TYPE ");
	add_family_name(w);
	text_add_char(w->to, ' ');
	text_add(w->to, type_name(w));
	text_add_char(w->to, '\n');
}

static void
add_label(struct writer *w, const char *name, const char *value)
{
	text_add_char(w->to, ',');
	text_add(w->to, name);
	text_add(w->to, "=\"");
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"')
			text_add_char(w->to, '\\');
		if (*value == '\n')
			text_add(w->to, "\\n");
		else
			text_add_char(w->to, *value);
	}
	text_add_char(w->to, '"');
}

static const char *
text_of(const struct stats_view *view, uint32_t row, const char *name)
{
	const struct stats_column *column = stats_column_find(view, name);

	return column != NULL && column->type == STATS_TEXT ? stats_value_text(view, row, column) : "";
}

/* name_suffix{labels of the row; the caller adds its own, and then end_sample(). */
static void
begin_sample(struct writer *w, const struct family *f, const struct stats_view *view, uint32_t row, const char *suffix)
{
	const char *pool = f->table == STATS_POOLS ? "name" : "pool";

	write_head(w);
	text_add(w->to, w->head->name);
	text_add(w->to, suffix);
	text_add(w->to, "{pglease_instance=\"");
	text_add(w->to, w->snapshot->header.instance); /* letters, digits, '_' and '-' */
	text_add_char(w->to, '"');
	switch (f->labels) {
	case LABELS_NONE:
		break;
	case LABELS_POOL:
		add_label(w, "pool", text_of(view, row, pool));
		break;
	case LABELS_OTEL:
		add_label(w, "db_client_connection_pool_name", text_of(view, row, pool));
		break;
	case LABELS_ALERT:
		add_label(w, "pool", text_of(view, row, pool));
		add_label(w, "alert", text_of(view, row, "alert"));
		break;
	case LABELS_OPERATION:
		add_label(w, "pool", text_of(view, row, pool));
		add_label(w, "db_system_name", "postgresql");
		add_label(w, "db_namespace", text_of(view, row, "database"));
		break;
	}
}

static void
end_sample(struct writer *w, uint64_t value, unsigned digits)
{
	char buf[TEXT_NUMBER];

	text_decimal(value, digits, buf);
	text_add(w->to, "} ");
	text_add(w->to, buf);
	text_add_char(w->to, '\n');
}

#define MAX_PARTS 4

/* The columns of a list "a+b" or "a,b"; 0 when one of them is not there. */
static unsigned
find_columns(const struct stats_view *view, const char *list, const struct stats_column *ret[MAX_PARTS])
{
	unsigned n = 0;

	for (;;) {
		size_t length = strcspn(list, "+,");
		char name[sizeof(view->column->name)];

		assert(length < sizeof(name) && n < MAX_PARTS);
		memcpy(name, list, length);
		name[length] = '\0';
		ret[n] = stats_column_find(view, name);
		if (ret[n++] == NULL)
			return 0;
		if (list[length] == '\0')
			return n;
		list += length + 1;
	}
}

static void
write_numbers(struct writer *w, const struct family *f, const struct stats_view *view)
{
	const struct stats_column *column[MAX_PARTS];
	unsigned n = find_columns(view, f->columns, column);

	for (unsigned i = 0; i < n; i++)
		if (column[i]->type == STATS_TEXT)
			return;
	for (uint32_t row = 0; n != 0 && row < view->nrows; row++) {
		uint64_t sum = 0, value;
		bool known = true;

		for (unsigned i = 0; i < n && known; i++) {
			known = stats_value_u64(view, row, column[i], &value);
			if (known)
				sum += value;
		}
		if (!known)
			continue;
		begin_sample(w, f, view, row, w->head->type == FAMILY_COUNTER ? "_total" : "");
		if (f->extra != NULL) {
			text_add_char(w->to, ',');
			text_add(w->to, f->extra);
		}
		end_sample(w, sum, export_digits(column[0]->unit));
	}
}

/* Whether a word is in a list with commas. */
static bool
holds(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (;;) {
		size_t length = strcspn(list, ",");

		if (length == n && memcmp(list, word, n) == 0)
			return true;
		if (list[length] == '\0')
			return false;
		list += length + 1;
	}
}

static void
write_states(struct writer *w, const struct family *f, const struct stats_view *view)
{
	for (uint32_t row = 0; row < view->nrows; row++) {
		const char *text = text_of(view, row, f->columns);

		for (unsigned i = 0; f->words[i] != NULL; i++) {
			begin_sample(w, f, view, row, "");
			add_label(w, f->extra, f->words[i]);
			end_sample(w, holds(text, f->words[i]), 0);
		}
	}
}

static void
write_info(struct writer *w, const struct family *f, const struct stats_view *view)
{
	const struct stats_column *column[MAX_PARTS];
	unsigned n = find_columns(view, f->columns, column);

	for (uint32_t row = 0; n != 0 && row < view->nrows; row++) {
		begin_sample(w, f, view, row, "");
		for (unsigned i = 0; i < n; i++)
			add_label(w, column[i]->name, text_of(view, row, column[i]->name));
		end_sample(w, 1, 0);
	}
}

/*
 * A bound as OpenMetrics writes it ("Canonical Numbers"), from its decimal form: 1.0, 0.0001, 2.5e-07. The same in both
 * formats, or a series would change its name with the format.
 */
static void
canonical_bound(const char *decimal, char buf[static TEXT_NUMBER])
{
	const char *point = strchr(decimal, '.');
	size_t zeros = 0, length;

	if (point == NULL) {
		snprintf(buf, TEXT_NUMBER, "%.20s.0", decimal);
		return;
	}
	if (point == decimal + 1 && decimal[0] == '0')
		zeros = strspn(point + 1, "0");
	if (zeros < 4) {
		snprintf(buf, TEXT_NUMBER, "%.24s", decimal);
		return;
	}
	point += 1 + zeros; /* the first digit that counts */
	length = strlen(point);
	snprintf(buf, TEXT_NUMBER, "%.1s%s%.16se-%02zu", point, length > 1 ? "." : "", length > 1 ? point + 1 : "",
	    zeros + 1);
}

static void
write_histogram(struct writer *w, const struct family *f, const struct stats_view *view, uint32_t row)
{
	const struct stats_column *count = stats_column_find(view, "count"), *sum = stats_column_find(view, "sum");
	char bound[TEXT_NUMBER];
	uint64_t value;

	if (count == NULL || sum == NULL)
		return;
	for (uint32_t i = 0; i < view->ncolumns; i++) {
		const struct stats_column *column = &view->column[i];
		size_t prefix = sizeof(STATS_BOUND_PREFIX) - 1;

		if (column->type == STATS_TEXT || strncmp(column->name, STATS_BOUND_PREFIX, prefix) != 0 ||
		    !stats_value_u64(view, row, column, &value))
			continue;
		canonical_bound(column->name + prefix, bound);
		begin_sample(w, f, view, row, "_bucket");
		add_label(w, "le", bound);
		end_sample(w, value, 0);
	}
	if (!stats_value_u64(view, row, count, &value))
		return;
	begin_sample(w, f, view, row, "_bucket");
	add_label(w, "le", "+Inf");
	end_sample(w, value, 0);
	begin_sample(w, f, view, row, "_count");
	end_sample(w, value, 0);
	if (stats_value_u64(view, row, sum, &value)) {
		begin_sample(w, f, view, row, "_sum");
		end_sample(w, value, export_digits(sum->unit));
	}
}

static void
write_family(struct writer *w, const struct family *f)
{
	const struct stats_view *view = stats_view_find(w->snapshot, stats_table_name(f->table));

	if (view == NULL)
		return;
	switch (w->head->type) {
	case FAMILY_HISTOGRAM:
		for (uint32_t row = 0; row < view->nrows; row++)
			if (strcmp(text_of(view, row, "time"), f->columns) == 0)
				write_histogram(w, f, view, row);
		break;
	case FAMILY_STATES:
		write_states(w, f, view);
		break;
	case FAMILY_INFO:
		write_info(w, f, view);
		break;
	case FAMILY_SAME:
	case FAMILY_COUNTER:
	case FAMILY_GAUGE:
	case FAMILY_UNKNOWN:
		write_numbers(w, f, view);
		break;
	}
}

/* What the header says. */
static void
write_header(struct writer *w)
{
	const struct stats_header *header = &w->snapshot->header;
	bool up = !w->snapshot->gone && header->state != SEGMENT_CLOSED && w->snapshot->age_ns <= HEALTH_TICK_LIMIT;
#define HEADER_FAMILY(name, help) {FAMILY_GAUGE, name, help, STATS_INSTANCE, LABELS_NONE, NULL, NULL, NULL}
	const struct {
		struct family family;
		uint64_t value;
		unsigned digits;
	} sample[] = {
	    {HEADER_FAMILY("pglease_up", "Whether the broker runs and publishes."), up, 0},
	    {HEADER_FAMILY("pglease_publication_age_seconds", "Time since the broker published these numbers."),
		w->snapshot->age_ns, 9},
	    {HEADER_FAMILY("pglease_start_time_seconds", "When the broker started, seconds since 1970."),
		header->started_at, 9},
	    {HEADER_FAMILY("pglease_build_info", "What publishes this."), 1, 0},
	};
#undef HEADER_FAMILY
	const size_t n = sizeof(sample) / sizeof(sample[0]);

	for (size_t i = 0; i < n; i++) {
		/* Where there is no broker, there is nothing more to say; the library does not know when it started. */
		if ((i > 0 && header->program[0] == '\0') || (i == 2 && sample[i].value == 0))
			continue;
		w->head = &sample[i].family;
		w->headed = false;
		begin_sample(w, w->head, NULL, 0, "");
		if (i == n - 1)
			add_label(w, "program", header->program);
		end_sample(w, sample[i].value, sample[i].digits);
	}
	w->head = NULL;
}

void
export_metrics(const struct stats_snapshot *snapshot, enum export_format format, struct text *to)
{
	struct writer w = {.snapshot = snapshot, .format = format, .to = to};

	write_header(&w);
	for (size_t i = 0; i < families_count; i++) {
		if (families[i].type != FAMILY_SAME) {
			w.head = &families[i];
			w.headed = false;
		}
		write_family(&w, &families[i]);
	}
	if (format == EXPORT_OPENMETRICS)
		text_add(to, "# EOF\n");
}
