/* SPDX-License-Identifier: PostgreSQL */
/*
 * A lease segment that somebody has written over, as the library finds it: mapped and used by hand, and then through
 * the library, whose broker gives it out.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "collect.h"
#include "handoff.h"
#include "paths.h"
#include "pglease.h"
#include "queue.h"
#include "resets.h"
#include "rows.h"
#include "slots.h"
#include "statements.h"
#include "wire.h"

static struct segment seg;
static int seg_fd = -1, listening = -1;
static unsigned char *sound;
static char folder[64], path[PATHS_MAX];

static void
clean(void)
{
	unlink(path);
	rmdir(folder);
}

static void
start(void)
{
	struct segment_params params = {.instance_name = "fuzz",
	    .pool_name = "app",
	    .user = "u",
	    .dbname = "d",
	    .nslots = 3,
	    .nrows = 8,
	    .nclients = 2,
	    .nstatements = 8};
	const char *tmp = getenv("TMPDIR");

	fuzz_must(segment_create(&params, &seg, &seg_fd) == 0);
	atomic_store(&seg.header->state, SEGMENT_OPEN);
	atomic_store(&seg.header->max_connections, 2);
	atomic_store(&seg.header->slots_used, 3);
	atomic_store(&seg.slot[0].word, word_pack(SLOT_IDLE, SLOT_DIRTY, 1, 9));
	atomic_store(&seg.slot[1].word, word_pack(SLOT_LEASED, 0, 2, 4));
	atomic_store(&seg.header->idle_bitmap[0], 1);
	sound = malloc(seg.size);
	fuzz_must(sound != NULL);
	memcpy(sound, seg.header, seg.size);
	snprintf(folder, sizeof(folder), "%.40s/pglease-fuzz-XXXXXX", tmp != NULL ? tmp : "/tmp");
	fuzz_must(mkdtemp(folder) != NULL && paths_control_socket(folder, path, sizeof(path)) == 0);
	atexit(clean);
}

/* For one caller: who comes again, when the broker has died, is refused. */
static void
open_door(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, path);
	unlink(path);
	listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	fuzz_must(bind(listening, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listening, 1) == 0);
}

/* What the broker and other processes' libraries do with it, all of which look where its words say. */
static void
use(struct segment *s)
{
	struct collect_times *times = calloc(1, sizeof(*times));
	struct stats_histogram_row histogram[STATS_NTIMES];
	struct histogram_sum *sum = malloc(sizeof(*sum));
	struct stats_alert_row alert[ALERT_N];
	struct stats_pool_row pool;
	struct collect_names names;
	struct pool_totals totals;
	struct statement_ref ref;
	char site[SLOT_SITE], sql[LAYOUT_RESET_SQL];
	uint64_t w, wait, since, now = clock_ns();
	uint32_t row, n;
	int slot, claimed;

	fuzz_must(times != NULL && sum != NULL);
	totals_read(s, now, &totals);
	fuzz_must(totals.total <= s->nslots && totals.waiting <= s->nrows);
	for (unsigned i = 0; i < STATS_NTIMES; i++)
		totals_times(s, (enum stats_time)i, sum);
	(void)totals_health(s, now);
	totals_note_peak(s);
	collect_names(s, &names);
	collect_pool(s, &names, now, times, &pool, histogram);
	collect_alerts(s, &names, now, UINT64_C(1700000000000000000), alert);
	for (unsigned i = 0; i < ALERT_N; i++)
		fuzz_must(strcmp(alert[i].alert, alert_name(i)) == 0 && alert[i].raised <= 1);
	free(times);
	free(sum);
	fuzz_must(resets_kind(s) < RESET_NKINDS);
	resets_sql(s, sql);
	for (n = 0; n < s->nslots; n++) {
		slot_site(s, n, site);
		fuzz_must(strlen(site) < SLOT_SITE);
		(void)slot_leases(s, n);
		if (s->nstatements != 0) {
			statements_find(s, n, 3, 4, &ref);
			statements_add(s, n, &ref);
			statements_used(s, n, &ref);
			(void)statements_victim(s, n, &ref);
			statements_remove(s, n, &ref);
			statements_forget(s, n);
		}
	}
	(void)handoff_recover(s, now);
	(void)queue_count(s, &since);
	(void)queue_length(s, &since);
	(void)queue_wake(s);
	queue_repost(s);
	if (queue_oldest(s, &row, &wait))
		fuzz_must(row < s->nrows);
	claimed = row_claim(s, 1, 5, &w);
	fuzz_must(claimed < (int)s->nrows);
	if (claimed >= 0) {
		if (row_wait(s, (uint32_t)claimed, &w, now) && queue_enter(s, (uint32_t)claimed, word_seq(w), now))
			queue_leave(s, (uint32_t)claimed, word_seq(w));
		(void)handoff_take_grant(s, (uint32_t)claimed, word_seq(w), 1, &w);
	}
	slot = slot_find_idle(s, 1, 0, true, &w);
	fuzz_must(slot < (int)s->nslots);
	if (slot >= 0 && claimed >= 0 && slot_lease(s, (uint32_t)slot, &w, (unsigned)claimed, 1))
		(void)handoff_release(s, (uint32_t)slot, &w, 1, SLOT_DIRTY, now, true);
}

