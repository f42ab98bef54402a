/* SPDX-License-Identifier: PostgreSQL */
/* What is told of pools and settings: status, show. */
#include "commands_priv.h"

#include <string.h>
#include <unistd.h>

#include "queue.h"
#include "target.h"

static const char *
state_name(const struct pool *p)
{
	if (p->going)
		return "going";
	if (p->paused)
		return p->open == 0 ? "paused" : "pausing";
	if (p->draining)
		return p->open == 0 ? "drained" : "draining";
	return p->disabled ? "disabled" : p->failures != 0 ? "down" : "open";
}

/* The upstream's last error lies in shared memory: quoted for JSON, with nothing but printable ASCII. */
static void
quote(char *to, size_t size, const char *from, size_t from_size)
{
	size_t used = 0;

	to[used++] = '"';
	for (size_t i = 0; i < from_size && from[i] != '\0' && used + 4 < size; i++) {
		if (from[i] == '"' || from[i] == '\\')
			to[used++] = '\\';
		to[used++] = from[i] >= ' ' && from[i] < 0x7f ? from[i] : '?';
	}
	to[used++] = '"';
	to[used] = '\0';
}

static bool
status_of(struct commands *c, const struct request *r, const struct pool *p)
{
	unsigned idle = 0, leased = pool_count_leases(p), waiting = queue_count(&p->seg, NULL);
	unsigned long max = (unsigned long)p->settings->max_connections;
	const struct segment_header *h = p->seg.header;
	char error[2 * sizeof(h->upstream_error) + 3] = "null";

	for (uint32_t i = 0; i < p->seg.nslots; i++)
		idle += word_state(atomic_load(&p->seg.slot[i].word)) == SLOT_IDLE;
	if (p->failures != 0)
		quote(error, sizeof(error), h->upstream_error, sizeof(h->upstream_error));
	if (r->json)
		return commands_answer(c, r->asker, 0, LATE_MS * NS_PER_MS,
		    "{\"pool\": \"%s\", \"state\": \"%s\", \"max_connections\": %lu, \"connections\": %u, "
		    "\"idle\": %u, \"leased\": %u, \"waiting\": %u, \"upstream_error\": %s}",
		    p->settings->name, state_name(p), max, p->open, idle, leased, waiting, error);
	return commands_answer(c, r->asker, 0, LATE_MS * NS_PER_MS,
	    "pool %s: %s, %u of %lu connections open, %u idle, %u leased, %u waiting%s%s", p->settings->name,
	    state_name(p), p->open, max, idle, leased, waiting,
	    p->failures != 0 ? "; the server refuses: " : "", p->failures != 0 ? error : "");
}

bool
verb_status(struct commands *c, const struct request *r)
{
	unsigned open = 0, leased = 0;

	for (unsigned i = 0; i < c->params.nall; i++) {
		open += c->params.pools[i]->open;
		leased += pool_count_leases(c->params.pools[i]);
		if (!status_of(c, r, c->params.pools[i]))
			return false;
	}
	return commands_answer(c, r->asker, 0, 0,
	    r->json ? "{\"instance\": \"%s\", \"state\": \"%s\", \"pid\": %ld, \"connections\": %u, "
	              "\"leased\": %u}"
	            : "instance %s: %s, pid %ld, %u connections open, %u leased",
	    c->params.settings->instance, c->stopping ? "stopping" : "open", (long)getpid(), open, leased);
}

/* A line of `show config`; what a conninfo keeps secret stays so. */
static bool
show_setting(struct commands *c, const struct request *r, const struct setting *s, const void *values)
{
	char value[SETTINGS_CONNINFO * 2], quoted[sizeof(value) + 128];

	if (s->section == SETTING_POOL && strcmp(s->name, "conninfo") == 0)
		target_show(((const struct pool_settings *)values)->conninfo, value, sizeof(value));
	else
		settings_show(s, values, value, sizeof(value));
	if (!r->json)
		return commands_answer(c, r->asker, 0, LATE_MS * NS_PER_MS, "%s = %s", s->name, value);
	quote(quoted, sizeof(quoted), value, sizeof(value));
	return commands_answer(c, r->asker, 0, LATE_MS * NS_PER_MS, "{\"setting\": \"%s\", \"value\": %s}", s->name, quoted);
}

bool
verb_show(struct commands *c, const struct request *r)
{
	const void *values = c->params.settings;
	enum setting_section section = SETTING_INSTANCE;
	const char *of = c->params.settings->instance;

	if (strncmp(r->argument, "config", 6) != 0 || (r->argument[6] != '\0' && r->argument[6] != '/'))
		return commands_answer(c, r->asker, PGLEASE_EINVAL, 0, "show takes config or config/POOL, not \"%s\"", r->argument);
	if (r->argument[6] == '/') {
		if (r->pool == NULL)
			return commands_no_pool(c, r);
		section = SETTING_POOL;
		values = r->pool->settings;
		of = r->pool->settings->name;
	}
	for (size_t i = 0; i < settings_count; i++)
		if (settings[i].section == section && !show_setting(c, r, &settings[i], values))
			return false;
	return commands_answer(c, r->asker, 0, 0, r->json ? "{\"%s\": \"%s\"}" : "; of %s %s",
	    section == SETTING_POOL ? "pool" : "instance", of);
}
