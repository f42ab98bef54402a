/* SPDX-License-Identifier: PostgreSQL */
/*
 * Pools that come, go on and go. All of it happens where a program takes another's place, but for the end of those that go: each pool
 * that is handed over says what its settings were, so that one that has no place in the new configuration is known all the same.
 */
#include "pools.h"

#include <stdlib.h>
#include <string.h>

#include "adopt.h"
#include "clients.h"
#include "commands.h"
#include "control.h"
#include "embedded.h"
#include "handover.h"
#include "instance_priv.h"
#include "log.h"
#include "revoke.h"
#include "service.h"
#include "takeover.h"

#define VALUE 512 /* of any setting of a pool's, as text */
#define NAME 40

/* What a pool says of itself to the program that takes its broker's place. */
struct identity {
	struct pool_settings settings;
	uint32_t index, nslots;
	uint64_t made_by; /* pools_made_by() */
	bool going;
	uint64_t going_until;
};

uint64_t
pools_made_by(const struct pool_settings *s)
{
	uint64_t n = settings_number(SETTING_POOL, SETTING_REMAKES, s);
	struct target target;
	const char *texts[] = {target.user, target.dbname};

	if (s->embedded || target_init(s->conninfo, s, &target) != 0)
		return n;
	for (unsigned i = 0; i < 2; i++)
		for (const char *c = texts[i];; c++) {
			n = (n ^ (unsigned char)*c) * UINT64_C(0x100000001b3); /* FNV-1a, as settings_number() */
			if (*c == '\0')
				break;
		}
	target_fini(&target);
	return n;
}

/* --- From broker to broker. --- */

/* By name, for the other program may know others. */
static void
settings_fields(struct handover *h, struct pool_settings *s)
{
	uint32_t n = 0, length;
	char name[NAME], value[VALUE];

	for (size_t i = 0; i < settings_count; i++)
		n += settings[i].section == SETTING_POOL;
	HANDOVER(h, n);
	for (size_t i = 0; !handover_reads(h) && i < settings_count; i++) {
		if (settings[i].section != SETTING_POOL)
			continue;
		memset(name, 0, sizeof(name));
		snprintf(name, sizeof(name), "%s", settings[i].name);
		settings_show(&settings[i], s, value, sizeof(value));
		length = (uint32_t)strlen(value);
		HANDOVER(h, name);
		handover_count(h, &length, VALUE - 1);
		handover_bytes(h, value, length);
	}
	for (uint32_t i = 0; handover_reads(h) && i < n && handover_check(h, false) == 0; i++) {
		const struct setting *setting;
		char why[VALUE];

		HANDOVER(h, name);
		handover_count(h, &length, VALUE - 1);
		handover_bytes(h, value, length);
		name[NAME - 1] = value[length] = '\0';
		setting = settings_find(SETTING_POOL, name);
		if (setting != NULL && length != 0)
			(void)!settings_set(setting, s, value, why, sizeof(why));
	}
	explicit_bzero(value, sizeof(value)); /* a conninfo's password */
}

static void
fields(struct handover *h, struct identity *id)
{
	handover_section(h, "identity");
	HANDOVER(h, id->index);
	HANDOVER(h, id->nslots);
	HANDOVER(h, id->made_by);
	HANDOVER(h, id->going);
	HANDOVER(h, id->going_until);
	HANDOVER(h, id->settings.name);
	settings_fields(h, &id->settings);
}

void
pools_hand_over(struct instance *i, struct handover *to)
{
	uint32_t n = i->nall;

	handover_section(to, "pools");
	HANDOVER(to, i->next_index);
	HANDOVER(to, n);
	for (unsigned k = 0; k < i->nall; k++) {
		struct pool *p = i->pools[k];
		struct identity id = {
		    .settings = *p->settings,
		    .index = p->index,
		    .nslots = p->seg.nslots,
		    .made_by = p->remade_by,
		    .going = p->going,
		    .going_until = p->going_until,
		};

		fields(to, &id);
		pool_hand_over(p, to);
		explicit_bzero(&id, sizeof(id));
	}
}

/* --- Making. --- */

/* Of what the instance knows; the rest is the caller's. */
static struct pool_params
params_of(struct instance *i, const struct pool_settings *s)
{
	return (struct pool_params){
	    .context = &i->shared,
	    .settings = s,
	    .conninfo = s->embedded ? embedded_conninfo(i->embedded) : s->conninfo,
	    .instance = i->config->instance.instance,
	    .instance_id = i->id,
	    .max_clients = (uint32_t)i->config->instance.max_clients,
	    .monitoring_off = !i->config->instance.monitoring,
	};
}

