/* SPDX-License-Identifier: PostgreSQL */
/*
 * A pool's numbers as text, from its lease segment: the tables pools and histograms of the stats segment, made here, and
 * shown by the writers that the broker uses too. No system call but what malloc makes.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client_priv.h"
#include "collect.h"
#include "export.h"

/* Everything but the snapshot's copies; too much for a thread's stack. */
struct collected {
	struct stats_header header;
	struct collect_names names;
	struct collect_times times;
	struct stats_pool_row pool;
	struct stats_histogram_row histogram[STATS_NTIMES];
	struct stats_alert_row alert[ALERT_N];
};

static void
fill_header(const struct segment *seg, uint64_t now, struct stats_header *ret)
{
	const struct segment_header *h = seg->header;
	uint64_t ticked = atomic_load_explicit(&h->ticked_at, memory_order_relaxed);
	struct timespec real;

	clock_gettime(CLOCK_REALTIME, &real);
	ret->instance_id = h->instance_id;
	stats_copy_text(ret->instance, sizeof(ret->instance), h->instance_name, sizeof(h->instance_name));
	if (paths_check_name(ret->instance) != 0)
		strcpy(ret->instance, "?"); /* scribbled over */
	snprintf(ret->program, sizeof(ret->program), "libpglease %s", PACKAGE_VERSION);
	ret->broker_pid = h->broker_pid;
	ret->state = atomic_load_explicit(&h->state, memory_order_relaxed);
	ret->off = atomic_load_explicit(&h->monitoring_off, memory_order_relaxed) != 0;
	ret->published_mono = ticked != 0 && ticked < now ? ticked : now;
	ret->published_at =
	    (uint64_t)real.tv_sec * UINT64_C(1000000000) + (uint64_t)real.tv_nsec - (now - ret->published_mono);
}

static int
take_snapshot(const struct pool_state *state, struct stats_snapshot *ret)
{
	const struct segment *seg = &state->seg;
	struct collected *c = calloc(1, sizeof(*c));
	uint64_t now = clock_ns();
	struct stats_rows rows[STATS_NTABLES] = {0};
	int r;

	if (c == NULL)
		return -1;
	fill_header(seg, now, &c->header);
	snprintf(c->header.socket_dir, sizeof(c->header.socket_dir), "%s", state->socket_dir);
	collect_names(seg, &c->names);
	collect_pool(seg, &c->names, now, &c->times, &c->pool, c->histogram);
	rows[STATS_POOLS] = (struct stats_rows){&c->pool, 1, 1};
	/* The header has the moment of the last tick on both clocks. */
	collect_alerts(seg, &c->names, now, c->header.published_at + (now - c->header.published_mono), c->alert);
	rows[STATS_HISTOGRAMS] = (struct stats_rows){c->histogram, STATS_NTIMES, STATS_NTIMES};
	rows[STATS_ALERTS] = (struct stats_rows){c->alert, ALERT_N, ALERT_N};
	r = stats_snapshot_of_rows(&c->header, rows, ret);
	if (r == 0) {
		ret->age_ns = now - c->header.published_mono;
		ret->gone = (totals_health(seg, now) & (HEALTH_NO_BROKER | HEALTH_CLOSED)) != 0;
	}
	free(c);
	return r == 0 ? 0 : -1;
}

static int
export(pglease_pool *pool, char **ret_text, const char *name, void (*write)(const struct stats_snapshot *, struct text *))
{
	struct stats_snapshot snapshot;
	struct pool_state *state;
	struct text text = {0};
	char *taken;
	int r;

	if (pool == NULL || ret_text == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL", pool == NULL ? "pool" : name);
	r = client_pool_state(pool, &state);
	if (r != 0)
		return r;
	if (take_snapshot(state, &snapshot) != 0)
		return error_set(PGLEASE_ENOMEM, "no memory for the statistics");
	write(&snapshot, &text);
	stats_snapshot_fini(&snapshot);
	taken = text_take(&text, NULL);
	if (taken == NULL)
		return error_set(PGLEASE_ENOMEM, "no memory for the statistics");
	*ret_text = taken;
	return 0;
}

static void
write_json(const struct stats_snapshot *snapshot, struct text *to)
{
	export_json(snapshot, false, to);
}

static void
write_prometheus(const struct stats_snapshot *snapshot, struct text *to)
{
	export_metrics(snapshot, EXPORT_PROMETHEUS, to);
}

int
pglease_stats_json(pglease_pool *pool, char **ret_json)
{
	return export(pool, ret_json, "ret_json", write_json);
}

int
pglease_stats_prometheus(pglease_pool *pool, char **ret_text)
{
	return export(pool, ret_text, "ret_text", write_prometheus);
}

void
pglease_free(void *ptr)
{
	free(ptr);
}