/* Gives the segment out to whoever comes first. */
static void *
play(void *arg)
{
	struct wire_welcome welcome = {.broker_pid = 1, .incarnation = 7, .instance_id = 9, .client = 1};
	struct wire_pool pool = {.pool = 0};
	/* Then it dies: whoever waits for it at a refused adoption need not wait for long. */
	struct timeval patience = {.tv_usec = 10000};
	char buf[WIRE_MAX];
	int sock = accept(listening, NULL, NULL);

	close(listening);
	wire_header_init(&welcome.header, WIRE_WELCOME);
	wire_header_init(&pool.header, WIRE_POOL);
	if (recv(sock, buf, sizeof(buf), 0) > 0 && wire_send(sock, &welcome, sizeof(welcome), -1) > 0 &&
	    recv(sock, buf, sizeof(buf), 0) > 0 && wire_send(sock, &pool, sizeof(pool), seg_fd) > 0 &&
	    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0)
		while (recv(sock, buf, sizeof(buf), 0) > 0)
			;
	close(sock);
	return NULL;
}

static void
use_by_library(void)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	pglease_health health;
	pglease_stats stats;
	pglease_times times;
	pglease_lease lease;
	pglease_pool *pool;
	pglease *client;
	pthread_t thread;
	PGconn *conn;
	char *text;

	options.socket_dir = folder;
	options.timeout_ms = 2000;
	open_door();
	fuzz_must(pthread_create(&thread, NULL, play, NULL) == 0);
	fuzz_must(pglease_attach("fuzz", &options, &client) == 0);
	if (pglease_pool_open(client, "app", &pool) == 0) {
		fuzz_must(pglease_stats_get(pool, &stats) == 0 && pglease_health_get(pool, &health) == 0);
		for (int i = PGLEASE_TIME_WAIT; i <= PGLEASE_TIME_TRANSACTION; i++)
			fuzz_must(pglease_times_get(pool, (enum pglease_time)i, &times) == 0);
		if (pglease_stats_json(pool, &text) == 0)
			pglease_free(text);
		if (pglease_stats_prometheus(pool, &text) == 0)
			pglease_free(text);
		/* There is nobody to adopt from: at most an error. */
		for (int timeout = PGLEASE_TIMEOUT_TRY; timeout < 4; timeout += 3)
			if (pglease_acquire(pool, timeout, &lease, &conn) == 0)
				(void)pglease_release(&lease);
		(void)pglease_threshold_check(pool);
		fuzz_must(strchr(pglease_error_message(), '\n') == NULL);
	}
	pglease_detach(client);
	pthread_join(thread, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};
	struct segment mapped;
	uint8_t how = fuzz_byte(&f);

	if (sound == NULL)
		start();
	memcpy(seg.header, sound, seg.size);
	fuzz_bend(&f, (unsigned char *)seg.header, seg.size);
	if (segment_map(seg_fd, &mapped) != 0)
		return 0;
	if ((how & 1) != 0)
		use_by_library();
	use(&mapped);
	segment_unmap(&mapped);
	return 0;
}