/* The place in the configuration of a pool that goes on; none: npools. */
static unsigned
place_of(const struct configuration *c, const struct identity *id)
{
	for (unsigned k = 0; k < c->npools && !id->going; k++) {
		const struct pool_settings *s = &c->pool[k];

		if (strcmp(s->name, id->settings.name) == 0 && pools_made_by(s) == id->made_by &&
		    s->max_connections + s->reserve_connections <= id->nslots)
			return k;
	}
	return c->npools;
}

/* One that was handed over, with the settings of its place, or with its own, of which it gets a copy. */
static int
take_pool(struct instance *i, struct handover *from, struct pool *of_place[], struct pool *others[], unsigned *nothers)
{
	struct identity id;
	struct pool_settings *own = NULL;
	struct pool_params params;
	struct pool *p;
	unsigned place;

	settings_init(SETTING_POOL, &id.settings);
	fields(from, &id);
	id.settings.name[LAYOUT_NAME - 1] = '\0';
	if (handover_check(from, false) != 0)
		return -1;
	place = place_of(i->config, &id);
	if (place == i->config->npools || of_place[place] != NULL) {
		place = i->config->npools;
		own = malloc(sizeof(*own));
		if (own == NULL)
			return log_refuse("out of memory");
		*own = id.settings;
	}
	params = params_of(i, own != NULL ? own : &i->config->pool[place]);
	params.index = id.index;
	params.from = from;
	if (pool_new(&params, &p) != 0)
		return -1;
	p->own_settings = own;
	p->remade_by = id.made_by;
	p->going = id.going;
	p->going_until = id.going_until;
	if (own == NULL)
		of_place[place] = p;
	else
		others[(*nothers)++] = p;
	explicit_bzero(&id, sizeof(id));
	return 0;
}

/* The next number that no pool has: so none is another's soon. */
static uint32_t
new_index(struct instance *i, struct pool *const *pools, unsigned npools)
{
	uint32_t index = i->next_index;

	while (pool_find(pools, npools, index) != NULL)
		index = (index + 1) % LAYOUT_MAX_POOLS;
	i->next_index = (index + 1) % LAYOUT_MAX_POOLS;
	return index;
}

/* One that is new; if it takes the place of one that is going, it is as that one was: paused, draining, disabled. */
static int
make_pool(struct instance *i, const struct pool_settings *s, struct pool *const *taken, unsigned ntaken, struct pool **ret)
{
	struct pool_params params = params_of(i, s);

	params.index = new_index(i, taken, ntaken);
	if (pool_new(&params, ret) != 0)
		return -1;
	(*ret)->is_new = true;
	(*ret)->remade_by = pools_made_by(s);
	for (unsigned k = 0; k < ntaken; k++) {
		const struct pool *elder = taken[k];

		if (elder->going || elder->own_settings == NULL || strcmp(elder->settings->name, s->name) != 0)
			continue;
		(*ret)->draining = elder->draining;
		(*ret)->paused = elder->paused;
		(*ret)->disabled = elder->disabled;
	}
	return 0;
}

int
pools_start(struct instance *i, struct handover *from)
{
	const struct configuration *c = i->config;
	struct pool *of_place[LAYOUT_MAX_POOLS] = {NULL}, *others[LAYOUT_MAX_POOLS], *taken[2 * LAYOUT_MAX_POOLS];
	unsigned nothers = 0, ntaken = 0;
	uint32_t n = 0;

	if (from != NULL) {
		handover_section(from, "pools");
		HANDOVER(from, i->next_index);
		handover_count(from, &n, LAYOUT_MAX_POOLS);
		i->next_index %= LAYOUT_MAX_POOLS;
		for (uint32_t k = 0; k < n; k++)
			if (take_pool(i, from, of_place, others, &nothers) != 0)
				return -1;
		if (c->npools + nothers > LAYOUT_MAX_POOLS)
			return log_refuse("with those that are going there would be more than %u pools", LAYOUT_MAX_POOLS);
	}
	for (unsigned k = 0; k < c->npools; k++)
		if (of_place[k] != NULL)
			taken[ntaken++] = of_place[k];
	for (unsigned k = 0; k < nothers; k++)
		taken[ntaken++] = others[k];
	for (unsigned k = 0; k < c->npools; k++) {
		if (of_place[k] == NULL) {
			if (make_pool(i, &c->pool[k], taken, ntaken, &of_place[k]) != 0)
				return -1;
			taken[ntaken++] = of_place[k];
		}
		i->pools[k] = of_place[k];
		i->segments[k] = &of_place[k]->seg;
		i->npools = i->nall = k + 1;
	}
	for (unsigned k = 0; k < nothers; k++)
		i->pools[i->nall++] = others[k];
	return 0;
}

