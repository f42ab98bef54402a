/* SPDX-License-Identifier: PostgreSQL */
/*
 * What runs out or runs wrong beneath a broker: the disk under its data folder and its log, the clock, process numbers; and as many
 * clients as there may be. (Descriptors and rows: test_bad_limits.c. A start without room in /dev/shm: test_bad_start.c. Memory: test_memory.c.)
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "layout.h"
#include "outage.h"
#include "paths.h"
#include "run.h"
#include "stats.h"

static void
lease_once(void)
{
	pglease_lease lease;
	pglease_pool *pool = it_attach();

	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 7"), "7");
	it_release(&lease);
	it_detach();
}

/* --- Disks. --- */

static char disk[300];

/* A disk of this size in the environment's folder. */
static void
make_disk(const char *name, const char *size)
{
	char options[64];

	ck_assert_msg(geteuid() == 0, "this test mounts a small disk: run it as root");
	snprintf(disk, sizeof(disk), "%s/%s", run_folder(), name);
	ck_assert_int_eq(mkdir(disk, 0755), 0);
	snprintf(options, sizeof(options), "size=%s,mode=0755", size);
	ck_assert_msg(mount("tmpfs", disk, "tmpfs", 0, options) == 0, "mount: %s", strerror(errno));
}

static void
fill_disk(const char *name)
{
	static const char zeros[4096];
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", disk, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	ck_assert_int_eq(errno, ENOSPC);
	close(fd);
}

static void
remove_disk(void)
{
	if (disk[0] != '\0')
		(void)umount2(disk, MNT_DETACH);
}

static void
teardown(void)
{
	remove_disk();
	it_teardown();
}

/* The broker cannot make its own PostgreSQL there, and says so. */
START_TEST(a_full_disk_under_an_embedded_server)
{
	char text[900];
	const char *args[] = {"-c", NULL, NULL};

	make_disk("disk", "1m");
	fill_disk("full");
	snprintf(text, sizeof(text),
	    "[pglease]\ninstance = full-%d\nsocket_dir = %s/../run-%d\ndata_dir = %s/data\n[pool app]\nembedded = yes\n", (int)getpid(),
	    run_folder(), (int)getpid(), disk);
	args[1] = run_file("pgleased.ini", text, strlen(text));
	run_refused(args, NULL, disk, NULL, NULL);
}
END_TEST

/* Environment with a server, its broker not started; the data folder is a small disk. */
static void
start_on_disk(void)
{
	static const pglease_test_pool pool = {.name = "app", .min = 1, .max = 1};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &pool, .npools = 1, .no_broker = true);

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	make_disk("embedded", "1m");
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
}

static void
says(const char *text)
{
	char log[65536] = "";
	int fd = open(pglease_test_log(it_env), O_RDONLY | O_CLOEXEC);

	ck_assert_int_gt(read(fd, log, sizeof(log) - 1), 0);
	close(fd);
	ck_assert_msg(strstr(log, text) != NULL, "no \"%s\" in: %s", text, log);
}

/* The history cannot be saved at the stop: that is said, and all else is as ever. */
START_TEST(a_full_disk_under_the_history)
{
	start_on_disk();
	fill_disk("full");
	lease_once();
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	says("No space left on device");
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	lease_once();
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
}
END_TEST

static int
can_attach(void *context)
{
	pglease *client;

	if (pglease_attach(NULL, NULL, &client) != 0)
		return 0;
	pglease_detach(client);
	return 1;
}

/* What it has to say goes nowhere; it works all the same. */
START_TEST(a_full_disk_under_the_log)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.no_broker = true);
	char program[512];
	struct child broker;
	int status;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	snprintf(program, sizeof(program), "%s/pgleased", getenv("PGLEASE_BUILDDIR"));
	{
		const char *const argv[] = {program, "-c", pglease_test_config(it_env), NULL};

		ck_assert_msg(child_start(argv, "/dev/full", NULL, &broker) == 0, "%s", child_error());
	}
	ck_assert_int_eq(pglease_test_await(can_attach, NULL, IT_PATIENCE_MS), 0);
	for (unsigned i = 0; i < 20; i++)
		lease_once();
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	ck_assert_int_eq(child_signal(&broker, SIGTERM), 0);
	ck_assert_msg(child_wait(&broker, IT_PATIENCE_MS, &status) == 0, "%s", child_error());
	ck_assert_int_eq(status, 0);
}
END_TEST

