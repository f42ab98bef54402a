/* SPDX-License-Identifier: PostgreSQL */
/* The socket folder: one broker at a time, what a killed one leaves, and folders that are not to be trusted. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "log.h"
#include "sockdir.h"
#include "unit.h"

static char top[64], path[96];

static void
setup(void)
{
	strcpy(top, "/tmp/test_sockdir_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/a/b", top);
}

static void
finish(void)
{
	ck_assert_msg(rmdir(top) == 0, "something is left in %s", top);
}

static bool
is_there(const char *name)
{
	char file[160];

	snprintf(file, sizeof(file), "%s/%s", path, name);
	return access(file, F_OK) == 0;
}

static void
make_socket(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", path, name);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

START_TEST(it_is_made_and_removed)
{
	struct sockdir *s;

	setup();
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert(is_there("lock"));
	sockdir_release(s, true);
	ck_assert_int_ne(access(path, F_OK), 0);
	finish();
}
END_TEST

START_TEST(a_folder_that_was_there_stays)
{
	struct sockdir *s;

	setup();
	ck_assert_int_eq(sockdir_take(top, false, &s), 0);
	sockdir_release(s, true);
	ck_assert_int_eq(access(top, F_OK), 0);
	finish();
}
END_TEST

START_TEST(a_second_broker_is_refused_with_the_pid_of_the_first)
{
	struct sockdir *first, *second;
	char pid[32];

	setup();
	ck_assert_int_eq(sockdir_take(path, false, &first), 0);
	ck_assert_int_eq(sockdir_take(path, false, &second), -1);
	snprintf(pid, sizeof(pid), "(pid %ld)", (long)getpid());
	ck_assert_msg(strstr(log_reason(), pid) != NULL, "%s", log_reason());
	ck_assert(is_there("lock"));
	sockdir_release(first, true);
	finish();
}
END_TEST

START_TEST(who_could_not_start_leaves_what_was_left)
{
	struct sockdir *s;

	setup();
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert_int_eq(sockdir_leave(s, "old 1 2 app\n"), 0);
	sockdir_release(s, false);
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert_str_eq(sockdir_left(s), "old 1 2 app\n");
	sockdir_release(s, false);
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert_str_eq(sockdir_left(s), "old 1 2 app\n");
	sockdir_release(s, true);
	ck_assert_int_ne(access(path, F_OK), 0);
	finish();
}
END_TEST

/* As many sessions as many brokers of many pools may have left. */
START_TEST(what_is_left_may_be_long)
{
	size_t size = 5000000;
	char *text = malloc(size + 1);
	struct sockdir *s;

	setup();
	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < size; i++)
		text[i] = "old 1 2 app\n"[i % 12];
	text[size] = '\0';
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert_int_eq(sockdir_leave(s, text), 0);
	sockdir_release(s, false);
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert(strcmp(sockdir_left(s), text) == 0);
	sockdir_release(s, true);
	free(text);
	finish();
}
END_TEST

/* What no broker has written is not read, and that is said. */
START_TEST(what_is_left_may_not_be_without_end)
{
	char file[160], said[4096] = "", log[] = "/tmp/test_sockdir_log_XXXXXX";
	int fd = mkstemp(log), err = dup(2);
	struct sockdir *s;

	setup();
	ck_assert_int_eq(unlink(log), 0);
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert_int_eq(sockdir_leave(s, "old 1 2 app\n"), 0);
	snprintf(file, sizeof(file), "%s/lock", path);
	ck_assert_int_eq(truncate(file, 100 << 20), 0);
	sockdir_release(s, false);
	ck_assert_int_eq(truncate(file, 100 << 20), 0);
	ck_assert_int_eq(dup2(fd, 2), 2);
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert_int_eq(dup2(err, 2), 2);
	ck_assert_str_eq(sockdir_left(s), "");
	ck_assert_int_gt(pread(fd, said, sizeof(said) - 1, 0), 0);
	ck_assert_msg(strstr(said, "it is too much") != NULL, "%s", said);
	sockdir_release(s, true);
	close(fd);
	close(err);
	finish();
}
END_TEST

START_TEST(what_a_killed_broker_leaves_is_taken_over)
{
	struct sockdir *s;
	pid_t pid;
	int status;

	setup();
	pid = fork();
	if (pid == 0) {
		if (sockdir_take(path, false, &s) != 0)
			_exit(1);
		make_socket("control");
		make_socket(".s.PGSQL.5432");
		raise(SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert(is_there("lock"));
	ck_assert(is_there("control"));
	ck_assert_int_eq(sockdir_take(path, false, &s), 0);
	ck_assert(!is_there("control"));
	ck_assert(!is_there(".s.PGSQL.5432"));
	/* The folders that the dead one made are removed by its successor. */
	sockdir_release(s, true);
	finish();
}
END_TEST

START_TEST(a_file_in_the_place_of_a_socket_is_not_removed)
{
	char file[160];
	struct sockdir *s;

	setup();
	snprintf(file, sizeof(file), "%s/control", top);
	close(open(file, O_CREAT | O_WRONLY, 0600));
	ck_assert_int_eq(sockdir_take(top, false, &s), -1);
	ck_assert_msg(strstr(log_reason(), "in the way") != NULL, "%s", log_reason());
	ck_assert_int_eq(unlink(file), 0);
	finish();
}
END_TEST

START_TEST(a_folder_that_everybody_can_write_is_refused)
{
	struct sockdir *s;

	setup();
	ck_assert_int_eq(chmod(top, 0777), 0);
	ck_assert_int_eq(sockdir_take(top, false, &s), -1);
	ck_assert_msg(strstr(log_reason(), "chmod o-w") != NULL, "%s", log_reason());
	finish();
}
END_TEST

START_TEST(a_path_too_long_for_a_socket_is_refused)
{
	char longer[200];
	struct sockdir *s;

	setup();
	memset(longer, 'x', sizeof(longer));
	memcpy(longer, top, strlen(top));
	longer[strlen(top)] = '/';
	longer[100] = '\0';
	ck_assert_int_eq(sockdir_take(longer, false, &s), -1);
	ck_assert_msg(strstr(log_reason(), "too long") != NULL, "%s", log_reason());
	finish();
}
END_TEST

UNIT_MAIN("sockdir", it_is_made_and_removed, a_folder_that_was_there_stays,
    a_second_broker_is_refused_with_the_pid_of_the_first,
    who_could_not_start_leaves_what_was_left, what_is_left_may_be_long, what_is_left_may_not_be_without_end,
    what_a_killed_broker_leaves_is_taken_over, a_file_in_the_place_of_a_socket_is_not_removed, a_folder_that_everybody_can_write_is_refused,
    a_path_too_long_for_a_socket_is_refused)
