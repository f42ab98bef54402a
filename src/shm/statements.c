/* SPDX-License-Identifier: PostgreSQL */
/*
 * Tables of prepared statements: open addressing with linear probing, at most two thirds full, so that a
 * look-up meets one or two cache lines beside the table's own.
 *
 * All accesses are relaxed: the swap of the slot word orders the stores of one owner before the loads of the
 * next. Every process can scribble here, and a lessee that is revoked may store late. So no loop trusts the
 * table to have an end, no index comes from it, and both words of a number are masked by the epoch in which
 * they were stored: a late store is a number that nobody looks for. The worst that a wrong table does is a
 * wrong name in a message to the server.
 */
#include "statements.h"

struct view {
	struct statement_table *table;
	struct statement *entry;
	uint32_t capacity;
	uint64_t epoch;
};

static uint64_t
get(const _Atomic uint64_t *field)
{
	return atomic_load_explicit((_Atomic uint64_t *)field, memory_order_relaxed);
}

static void
put(_Atomic uint64_t *field, uint64_t value)
{
	atomic_store_explicit(field, value, memory_order_relaxed);
}

static struct view
view(const struct segment *seg, uint32_t slot)
{
	char *at = seg->statements + slot * layout_statements_size(seg->nstatements);
	struct statement_table *table = (struct statement_table *)at;

	return (struct view){
	    .table = table,
	    .entry = (struct statement *)(at + sizeof(*table)),
	    .capacity = layout_statements_capacity(seg->nstatements),
	    .epoch = get(&table->epoch),
	};
}

