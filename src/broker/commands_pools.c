/* SPDX-License-Identifier: PostgreSQL */
/* Commands to pools: drain, pause, kill, resume, disable, enable, reconnect; and those whose end is waited for. */
#include "commands_priv.h"

#include <stdlib.h>
#include <string.h>

#include "handover.h"
#include "revoke.h"

/* What is left of it, and whether a resume has undone it. */
static unsigned
left_of(const struct commands *c, const struct waited *w, unsigned *leases, bool *undone)
{
	unsigned at = 0, left = 0;
	const struct pool *p;

	*leases = 0;
	*undone = false;
	while ((p = commands_next_pool(c, w->pool, &at)) != NULL) {
		*leases += pool_count_leases(p);
		left += w->what == WAITED_RECONNECT ? pool_count_outdated(p) : p->open;
		*undone |= w->what != WAITED_RECONNECT && !p->draining;
	}
	/* Those that are going are on their servers, too. */
	for (unsigned k = c->params.npools; k < c->params.nall && w->what != WAITED_RECONNECT; k++) {
		p = c->params.pools[k];
		if (w->pool != NULL && strcmp(p->settings->name, w->pool->settings->name) != 0)
			continue;
		*leases += pool_count_leases(p);
		left += p->open;
	}
	return left;
}

bool
waited_look(struct commands *c, const struct waited *w, uint64_t now)
{
	static const struct {
		const char *name, *over, *late, *then;
	} said[] = {
	    [WAITED_DRAIN] = {"drain", "drained", "drained", "the drain goes on until it is resumed"},
	    [WAITED_PAUSE] = {"pause", "paused", "paused", "the pause goes on until it is resumed"},
	    [WAITED_RECONNECT] = {"reconnect", "all connections are new", "reconnected", "the rest follows as it comes back"},
	};
	unsigned leases, left;
	char name[LAYOUT_NAME + 16];
	bool undone;

	if (w->is_gone)
		return commands_answer(c, w->asker, PGLEASE_EREFUSED, 0,
			   "the %s is not waited for any more: a reload has taken the pool out, or made it anew (pgleasectl status)", said[w->what].name) ||
		       true;
	commands_name_pools(w->pool, name, sizeof(name));
	left = left_of(c, w, &leases, &undone);
	if (undone)
		commands_answer(c, w->asker, PGLEASE_EREFUSED, 0, "%s: the %s was undone by a resume", name, said[w->what].name);
	else if (left == 0)
		commands_answer(c, w->asker, 0, 0, "%s: %s", name, said[w->what].over);
	else if (now >= w->deadline)
		commands_answer(c, w->asker, PGLEASE_ETIMEOUT, 0,
		    "%s: not %s within %.3g s: %u leases are out (pgleasestat -S shows whose), %u connections %s; %s", name,
		    said[w->what].late, (double)(w->deadline - w->began) / 1e9, leases, left,
		    w->what == WAITED_RECONNECT ? "old" : "open", said[w->what].then);
	else
		return false;
	return true;
}

/* Until `what` is over, for the request's time. The first answer says how it began. */
static bool
wait_for(struct commands *c, const struct request *r, enum waited_for what, const char *how)
{
	uint64_t now = clock_ns();
	struct waited *w,
	    here = {.what = what, .asker = r->asker, .pool = r->pool, .began = now, .deadline = now + r->timeout};
	char name[LAYOUT_NAME + 16];

	if (waited_look(c, &here, now))
		return false;
	w = malloc(sizeof(*w));
	if (w == NULL)
		return commands_answer(c, r->asker, PGLEASE_ENOMEM, 0, "it has begun, but the broker is out of memory");
	*w = here;
	TAILQ_INSERT_TAIL(&c->waited, w, all);
	commands_name_pools(r->pool, name, sizeof(name));
	return commands_answer(c, r->asker, 0, r->timeout + LATE_MS * NS_PER_MS, "%s: %s", name, how);
}

