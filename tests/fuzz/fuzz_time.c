/* SPDX-License-Identifier: PostgreSQL */
/* Moments and lengths of time, as people and HTTP's clients write them. */
#include "fuzz.h"

#include "time_text.h"

#define SECOND UINT64_C(1000000000)
#define TEN_YEARS (UINT64_C(10) * 365 * 24 * 3600 * SECOND)
#define YEAR_2201 (UINT64_C(7289654400) * SECOND)

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};
	uint64_t now = fuzz_number(&f, 4) * SECOND, found = 0, again = 0;
	char *text = fuzz_text(f.at, f.left);

	if (time_text_length(text, &found) == 0)
		fuzz_must(found <= TEN_YEARS);
	if (time_text_parse(text, now, &found) == 0) {
		/* A local time may be half a day beyond. */
		fuzz_must(found <= YEAR_2201 + 24 * 3600 * SECOND);
		fuzz_must(time_text_parse(text, now, &again) == 0 && again == found);
	}
	free(text);
	return 0;
}