/* --- Serving. --- */

static const struct pool *
find_name(const struct instance *i, unsigned from, unsigned to, const char *name)
{
	for (unsigned k = from; k < to; k++)
		if (strcmp(i->pools[k]->settings->name, name) == 0)
			return i->pools[k];
	return NULL;
}

/* One that was in the configuration, or had a successor there. */
static void
let_go(struct instance *i, struct pool *p, uint64_t now)
{
	const struct pool *heir = find_name(i, 0, i->npools, p->settings->name);
	uint64_t limit = i->config->instance.drain_timeout, until = heir != NULL ? UINT64_MAX : now + limit;
	bool is_news = !p->going;

	if (p->going && p->going_until < until)
		until = p->going_until;
	pool_go(p, until);
	if (!is_news)
		return;
	if (heir != NULL)
		log_info("pool %s is made anew: %u leases of the old one are out, and end in their own time", p->settings->name,
		    pool_count_leases(p));
	else
		log_info("pool %s goes: %u leases are out, for %.3g s at most", p->settings->name, pool_count_leases(p),
		    (double)limit / 1e9);
	commands_tell_change(i->commands, p, heir != NULL ? POOL_IS_MADE_ANEW : POOL_GOES);
}

/* How many connections of a pool's name are not its own any more. */
static void
count_elders(struct instance *i)
{
	for (unsigned k = 0; k < i->npools; k++) {
		struct pool *p = i->pools[k];
		unsigned elders = 0;

		for (unsigned e = i->npools; e < i->nall; e++)
			elders += strcmp(i->pools[e]->settings->name, p->settings->name) == 0 ? i->pools[e]->open : 0;
		if (elders < p->elders)
			pool_want_attention(p);
		p->elders = elders;
	}
}

void
pools_serve(struct instance *i)
{
	uint64_t now = clock_ns();

	for (unsigned k = i->npools; k < i->nall; k++)
		let_go(i, i->pools[k], now);
	count_elders(i);
	for (unsigned k = 0; k < i->npools; k++) {
		struct pool *p = i->pools[k];

		if (!p->is_new)
			continue;
		pool_open(p, now);
		if (i->restarts == 0)
			continue;
		clients_show_in(i->clients, p, i->pools, i->nall);
		if (find_name(i, i->npools, i->nall, p->settings->name) != NULL)
			continue;
		log_info("pool %s is new", p->settings->name);
		commands_tell_change(i->commands, p, POOL_COMES);
	}
	/* Only now: none of them had anything to show to another. */
	for (unsigned k = 0; k < i->npools; k++)
		i->pools[k]->is_new = false;
}

/* Nothing of it is left but what its clients have mapped. */
static void
end(struct instance *i, unsigned place)
{
	struct pool *p = i->pools[place];

	log_info("pool %s has gone: it has no connection any more", p->settings->name);
	if (find_name(i, 0, i->npools, p->settings->name) == NULL)
		service_unstore(p);
	i->pools[place] = i->pools[--i->nall];
	i->pools[i->nall] = NULL;
	clients_forget_pool(i->clients, p, i->nall);
	adopt_forget_pool(i->adopt, i->nall);
	control_forget_pool(i->control, p->index, i->nall);
	commands_forget_pool(i->commands, i->nall);
	takeover_forget_pool(i->shared.takeover, i->nall);
	pool_free(p);
}

void
pools_tick(struct instance *i, uint64_t now)
{
	for (unsigned k = i->npools; k < i->nall && !i->shared.quiet; k++) {
		struct pool *p = i->pools[k];

		for (uint32_t slot = 0; now >= p->going_until && slot < p->seg.nslots; slot++)
			revoke_slot(&p->server[slot], i->clients, 0, COUNTER_REVOKED_ADMIN);
	}
	for (unsigned k = i->npools; k < i->nall && !i->stopping && !i->shared.quiet;) {
		if (i->pools[k]->open == 0)
			end(i, k);
		else
			k++;
	}
	count_elders(i);
}
