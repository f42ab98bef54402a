/* SPDX-License-Identifier: PostgreSQL */
/* The kinds of reset, their messages, and the strict reading of the answers. */
#include "resets.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "statements.h"

#define HEADER 5 /* type and length of a message */

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
    [RESET_NONE] = {{NULL, NULL, false}},
};

/* The step, or NULL after the last. */
static const struct step *
step_of(enum reset_kind kind, unsigned n)
{
	const struct step *step = &steps[kind][n];

	return n < STEPS && (step->sql != NULL || step->rows) ? step : NULL;
}

static size_t
put_query(uint8_t *to, const char *text, size_t size)
{
	uint32_t length = htonl((uint32_t)(4 + size + 1));

	to[0] = 'Q';
	memcpy(to + 1, &length, 4);
	memcpy(to + HEADER, text, size);
	to[HEADER + size] = '\0';
	return HEADER + size + 1;
}

/* Names of settings need no quotes; others are not in a sound baseline. */
static bool
is_plain(const char *name)
{
	return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")] == '\0';
}

static size_t
put_question(uint8_t *to, const char *baseline)
{
	static const char head[] = "SELECT pg_catalog.current_setting(n) FROM pg_catalog.unnest('{",
			  tail[] = "}'::pg_catalog.text[]) n";
	char text[LAYOUT_BASELINE + sizeof(head) + sizeof(tail)];
	size_t used = sizeof(head) - 1;
	const char *name, *value;

	memcpy(text, head, used);
	for (size_t at = 0; (name = baseline_next(baseline, &at, &value)) != NULL;) {
		size_t size = strlen(name);

		if (!is_plain(name) || used + size + 1 + sizeof(tail) > sizeof(text))
			return 0;
		memcpy(text + used, name, size);
		used += size;
		text[used++] = ',';
	}
	if (used == sizeof(head) - 1)
		return 0;
	memcpy(text + used - 1, tail, sizeof(tail) - 1); /* over the last comma */
	return put_query(to, text, used - 1 + sizeof(tail) - 1);
}

size_t
resets_query(uint8_t *buf, const char *text, size_t size)
{
	return put_query(buf, text, size);
}

