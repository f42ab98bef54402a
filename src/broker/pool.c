/* SPDX-License-Identifier: PostgreSQL */
/*
 * Making and stopping pools, how many connections there are to be, and statistics blocks. Single connections are
 * server.c's matter.
 */
#include "pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "access.h"
#include "dirty.h"
#include "handover.h"
#include "hangups.h"
#include "health.h"
#include "log.h"
#include "pooler.h"
#include "queue.h"
#include "rows.h"
#include "server.h"
#include "slots.h"
#include "sqlstate.h"

#define SUSPECT_NS UINT64_C(1000000000)
#define BACKOFF_LAST_EMBEDDED UINT64_C(400000000) /* our own server, of which nobody else asks anything */

static uint32_t
clamp(uint64_t n, uint32_t low, uint32_t high)
{
	return n < low ? low : n > high ? high : (uint32_t)n;
}

/* The settings that clients obey; they read them relaxed, and a stale one is the setting of a moment ago. */
static void
publish_settings(struct pool *p, bool monitoring_off)
{
	struct segment_header *h = p->seg.header;
	const struct pool_settings *s = p->settings;

	atomic_store_explicit(&h->acquire_timeout_ns, s->acquire_timeout, memory_order_relaxed);
	atomic_store_explicit(&h->grant_after_ns, s->grant_after, memory_order_relaxed);
	atomic_store_explicit(&h->turn_ns, s->turn_time, memory_order_relaxed);
	atomic_store_explicit(&h->turn_leases, (uint32_t)s->turn_leases, memory_order_relaxed);
	atomic_store_explicit(&h->bypass_ns, s->validation_bypass, memory_order_relaxed);
	atomic_store_explicit(&h->reset_timeout_ns, s->reset_timeout, memory_order_relaxed);
	atomic_store_explicit(&h->connect_timeout_ns, s->connect_timeout, memory_order_relaxed);
	atomic_store_explicit(&h->max_connections, (uint32_t)s->max_connections, memory_order_relaxed);
	atomic_store_explicit(&h->pooling_off, !s->pooling, memory_order_relaxed);
	atomic_store_explicit(&h->monitoring_off, monitoring_off, memory_order_relaxed);
	atomic_store_explicit(&h->reset_policy, (uint32_t)s->reset, memory_order_relaxed);
	atomic_store_explicit(&h->reset_kind, (uint32_t)(s->reset == RESET_NEVER ? RESET_UNLISTEN : s->reset_kind),
	    memory_order_relaxed);
	atomic_store_explicit(&h->fail_fast, (uint32_t)s->fail_fast, memory_order_relaxed);
	atomic_store_explicit(&h->broker_down, (uint32_t)s->broker_down, memory_order_relaxed);
	atomic_store_explicit(&h->max_leases, (uint32_t)s->max_leases_per_client, memory_order_relaxed);
}

/* The words of struct pool that only the broker knows. */
static void
fields(struct handover *h, struct pool *p)
{
	handover_section(h, "pool");
	HANDOVER(h, p->made_by);
	HANDOVER(h, p->draining);
	HANDOVER(h, p->paused);
	HANDOVER(h, p->disabled);
	HANDOVER(h, p->failures);
	HANDOVER(h, p->failing_since);
	HANDOVER(h, p->failed_at);
	HANDOVER(h, p->connect_timeouts);
	HANDOVER(h, p->retry_at);
	HANDOVER(h, p->suspected_at);
	HANDOVER(h, p->no_block_told);
	HANDOVER(h, p->pulse);
	handover_count(h, &p->nspares, p->seg.nblocks);
	handover_bytes(h, p->spare_block, p->nspares * sizeof(*p->spare_block));
}

void
pool_hand_over(struct pool *p, struct handover *to)
{
	handover_section(to, "segment");
	handover_fd(to, &p->fd);
	fields(to, p);
	for (uint32_t i = 0; i < p->seg.nslots; i++)
		server_hand_over(&p->server[i], to);
}