/* --- Shared memory. --- */

/* Below /dev/shm, and of the broker: all that it may touch is there, and not only promised. */
static void
assert_is_there(const char *path)
{
	struct stat st;

	ck_assert_msg(stat(path, &st) == 0, "%s: %s", path, strerror(errno));
	ck_assert_msg((uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size, "%s has %lld bytes, and blocks for %lld", path,
	    (long long)st.st_size, (long long)st.st_blocks * 512);
}

static void
assert_all_is_there(void)
{
	char pattern[128], path[64], to[256];
	unsigned segments = 0;
	glob_t found;

	snprintf(pattern, sizeof(pattern), "/dev/shm/pglease.%s*", pglease_test_instance(it_env));
	ck_assert_int_eq(glob(pattern, 0, NULL, &found), 0);
	ck_assert_uint_eq(found.gl_pathc, 2); /* statistics, and a history */
	for (size_t i = 0; i < found.gl_pathc; i++)
		assert_is_there(found.gl_pathv[i]);
	globfree(&found);
	for (int fd = 0; fd < 256; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pglease_test_broker_pid(it_env), fd);
		n = readlink(path, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = '\0';
		if (strncmp(to, "/memfd:pglease.", 15) != 0)
			continue;
		assert_is_there(path);
		segments++;
	}
	ck_assert_uint_eq(segments, 1);
}

static int
add_acquired(void *sum, const pglease_history_row *row)
{
	*(uint64_t *)sum += row->acquired;
	return 0;
}

static int
is_recorded(void *context)
{
	uint64_t sum = 0;
	pglease_pool *pool;
	pglease *client;

	it_ok(pglease_attach(NULL, NULL, &client));
	it_ok(pglease_pool_open(client, "app", &pool));
	it_ok(pglease_history(pool, 0, UINT64_MAX, 0, add_acquired, &sum));
	pglease_detach(client);
	return sum >= *(const uint64_t *)context;
}

/* Leases go on, are published and recorded; so many have been in all. */
static void
goes_on(uint64_t leases)
{
	lease_once();
	outage_ok(pglease_test_await(is_recorded, &leases, IT_PATIENCE_MS));
}

START_TEST(a_full_shared_memory)
{
	static const pglease_test_pool pool_of = {.name = "app", .min = 1, .max = 2};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &pool_of, .npools = 1, .memory_slack = 1 << 20);
	const char *args[] = {"-c", NULL, NULL};
	struct stats_reader *monitor;
	pglease_lease lease, other;
	pglease_pool *pool;
	struct run refused;

	ck_assert_msg(run_mount_shm("size=40m,mode=1777"), "this test mounts a /dev/shm of its own: run it as root: %s",
	    strerror(errno));
	outage_ok(pglease_test_env_new(&options, &it_env));
	args[1] = pglease_test_config(it_env);
	assert_all_is_there();
	snprintf(disk, sizeof(disk), "/dev/shm");
	fill_disk("full");
	/* What it has is its own: another connection, another client, another program in its place need no more. */
	goes_on(1);
	pool = it_attach();
	it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(it_acquire(pool, &other), "select 7"), "7");
	it_release(&lease);
	it_release(&other);
	it_detach();
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	goes_on(4);
	/* The room of one that was killed is the next one's. */
	outage_ok(pglease_test_broker_kill(it_env));
	outage_ok(pglease_test_broker_start(it_env));
	assert_all_is_there();
	goes_on(5);
	/* As long as somebody looks at the statistics of the one that was killed, it is not. */
	ck_assert_int_eq(stats_reader_open(pglease_test_instance(it_env), &monitor), 0);
	outage_ok(pglease_test_broker_kill(it_env));
	run_broker(args, NULL, &refused);
	ck_assert_msg(refused.status == 1 && strstr(refused.last, "no room in /dev/shm") != NULL, "status %d: %s", refused.status,
	    refused.text);
	stats_reader_close(monitor);
	outage_ok(pglease_test_broker_start(it_env));
	goes_on(6);
	ck_assert_int_eq(unlink("/dev/shm/full"), 0);
	disk[0] = '\0';
}
END_TEST

