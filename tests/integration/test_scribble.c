/* SPDX-License-Identifier: PostgreSQL */
/*
 * A process that may open one pool, and writes over all of its lease segment for as long as everybody else works: the broker
 * lives and answers, the other pool's workers and every tool go on, and a restart puts the pool right. And objects
 * that somebody tries to cut: the lease segment cannot be, and with the statistics it does no harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "it.h"
#include "paths.h"
#include "script.h"
#include "web.h"

#define ROUNDS 4 /* of all tools, while the scribbler works */
#define WRITES 512 /* between two looks whether it is to stop */

static const pglease_test_pool two_pools[] = {{.name = "app", .min = 2, .max = 3}, {.name = "other", .min = 1, .max = 1}};

static void
start(void)
{
	pglease_test_options options =
	    PGLEASE_TEST_OPTIONS(.pools = two_pools, .npools = 2, .extra = "http_listen = 127.0.0.1:0\n",
		.no_leak_check = it_leaks_on_purpose);

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
}

static uint64_t
any_word(void)
{
	return (uint64_t)it_random() << 32 | it_random();
}

/* One that may be: a state, flags, a row or a client that is there, a sequence near the present one. */
static uint64_t
plausible_word(uint64_t now)
{
	const unsigned nobody[] = {WORD_NONE, 1023, 4095, it_random() & 0xffff, it_random() & 0xffff};
	unsigned who = it_random() % 3 != 0 ? it_random() % 8 : nobody[it_random() % 5];

	return word_pack(it_random() % 8, it_random() % 3 != 0 ? 0 : it_random(), who,
	    word_seq(now) + it_random() % 3 - 1);
}

static void
write_once(struct segment *seg)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)seg->header, *at;
	struct slot *slot = &seg->slot[it_random() % (it_random() % 2 ? 4 : seg->nslots)];
	struct row *row = &seg->row[it_random() % (it_random() % 2 ? 8 : seg->nrows)];

	switch (it_random() % 10) {
	case 0: /* anything, anywhere */
		atomic_store(&words[it_random() % (seg->size / 8)], any_word());
		break;
	case 1: /* the header, what clients obey and what everybody counts by */
		at = &words[it_random() % 512];
		atomic_store(at, it_random() % 2 ? any_word() : atomic_load(at) + it_random() % 3 - 1);
		break;
	case 2:
	case 3:
		atomic_store(&slot->word, plausible_word(atomic_load(&slot->word)));
		break;
	case 4:
		atomic_store(&row->word, plausible_word(atomic_load(&row->word)));
		break;
	case 5: /* what is beside the words: times, owed, block, semaphore */
		at = (_Atomic uint64_t *)(it_random() % 2 ? (void *)slot : (void *)row);
		atomic_store(&at[1 + it_random() % 15], it_random() % 2 ? any_word() : it_random() % 64);
		break;
	case 6:
		atomic_store(&seg->queue[it_random() & seg->queue_mask],
		    it_random() % 2 ? any_word() : (uint64_t)it_random() << 18 | it_random() % 64);
		break;
	case 7:
		atomic_store(it_random() % 2 ? &seg->header->head : &seg->header->tail,
		    it_random() % 2 ? any_word() : seg->queue_mask + 1 + it_random() % 8);
		break;
	case 8:
		atomic_store(&seg->header->idle_bitmap[it_random() % 2], any_word());
		break;
	default: /* texts without an end, histograms, statements */
		memset((char *)seg->header + it_random() % (seg->size - 4096), (int)it_random(), it_random() % 4096);
		break;
	}
}

