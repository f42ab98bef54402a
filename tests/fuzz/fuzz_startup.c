/* SPDX-License-Identifier: PostgreSQL */
/* What comes first on the adoption socket: start-up packets in pieces, claims, cancels, and the answers made of them. */
#include "fuzz.h"

#include <inttypes.h>

#include "params.h"
#include "startup.h"

/* The fullest baseline there may be. */
static size_t
fill_baseline(char buf[static LAYOUT_BASELINE])
{
	size_t used = 0;

	for (unsigned i = 0; i < 64; i++)
		used += (size_t)snprintf(buf + used, LAYOUT_BASELINE - used, "name_%02u%cvalue %016u", i, 0, i) + 1;
	buf[used++] = '\0';
	return used;
}

/* A claim says the same when it is written again. */
static void
check_claim(const char *options)
{
	struct startup_claim claim, again;
	char nonce[2 * WIRE_NONCE + 1], text[256];

	if (!startup_parse_claim(options, &claim))
		return;
	for (unsigned i = 0; i < WIRE_NONCE; i++)
		snprintf(nonce + 2 * i, 3, "%02x", claim.nonce[i]);
	snprintf(text, sizeof(text), WIRE_ADOPT_FORMAT, claim.pool, claim.slot, claim.generation, claim.sequence,
	    claim.client, claim.attempt, nonce);
	fuzz_must(startup_parse_claim(text, &again));
	fuzz_must(memcmp(claim.nonce, again.nonce, WIRE_NONCE) == 0 && claim.pool == again.pool &&
		  claim.slot == again.slot && claim.client == again.client && claim.generation == again.generation &&
		  claim.sequence == again.sequence && claim.attempt == again.attempt);
}

/* Bytes that have not come decide nothing, and those behind a packet are not looked at. */
static void
check_beginning(const uint8_t *data, size_t n, enum startup_kind kind, const struct startup *whole)
{
	uint8_t *copy = malloc(n + 1);
	struct startup part;
	enum startup_kind found;

	fuzz_must(copy != NULL);
	memcpy(copy, data, n);
	found = startup_parse(copy, n, &part);
	if (found == STARTUP_BAD)
		fuzz_must(kind == STARTUP_BAD);
	else if (found != STARTUP_MORE)
		fuzz_must(found == kind && part.used == whole->used);
	if (kind != STARTUP_MORE && kind != STARTUP_BAD)
		fuzz_must(found == (n >= whole->used ? kind : STARTUP_MORE));
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t answer[STARTUP_ANSWER], short_answer[64];
	char baseline[LAYOUT_BASELINE];
	size_t baseline_size = fill_baseline(baseline);
	struct startup s;
	enum startup_kind kind = startup_parse(data, size, &s);

	for (size_t n = 0; n < size; n += n < 20 || n > size - 4 ? 1 : 1 + size / 32)
		check_beginning(data, n, kind, &s);
	switch (kind) {
	case STARTUP_MORE:
		break;
	case STARTUP_BAD:
		if (s.why != NULL)
			fuzz_must(startup_error("08P01", s.why, answer, sizeof(answer)) != 0);
		break;
	case STARTUP_SSL:
		fuzz_must(s.used == 8);
		break;
	case STARTUP_CANCEL:
		fuzz_must(s.used <= size && s.used >= 16);
		break;
	case STARTUP_PACKET:
		fuzz_must(s.used <= size && s.used <= STARTUP_MAX);
		check_claim(s.options);
		fuzz_must(startup_answer(&s, baseline, baseline_size, 1, 2, answer, sizeof(answer)) != 0);
		fuzz_must(startup_answer(&s, baseline, baseline_size, 1, 2, short_answer, sizeof(short_answer)) == 0);
		break;
	}
	{
		char *text = fuzz_text(data, size);

		check_claim(text);
		free(text);
	}
	return 0;
}
