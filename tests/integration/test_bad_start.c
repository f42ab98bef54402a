/* SPDX-License-Identifier: PostgreSQL */
/* Starts that cannot succeed, or must although a killed broker left something: other brokers, old segments, no memory. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "it.h"
#include "paths.h"
#include "run.h"
#include "script.h"

/* A broker that needs no server. */
static const pglease_test_pool lonely = {
    .name = "app", .conninfo = "host=/nonexistent", .extra = "min_connections = 0"};
static const pglease_test_options without_server = PGLEASE_TEST_OPTIONS(.pools = &lonely, .npools = 1, .no_server = true);
static const pglease_test_options not_started =
    PGLEASE_TEST_OPTIONS(.pools = &lonely, .npools = 1, .no_server = true, .no_broker = true);

static void
begin(const pglease_test_options *options)
{
	ck_assert_msg(pglease_test_env_new(options, &it_env) == 0, "%s", pglease_test_error_message());
}

static const char *
stats_path(void)
{
	static char path[PATHS_MAX + 16];
	char name[PATHS_MAX];

	ck_assert_int_eq(paths_stats_name(pglease_test_instance(it_env), name, sizeof(name)), 0);
	snprintf(path, sizeof(path), "/dev/shm%s", name);
	return path;
}

/* Attached by hand, the broker works. */
static void
assert_serves(void)
{
	struct script_client client;

	script_attach(&client);
	script_detach(&client);
}

START_TEST(another_broker_of_that_name)
{
	char pid[32], text[600], dir[200];
	const char *args[] = {"-c", NULL, NULL};

	begin(&without_server);
	snprintf(pid, sizeof(pid), "pid %d", (int)pglease_test_broker_pid(it_env));
	/* In the same folder; in the same folder under another name; of the same name in another folder. */
	args[1] = pglease_test_config(it_env);
	run_refused(args, NULL, pid, pglease_test_socket_dir(it_env), "stop it first");
	{
		const char *const named[] = {"-c", pglease_test_config(it_env), "-n", "another", NULL};

		run_refused(named, NULL, pid, pglease_test_socket_dir(it_env), "stop it first");
	}
	snprintf(dir, sizeof(dir), "%s/elsewhere/run", run_folder());
	snprintf(text, sizeof(text),
	    "[pglease]\ninstance = %s\nsocket_dir = %s\n[pool a]\nconninfo = host=/nonexistent\n",
	    pglease_test_instance(it_env), dir);
	args[1] = run_file("second.ini", text, strlen(text));
	run_refused(args, NULL, pid, pglease_test_instance(it_env), NULL);
	/* What those made has gone, what the first one has is there. */
	snprintf(dir, sizeof(dir), "%s/elsewhere", run_folder());
	ck_assert_int_ne(access(dir, F_OK), 0);
	assert_serves();
}
END_TEST

START_TEST(what_a_killed_broker_left_is_taken_over)
{
	char control[PATHS_MAX], pid[64];
	struct stat st;

	begin(&without_server);
	snprintf(pid, sizeof(pid), "that was killed (pid %d)", (int)pglease_test_broker_pid(it_env));
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	ck_assert_int_eq(paths_control_socket(pglease_test_socket_dir(it_env), control, sizeof(control)), 0);
	ck_assert_int_eq(stat(control, &st), 0);
	ck_assert_int_eq(stat(stats_path(), &st), 0);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	{
		char log[65536] = "";
		int fd = open(pglease_test_log(it_env), O_RDONLY);

		ck_assert_int_gt(read(fd, log, sizeof(log) - 1), 0);
		close(fd);
		ck_assert_msg(strstr(log, pid) != NULL, "no \"%s\" in: %s", pid, log);
	}
	assert_serves();
}
END_TEST

/* Objects of the instance's name that no broker of today has written. */
START_TEST(stale_stats_segments_are_replaced)
{
	static const struct {
		const char *bytes;
		size_t size;
	} stale[] = {
	    {"", 0}, {"x", 1}, {"PGLSTAT1", 8}, {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12}};

	begin(&not_started);
	for (size_t i = 0; i < sizeof(stale) / sizeof(stale[0]); i++) {
		int fd = open(stats_path(), O_WRONLY | O_CREAT | O_EXCL, 0600);

		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(write(fd, stale[i].bytes, stale[i].size), (ssize_t)stale[i].size);
		ck_assert_int_eq(ftruncate(fd, (off_t)(i * 10000)), 0);
		close(fd);
		ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
		assert_serves();
		ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	}
}
END_TEST

/* Refused, and nothing of it is left. */
static void
refused_without_trace(const struct run_how *how, const char *a, const char *b, const char *c)
{
	const char *const args[] = {"-c", pglease_test_config(it_env), NULL};

	run_refused(args, how, a, b, c);
	ck_assert_int_ne(access(pglease_test_socket_dir(it_env), F_OK), 0);
	ck_assert_int_ne(access(stats_path(), F_OK), 0);
}

START_TEST(no_room_in_shared_memory)
{
	static const struct run_how full = {.shm = "size=4k"}, no_inode = {.shm = "nr_inodes=1"},
	                            small = {.shm = "size=8m"}, two_inodes = {.shm = "nr_inodes=2"};

	begin(&not_started);
	refused_without_trace(&full, pglease_test_instance(it_env), "/dev/shm", "room");
	refused_without_trace(&no_inode, pglease_test_instance(it_env), "/dev/shm", "room");
	/* Room for the statistics, but not for the history. */
	refused_without_trace(&small, "no room in /dev/shm for the history of pool app (15.", "metrics_retention", "history = no");
	refused_without_trace(&two_inodes, "no room in /dev/shm for the history of pool app", "metrics_retention", NULL);
}
END_TEST

START_TEST(no_descriptors_at_all)
{
	begin(&not_started);
	/* From what the program itself needs to be loaded: each refusal names the limit. */
	for (rlim_t files = 4; files < 64; files += files < 16 ? 1 : 12) {
		const struct run_how how = {.files = files};
		char limit[32];

		snprintf(limit, sizeof(limit), "%u open files", (unsigned)files);
		refused_without_trace(&how, limit, "64", "ulimit -n");
	}
}
END_TEST

START_TEST(a_server_that_is_not_there_is_no_reason_not_to_start)
{
	pglease_test_pool pools[] = {{.name = "app", .conninfo = "host=/nonexistent"},
	    {.name = "other", .conninfo = "host=127.0.0.1 port=1"}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .no_server = true);

	begin(&options);
	assert_serves();
}
END_TEST

IT_MAIN("bad_start", another_broker_of_that_name, what_a_killed_broker_left_is_taken_over,
    stale_stats_segments_are_replaced, no_room_in_shared_memory, no_descriptors_at_all,
    a_server_that_is_not_there_is_no_reason_not_to_start)
