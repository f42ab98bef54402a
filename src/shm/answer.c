/* SPDX-License-Identifier: PostgreSQL */
#include "answer.h"

#include <arpa/inet.h>
#include <string.h>

#define ANSWER_MAX (UINT64_C(1) << 20) /* bytes, with whatever notices, notifications and rows there are */
#define HEADER 5                       /* type and length of a message */

/* Of the message whose header is there; without the type. */
static uint32_t
length_of(const struct answer *a)
{
	uint32_t length;

	memcpy(&length, a->message + 1, 4);
	return ntohl(length);
}

enum answer_verdict
answer_feed(struct answer *a, const struct answer_reader *reader, void *context, const uint8_t *buf, size_t size)
{
	a->total += size;
	if (a->total > ANSWER_MAX)
		return ANSWER_BAD;
	while (size != 0) {
		size_t want, n;
		uint32_t length;
		enum answer_verdict v;

		if (a->skip != 0) {
			n = a->skip < size ? (size_t)a->skip : size;
			a->skip -= n;
			buf += n;
			size -= n;
			continue;
		}
		want = a->used < HEADER ? HEADER : 1 + (size_t)length_of(a);
		n = want - a->used < size ? want - a->used : size;
		memcpy(a->message + a->used, buf, n);
		a->used += n;
		buf += n;
		size -= n;
		if (a->used < HEADER)
			continue;
		length = length_of(a);
		if (length < 4 || length > ANSWER_MAX)
			return ANSWER_BAD;
		/* Asked once: a message that is not skipped at its header goes on being read. */
		if (a->used == HEADER && reader->skips(context, a->message[0])) {
			a->skip = length - 4;
			a->used = 0;
			continue;
		}
		if (1 + (size_t)length > sizeof(a->message))
			return ANSWER_BAD;
		if (a->used < 1 + (size_t)length)
			continue;
		a->used = 0;
		v = reader->take(context, a->message[0], (const char *)a->message + HEADER, length - 4);
		if (v == ANSWER_DONE)
			return size == 0 ? ANSWER_DONE : ANSWER_BAD;
		if (v == ANSWER_BAD)
			return ANSWER_BAD;
	}
	return ANSWER_MORE;
}