/* The segment of the broker before, which must be as this one would have made it. */
static int
take_segment(struct pool *p, const struct segment_params *wanted, struct handover *from)
{
	int r;

	handover_section(from, "segment");
	handover_fd(from, &p->fd);
	if (handover_check(from, false) != 0)
		return -1;
	r = segment_map(p->fd, &p->seg);
	if (r != 0)
		return log_refuse("pool %s: the lease segment that was handed over cannot be used: %s", wanted->pool_name,
		    strerror(-r));
	if (p->seg.nslots < p->settings->max_connections + p->settings->reserve_connections || p->seg.nrows != wanted->nrows || p->seg.nclients != wanted->nclients ||
	    p->seg.nstatements != wanted->nstatements || p->seg.nblocks != 2 * p->seg.nslots)
		return log_refuse("pool %s: the lease segment that was handed over has other sizes", wanted->pool_name);
	return 0;
}

static int
take_servers(struct pool *p, struct handover *from)
{
	uint64_t made_by = p->made_by;

	fields(from, p);
	for (uint32_t i = 0; i < p->seg.nslots; i++)
		if (server_take_over(&p->server[i], from) != 0)
			return -1;
	for (uint32_t i = 0; i < p->nspares; i++)
		if (p->spare_block[i] >= p->seg.nblocks)
			return log_refuse("pool %s: a statistics block that was handed over does not exist", p->settings->name);
	if (handover_check(from, false) != 0)
		return -1;
	if (p->made_by != made_by) {
		log_event(LOG_LEVEL_INFO, LOG_ABOUT(ABOUT_POOL(p)),
		    "its connections are replaced: they were made by other settings");
		p->made_by = made_by;
		pool_reconnect(p);
	}
	return 0;
}

int
pool_new(const struct pool_params *params, struct pool **ret)
{
	const struct pool_settings *settings_of = params->settings;
	struct segment_params segment = {
	    .instance_name = params->instance,
	    .pool_name = settings_of->name,
	    .instance_id = params->instance_id,
	    .pool = params->index,
	    .nslots = clamp(2 * (settings_of->max_connections + settings_of->reserve_connections), 16, LAYOUT_MAX_SLOTS),
	    .nrows = clamp(UINT64_C(4) * params->max_clients, 64, LAYOUT_MAX_ROWS),
	    .nclients = params->max_clients,
	    .nstatements = (uint32_t)settings_of->prepared_statements,
	};
	struct pool *p = calloc(1, sizeof(*p));
	int r;

	if (p == NULL)
		return log_refuse("out of memory");
	p->fd = -1;
	p->context = params->context;
	p->settings = settings_of;
	p->index = params->index;
	p->made_by = settings_number(SETTING_POOL, SETTING_RECONNECTS, settings_of);
	if (target_init(params->conninfo, settings_of, &p->target) != 0) {
		log_refuse("pool %s: out of memory", settings_of->name);
		goto fail;
	}
	if (access_new(settings_of->users, settings_of->groups, &p->access) != 0) {
		log_refuse("pool %s: its users and groups cannot be looked up any more", settings_of->name);
		goto fail;
	}
	segment.user = p->target.user;
	segment.dbname = p->target.dbname;
	if (params->from != NULL) {
		if (take_segment(p, &segment, params->from) != 0)
			return -1;
	} else {
		r = segment_create(&segment, &p->seg, &p->fd);
		if (r != 0) {
			log_refuse("pool %s: cannot make its lease segment (%u slots, %u rows): %s",
			    settings_of->name, segment.nslots, segment.nrows, strerror(-r));
			goto fail;
		}
		/* For RESET_SQL; it never changes, and clients read it. */
		strcpy(p->seg.header->reset_sql, settings_of->reset_sql);
	}
	publish_settings(p, params->monitoring_off);
	p->server = calloc(p->seg.nslots, sizeof(*p->server));
	p->spare_block = calloc(p->seg.nblocks, sizeof(*p->spare_block));
	if (p->server == NULL || p->spare_block == NULL) {
		log_refuse("pool %s: out of memory", settings_of->name);
		goto fail;
	}
	for (uint32_t i = 0; i < p->seg.nslots; i++) {
		p->server[i].pool = p;
		p->server[i].slot = i;
		p->server[i].block = i;
		p->server[i].backend.fd = -1;
		p->server[i].has_block = true;
	}
	for (uint32_t i = p->seg.nblocks; i-- > p->seg.nslots;)
		p->spare_block[p->nspares++] = i;
	if (params->from != NULL) {
		if (take_servers(p, params->from) != 0)
			return -1;
		pool_want_attention(p); /* looks at all words, as after a ring */
	}
	dirty_init(p, params->from == NULL);
	*ret = p;
	return 0;

fail:
	pool_free(p);
	return -1;
}

