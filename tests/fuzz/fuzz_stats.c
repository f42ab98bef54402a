/* SPDX-License-Identifier: PostgreSQL */
/*
 * The statistics object as tools find it, sound but for what the input bends or cuts off: snapshot, every form that
 * pgleasestat shows, Prometheus text and JSON. What was once read is private: it is sound, or refused.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <locale.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "export.h"
#include "publish.h"
#include "stat_check.h"
#include "stat_output.h"

static unsigned char *sound;
static size_t sound_size;
static int object = -1;
static struct stats_reader *reader;

/* What a publisher makes of a pool with a waiter and a leased slot. */
static void
start(void)
{
	static struct segment seg;
	static const struct segment *pools[1] = {&seg};
	struct segment_params params = {.instance_name = "fuzz",
	    .pool_name = "app",
	    .user = "u",
	    .dbname = "d",
	    .nslots = 2,
	    .nrows = 4,
	    .nclients = 2};
	char instance[48], name[PATHS_MAX];
	struct publisher_params publisher_params = {
	    .instance = instance, .socket_dir = "/nowhere", .mode = 0600, .pools = pools, .npools = 1};
	struct publisher *publisher;
	const char *error;
	struct stat st;
	int fd;

	setlocale(LC_CTYPE, "C.UTF-8");
	snprintf(instance, sizeof(instance), "fuzz-stats-%ld", (long)getpid());
	fuzz_must(segment_create(&params, &seg, &fd) == 0);
	atomic_store(&seg.header->state, SEGMENT_OPEN);
	atomic_store(&seg.header->max_connections, 2);
	atomic_store(&seg.header->slots_used, 2);
	atomic_store(&seg.client[1].pid, 812);
	atomic_store(&seg.client[1].incarnation, 2);
	strcpy(seg.client[1].program, "worker");
	atomic_store(&seg.slot[0].word, word_pack(SLOT_LEASED, SLOT_DIRTY, 0, 9));
	atomic_store(&seg.row[0].word, word_pack(ROW_OWNED, 0, 1, 5));
	atomic_store(&seg.row[1].word, word_pack(ROW_WAITING, 0, 1, 7));
	fuzz_must(publisher_new(&publisher_params, &publisher, &error) == 0);
	fuzz_must(publisher_publish(publisher, SEGMENT_OPEN, pools, 1) == 0);
	fuzz_must(paths_stats_name(instance, name, sizeof(name)) == 0);
	object = shm_open(name, O_RDWR, 0);
	fuzz_must(object >= 0 && stats_reader_open(instance, &reader) == 0);
	/* Both are open: nobody else needs its name. */
	publisher_free(publisher);
	(void)shm_unlink(name);
	fuzz_must(fstat(object, &st) == 0);
	sound_size = (size_t)st.st_size;
	sound = malloc(sound_size);
	fuzz_must(sound != NULL && pread(object, sound, sound_size, 0) == (ssize_t)sound_size);
}

static void
check_json(const struct stats_snapshot *snapshot)
{
	struct text text = {0};
	size_t length;
	char *json;
	json_t *document;

	export_json(snapshot, false, &text);
	json = text_take(&text, &length);
	fuzz_must(json != NULL);
	document = json_loads(json, 0, NULL);
	fuzz_must(json_is_object(document));
	json_decref(document);
	free(json);
}

static void
check_metrics(const struct stats_snapshot *snapshot, enum export_format format)
{
	struct text text = {0};
	size_t length;
	char *lines;

	export_metrics(snapshot, format, &text);
	lines = text_take(&text, &length);
	fuzz_must(lines != NULL && length > 0 && lines[length - 1] == '\n' && strlen(lines) == length);
	for (char *line = lines, *end; *line != '\0'; line = end + 1) {
		end = strchr(line, '\n');
		fuzz_must(end > line && (*line == '#' || strncmp(line, "pglease_", 8) == 0 || strncmp(line, "db_", 3) == 0));
	}
	free(lines);
}

static void
show(const struct stats_snapshot *snapshot, struct fuzz *f)
{
	uint8_t how = fuzz_byte(f), which = fuzz_byte(f);
	struct stat_options options = {
	    .format = (enum stat_format)(how % 5),
	    .aspect = (enum stat_aspect)(which % STAT_NASPECTS),
	    .noheadings = (how & 0x40) != 0,
	    .exact = (how & 0x80) != 0,
	    .instance = "fuzz",
	};
	const char *columns[] = {NULL, "name,max", "pid,nonsense", "slot,held_for,acquired_at"};
	char *out, *err;
	size_t out_size, err_size;
	FILE *to = open_memstream(&out, &out_size), *to_err = open_memstream(&err, &err_size);
	int r;

	fuzz_must(to != NULL && to_err != NULL);
	options.resource[how / 5 % STATS_NTABLES] = true;
	if (options.format != STAT_CSV && (which & 0x80) != 0)
		for (unsigned i = 0; i < STATS_NTABLES; i++)
			options.resource[i] = true;
	else if (options.aspect != STAT_SUMMARY) {
		options.columns = columns[which >> 3 & 3];
		options.id = (which & 0x40) != 0 ? "app/0" : NULL;
	}
	if (options.format == STAT_CSV && options.aspect == STAT_SUMMARY)
		options.aspect = STAT_USUAL;
	r = stat_output_show(snapshot, &options, to, to_err);
	fuzz_must(r == 0 || r == -EINVAL || r == -ENOENT || r == -ENOMEM);
	(void)stat_output_list_columns(snapshot, &options, to);
	(void)stat_check(snapshot, (which & 0x20) != 0 ? "app" : NULL, to);
	fclose(to);
	fclose(to_err);
	free(out);
	free(err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size}, look;
	struct stats_snapshot snapshot;
	struct stats_header h;
	uint8_t how = fuzz_byte(&f);
	unsigned char *bytes;
	size_t n;
	int r;

	if (sound == NULL)
		start();
	look.at = f.at;
	look.left = f.left < 2 ? f.left : 2;
	(void)fuzz_number(&f, 2);
	n = (how & 1) != 0 ? (size_t)fuzz_number(&f, 3) % (sound_size + 1) : sound_size;
	bytes = malloc(sound_size);
	fuzz_must(bytes != NULL);
	memcpy(bytes, sound, sound_size);
	fuzz_bend(&f, bytes, sound_size);
	/* One that is being written, or not yet, is waited for: a tenth of a second. Other tests do that. */
	memcpy(&h, bytes, sizeof(h));
	h.sequence &= ~UINT64_C(1);
	h.magic = h.magic == 0 ? 1 : h.magic;
	memcpy(bytes, &h, sizeof(h));
	fuzz_must(ftruncate(object, (off_t)n) == 0 && pwrite(object, bytes, n, 0) == (ssize_t)n);
	free(bytes);
	r = stats_reader_snapshot(reader, &snapshot);
	if (r != 0)
		return 0;
	fuzz_must(!snapshot.torn && snapshot.ntables <= STATS_MAX_TABLES);
	show(&snapshot, &look);
	check_json(&snapshot);
	check_metrics(&snapshot, EXPORT_PROMETHEUS);
	check_metrics(&snapshot, EXPORT_OPENMETRICS);
	stats_snapshot_fini(&snapshot);
	return 0;
}
