/* SPDX-License-Identifier: PostgreSQL */
/* What the messages of such an answer may be. */
#include "plain_answer.h"

#include <string.h>

#include "segment.h"

void
plain_answer_init(struct plain_answer *a, const char *sql, const char *baseline)
{
	a->tag = sql;
	a->baseline = baseline;
	a->off_baseline = a->completed = false;
	a->received = (struct answer){.total = 0};
}

/* name\0value\0 */
static bool
is_baseline(const struct plain_answer *a, const char *body, size_t size)
{
	const char *value = memchr(body, 0, size), *baseline;
	unsigned bit;

	if (value == NULL || ++value == body + size || body[size - 1] != '\0')
		return false;
	baseline = baseline_find(a->baseline, body, &bit);
	return baseline != NULL && strcmp(baseline, value) == 0;
}

static enum answer_verdict
take(void *context, uint8_t type, const char *body, size_t size)
{
	struct plain_answer *a = context;

	switch (type) {
	case 'S': /* ParameterStatus */
		if (a->baseline != NULL && !is_baseline(a, body, size))
			a->off_baseline = true;
		return ANSWER_MORE;
	case 'C': /* CommandComplete */
		if (a->completed || *a->tag == '\0' || size != strlen(a->tag) + 1 || memcmp(body, a->tag, size) != 0)
			return ANSWER_BAD;
		a->completed = true;
		return ANSWER_MORE;
	case 'I': /* EmptyQueryResponse */
		if (a->completed || *a->tag != '\0' || size != 0)
			return ANSWER_BAD;
		a->completed = true;
		return ANSWER_MORE;
	case 'Z': /* ReadyForQuery */
		return a->completed && size == 1 && body[0] == 'I' ? ANSWER_DONE : ANSWER_BAD;
	default:
		return ANSWER_BAD;
	}
}

/* Notices and notifications. */
static bool
skips(void *context, uint8_t type)
{
	(void)context;
	return type == 'N' || type == 'A';
}

enum answer_verdict
plain_answer_feed(struct plain_answer *a, const uint8_t *buf, size_t size)
{
	static const struct answer_reader reader = {skips, take};

	return answer_feed(&a->received, &reader, a, buf, size);
}
