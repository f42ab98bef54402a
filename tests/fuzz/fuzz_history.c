/* SPDX-License-Identifier: PostgreSQL */
/* Histories as tools and the library find them: an object's bytes, or a saved file, sound but for what the input bends. */
#include "fuzz.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "history_range.h"

#define SECOND UINT64_C(1000000000)
#define BEGIN (UINT64_C(1800000000) * SECOND)

static const uint64_t capacity[HISTORY_NRINGS] = {6, 3};
static unsigned char *sound;
static size_t sound_size;
static char file[128];

static void
clean(void)
{
	unlink(file);
}

static void
make_ring(struct history_header *h, enum history_ring ring, uint64_t seconds)
{
	uint64_t rows = ring == HISTORY_SECONDS ? 9 : 3; /* one ring is past its first lap */

	for (uint64_t k = 0; k < rows; k++) {
		struct history_row row = {.number = k + 1,
		    .serial = k + 1,
		    .time = BEGIN + k * seconds * SECOND,
		    .mono = (1000 + k * seconds) * SECOND,
		    .interval = seconds * SECOND,
		    .instance = 1 + (k > 6), /* a broker's restart */
		    .first = k == 0 || k == 7,
		    .max = 5,
		    .total = 3,
		    .leased = (uint32_t)(k % 4)};

		row.slot[COUNTER_LEASES_IMMEDIATE] = 100 * k;
		row.bucket[TIME_HOLD][20 + k % 10] = 7;
		memcpy(sound + h->ring[ring].offset + k % capacity[ring] * sizeof(row), &row, sizeof(row));
	}
	h->ring[ring].begun = h->ring[ring].done = rows;
}

static void
start(void)
{
	struct stats_column columns[HISTORY_MAX_COLUMNS];
	const char *tmp = getenv("TMPDIR");
	struct history_header h;
	int fd;

	history_header_init(&h, "fuzz", "app", capacity);
	h.magic = HISTORY_MAGIC;
	sound_size = h.size;
	sound = calloc(1, sound_size);
	fuzz_must(sound != NULL);
	history_describe(columns);
	memcpy(sound + h.columns, columns, HISTORY_COLUMNS * sizeof(columns[0]));
	make_ring(&h, HISTORY_SECONDS, 1);
	make_ring(&h, HISTORY_MINUTES, 60);
	memcpy(sound, &h, sizeof(h));
	snprintf(file, sizeof(file), "%.80s/pglease-fuzz-history-XXXXXX", tmp != NULL ? tmp : "/tmp");
	fd = mkstemp(file);
	fuzz_must(fd >= 0);
	close(fd);
	atexit(clean);
}

static int
on_step(void *context, const struct history_step *step)
{
	unsigned *steps = context;

	fuzz_must(step->from < step->to && step->rows > 0);
	return ++*steps > 10000 ? 1 : 0;
}

static void
read_all(const struct history_view *view, const struct history_range *range)
{
	static struct history_row row; /* of some KiB */
	unsigned steps = 0;

	for (unsigned r = 0; r < HISTORY_NRINGS; r++) {
		uint64_t first, end;

		history_view_range(view, (enum history_ring)r, &first, &end);
		fuzz_must(first <= end && end - first <= view->ring[r].capacity);
		for (uint64_t k = first; k < end && k < first + 32; k++)
			if (history_view_row(view, (enum history_ring)r, k, sizeof(row), &row))
				fuzz_must(row.number == k + 1);
	}
	fuzz_must(strlen(view->instance) < LAYOUT_NAME && strlen(view->pool) < LAYOUT_NAME);
	(void)history_range_walk(view, range, on_step, &steps);
}

/* As history_save() computes it, wherever the header says that things are. */
static void
set_checksum(unsigned char *bytes, const struct history_view *view)
{
	struct history_header h;
	uint64_t sum;

	memcpy(&h, bytes, sizeof(h));
	h.checksum = 0;
	sum = history_checksum(HISTORY_CHECKSUM_INIT, &h, sizeof(h));
	sum = history_checksum(sum, bytes + h.columns, h.ncolumns * sizeof(struct stats_column));
	for (unsigned r = 0; r < HISTORY_NRINGS; r++)
		sum = history_checksum(sum, bytes + view->ring[r].offset, view->ring[r].capacity * view->row_size);
	h.checksum = sum;
	memcpy(bytes, &h, sizeof(h));
}

/* By the file: what can be read is read, unless its checksum is wrong. */
static void
load(unsigned char *bytes, size_t size, bool is_sound, const struct history_view *view, const struct history_range *range)
{
	struct history_bytes loaded = {0};
	struct history_view again;
	char why[HISTORY_WHY];
	FILE *f;
	int r;

	if (is_sound)
		set_checksum(bytes, view);
	f = fopen(file, "w");
	fuzz_must(f != NULL && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
	r = history_load(file, &loaded, &again, why);
	/* One whose rows lie over its header has no right checksum. */
	fuzz_must(is_sound ? r == 0 || r == -EBADMSG : r != 0);
	if (r == 0)
		read_all(&again, range);
	else
		fuzz_must(why[0] != '\0' && strchr(why, '\n') == NULL);
	history_bytes_fini(&loaded);
}

static void
map(const unsigned char *bytes, size_t size, bool is_sound, const struct history_range *range)
{
	struct history_bytes mapped = {0};
	struct history_view again;
	int fd = memfd_create("history", MFD_CLOEXEC), r;

	fuzz_must(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
	r = history_map(fd, &mapped, &again);
	fuzz_must((r == 0) == is_sound);
	if (r == 0)
		read_all(&again, range);
	history_bytes_fini(&mapped);
	close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};
	uint8_t how = fuzz_byte(&f);
	uint64_t from = fuzz_number(&f, 2), length = fuzz_number(&f, 2), step = fuzz_number(&f, 2);
	struct history_range range = {
	    .from = BEGIN + from * SECOND - 1000 * SECOND,
	    .to = BEGIN + (from + length) * SECOND - 1000 * SECOND,
	    .step = step * SECOND,
	};
	struct history_view view;
	unsigned char *bytes;
	size_t n;
	bool is_sound;

	if (sound == NULL)
		start();
	if ((how & 1) != 0) {
		n = f.left;
		bytes = malloc(n + 1);
		fuzz_must(bytes != NULL);
		memcpy(bytes, f.at, n);
	} else {
		n = (how & 2) != 0 ? (size_t)fuzz_number(&f, 4) % (sound_size + 1) : sound_size;
		bytes = malloc(n + 1);
		fuzz_must(bytes != NULL);
		memcpy(bytes, sound, n);
		if (n > 0)
			fuzz_bend(&f, bytes, n);
	}
	is_sound = history_view_init(&view, bytes, n) == 0;
	if (is_sound)
		read_all(&view, &range);
	if ((how & 4) != 0)
		load(bytes, n, is_sound, &view, &range);
	if ((how & 8) != 0)
		map(bytes, n, is_sound, &range);
	free(bytes);
	return 0;
}