/* --- The clock. --- */

#define YEAR_NS INT64_C(31557600000000000)

/* The broker's wall clock is off by what stands in a file: tests/integration/tilt.c. Its timing does not follow it. */
START_TEST(a_clock_that_is_set_back_and_forth)
{
	static const int64_t tilts[] = {-10 * YEAR_NS, 10 * YEAR_NS, 0, -3600 * INT64_C(1000000000), 50 * YEAR_NS, 0};
	static const pglease_test_pool pool_of = {.name = "app", .min = 1, .max = 1};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &pool_of, .npools = 1, .no_broker = true);
	char file[300], wrapper[300], text[1600];
	pglease_pool *pool;
	pglease_stats stats;
	int fd;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	snprintf(file, sizeof(file), "%s/tilt", pglease_test_folder(it_env));
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert(fd >= 0 && pwrite(fd, &(int64_t){0}, sizeof(int64_t), 0) == sizeof(int64_t));
	snprintf(text, sizeof(text), "#!/bin/sh\nPGLEASE_TILT=%s LD_PRELOAD=%s/.libs/tilt.so exec %s/pgleased \"$@\"\n", file,
	    getenv("PGLEASE_BUILDDIR"), getenv("PGLEASE_BUILDDIR"));
	snprintf(wrapper, sizeof(wrapper), "%s", run_file("tilted", text, strlen(text)));
	ck_assert_int_eq(chmod(wrapper, 0755), 0);
	setenv("PGLEASE_TEST_PGLEASED", wrapper, 1);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	unsetenv("PGLEASE_TEST_PGLEASED");
	pool = it_attach();
	for (size_t i = 0; i < sizeof(tilts) / sizeof(tilts[0]); i++) {
		pglease_lease lease, none;
		uint64_t enough;
		PGconn *conn;

		ck_assert_int_eq(pwrite(fd, &tilts[i], sizeof(tilts[i]), 0), sizeof(tilts[i]));
		ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 7"), "7");
		ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &none, &conn), PGLEASE_ETIMEOUT);
		ck_assert_int_eq(pglease_acquire(pool, 20, &none, &conn), PGLEASE_ETIMEOUT);
		it_release(&lease);
		/* It goes on publishing, and recording. */
		enough = it_published("app", "leases_immediate") + 1;
		it_acquire(pool, &lease);
		it_release(&lease);
		it_await_published("app", "leases_immediate", enough);
		ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	}
	/* No connection was taken for old, and none for idle; no lease for long. */
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 1);
	ck_assert_uint_eq(stats.closed, 0);
	ck_assert_uint_eq(stats.leaks, 0);
	close(fd);
}
END_TEST

/* --- Process numbers. --- */

static void
hold(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;

	it_acquire(pool, &lease);
	it_say(socket, 'l');
	it_hear(socket, 's');
	it_release(&lease);
	it_detach();
	it_say(socket, 'd');
}

/* The number of the next process; other processes of the machine may take it first. */
static void
set_next_pid(pid_t pid)
{
	char text[16];
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC), n;

	ck_assert_msg(fd >= 0, "this test gives a process's number again (/proc/sys/kernel/ns_last_pid): run it as root: %s",
	    strerror(errno));
	n = snprintf(text, sizeof(text), "%d", (int)pid - 1);
	ck_assert_int_eq(write(fd, text, (size_t)n), n);
	close(fd);
}