/* Odd multipliers: another epoch gives other masks, in both words. */
static uint64_t
mask_hi(uint64_t epoch)
{
	return epoch * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t
mask_lo(uint64_t epoch)
{
	return epoch * UINT64_C(0xc2b2ae3d27d4eb4f);
}

static bool
is_free(const struct statement *e)
{
	return (get(&e->hi) | get(&e->lo)) == 0;
}

/* Where a number's search begins; it is a hash, so its upper bits are as good as any. */
static uint32_t
home(const struct view *v, uint64_t lo)
{
	return (uint32_t)((lo >> 32) * v->capacity >> 32);
}

static uint32_t
next(const struct view *v, uint32_t at)
{
	return at + 1 < v->capacity ? at + 1 : 0;
}

/* Its place; else the free one that ends the search; else v->capacity (scribbled full). */
static uint32_t
search(const struct view *v, uint64_t hi, uint64_t lo)
{
	uint64_t stored_hi = hi ^ mask_hi(v->epoch), stored_lo = lo ^ mask_lo(v->epoch);
	uint32_t at = home(v, lo);

	for (uint32_t i = 0; i < v->capacity; i++, at = next(v, at))
		if (is_free(&v->entry[at]) ||
		    (get(&v->entry[at].hi) == stored_hi && get(&v->entry[at].lo) == stored_lo))
			return at;
	return v->capacity;
}

/* The entry of `ref`, or NULL: it is not there, or is of another epoch. */
static struct statement *
entry_of(const struct view *v, const struct statement_ref *ref)
{
	uint32_t at = v->epoch == ref->epoch ? search(v, ref->hi, ref->lo) : v->capacity;

	return at == v->capacity || is_free(&v->entry[at]) ? NULL : &v->entry[at];
}

static enum statement_state
state_of(const struct view *v, const struct statement *e)
{
	uint64_t used = get(&e->used);

	if (used / 2 <= get(&v->table->doubted))
		return STATEMENT_DOUBTED;
	return used % 2 != 0 ? STATEMENT_STALE : STATEMENT_KNOWN;
}

static void
stamp(const struct view *v, struct statement *e, bool stale)
{
	uint64_t now = get(&v->table->clock) + 1;

	put(&v->table->clock, now);
	put(&e->used, now * 2 + stale);
}

static void
set_count(const struct view *v, uint32_t count)
{
	atomic_store_explicit(&v->table->count, count, memory_order_relaxed);
}

static uint32_t
get_count(const struct view *v)
{
	return atomic_load_explicit(&v->table->count, memory_order_relaxed);
}

void
statements_find(const struct segment *seg, uint32_t slot, uint64_t hi, uint64_t lo, struct statement_ref *ret)
{
	struct view v = view(seg, slot);
	struct statement *e;

	*ret = (struct statement_ref){.hi = hi, .lo = lo, .epoch = v.epoch, .state = STATEMENT_UNKNOWN};
	e = entry_of(&v, ret);
	if (e != NULL)
		ret->state = state_of(&v, e);
}

void
statements_add(struct segment *seg, uint32_t slot, const struct statement_ref *ref)
{
	struct view v = view(seg, slot);
	uint32_t at = search(&v, ref->hi, ref->lo);

	if (v.epoch != ref->epoch)
		return;
	if (at == v.capacity) /* scribbled full: another must go */
		at = home(&v, ref->lo);
	else if (is_free(&v.entry[at]))
		set_count(&v, get_count(&v) + 1);
	put(&v.entry[at].hi, ref->hi ^ mask_hi(ref->epoch));
	put(&v.entry[at].lo, ref->lo ^ mask_lo(ref->epoch));
	stamp(&v, &v.entry[at], false);
}

void
statements_used(struct segment *seg, uint32_t slot, const struct statement_ref *ref)
{
	struct view v = view(seg, slot);
	struct statement *e = entry_of(&v, ref);

	if (e != NULL)
		stamp(&v, e, false);
}

void
statements_set_stale(struct segment *seg, uint32_t slot, const struct statement_ref *ref)
{
	struct view v = view(seg, slot);
	struct statement *e = entry_of(&v, ref);

	if (e != NULL)
		stamp(&v, e, true);
}

/* Whether `h` lies behind `hole`, not behind `at`, around the end: what is at `at` is found without the hole. */
static bool
is_between(uint32_t hole, uint32_t h, uint32_t at)
{
	return hole <= at ? hole < h && h <= at : hole < h || h <= at;
}

void
statements_remove(struct segment *seg, uint32_t slot, const struct statement_ref *ref)
{
	struct view v = view(seg, slot);
	struct statement *hole = entry_of(&v, ref);
	uint32_t at, count = get_count(&v);

	if (hole == NULL)
		return;
	/* What the hole would hide moves into it, and leaves another. */
	at = (uint32_t)(hole - v.entry);
	for (uint32_t i = 1; i < v.capacity; i++) {
		struct statement *e;

		at = next(&v, at);
		e = &v.entry[at];
		if (is_free(e))
			break;
		if (is_between((uint32_t)(hole - v.entry), home(&v, get(&e->lo) ^ mask_lo(v.epoch)), at))
			continue;
		put(&hole->hi, get(&e->hi));
		put(&hole->lo, get(&e->lo));
		put(&hole->used, get(&e->used));
		hole = e;
	}
	put(&hole->hi, 0);
	put(&hole->lo, 0);
	if (count != 0)
		set_count(&v, count - 1);
}

bool
statements_victim(const struct segment *seg, uint32_t slot, struct statement_ref *ret)
{
	struct view v = view(seg, slot);
	struct statement *oldest = NULL;

	if (get_count(&v) < seg->nstatements)
		return false;
	for (uint32_t at = 0; at < v.capacity; at++)
		if (!is_free(&v.entry[at]) && (oldest == NULL || get(&v.entry[at].used) < get(&oldest->used)))
			oldest = &v.entry[at];
	if (oldest == NULL) /* the count was scribbled on */
		return false;
	*ret = (struct statement_ref){
	    .hi = get(&oldest->hi) ^ mask_hi(v.epoch),
	    .lo = get(&oldest->lo) ^ mask_lo(v.epoch),
	    .epoch = v.epoch,
	    .state = state_of(&v, oldest),
	};
	return true;
}

void
statements_doubt(struct segment *seg, uint32_t slot)
{
	struct view v = view(seg, slot);

	put(&v.table->doubted, get(&v.table->clock));
}

void
statements_forget(const struct segment *seg, uint32_t slot)
{
	struct view v;

	if (seg->nstatements == 0)
		return;
	v = view(seg, slot);
	/* An addition, which cannot take back that of another owner if this one is late. */
	atomic_fetch_add_explicit(&v.table->epoch, 1, memory_order_relaxed);
	if (get_count(&v) == 0)
		return;
	for (uint32_t at = 0; at < v.capacity; at++) {
		put(&v.entry[at].hi, 0);
		put(&v.entry[at].lo, 0);
	}
	set_count(&v, 0);
}
