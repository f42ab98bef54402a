/* SPDX-License-Identifier: PostgreSQL */
/* The look at dirty idle sessions, and its timer. */
#include "dirty.h"

#include "server.h"
#include "slots.h"

#define INTERVAL_MIN UINT64_C(1000000)
#define INTERVAL_MAX UINT64_C(100000000)
#define HURRY_NS UINT64_C(1000000000)
/*
 * Looks that find nothing due, before the broker asks to be rung: after each few of them the time to the next is twice as long. Where
 * no connection is idle for longer than it takes its worker to come back, every release would ring as soon as it was asked to.
 */
#define QUIET 32
#define QUIET_STEP 4

/*
 * How long a session may be idle and dirty. Where everybody comes back to their own sessions, resets are of use to nobody, and
 * a worker that is kept from the processor for a few milliseconds would find its session gone: there is no hurry until
 * somebody has had to wait for another's reset.
 */
static uint64_t
patience(const struct pool *p, uint64_t now)
{
	uint64_t wanted = atomic_load_explicit(&p->seg.header->reset_wanted_at, memory_order_relaxed);
	bool hurry = wanted != 0 && clock_since(now, wanted) < HURRY_NS;

	return hurry || p->settings->reset_after > INTERVAL_MAX ? p->settings->reset_after : INTERVAL_MAX;
}

enum found { NOTHING, LATER, DUE };

/* Takes those that are due (S5). LATER: there are others, that will be. */
static enum found
sweep(struct pool *p, uint64_t now, uint64_t limit)
{
	enum found found = NOTHING;

	for (uint32_t i = 0; i < p->seg.nslots; i++) {
		struct server *s = &p->server[i];
		uint64_t w = slot_load(&p->seg, i), since, idle;

		if (s->state != SERVER_LENT || s->hung_up || word_state(w) != SLOT_IDLE ||
		    (word_flags(w) & SLOT_SESSION) != SLOT_DIRTY)
			continue;
		since = server_idle_since(s);
		/* It may have come back since `now` was read; a time in the far future is a scribble. */
		idle = since <= now ? now - since : since - now < INTERVAL_MAX ? 0 : UINT64_MAX;
		if (idle < limit) {
			found = found == NOTHING ? LATER : found;
		} else if (server_take(s, &w)) { /* S5 */
			server_refresh(s, SLOT_DIRTY, since, false);
			found = DUE;
		}
	}
	return found;
}

/* How often it is worth looking. One that will be due may be one whose worker is about to come back. */
static void
note(struct pool *p, enum found found)
{
	if (found != NOTHING)
		p->dirty_quiet = found == DUE ? 0 : p->dirty_quiet / 2;
	else if (p->dirty_quiet < QUIET)
		p->dirty_quiet++;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	dirty_look(arg, clock_ns());
}

void
dirty_init(struct pool *p, bool fresh)
{
	evtimer_assign(&p->dirty_timer, p->context->base, on_timer, p);
	/* In a segment that was taken over it stands as the broker before left it, until the first look. */
	if (fresh && p->settings->reset_after != 0)
		atomic_store(&p->seg.header->reset_watch, 1);
}

void
dirty_fini(struct pool *p)
{
	if (event_initialized(&p->dirty_timer))
		event_del(&p->dirty_timer);
}

void
dirty_look(struct pool *p, uint64_t now)
{
	_Atomic uint32_t *watch = &p->seg.header->reset_watch;
	uint64_t ns = patience(p, now);
	struct timeval interval = {0};

	if (p->settings->reset_after == 0 || p->draining || p->stopping || p->context->quiet)
		return;
	/* Rung, after it was quiet. */
	if (p->dirty_quiet == QUIET && atomic_load(watch) == 0)
		p->dirty_quiet = 0;
	note(p, sweep(p, now, ns));
	if (p->dirty_quiet == QUIET) {
		/* First this, then the look; lessees swap first, then look at this (release.c). */
		atomic_store(watch, 1);
		note(p, sweep(p, now, ns));
		if (p->dirty_quiet == QUIET)
			return;
	}
	atomic_store(watch, 0);
	ns = ns < INTERVAL_MIN ? INTERVAL_MIN : ns;
	for (unsigned i = p->dirty_quiet / QUIET_STEP; i > 0 && ns < INTERVAL_MAX; i--)
		ns *= 2;
	ns = ns > INTERVAL_MAX ? INTERVAL_MAX : ns;
	interval.tv_usec = (suseconds_t)(ns / 1000);
	evtimer_add(&p->dirty_timer, &interval);
}