size_t
resets_message(enum reset_kind kind, const char *sql, const char *ask, uint8_t buf[static RESETS_MESSAGE])
{
	size_t used = 0, asked;
	const struct step *step;

	for (unsigned n = 0; (step = step_of(kind, n)) != NULL; n++) {
		const char *text = step->sql != NULL ? step->sql : sql;

		used += put_query(buf + used, text, strnlen(text, LAYOUT_RESET_SQL - 1));
	}
	if (ask == NULL)
		return used;
	asked = put_question(buf + used, ask);
	return asked != 0 ? used + asked : 0;
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

uint64_t
resets_owed(enum reset_kind kind, uint32_t flags, uint64_t generation)
{
	return generation << 32 | flags | kind;
}

bool
resets_is_owed(uint64_t owed, uint64_t generation, enum reset_kind *ret_kind, uint32_t *ret_flags)
{
	uint32_t flags = (uint32_t)owed & (RESET_ASKED | RESET_SETS), kind = (uint32_t)owed & ~flags;

	if (owed >> 32 != (generation & UINT32_MAX) || kind >= RESET_NKINDS)
		return false;
	*ret_kind = (enum reset_kind)kind;
	*ret_flags = flags;
	return true;
}

void
resets_answer_init(struct resets_answer *a, const struct segment *seg, uint32_t slot, const char *baseline,
    enum reset_kind kind, bool asks)
{
	a->seg = seg;
	a->slot = slot;
	a->baseline = baseline;
	a->kind = kind;
	a->asks = asks;
	a->sets = false;
	a->told = NULL;
	for (a->nsteps = 0; step_of(kind, a->nsteps) != NULL; a->nsteps++)
		;
	a->asked = 0;
	a->off = atomic_load_explicit(&seg->slot[slot].off_baseline, memory_order_relaxed);
	a->step = a->tags = 0;
	a->received = (struct answer){.total = 0};
}

void
resets_answer_sets(struct resets_answer *a, struct resets_told *told)
{
	a->sets = true;
	a->told = told;
	if (told != NULL) {
		told->refused = false;
		told->bits = 0;
		told->used = 0;
		told->text[0] = '\0';
	}
}

const char *
resets_told_find(const struct resets_told *told, const char *name)
{
	const char *found = NULL, *other, *value;

	for (size_t at = 0; told->used != 0 && (other = baseline_next(told->text, &at, &value)) != NULL;)
		if (strcmp(other, name) == 0)
			found = value;
	return found;
}

/* Whether what comes answers the statements behind the reset. */
static bool
is_behind(const struct resets_answer *a)
{
	return a->sets && a->step == a->nsteps + a->asks;
}

/* The next value of the answer to the question: a row of one column. */
static bool
value_is_expected(struct resets_answer *a, const char *body, size_t size)
{
	const char *value;
	uint32_t length;

	if (baseline_next(a->baseline, &a->asked, &value) == NULL || size < 6 || body[0] != 0 || body[1] != 1)
		return false;
	memcpy(&length, body + 2, 4);
	length = ntohl(length);
	return length == size - 6 && length == strlen(value) && memcmp(body + 6, value, length) == 0;
}

static bool
tag_is_expected(struct resets_answer *a, const char *body, size_t size)
{
	const struct step *step = step_of(a->kind, a->step);

	if (size == 0 || body[size - 1] != '\0')
		return false;
	if (is_behind(a))
		return true;
	if (step == NULL ? a->tags != 0 || strncmp(body, "SELECT ", 7) != 0
			 : step->tags != NULL && (step->tags[a->tags] == NULL || strcmp(step->tags[a->tags], body) != 0))
		return false;
	a->tags++;
	return true;
}

static bool
is_complete(const struct resets_answer *a)
{
	const struct step *step = step_of(a->kind, a->step);
	size_t at = a->asked;
	const char *value;

	if (is_behind(a))
		return true;
	if (step == NULL)
		return a->tags == 1 && baseline_next(a->baseline, &at, &value) == NULL;
	return step->tags != NULL ? step->tags[a->tags] == NULL : a->tags != 0;
}

static bool
was_last(const struct resets_answer *a)
{
	return a->step + 1 == a->nsteps + a->asks + a->sets;
}

/* name\0value\0 of a ParameterStatus against the slot's baseline. */
static bool
is_baseline(struct resets_answer *a, const char *body, size_t size)
{
	const char *value = memchr(body, 0, size), *baseline;
	unsigned bit;

	if (value == NULL || ++value == body + size || body[size - 1] != '\0')
		return false;
	baseline = baseline_find(a->baseline, body, &bit);
	if (baseline == NULL || strcmp(value, baseline) != 0)
		return false;
	a->off &= ~(UINT64_C(1) << bit);
	return true;
}

/* A ParameterStatus of the statements behind: any value, of a parameter that is known. */
static bool
is_told(struct resets_answer *a, const char *body, size_t size)
{
	const char *value = memchr(body, 0, size);
	unsigned bit;

	if (value == NULL || ++value == body + size || memchr(value, 0, (size_t)(body + size - value)) != body + size - 1 ||
	    baseline_find(a->baseline, body, &bit) == NULL)
		return false;
	if (a->told == NULL)
		return true;
	if (size + 1 > sizeof(a->told->text) - a->told->used)
		return false;
	memcpy(a->told->text + a->told->used, body, size);
	a->told->used += size;
	a->told->text[a->told->used] = '\0';
	a->told->bits |= UINT64_C(1) << bit;
	return true;
}

/* A whole message. */
static enum answer_verdict
take(void *context, uint8_t type, const char *body, size_t size)
{
	struct resets_answer *a = context;

	switch (type) {
	case 'S': /* ParameterStatus */
		return (is_behind(a) ? is_told(a, body, size) : is_baseline(a, body, size)) ? ANSWER_MORE : ANSWER_BAD;
	case 'C': /* CommandComplete */
		return tag_is_expected(a, body, size) ? ANSWER_MORE : ANSWER_BAD;
	case 'Z': /* ReadyForQuery */
		if (!is_complete(a) || size != 1 || body[0] != 'I')
			return ANSWER_BAD;
		/* What the last lessee saw changed and this has not put back: changed by the server itself. */
		if (!is_behind(a) && a->step + 1 == a->nsteps + a->asks && a->off != 0 && !a->asks)
			return ANSWER_BAD;
		if (was_last(a))
			return ANSWER_DONE;
		a->tags = 0;
		a->step++;
		return ANSWER_MORE;
	case 'D': /* DataRow, of the question */
		return step_of(a->kind, a->step) == NULL && a->asks && value_is_expected(a, body, size) ? ANSWER_MORE : ANSWER_BAD;
	default:
		return ANSWER_BAD;
	}
}

/* Whether a message is skipped unread: notices, notifications of a LISTEN that ends with this reset, a result's rows. */
static bool
is_skipped(const struct resets_answer *a, uint8_t type)
{
	const struct step *step = step_of(a->kind, a->step);

	if (is_behind(a))
		return type == 'N' || type == 'A' || type == 'T' || type == 'D' || type == 'E';
	if (step == NULL)
		return type == 'N' || type == 'A' || type == 'T';
	return type == 'N' || type == 'A' ||
	       (step->rows && (type == 'T' || type == 'D' || (type == 'I' && step->tags == NULL)));
}

static bool
skips(void *context, uint8_t type)
{
	struct resets_answer *a = context;

	if (!is_skipped(a, type))
		return false;
	a->tags += type == 'I'; /* EmptyQueryResponse stands for a CommandComplete */
	if (type == 'E' && a->told != NULL)
		a->told->refused = true;
	return true;
}

enum answer_verdict
resets_answer_feed(struct resets_answer *a, const uint8_t *buf, size_t size)
{
	static const struct answer_reader reader = {skips, take};

	return answer_feed(&a->received, &reader, a, buf, size);
}

void
resets_done(const struct resets_answer *a)
{
	struct slot *s = &a->seg->slot[a->slot];
	char sql[LAYOUT_RESET_SQL];

	/* As the word's owner; published by the swap that gives the slot up. */
	if (a->asks) {
		atomic_store_explicit(&s->unverified, 0, memory_order_relaxed);
		atomic_store_explicit(&s->asked_at, clock_ns(), memory_order_relaxed);
	}
	if (a->kind == RESET_NONE)
		return;
	atomic_store_explicit(&s->session, atomic_load_explicit(&s->session, memory_order_relaxed) + 1,
	    memory_order_relaxed);
	atomic_store_explicit(&s->off_baseline, 0, memory_order_relaxed);
	resets_sql(a->seg, sql);
	if (!resets_keep_statements(a->kind, sql))
		statements_forget(a->seg, a->slot);
}
