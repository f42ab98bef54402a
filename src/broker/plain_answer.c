/* SPDX-License-Identifier: PostgreSQL */
/* PostgreSQL's protocol 3, "Message Formats". */
#include "plain_answer.h"

#include <arpa/inet.h>
#include <string.h>

#define ANSWER_MAX (UINT64_C(1) << 20) /* bytes, with whatever notices and notifications there are */
#define HEADER 5

void
plain_answer_init(struct plain_answer *a, const char *sql, const char *baseline)
{
	a->tag = sql;
	a->baseline = baseline;
	a->off_baseline = a->completed = false;
	a->skip = 0;
	a->total = a->used = 0;
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

static enum resets_verdict
take(struct plain_answer *a, uint8_t type, const char *body, size_t size)
{
	switch (type) {
	case 'S': /* ParameterStatus */
		if (a->baseline != NULL && !is_baseline(a, body, size))
			a->off_baseline = true;
		return RESETS_MORE;
	case 'C': /* CommandComplete */
		if (a->completed || *a->tag == '\0' || size != strlen(a->tag) + 1 || memcmp(body, a->tag, size) != 0)
			return RESETS_BAD;
		a->completed = true;
		return RESETS_MORE;
	case 'I': /* EmptyQueryResponse */
		if (a->completed || *a->tag != '\0' || size != 0)
			return RESETS_BAD;
		a->completed = true;
		return RESETS_MORE;
	case 'Z': /* ReadyForQuery */
		return a->completed && size == 1 && body[0] == 'I' ? RESETS_DONE : RESETS_BAD;
	default:
		return RESETS_BAD;
	}
}

enum resets_verdict
plain_answer_feed(struct plain_answer *a, const uint8_t *buf, size_t size)
{
	a->total += size;
	if (a->total > ANSWER_MAX)
		return RESETS_BAD;
	while (size != 0) {
		size_t want = HEADER, n;
		uint32_t length;
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
		if (a->message[0] == 'N' || a->message[0] == 'A') {
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
