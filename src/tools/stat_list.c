/* SPDX-License-Identifier: PostgreSQL */
/* Finding instances; see stat_list.h. */
#include "stat_list.h"

#include <dirent.h>
#include <errno.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "health.h"
#include "stat_output_priv.h"

#define SHM "/dev/shm"   /* where glibc's shm_open() has its objects */
#define PREFIX "pglease." /* paths_stats_name() */

/* What a line says of an instance. */
struct entry {
	const char *name, *state;
	bool known; /* the rest is: it could be read */
	const char *program, *health;
	uint64_t pid, pools, clients, started_at, uptime; /* uptime: STATS_NO_U64 when the broker is gone */
};

static int
is_instance(const struct dirent *entry)
{
	return strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) == 0 &&
	       paths_check_name(entry->d_name + sizeof(PREFIX) - 1) == 0;
}

static int
find(struct dirent ***ret)
{
	int n = scandir(SHM, ret, is_instance, alphasort);

	return n < 0 ? -errno : n;
}

static void
free_found(struct dirent **found, int n)
{
	for (int i = 0; i < n; i++)
		free(found[i]);
	free(found);
}

static void
look_at(const char *name, struct entry *ret, struct stats_snapshot *snapshot)
{
	struct stats_reader *reader;
	const struct stats_view *view;
	int r = stats_reader_open(name, &reader);

	*ret = (struct entry){.name = name};
	if (r == 0) {
		r = stats_reader_snapshot(reader, snapshot);
		stats_reader_close(reader);
	}
	if (r != 0) {
		ret->state = r == -EACCES   ? "not readable"
			     : r == -EPROTO ? "of another version"
			     : r == -ENOENT ? "gone" /* a moment ago */
					    : "not sound";
		return;
	}
	ret->known = true;
	ret->state = snapshot->gone                          ? "gone"
		     : snapshot->age_ns > HEALTH_TICK_LIMIT  ? "hangs"
		     : snapshot->header.off                  ? "not monitored"
							     : export_state_name(snapshot->header.state);
	ret->program = snapshot->header.program;
	ret->pid = snapshot->header.broker_pid;
	ret->started_at = snapshot->header.started_at;
	ret->uptime = STATS_NO_U64;
	if (!snapshot->gone && snapshot->header.published_at >= ret->started_at)
		ret->uptime = snapshot->header.published_at - ret->started_at + snapshot->age_ns;
	ret->health = "";
	view = stats_view_find(snapshot, stats_table_name(STATS_INSTANCE));
	if (view != NULL && view->nrows > 0) {
		const struct stats_column *health = stats_column_find(view, "health");

		if (health != NULL && health->type == STATS_TEXT && !snapshot->gone)
			ret->health = stats_value_text(view, 0, health);
	}
	view = stats_view_find(snapshot, stats_table_name(STATS_POOLS));
	ret->pools = view != NULL ? view->nrows : 0;
	view = stats_view_find(snapshot, stats_table_name(STATS_CLIENTS));
	ret->clients = view != NULL && !snapshot->gone ? view->nrows : 0;
}

static int
add_line(struct libscols_table *table, const struct entry *e, bool exact)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	char cell[64];
	const struct {
		uint64_t value;
		uint8_t unit;
	} number[] = {{e->pid, STATS_NONE}, {e->pools, STATS_COUNT}, {e->clients, STATS_COUNT}, {e->uptime, STATS_DURATION_NS}};

	if (line == NULL || scols_line_set_data(line, 0, e->name) || scols_line_set_data(line, 1, e->state) ||
	    scols_line_set_data(line, 2, e->known && e->health[0] != '\0' ? e->health : "-"))
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(number) / sizeof(number[0]); i++) {
		if (e->known && number[i].value != STATS_NO_U64)
			stat_output_value(number[i].value, number[i].unit, exact, cell, sizeof(cell));
		else
			strcpy(cell, "-");
		if (scols_line_set_data(line, 3 + i, cell))
			return -ENOMEM;
	}
	return scols_line_set_data(line, 7, e->known ? e->program : "-") ? -ENOMEM : 0;
}

static void
add_object(struct json_writer *json, const struct entry *e)
{
	json_write_open(json, NULL, '{');
	json_write_text(json, "name", e->name);
	json_write_text(json, "state", e->state);
	json_write_bool(json, "readable", e->known);
	if (e->known) {
		json_write_text(json, "health", e->health);
		json_write_u64(json, "broker_pid", e->pid);
		json_write_u64(json, "pools", e->pools);
		json_write_u64(json, "clients", e->clients);
		json_write_decimal(json, "started_at", e->started_at, 9);
		if (e->uptime != STATS_NO_U64)
			json_write_decimal(json, "uptime", e->uptime, 9);
		else
			json_write_null(json, "uptime");
		json_write_text(json, "program", e->program);
	}
	json_write_close(json, '}');
}

static int
show_json(struct dirent **found, int n, FILE *out)
{
	struct text text = {0};
	struct json_writer json = {.to = &text, .indent = true};

	json_write_open(&json, NULL, '{');
	json_write_open(&json, "instances", '[');
	for (int i = 0; i < n; i++) {
		struct stats_snapshot snapshot = {.ntables = 0};
		struct entry entry;

		look_at(found[i]->d_name + sizeof(PREFIX) - 1, &entry, &snapshot);
		add_object(&json, &entry);
		stats_snapshot_fini(&snapshot);
	}
	json_write_close(&json, ']');
	json_write_close(&json, '}');
	text_add_char(&text, '\n');
	return stat_json_print(&text, out);
}

static int
show_table(struct dirent **found, int n, const struct stat_options *options, FILE *out)
{
	static const struct {
		const char *name;
		bool number;
	} heading[] = {{"instance", false}, {"state", false}, {"health", false}, {"pid", true}, {"pools", true},
	    {"clients", true}, {"uptime", true}, {"program", false}};
	struct libscols_table *table = stat_output_table(options, out);
	int r = table == NULL ? -ENOMEM : 0;

	for (size_t i = 0; r == 0 && i < sizeof(heading) / sizeof(heading[0]); i++)
		r = stat_output_heading(table, heading[i].name, heading[i].number);
	for (int i = 0; r == 0 && i < n; i++) {
		struct stats_snapshot snapshot = {.ntables = 0};
		struct entry entry;

		look_at(found[i]->d_name + sizeof(PREFIX) - 1, &entry, &snapshot);
		r = add_line(table, &entry, options->exact || options->format == STAT_RAW);
		stats_snapshot_fini(&snapshot);
	}
	if (r == 0)
		r = scols_print_table(table);
	scols_unref_table(table);
	return r;
}

int
stat_list(const struct stat_options *options, FILE *out)
{
	struct dirent **found;
	int n = find(&found), r;

	if (n < 0)
		return n;
	r = options->format == STAT_JSON ? show_json(found, n, out) : show_table(found, n, options, out);
	free_found(found, n);
	return r;
}

void
stat_list_names(char *buf, size_t size)
{
	struct dirent **found;
	size_t used = 0;
	int n = find(&found);

	buf[0] = '\0';
	if (n < 0)
		return;
	for (int i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(
		    buf + used, size - used, "%s%s", i > 0 ? ", " : "", found[i]->d_name + sizeof(PREFIX) - 1);
	free_found(found, n);
}