/* Does it to each of the pools. How many leases are out. */
static unsigned
each_pool(struct commands *c, const struct request *r, void (*act)(struct pool *pool))
{
	unsigned at = 0, leases = 0;
	struct pool *p;

	while ((p = commands_next_pool(c, r->pool, &at)) != NULL) {
		act(p);
		leases += pool_count_leases(p);
	}
	return leases;
}

static bool
stops(struct commands *c, const struct request *r)
{
	return commands_answer(c, r->asker, PGLEASE_EREFUSED, 0, "instance %s is stopping: start it again when it has gone",
	    c->params.settings->instance);
}

bool
verb_drain(struct commands *c, const struct request *r)
{
	char how[64];

	snprintf(how, sizeof(how), "draining, %u leases are out", each_pool(c, r, pool_drain));
	return wait_for(c, r, WAITED_DRAIN, how);
}

bool
verb_pause(struct commands *c, const struct request *r)
{
	char how[64];

	if (c->stopping)
		return stops(c, r);
	snprintf(how, sizeof(how), "pausing, %u leases are out", each_pool(c, r, pool_pause));
	return wait_for(c, r, WAITED_PAUSE, how);
}

bool
verb_kill(struct commands *c, const struct request *r)
{
	unsigned revoked = 0;
	char how[64];

	if (c->stopping)
		return stops(c, r);
	pool_pause(r->pool);
	for (uint32_t i = 0; i < r->pool->seg.nslots; i++)
		revoked += revoke_slot(&r->pool->server[i], c->params.clients, 0, COUNTER_REVOKED_ADMIN);
	snprintf(how, sizeof(how), "%u leases revoked", revoked);
	return wait_for(c, r, WAITED_PAUSE, how);
}

bool
verb_resume(struct commands *c, const struct request *r)
{
	unsigned at = 0, resumed = 0;
	struct pool *p;
	char name[LAYOUT_NAME + 16];

	if (c->stopping)
		return stops(c, r);
	while ((p = commands_next_pool(c, r->pool, &at)) != NULL) {
		resumed += p->draining;
		pool_resume(p);
	}
	commands_name_pools(r->pool, name, sizeof(name));
	return commands_answer(c, r->asker, 0, 0, resumed != 0 ? "%s: resumed" : "%s: nothing was paused or draining", name);
}

bool
verb_disable(struct commands *c, const struct request *r)
{
	if (c->stopping)
		return stops(c, r);
	pool_disable(r->pool);
	return commands_answer(c, r->asker, 0, 0, "pool %s: disabled, %u leases are out", r->pool->settings->name,
	    pool_count_leases(r->pool));
}

bool
verb_enable(struct commands *c, const struct request *r)
{
	bool was = r->pool->disabled;

	if (c->stopping)
		return stops(c, r);
	pool_enable(r->pool);
	return commands_answer(c, r->asker, 0, 0, was ? "pool %s: enabled" : "pool %s: it was not disabled", r->pool->settings->name);
}

bool
verb_reconnect(struct commands *c, const struct request *r)
{
	unsigned at = 0, outdated = 0;
	const struct pool *p;
	char name[LAYOUT_NAME + 16];

	if (c->stopping)
		return stops(c, r);
	each_pool(c, r, pool_reconnect);
	while ((p = commands_next_pool(c, r->pool, &at)) != NULL)
		outdated += pool_count_outdated(p);
	commands_name_pools(r->pool, name, sizeof(name));
	return commands_answer(c, r->asker, 0, 0, "%s: %u connections are replaced as they come back", name, outdated);
}

bool
verb_wait_close(struct commands *c, const struct request *r)
{
	return wait_for(c, r, WAITED_RECONNECT, "waiting for connections that are to be replaced");
}

void
waited_fields(struct commands *c, struct handover *h, struct waited *w)
{
	uint32_t pool = w->pool != NULL ? w->pool->index + 1 : 0, what = w->what;

	HANDOVER(h, pool);
	handover_count(h, &what, WAITED_RECONNECT);
	w->what = what;
	w->pool = pool != 0 ? pool_find(c->params.pools, c->params.npools, pool - 1) : NULL;
	w->is_gone = w->is_gone || (pool != 0 && w->pool == NULL);
	HANDOVER(h, w->began);
	HANDOVER(h, w->deadline);
}