void
pool_wake_waiters(struct pool *p)
{
	for (uint32_t row = 0; row < p->seg.nrows; row++)
		if (word_state(row_load(&p->seg, row)) == ROW_WAITING)
			row_post(&p->seg, row, true);
}

/* What clients read before they wait and when they wake. */
static void
publish_state(struct pool *p)
{
	const uint32_t states = HEALTH_CLOSED | HEALTH_DRAINING | HEALTH_PAUSED | HEALTH_DISABLED;
	enum segment_state state = SEGMENT_OPEN;
	uint32_t health;

	if (p->going)
		state = SEGMENT_GOING;
	else if (p->draining && !p->paused)
		state = SEGMENT_DRAINING;
	else if (p->disabled)
		state = SEGMENT_DISABLED;
	else if (p->paused)
		state = SEGMENT_PAUSED;
	atomic_store(&p->seg.header->state, state);
	/* The rest of it is judged at the tick, but whoever gave the command may look before that. Relaxed: pulse.c. */
	health = atomic_load_explicit(&p->seg.header->health, memory_order_relaxed);
	atomic_store_explicit(&p->seg.header->health, (health & ~states) | health_of_state(state), memory_order_relaxed);
}

static void
drain(struct pool *p, bool paused)
{
	bool anew = !p->draining;

	p->draining = true;
	p->paused = paused;
	publish_state(p);
	for (uint32_t i = 0; anew && i < p->seg.nslots; i++)
		server_drain(&p->server[i]);
	/* Of a pause, too: who waits says that he waits for its end. */
	pool_wake_waiters(p);
	/* Also when nothing was open: whoever waits for the end looks then. */
	pool_want_attention(p);
}

struct pool *
pool_find(struct pool *const *pools, unsigned npools, uint32_t index)
{
	for (unsigned i = 0; i < npools; i++)
		if (pools[i]->index == index)
			return pools[i];
	return NULL;
}

void
pool_open(struct pool *p, uint64_t now)
{
	/* One that hangs before its first tick has hung since now. */
	atomic_store_explicit(&p->seg.header->ticked_at, now, memory_order_relaxed);
	/* Published last: a client that sees it sees the settings. */
	publish_state(p);
	pool_want_attention(p);
}

void
pool_go(struct pool *p, uint64_t until)
{
	p->going = true;
	p->going_until = until;
	p->draining = true;
	p->paused = p->disabled = false;
	/* Also what an earlier drain has seen: who resumes does not ask. */
	publish_state(p);
	for (uint32_t i = 0; i < p->seg.nslots; i++)
		server_drain(&p->server[i]);
	pool_wake_waiters(p);
	pool_want_attention(p);
}

void
pool_drain(struct pool *p)
{
	if (!p->stopping && !p->going && (!p->draining || p->paused))
		drain(p, false);
}

void
pool_pause(struct pool *p)
{
	if (!p->stopping && !p->draining)
		drain(p, true);
}

void
pool_resume(struct pool *p)
{
	if (!p->draining || p->stopping)
		return;
	p->draining = p->paused = false;
	publish_state(p);
	pool_want_attention(p);
}

void
pool_disable(struct pool *p)
{
	if (p->stopping)
		return;
	p->disabled = true;
	publish_state(p);
	pool_wake_waiters(p);
}

void
pool_enable(struct pool *p)
{
	if (p->stopping)
		return;
	p->disabled = false;
	publish_state(p);
	pool_want_attention(p);
}

void
pool_reconnect(struct pool *p)
{
	if (p->stopping)
		return;
	for (uint32_t i = 0; i < p->seg.nslots; i++)
		server_outdate(&p->server[i]);
	pool_want_attention(p);
}

unsigned
pool_count_outdated(const struct pool *p)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < p->seg.nslots; i++)
		n += p->server[i].state != SERVER_NONE && p->server[i].outdated;
	return n;
}

unsigned
pool_count_leases(const struct pool *p)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < p->seg.nslots; i++)
		n += word_state(slot_load(&p->seg, i)) == SLOT_LEASED;
	return n;
}

