/* SPDX-License-Identifier: PostgreSQL */
/*
 * Alerts as the broker has judged them (alert.h), and this process's own thresholds. One thread at a time looks: who has swapped
 * `looking` from 0 to its process's serial. A child of fork finds its parent's there, when a thread of the parent was looking, and takes
 * it over: that thread is not in the child. If the looking thread ends within the callback (pthread_exit), nobody in this process looks
 * any more, which is what it has asked for.
 */
#include "threshold.h"

#include <math.h>
#include <stdlib.h>

#include "alert.h"
#include "health.h"
#include "totals.h"

#define SECOND UINT64_C(1000000000)

#define SAME_ALERT(id, name, unit, initial, most, text, more) \
	static_assert((int)PGLEASE_THRESHOLD_##id == (int)ALERT_##id, "one list");
ALERTS(SAME_ALERT)
static_assert((int)THRESHOLD_N == (int)ALERT_N, "all of it");

/* Who is told. Those that were replaced stay until the pool's end: a thread may be calling them. */
struct threshold_watcher {
	pglease_threshold_callback callback; /* NULL: nobody */
	void *context;
	struct threshold_watcher *older;
};

static double
limit_of(const struct threshold_watch *watch, enum pglease_threshold threshold)
{
	return atomic_load_explicit((_Atomic double *)&watch->limit[threshold], memory_order_relaxed);
}

void
threshold_init(struct threshold_watch *watch)
{
	for (unsigned i = 0; i < THRESHOLD_N; i++)
		atomic_init(&watch->limit[i], PGLEASE_THRESHOLD_POOL);
}

void
threshold_fini(struct threshold_watch *watch)
{
	struct threshold_watcher *w = atomic_load(&watch->watcher);

	while (w != NULL) {
		struct threshold_watcher *older = w->older;

		free(w);
		w = older;
	}
	atomic_store(&watch->watcher, NULL);
}

/* A value of the alert's in base units, or `none`. */
static double
in_base_units(enum alert_id id, uint64_t value, double none)
{
	return value != ALERT_NONE ? (double)alert_millionths(id, value) / 1e6 : none;
}

/* An alert that cannot be read is one of which nothing is known. */
static struct alert
alert_of(const struct segment *seg, enum alert_id id)
{
	struct alert alert = {.value = ALERT_NONE, .limit = ALERT_NONE};

	(void)alert_read(seg, id, &alert);
	if (alert.state == ALERT_OFF)
		alert.limit = ALERT_NONE;
	return alert;
}

static void
look_at(pglease_pool *pool, const struct segment *seg, const struct threshold_watcher *watcher, enum pglease_threshold threshold,
    uint64_t now)
{
	enum alert_id id = (enum alert_id)threshold;
	struct threshold_watch *watch = &pool->watch;
	bool was_above = (watch->above & 1u << id) != 0, is_above;
	struct alert alert = alert_of(seg, id);
	double limit = limit_of(watch, threshold), value;

	if (id == ALERT_HEALTH)
		alert.value = health_level(totals_health(seg, now) & ((1u << HEALTH_NREASONS) - 1));
	value = in_base_units(id, alert.value, NAN);
	if (limit < 0) {
		limit = in_base_units(id, alert.limit, PGLEASE_THRESHOLD_OFF);
		is_above = alert.state == ALERT_RAISED;
	} else {
		is_above = value >= (was_above ? limit * 0.8 : limit); /* not a number: it is not */
	}
	if (is_above == was_above)
		return;
	watch->above ^= 1u << id;
	watcher->callback(pool, threshold, value, limit, is_above, watcher->context);
}

void
threshold_look(pglease_pool *pool, const struct pool_state *state, uint64_t now)
{
	struct threshold_watch *watch = &pool->watch;
	/* Acquire: pairs with the swap in pglease_on_threshold; what it points to is complete, and lives as long as the pool. */
	const struct threshold_watcher *watcher = atomic_load_explicit(&watch->watcher, memory_order_acquire);
	uint64_t looking = atomic_load_explicit(&watch->looking, memory_order_relaxed);

	if (watcher == NULL || watcher->callback == NULL || looking == state->serial)
		return;
	/* Acquire, and release at the end: what a look has noted is for the next one, whoever makes it. */
	if (!atomic_compare_exchange_strong_explicit(
		&watch->looking, &looking, state->serial, memory_order_acquire, memory_order_relaxed))
		return;
	for (enum pglease_threshold i = 0; i < THRESHOLD_N; i++)
		look_at(pool, &state->seg, watcher, i, now);
	atomic_store_explicit(&watch->next_look, now + SECOND, memory_order_relaxed);
	atomic_store_explicit(&watch->looking, 0, memory_order_release);
}

static int
check_pool(const pglease_pool *pool)
{
	if (pool == NULL)
		return error_set(PGLEASE_EINVAL, "pool is NULL");
	if (atomic_load(&pool->state) == NULL)
		return error_set(PGLEASE_EINVAL, "pool %s: its attachment has ended (pglease_detach)", pool->name);
	return 0;
}

static int
check(const pglease_pool *pool, enum pglease_threshold threshold)
{
	int r = check_pool(pool);

	if (r != 0)
		return r;
	if ((unsigned)threshold >= THRESHOLD_N)
		return error_set(
		    PGLEASE_EINVAL, "threshold is %d: give a value of enum pglease_threshold", (int)threshold);
	return 0;
}

int
pglease_threshold_set(pglease_pool *pool, enum pglease_threshold threshold, double value)
{
	int r = check(pool, threshold);

	if (r != 0)
		return r;
	if (isnan(value) || (value < 0 && value > PGLEASE_THRESHOLD_POOL) || value < PGLEASE_THRESHOLD_POOL)
		return error_set(PGLEASE_EINVAL,
		    "value of %s is %g: give a number from 0 on, PGLEASE_THRESHOLD_OFF or PGLEASE_THRESHOLD_POOL",
		    alert_name((enum alert_id)threshold), value);
	/* Relaxed: a look under way may miss it. */
	atomic_store_explicit(&pool->watch.limit[threshold], value, memory_order_relaxed);
	return 0;
}

int
pglease_threshold_get(pglease_pool *pool, enum pglease_threshold threshold, double *ret_value)
{
	struct pool_state *state;
	enum alert_id id = (enum alert_id)threshold;
	double own;
	int r = check(pool, threshold);

	if (r != 0)
		return r;
	if (ret_value == NULL)
		return error_set(PGLEASE_EINVAL, "ret_value is NULL");
	r = client_pool_state(pool, &state);
	if (r != 0)
		return r;
	own = limit_of(&pool->watch, threshold);
	*ret_value = own >= 0 ? own : in_base_units(id, alert_of(&state->seg, id).limit, PGLEASE_THRESHOLD_OFF);
	return 0;
}

int
pglease_alert_get(pglease_pool *pool, enum pglease_threshold threshold, pglease_alert *ret_alert)
{
	enum alert_id id = (enum alert_id)threshold;
	struct pool_state *state;
	struct alert alert;
	uint64_t now;
	int r = check(pool, threshold);

	if (r != 0)
		return r;
	if (ret_alert == NULL)
		return error_set(PGLEASE_EINVAL, "ret_alert is NULL");
	r = client_pool_state(pool, &state);
	if (r != 0)
		return r;
	now = clock_ns();
	alert = alert_of(&state->seg, id);
	*ret_alert = (pglease_alert){
	    .name = alert_name(id),
	    .raised = alert.state == ALERT_RAISED,
	    .value = in_base_units(id, alert.value, NAN),
	    .threshold = in_base_units(id, alert.limit, PGLEASE_THRESHOLD_OFF),
	    .lasting_ns = alert.since != 0 && alert.since < now ? now - alert.since : 0,
	    .count = alert.count,
	};
	return 0;
}

const char *
pglease_threshold_name(enum pglease_threshold threshold)
{
	return (unsigned)threshold < THRESHOLD_N ? alert_name((enum alert_id)threshold) : "?";
}

int
pglease_on_threshold(pglease_pool *pool, pglease_threshold_callback callback, void *context)
{
	struct threshold_watcher *w, *older;
	int r = check_pool(pool);

	if (r != 0)
		return r;
	w = malloc(sizeof(*w));
	if (w == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	older = atomic_load(&pool->watch.watcher);
	do
		*w = (struct threshold_watcher){.callback = callback, .context = context, .older = older};
	while (!atomic_compare_exchange_weak(&pool->watch.watcher, &older, w));
	return 0;
}

int
pglease_threshold_check(pglease_pool *pool)
{
	struct pool_state *state;
	int r;

	if (pool == NULL)
		return error_set(PGLEASE_EINVAL, "pool is NULL");
	r = client_pool_state(pool, &state);
	if (r == 0)
		threshold_look(pool, state, clock_ns());
	return r;
}