/* Rings and cancels all the time, too: the broker is to look at what is written. */
static void
scribble(int socket, const void *arg)
{
	struct pollfd p = {.fd = socket, .events = POLLIN};
	struct wire_ring ring = {.pool = 0};
	struct script_client c;

	(void)arg;
	script_attach(&c);
	wire_header_init(&ring.header, WIRE_RING);
	it_say(socket, 'r');
	while (poll(&p, 1, 0) == 0) {
		for (unsigned i = 0; i < WRITES; i++)
			write_once(&c.seg);
		(void)send(c.control, &ring, sizeof(ring), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	it_hear(socket, 's');
}

/* Leases of the other pool, each with its own nonce. Says 'r' after the first, and 'd' at the end. */
static void
lease_others(int socket, const void *arg)
{
	struct pollfd p = {.fd = socket, .events = POLLIN};
	pglease_lease lease;
	pglease_pool *pool;
	pglease *own;
	char sql[64], nonce[32];
	PGconn *conn;

	it_ok(pglease_attach(NULL, NULL, &own));
	it_ok(pglease_pool_open(own, "other", &pool));
	for (unsigned n = 0; n == 0 || poll(&p, 1, 0) == 0; n++) {
		snprintf(nonce, sizeof(nonce), "%d-%u", (int)getpid(), n);
		snprintf(sql, sizeof(sql), "select '%s'", nonce);
		conn = it_acquire(pool, &lease);
		ck_assert_str_eq(it_query(conn, sql), nonce);
		it_release(&lease);
		if (n == 0)
			it_say(socket, 'r');
	}
	it_hear(socket, 's');
	pglease_detach(own);
	it_say(socket, 'd');
}

/* pgleasestat with these arguments, split at spaces: it ends by itself, and with one of its own statuses. */
static void
run_pgleasestat(const char *arguments)
{
	char program[512], log[512], copy[128], *save = NULL;
	const char *argv[16] = {program};
	struct child child;
	unsigned n = 1;
	int status;

	snprintf(program, sizeof(program), "%s/pgleasestat", getenv("PGLEASE_BUILDDIR"));
	snprintf(log, sizeof(log), "%s/pgleasestat.log", pglease_test_folder(it_env));
	snprintf(copy, sizeof(copy), "%s", arguments);
	for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
		argv[n++] = word;
	ck_assert_msg(child_start(argv, log, NULL, &child) == 0, "%s", child_error());
	ck_assert_msg(child_wait(&child, 30000, &status) == 0, "pgleasestat %s: %s", arguments, child_error());
	ck_assert_msg((status & 0x7f) == 0 && status >> 8 <= 3, "pgleasestat %s ended with %x", arguments, status);
	(void)unlink(log);
}

static void
run_every_form_of_pgleasestat(void)
{
	static const char *const forms[] = {"-PSCWAI", "-PSCWAI -t", "-PSCWAI -p", "-PSCWAI -c", "-PSCWAI -l", "-PSCWAI -u", "-PSCWAI -J",
	    "-PSCWAI -r -b", "--csv -S", "--csv -C", "--csv -W", "--prometheus", "--check", "--check -i app", "--list", "--list-columns -S",
	    "-P -i app", "-S -i app/0", "-W -i app/1", "--history", "--history --since 10min --step 1s -J", "-S -o slot,pid,acquired_at"};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		run_pgleasestat(forms[i]);
}

static void
get_page(const char *path, int status, int or)
{
	struct web_answer answer;

	web_get(web_of_broker(), path, "", &answer);
	ck_assert_msg(answer.status == status || answer.status == or, "%s: %s", path, answer.text);
	web_free(&answer);
}

static void
get_every_page(void)
{
	get_page("/metrics", 200, 200);
	get_page("/stats.json", 200, 200);
	get_page("/history.json?since=1min", 200, 404);
	get_page("/healthz", 200, 503);
	get_page("/readyz", 200, 503);
}

static void
lease_once(const char *name)
{
	pglease_lease lease;
	pglease_pool *pool;
	pglease *own;
	PGconn *conn;

	it_ok(pglease_attach(NULL, NULL, &own));
	it_ok(pglease_pool_open(own, name, &pool));
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 7"), "7");
	it_release(&lease);
	pglease_detach(own);
}

/* The pool that nobody could write to: no lease was taken away, no connection lost, all that was leased came back. */
static void
check_other_pool(void)
{
	pglease_pool *pool;
	pglease_stats stats;
	pglease *own;

	it_ok(pglease_attach(NULL, NULL, &own));
	it_ok(pglease_pool_open(own, "other", &pool));
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 1);
	ck_assert_uint_eq(stats.closed, 0);
	ck_assert_uint_eq(stats.revoked, 0);
	ck_assert_uint_eq(stats.returned, 0);
	ck_assert_uint_eq(stats.failed, 0);
	ck_assert_uint_gt(stats.released, 0);
	ck_assert_uint_eq(stats.acquired, stats.released);
	pglease_detach(own);
}

START_TEST(a_segment_that_is_written_over)
{
	struct it_worker scribbler, worker;
	pid_t broker;

	it_seed_random();
	start();
	broker = pglease_test_broker_pid(it_env);
	worker = it_worker(lease_others, NULL);
	it_hear(worker.socket, 'r');
	scribbler = it_worker(scribble, NULL);
	it_hear(scribbler.socket, 'r');
	for (unsigned round = 0; round < ROUNDS; round++) {
		run_every_form_of_pgleasestat();
		get_every_page();
		ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
		lease_once("other");
	}
	/* It is still there, and the broker the same. */
	it_say(scribbler.socket, 's');
	it_join(&scribbler);
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	it_say(worker.socket, 's');
	it_hear(worker.socket, 'd');
	it_join(&worker);
	ck_assert_int_eq(pglease_test_broker_pid(it_env), broker);
	check_other_pool();
	/* Nobody holds a lease of the pool, whatever its words say: it drains. Only a new segment makes it right again. */
	ck_assert_int_eq(it_ctl("drain", "app", "30"), 0);
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	lease_once("app");
	lease_once("other");
}
END_TEST

/* Killed in the middle of it, by a broker that is killed after it: nothing is left that keeps a new one from starting. */
START_TEST(a_scribbler_and_its_broker_are_killed)
{
	struct it_worker scribbler;

	it_seed_random();
	start();
	scribbler = it_worker(scribble, NULL);
	it_hear(scribbler.socket, 'r');
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	it_kill(&scribbler);
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	run_every_form_of_pgleasestat(); /* of what it left */
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	lease_once("app");
}
END_TEST

/* The descriptor of a lease segment, as every client of the pool gets it. */
static int
segment_of(struct script_client *c)
{
	struct wire_open question = {.pool = "app"};
	struct wire_pool answer;
	int fd;

	wire_header_init(&question.header, WIRE_OPEN);
	script_send(c->control, &question, sizeof(question));
	ck_assert_int_eq(wire_recv(c->control, &answer, sizeof(answer), &fd), sizeof(answer));
	ck_assert_int_ge(fd, 0);
	return fd;
}

START_TEST(a_lease_segment_cannot_be_cut)
{
	struct script_client c;
	struct stat before, after;
	int fd;

	it_leaks_on_purpose = true; /* whoever looks for leaks cannot map it at the end */
	start();
	script_attach(&c);
	fd = segment_of(&c);
	ck_assert_int_eq(fstat(fd, &before), 0);
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(ftruncate(fd, before.st_size - 1), -1);
	ck_assert_int_eq(ftruncate(fd, before.st_size + 4096), -1);
	ck_assert_int_eq(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -1);
	ck_assert_int_eq(pwrite(fd, "x", 1, before.st_size), -1);
	/* Nor can it be sealed further, so that the broker could not write any more. */
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	ck_assert_int_eq(fstat(fd, &after), 0);
	ck_assert_int_eq(after.st_size, before.st_size);
	/* A hole is as good as zeros written over it: what was there is gone, and the broker lives. */
	ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, before.st_size), 0);
	close(fd);
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	get_every_page();
	lease_once("other");
	close(c.control);
	segment_unmap(&c.seg);
}
END_TEST