void
pool_stop(struct pool *p)
{
	/* Clients read the state before they wait and when they wake. */
	atomic_store(&p->seg.header->state, SEGMENT_CLOSED);
	p->stopping = true;
	for (uint32_t i = 0; i < p->seg.nslots; i++) {
		struct server *s = &p->server[i];

		uint64_t w = slot_load(&p->seg, i);

		if (server_is_out(s) && !server_seize(s))
			continue; /* a client keeps it from being taken; pool_free closes it all the same */
		if (s->state == SERVER_LENT && word_state(w) == SLOT_LEASED)
			server_end(s, COUNTER_CLOSED_ADMIN);
		else if (s->state != SERVER_NONE && s->state != SERVER_ENDING)
			server_close(s, COUNTER_CLOSED_ADMIN);
	}
	pool_wake_waiters(p);
}

void
pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	dirty_fini(p);
	for (uint32_t i = 0; p->server != NULL && i < p->seg.nslots; i++)
		if (p->server[i].state != SERVER_NONE)
			server_close(&p->server[i], COUNTER_CLOSED_ADMIN);
	segment_unmap(&p->seg);
	if (p->fd >= 0)
		close(p->fd);
	free(p->server);
	free(p->spare_block);
	target_fini(&p->target);
	access_free(p->access);
	if (p->own_settings != NULL)
		explicit_bzero(p->own_settings, sizeof(*p->own_settings)); /* a conninfo's password */
	free(p->own_settings);
	free(p);
}

unsigned
pool_word_client(const struct pool *p, uint64_t word)
{
	unsigned row = word_who(word), client;
	uint64_t row_word;

	if (row >= p->seg.nrows)
		return WORD_NONE;
	row_word = row_load(&p->seg, row);
	client = word_who(row_word);
	return word_state(row_word) != ROW_FREE && client < p->seg.nclients ? client : WORD_NONE;
}

/* Waiters that no connection is on its way to: waiting rows less slots idle, granted and being connected. */
static uint64_t
demand(struct pool *p)
{
	uint64_t waiting, supply = p->connecting;

	if (!queue_maybe_waiting(&p->seg))
		return 0;
	waiting = queue_count(&p->seg, NULL);
	for (uint32_t i = 0; i < p->seg.nslots && supply < waiting; i++) {
		unsigned state = word_state(slot_load(&p->seg, i));

		supply += state == SLOT_IDLE || state == SLOT_GRANTED;
	}
	return waiting > supply ? waiting - supply : 0;
}

/* max_connections, and the reserve while somebody has waited for long. */
static uint64_t
limit(struct pool *p, uint64_t now)
{
	const struct pool_settings *s = p->settings;
	uint64_t since = 0;

	if (s->reserve_connections == 0 || !queue_maybe_waiting(&p->seg) || queue_count(&p->seg, &since) == 0)
		return s->max_connections;
	/* A client may have written it: a time in the future counts as now. */
	return since < now && now - since > s->reserve_after ? s->max_connections + s->reserve_connections
							      : s->max_connections;
}

void
pool_grow(struct pool *p, uint64_t now)
{
	const struct pool_settings *s = p->settings;
	uint64_t want, wanted, at_once = p->failures != 0 ? 1 : s->connects_at_once, max = limit(p, now);

	max = max > p->elders ? max - p->elders : 0;
	if (p->stopping || p->draining || now < p->retry_at || p->connecting >= at_once || p->open >= max)
		return;
	want = p->open < s->min_connections ? s->min_connections - p->open : 0;
	wanted = demand(p);
	if (wanted > want)
		want = wanted;
	/*
	 * While the upstream is down somebody must try it: clients that are refused do not wait; and where leases go on over
	 * connections that it has taken before, all would hear that it is down long after it is not.
	 */
	if (want == 0 && p->failures != 0)
		want = 1;
	if (want > max - p->open)
		want = max - p->open;
	if (want > at_once - p->connecting)
		want = at_once - p->connecting;
	for (uint32_t i = 0; i < p->seg.nslots && want > 0 && now >= p->retry_at; i++) {
		/* A connect that fails at once moves retry_at. */
		if (p->server[i].state == SERVER_NONE && server_open(&p->server[i]))
			want--;
	}
}

void
pool_upstream_works(struct pool *p)
{
	if (p->failures != 0)
		log_event(LOG_LEVEL_INFO, LOG_ABOUT(ABOUT_POOL(p)), "the server takes connections again");
	p->failures = 0;
	p->retry_at = 0;
	/* A client that does not see it yet is refused as one that came a moment before. */
	atomic_store(&p->seg.header->upstream_down, 0);
}

