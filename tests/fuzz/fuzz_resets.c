/* SPDX-License-Identifier: PostgreSQL */
/* The strict reader of a reset's answer: fed whole and in fragments, it comes to the same verdict. */
#include "fuzz.h"

#include "resets.h"

static const char baseline_text[] = "client_encoding\0UTF8\0standard_conforming_strings\0on\0TimeZone\0UTC\0";

static struct segment *
segment(void)
{
	static struct segment seg;
	struct segment_params params = {.instance_name = "fuzz",
	    .pool_name = "app",
	    .user = "u",
	    .dbname = "d",
	    .nslots = 1,
	    .nrows = 1,
	    .nclients = 1,
	    .nstatements = 4};
	int fd;

	if (seg.header == NULL)
		fuzz_must(segment_create(&params, &seg, &fd) == 0);
	return &seg;
}

struct question {
	enum reset_kind kind;
	bool asks, sets, tells;
	uint64_t off;
};

/* Feeds pieces of `least` to `least + spread` bytes until there is a verdict; *ret_fed: the bytes it took. */
static enum answer_verdict
feed(const struct question *q, const char *baseline, const uint8_t *data, size_t size, size_t least, unsigned spread,
    struct resets_told *told, size_t *ret_fed)
{
	struct segment *seg = segment();
	enum answer_verdict verdict = ANSWER_MORE;
	struct resets_answer answer;
	size_t at = 0;

	atomic_store(&seg->slot[0].off_baseline, q->off);
	resets_answer_init(&answer, seg, 0, baseline, q->kind, q->asks);
	if (q->sets)
		resets_answer_sets(&answer, q->tells ? told : NULL);
	for (unsigned i = 0; at < size && verdict == ANSWER_MORE; i++) {
		size_t n = least + (spread != 0 ? i * 7 % spread : 0);

		if (n > size - at)
			n = size - at;
		verdict = resets_answer_feed(&answer, data + at, n);
		at += n;
	}
	if (verdict == ANSWER_DONE)
		resets_done(&answer);
	*ret_fed = at;
	return verdict;
}

/* What was told is a baseline of its own, of names that the session's has. */
static void
check_told(const struct resets_told *told, const char *baseline)
{
	const char *name, *value;
	unsigned bit;

	fuzz_must(told->used < sizeof(told->text) && told->text[told->used] == '\0');
	for (size_t at = 0; told->used != 0 && (name = baseline_next(told->text, &at, &value)) != NULL;) {
		fuzz_must(baseline_find(baseline, name, &bit) != NULL && (told->bits & UINT64_C(1) << bit) != 0);
		fuzz_must(resets_told_find(told, name) != NULL);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};
	unsigned how = fuzz_byte(&f), piece = fuzz_byte(&f);
	uint64_t owed = fuzz_number(&f, 8);
	struct question q = {.kind = (enum reset_kind)(how % RESET_NKINDS),
	    .asks = (how & 0x20) != 0,
	    .sets = (how & 0x40) != 0,
	    .tells = (how & 0x80) != 0,
	    .off = (how & 0x10) != 0 ? owed : 0};
	char *baseline = calloc(1, LAYOUT_BASELINE);
	static uint8_t message[RESETS_MESSAGE];
	struct resets_told told = {0}, again = {0};
	enum answer_verdict whole, pieces;
	size_t fed, fed_whole, n;
	uint32_t flags;

	fuzz_must(baseline != NULL);
	if ((how & 0x10) != 0 && (piece & 0x80) != 0) { /* anything at all: it lies in shared memory */
		const uint8_t *bytes = fuzz_bytes(&f, LAYOUT_BASELINE, &n);

		memcpy(baseline, bytes, n);
	} else {
		memcpy(baseline, baseline_text, sizeof(baseline_text));
	}
	if (resets_is_owed(owed, owed >> 32, &q.kind, &flags)) {
		q.asks = (flags & RESET_ASKED) != 0;
		q.sets = (flags & RESET_SETS) != 0;
	}
	fuzz_must(resets_message(q.kind, "SELECT 1", q.asks ? baseline : NULL, message) <= sizeof(message));
	whole = feed(&q, baseline, f.at, f.left, f.left + 1, 0, &told, &fed_whole);
	pieces = feed(&q, baseline, f.at, f.left, 1 + piece % 5, 1 + (piece >> 4 & 7), &again, &fed);
	/* Done before the end: then there was something behind it, which is bad. */
	if (pieces == ANSWER_DONE && fed < f.left)
		fuzz_must(whole == ANSWER_BAD);
	else
		fuzz_must(whole == pieces);
	if (q.sets && q.tells) {
		check_told(&told, baseline);
		check_told(&again, baseline);
	}
	free(baseline);
	return 0;
}