/* A worker dies with its lease, and the next one gets its number at once: it is not taken for the dead one, nor the other way round. */
START_TEST(a_process_number_that_is_used_again)
{
	static const pglease_test_pool pool_of = {.name = "app", .min = 2, .max = 2};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &pool_of, .npools = 1);
	struct it_worker first, second;
	pglease_pool *pool;
	pglease_stats stats;
	unsigned tries = 0, killed = 0;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	do {
		pid_t pid;

		first = it_worker(hold, NULL);
		it_hear(first.socket, 'l');
		pid = first.pid;
		/* Not so that the broker could look in between. */
		ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGSTOP), 0);
		it_kill(&first);
		set_next_pid(pid);
		second = it_worker(hold, NULL);
		ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGCONT), 0);
		killed++;
		it_hear(second.socket, 'l');
		if (second.pid == pid)
			break;
		it_say(second.socket, 's');
		it_hear(second.socket, 'd');
		it_join(&second);
	} while (++tries < 100);
	ck_assert_msg(tries < 100, "no number was given again");
	pool = it_attach();
	/* The dead one's lease is taken back, the living one's is its own. */
	it_await_published("app", "revoked_death", killed);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.revoked, killed);
	it_say(second.socket, 's');
	it_hear(second.socket, 'd');
	it_join(&second);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.revoked, killed);
}
END_TEST

/* --- Clients. --- */

#define EACH 128
#define PROCESSES (LAYOUT_MAX_CLIENTS / EACH)

/* Attaches many times, and leases with the last. */
static void
attach_many(int socket, const void *arg)
{
	pglease *client[EACH];
	unsigned n = *(const unsigned *)arg;
	pglease_lease lease;
	pglease_pool *pool;
	PGconn *conn;

	for (unsigned i = 0; i < n; i++)
		it_ok(pglease_attach(NULL, NULL, &client[i]));
	it_say(socket, 'a');
	it_hear(socket, 'g');
	it_ok(pglease_pool_open(client[n - 1], "app", &pool));
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 7"), "7");
	it_release(&lease);
	it_say(socket, 'l');
	it_hear(socket, 's');
	for (unsigned i = 0; i < n; i++)
		pglease_detach(client[i]);
}

START_TEST(all_clients_that_there_may_be)
{
	struct it_worker worker[PROCESSES];
	char text[64];
	pglease *one_more = NULL;
	unsigned n = EACH;

	/* Two descriptors for each, and some: for the broker that this starts. */
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){16384, 16384}), 0);
	snprintf(text, sizeof(text), "max_clients = %d\n", LAYOUT_MAX_CLIENTS);
	it_start_as(text, NULL, 4);
	for (unsigned i = 0; i < PROCESSES; i++)
		worker[i] = it_worker(attach_many, &n);
	for (unsigned i = 0; i < PROCESSES; i++)
		it_hear(worker[i].socket, 'a');
	ck_assert_int_eq(pglease_attach(NULL, NULL, &one_more), PGLEASE_ENOCLIENTS);
	ck_assert_uint_eq(it_published("app", "max"), 4);
	for (unsigned i = 0; i < PROCESSES; i++)
		it_say(worker[i].socket, 'g');
	for (unsigned i = 0; i < PROCESSES; i++)
		it_hear(worker[i].socket, 'l');
	ck_assert_int_eq(it_ctl("status", NULL, NULL), 0);
	for (unsigned i = 0; i < PROCESSES; i++)
		it_say(worker[i].socket, 's');
	for (unsigned i = 0; i < PROCESSES; i++)
		it_join(&worker[i]);
	lease_once();
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {a_full_disk_under_an_embedded_server, a_full_disk_under_the_history, a_full_disk_under_the_log,
	    a_full_shared_memory,
	    a_clock_that_is_set_back_and_forth, a_process_number_that_is_used_again, all_clients_that_there_may_be};
	Suite *suite = suite_create("exhaustion");
	TCase *tcase = tcase_create("exhaustion");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 180);
	tcase_add_checked_fixture(tcase, NULL, teardown);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