static enum broker_counter
failure_counter(const char *sqlstate)
{
	static const struct {
		char sqlstate_class[3];
		enum broker_counter counter;
	} counters[] = {
	    {"08", COUNTER_OPEN_FAILED_08},
	    {"28", COUNTER_OPEN_FAILED_28},
	    {"3D", COUNTER_OPEN_FAILED_3D},
	    {"53", COUNTER_OPEN_FAILED_53},
	    {"57", COUNTER_OPEN_FAILED_57},
	};

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		if (strncmp(sqlstate, counters[i].sqlstate_class, 2) == 0)
			return counters[i].counter;
	return COUNTER_OPEN_FAILED_OTHER;
}

void
pool_upstream_fails(struct pool *p, const char *sqlstate, const char *error)
{
	struct segment_header *h = p->seg.header;
	char text[sizeof(h->upstream_error)];
	uint64_t delay = p->settings->retry_min, last = p->settings->retry_max;
	uint32_t random = 0;
	bool changed;

	if (p->settings->embedded && last > BACKOFF_LAST_EMBEDDED)
		last = BACKOFF_LAST_EMBEDDED;
	for (unsigned i = 0; i < p->failures && delay < last; i++)
		delay *= 2;
	if (delay > last)
		delay = last;
	/* From 3/4 to 5/4 of it, so that brokers of many hosts do not come at once. */
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) == sizeof(random))
		delay += delay / 4 * (random % 1024) / 512 - delay / 4;
	p->retry_at = clock_ns() + delay;
	snprintf(text, sizeof(text), "%s", error);
	log_flatten(text);
	/* Shared with clients, for messages only: compared as bytes, and rewritten whole. */
	changed = memcmp(h->upstream_error, text, strlen(text) + 1) != 0;
	if (changed)
		memcpy(h->upstream_error, text, strlen(text) + 1);
	if (changed || p->failures == 0)
		log_event(LOG_LEVEL_WARNING,
		    LOG_ABOUT(ABOUT_POOL(p), .cause = broker_counter_info[failure_counter(sqlstate)].name,
		        .sqlstate = strcmp(sqlstate, SQLSTATE_NONE) != 0 ? sqlstate : NULL),
		    "no connection to the server, retrying: %s", text);
	p->failed_at = clock_ns();
	p->upstream = UPSTREAM_UNKNOWN;
	if (p->failures++ == 0)
		p->failing_since = p->failed_at;
	pool_count(p, COUNTER_OPEN_FAILED);
	pool_count(p, failure_counter(sqlstate));
}

void
pool_suspect(struct pool *p, uint64_t now)
{
	if (p->settings->keepalive == 0 || now - p->suspected_at < SUSPECT_NS)
		return;
	p->suspected_at = now;
	pool_want_attention(p);
}

void
pool_want_attention(struct pool *p)
{
	p->attention = true;
	event_active(p->context->attention, EV_TIMEOUT, 1);
}

void
pool_count(struct pool *p, enum broker_counter counter)
{
	counter_add(&p->seg.header->broker_counter[counter], 1);
}

/* Written by the broker alone; relaxed: totals.c, its reader, says what an old value costs. */
static void
raise_to(_Atomic uint32_t *mark, uint32_t value)
{
	if (atomic_load_explicit(mark, memory_order_relaxed) < value)
		atomic_store_explicit(mark, value, memory_order_relaxed);
}

void
pool_slot_used(struct pool *p, uint32_t slot)
{
	raise_to(&p->seg.header->slots_used, slot + 1);
}

bool
pool_block_get(struct pool *p, uint32_t *ret)
{
	if (p->nspares == 0) {
		if (!p->no_block_told)
			log_event(LOG_LEVEL_WARNING, LOG_ABOUT(ABOUT_POOL(p)),
			    "no statistics block is free: slots stay closed until processes that lost leases have ended");
		p->no_block_told = true;
		return false;
	}
	p->no_block_told = false;
	*ret = p->spare_block[--p->nspares];
	raise_to(&p->seg.header->spares_used, *ret + 1 - p->seg.nslots);
	return true;
}

void
pool_block_put(struct pool *p, uint32_t block)
{
	assert(p->nspares < p->seg.nblocks);
	p->spare_block[p->nspares++] = block;
}
