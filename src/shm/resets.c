/* SPDX-License-Identifier: PostgreSQL */
/* The kinds of reset, their messages, and the strict reading of the answers. */
#include "resets.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "statements.h"

#define ANSWER_MAX (UINT64_C(1) << 20) /* bytes, with whatever notices, notifications and rows there are */
#define HEADER 5                       /* type and length of a message */

/* One Query message, and the tags that its answer must have, in this order. */
struct step {
	const char *sql;         /* NULL: the pool's reset_sql */
	const char *const *tags; /* NULL: any, but at least one */
	bool rows;
};

static const char *const tags_full[] = {"DISCARD ALL", NULL};
static const char *const tags_light[] = {
    "CLOSE CURSOR ALL", "SET", "RESET", "UNLISTEN", "SELECT 1", "DISCARD TEMP", NULL};
static const char *const tags_unlisten[] = {"UNLISTEN", NULL};

#define STEPS 2
/* What DISCARD ALL does is in its manual page; `light` is that without DEALLOCATE ALL, DISCARD PLANS and SEQUENCES. */
static const struct step steps[RESET_NKINDS][STEPS + 1] = {
    [RESET_FULL] = {{"DISCARD ALL", tags_full, false}},
    [RESET_LIGHT] = {{"CLOSE ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ALL;UNLISTEN *;"
                      "SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP",
        tags_light, true}},
    /* Each in a message of its own: together they would be one transaction, in which DISCARD ALL must not be. */
    [RESET_SQL] = {{"UNLISTEN *", tags_unlisten, false}, {NULL, NULL, true}},
    [RESET_UNLISTEN] = {{"UNLISTEN *", tags_unlisten, false}},
};

static bool
is_last(enum reset_kind kind, unsigned step)
{
	return step + 1 == STEPS + 1 || (steps[kind][step + 1].sql == NULL && !steps[kind][step + 1].rows);
}

size_t
resets_message(enum reset_kind kind, const char *sql, uint8_t buf[static RESETS_MESSAGE])
{
	size_t used = 0;

	for (unsigned i = 0;; i++) {
		const char *text = steps[kind][i].sql != NULL ? steps[kind][i].sql : sql;
		size_t size = strnlen(text, LAYOUT_RESET_SQL - 1);
		uint32_t length = htonl((uint32_t)(4 + size + 1));

		buf[used] = 'Q';
		memcpy(buf + used + 1, &length, 4);
		memcpy(buf + used + HEADER, text, size);
		buf[used + HEADER + size] = '\0';
		used += HEADER + size + 1;
		if (is_last(kind, i))
			return used;
	}
}

bool
resets_keep_statements(enum reset_kind kind, const char *sql)
{
	switch (kind) {
	case RESET_FULL:
		return false;
	case RESET_SQL:
		return strcasestr(sql, "deallocate") == NULL && strcasestr(sql, "discard") == NULL;
	default:
		return true;
	}
}

enum reset_kind
resets_kind(const struct segment *seg)
{
	uint32_t kind = atomic_load_explicit(&seg->header->reset_kind, memory_order_relaxed);

	return kind < RESET_NKINDS ? (enum reset_kind)kind : RESET_FULL;
}

void
resets_sql(const struct segment *seg, char buf[static LAYOUT_RESET_SQL])
{
	memcpy(buf, seg->header->reset_sql, LAYOUT_RESET_SQL);
	buf[LAYOUT_RESET_SQL - 1] = '\0';
}

void
resets_answer_init(struct resets_answer *a, const struct segment *seg, uint32_t slot, enum reset_kind kind)
{
	a->seg = seg;
	a->slot = slot;
	a->kind = kind;
	a->off = atomic_load_explicit(&seg->slot[slot].off_baseline, memory_order_relaxed);
	a->total = 0;
	a->step = a->tags = 0;
	a->used = 0;
	a->skip = 0;
}

static bool
tag_is_expected(struct resets_answer *a, const char *body, size_t size)
{
	const struct step *step = &steps[a->kind][a->step];

	if (size == 0 || body[size - 1] != '\0')
		return false;
	if (step->tags != NULL && (step->tags[a->tags] == NULL || strcmp(step->tags[a->tags], body) != 0))
		return false;
	a->tags++;
	return true;
}