/* Cuts an object of the instance in /dev/shm to these sizes, and fills it with nonsense. */
static void
cut(const char *name)
{
	char path[PATHS_MAX + 16], nonsense[8192];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_msg(fd >= 0 && fstat(fd, &st) == 0, "%s: %s", path, strerror(errno));
	memset(nonsense, 0xa5, sizeof(nonsense));
	for (off_t size = st.st_size / 2; size > 0; size /= 7) {
		ck_assert_int_eq(ftruncate(fd, size), 0);
		run_pgleasestat("-PSCWAI -J");
		run_pgleasestat("--history");
		run_pgleasestat("--check");
		ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
		get_every_page();
	}
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	run_every_form_of_pgleasestat();
	ck_assert_int_eq(pwrite(fd, nonsense, sizeof(nonsense), 0), sizeof(nonsense));
	run_every_form_of_pgleasestat();
	ck_assert_int_eq(ftruncate(fd, st.st_size), 0);
	run_every_form_of_pgleasestat();
	close(fd);
}

/* Only the broker's own user can; no tool and no broker falls over it. */
START_TEST(statistics_that_are_cut_harm_nobody)
{
	struct it_worker worker;
	char name[PATHS_MAX];
	pid_t broker;

	start();
	broker = pglease_test_broker_pid(it_env);
	worker = it_worker(lease_others, NULL);
	it_hear(worker.socket, 'r');
	ck_assert_int_eq(paths_stats_name(pglease_test_instance(it_env), name, sizeof(name)), 0);
	cut(name);
	ck_assert_int_eq(paths_history_name(pglease_test_instance(it_env), "app", name, sizeof(name)), 0);
	cut(name);
	it_say(worker.socket, 's');
	it_hear(worker.socket, 'd');
	it_join(&worker);
	ck_assert_int_eq(pglease_test_broker_pid(it_env), broker);
	check_other_pool();
}
END_TEST

IT_MAIN("scribble", a_segment_that_is_written_over, a_scribbler_and_its_broker_are_killed, a_lease_segment_cannot_be_cut,
    statistics_that_are_cut_harm_nobody)
