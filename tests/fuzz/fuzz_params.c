/* SPDX-License-Identifier: PostgreSQL */
/* libpq's trace, from which the names of parameters are taken, in any pieces; and baselines that anybody may have written. */
#include "fuzz.h"

#include "params.h"
#include "segment.h"

static void
feed(struct params_names *names, const char *text, size_t size, size_t piece)
{
	for (size_t at = 0; at < size; at += piece)
		params_names_feed(names, text + at, size - at < piece ? size - at : piece);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct params_names *whole = params_names_new(), *pieces = params_names_new();
	const char *text = (const char *)data, *name, *value;
	char *baseline = calloc(1, LAYOUT_BASELINE);
	size_t at = 0, before;
	unsigned bit;

	fuzz_must(whole != NULL && pieces != NULL && baseline != NULL);
	feed(whole, text, size, size + 1);
	feed(pieces, text, size, size > 0 ? 1 + data[0] % 7 : 1);
	fuzz_must(params_names_count(whole) == params_names_count(pieces));
	for (unsigned i = 0; i < params_names_count(whole); i++)
		fuzz_must(strcmp(params_names_get(whole, i), params_names_get(pieces, i)) == 0);
	params_names_free(whole);
	params_names_free(pieces);

	/* The broker's own reader ... */
	for (before = 0; params_next(text, size, &at, &name, &value); before = at)
		fuzz_must(at > before && at <= size && *name != '\0' && value > name && value + strlen(value) < text + at);
	/* ... and the one for shared memory, of a fixed size. */
	memcpy(baseline, data, size < LAYOUT_BASELINE ? size : LAYOUT_BASELINE);
	at = 0;
	for (before = 0; (name = baseline_next(baseline, &at, &value)) != NULL; before = at) {
		fuzz_must(at > before && at <= LAYOUT_BASELINE);
		fuzz_must(baseline_find(baseline, name, &bit) != NULL && bit < 64);
	}
	free(baseline);
	return 0;
}