static bool
is_complete(const struct resets_answer *a)
{
	const char *const *tags = steps[a->kind][a->step].tags;

	return tags != NULL ? tags[a->tags] == NULL : a->tags != 0;
}

/* name\0value\0 of a ParameterStatus against the slot's baseline. */
static bool
is_baseline(struct resets_answer *a, const char *body, size_t size)
{
	const char *value = memchr(body, 0, size), *baseline;
	unsigned bit;

	if (value == NULL || ++value == body + size || body[size - 1] != '\0')
		return false;
	baseline = segment_baseline_find(a->seg, a->slot, body, &bit);
	if (baseline == NULL || strcmp(value, baseline) != 0)
		return false;
	a->off &= ~(UINT64_C(1) << bit);
	return true;
}

/* A whole message. */
static enum resets_verdict
take(struct resets_answer *a, uint8_t type, const char *body, size_t size)
{
	switch (type) {
	case 'S': /* ParameterStatus */
		return is_baseline(a, body, size) ? RESETS_MORE : RESETS_BAD;
	case 'C': /* CommandComplete */
		return tag_is_expected(a, body, size) ? RESETS_MORE : RESETS_BAD;
	case 'Z': /* ReadyForQuery */
		if (!is_complete(a) || size != 1 || body[0] != 'I')
			return RESETS_BAD;
		a->tags = 0;
		if (!is_last(a->kind, a->step++))
			return RESETS_MORE;
		/* What the last lessee saw changed and this has not put back: changed by the server itself. */
		return a->off == 0 ? RESETS_DONE : RESETS_BAD;
	default:
		return RESETS_BAD;
	}
}

/* Whether a message is skipped unread: notices, notifications of a LISTEN that ends with this reset, a result's rows. */
static bool
is_skipped(const struct resets_answer *a, uint8_t type)
{
	const struct step *step = &steps[a->kind][a->step];

	return type == 'N' || type == 'A' ||
	       (step->rows && (type == 'T' || type == 'D' || (type == 'I' && step->tags == NULL)));
}

enum resets_verdict
resets_answer_feed(struct resets_answer *a, const uint8_t *buf, size_t size)
{
	a->total += size;
	if (a->total > ANSWER_MAX)
		return RESETS_BAD;
	while (size != 0) {
		size_t want = HEADER, n;
		uint32_t length = 0;
		enum resets_verdict v;

		if (a->skip != 0) {
			n = a->skip < size ? (size_t)a->skip : size;
			a->skip -= n;
			buf += n;
			size -= n;
			continue;
		}
		if (a->used >= HEADER) {
			memcpy(&length, a->message + 1, 4);
			want = 1 + ntohl(length);
		}
		n = want - a->used < size ? want - a->used : size;
		memcpy(a->message + a->used, buf, n);
		a->used += n;
		buf += n;
		size -= n;
		if (a->used < HEADER)
			continue;
		memcpy(&length, a->message + 1, 4);
		length = ntohl(length);
		if (length < 4 || length > ANSWER_MAX)
			return RESETS_BAD;
		if (is_skipped(a, a->message[0])) {
			a->tags += a->message[0] == 'I'; /* EmptyQueryResponse stands for a CommandComplete */
			a->skip = length - 4;
			a->used = 0;
			continue;
		}
		if (1 + (size_t)length > sizeof(a->message))
			return RESETS_BAD;
		if (a->used < 1 + (size_t)length)
			continue;
		a->used = 0;
		v = take(a, a->message[0], (const char *)a->message + HEADER, length - 4);
		if (v == RESETS_DONE)
			return size == 0 ? RESETS_DONE : RESETS_BAD;
		if (v == RESETS_BAD)
			return RESETS_BAD;
	}
	return RESETS_MORE;
}

void
resets_done(const struct resets_answer *a)
{
	struct slot *s = &a->seg->slot[a->slot];
	char sql[LAYOUT_RESET_SQL];

	/* As the word's owner; published by the swap that gives the slot up. */
	atomic_store_explicit(&s->session, atomic_load_explicit(&s->session, memory_order_relaxed) + 1,
	    memory_order_relaxed);
	atomic_store_explicit(&s->off_baseline, 0, memory_order_relaxed);
	resets_sql(a->seg, sql);
	if (!resets_keep_statements(a->kind, sql))
		statements_forget(a->seg, a->slot);
}
