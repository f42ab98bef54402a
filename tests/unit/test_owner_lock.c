/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a killed broker left, when somebody who may only read it has locked it for that: the next broker has it all the same. And starts
 * that fail, or find a file that is another's by now: they change nothing.
 */
#include "history_unit.h"

#include <errno.h>
#include <sys/resource.h>

#include "log.h"
#include "pidfile.h"
#include "sockdir.h"
#include "stats.h"

/* As one who has waited for it has it when the broker is killed. */
static int
lock_for_reading(const char *path)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
	return fd;
}

/* What a test that failed has left. */
static void
remove_files(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/pid", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/lock", folder);
	unlink(path);
	remove_all();
}

static const char *
path_of(const char *object)
{
	static char path[PATHS_MAX + 16];

	snprintf(path, sizeof(path), "/dev/shm%s", object);
	return path;
}

static int
new_stats(struct stats_writer **ret, pid_t *ret_owner)
{
	struct stats_writer_params params = {.instance = instance,
	    .program = "unit test",
	    .socket_dir = "/nowhere",
	    .mode = 0644,
	    .capacity = {1, 1, 1, 1}};

	return stats_writer_new(&params, ret, ret_owner);
}

static void
kill_in_child(void (*make)(void))
{
	pid_t pid = check_fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		make();
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Of the children that die: no leaks. */
static struct stats_writer *volatile abandoned;
static struct pidfile *volatile abandoned_pidfile;

static void
make_stats(void)
{
	struct stats_writer *writer;
	pid_t owner;

	ck_assert_int_eq(new_stats(&writer, &owner), 0);
	abandoned = writer;
}

START_TEST(statistics_that_a_reader_has_locked)
{
	struct stats_writer *writer = NULL, *other = NULL;
	char stats[PATHS_MAX];
	struct stat st, mine;
	pid_t owner;
	int fd;

	ck_assert_int_eq(paths_stats_name(instance, stats, sizeof(stats)), 0);
	kill_in_child(make_stats);
	fd = lock_for_reading(path_of(stats));
	ck_assert_int_eq(new_stats(&writer, &owner), 0);
	ck_assert_int_eq(stat(path_of(stats), &st), 0);
	ck_assert_int_eq(fstat(stats_writer_fd(writer), &mine), 0);
	ck_assert_uint_eq(st.st_ino, mine.st_ino);
	ck_assert_int_eq(new_stats(&other, &owner), -EBUSY); /* it is the one that holds it now */
	stats_writer_free(writer);
	ck_assert_int_ne(stat(path_of(stats), &st), 0);
	close(fd);
}
END_TEST

/* No object of the history has another name. */
static void
assert_only(bool there)
{
	struct stat st;
	char text[2 * PATHS_MAX];

	ck_assert_int_eq(stat(path_of(name), &st) == 0, there);
	snprintf(text, sizeof(text), "test -z \"$(ls -d '/dev/shm%s.'* 2>/dev/null)\"", name);
	ck_assert_int_eq(system(text), 0);
}

START_TEST(a_history_that_a_reader_has_locked)
{
	struct history_writer *writer, *other = NULL;
	struct history_bytes bytes;
	struct history_view view;
	int fd;

	die_after(10, 14, 14);
	fd = lock_for_reading(path_of(name));
	writer = new_writer(10);
	ck_assert_str_eq(why, "");
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 0, 10, 5);
	check_ring(&view, HISTORY_MINUTES, 0, 14, 1);
	history_bytes_fini(&bytes);
	ck_assert_int_eq(try_writer(10, &other), -EBUSY);
	assert_only(true);
	history_writer_free(writer, false);
	assert_only(false);
	close(fd);
	/* Nor does a lock keep the history of a pool that is no more. */
	die_after(10, 14, 14);
	fd = lock_for_reading(path_of(name));
	ck_assert_int_eq(history_remove(instance, "app"), 0);
	assert_only(false);
	close(fd);
}
END_TEST

/* Another retention, and no room for the object that it takes: what was recorded stays where it is. */
START_TEST(no_room_for_another_history)
{
	struct rlimit old, tight = {.rlim_cur = 1 << 16, .rlim_max = RLIM_INFINITY};
	struct history_writer *writer = NULL;
	struct history_bytes bytes;
	struct history_view view;

	die_after(10, 14, 14);
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight.rlim_max = old.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &tight), 0);
	ck_assert_int_eq(try_writer(20, &writer), -EFBIG);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_only(true);
	writer = new_writer(20);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_SECONDS, 0, 10, 5);
	check_ring(&view, HISTORY_MINUTES, 0, 14, 1);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
	assert_only(false);
}
END_TEST

/* A sanitizer has no memory to spare at all then. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
START_TEST(no_memory_for_the_history)
{
	struct rlimit old, tight;
	struct history_writer *writer = NULL;
	struct history_bytes bytes;
	struct history_view view;
	unsigned long pages = 0;
	FILE *statm;

	die_after(10, 14, 14);
	statm = fopen("/proc/self/statm", "re");
	ck_assert_ptr_nonnull(statm);
	ck_assert_int_eq(fscanf(statm, "%lu", &pages), 1);
	fclose(statm);
	ck_assert_int_eq(getrlimit(RLIMIT_AS, &old), 0);
	tight = (struct rlimit){
	    .rlim_cur = pages * (unsigned long)sysconf(_SC_PAGESIZE) + (1 << 16), .rlim_max = old.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &tight), 0);
	ck_assert_int_eq(try_writer(10, &writer), -ENOMEM);
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &old), 0);
	writer = new_writer(10);
	open_view(&bytes, &view);
	check_ring(&view, HISTORY_MINUTES, 0, 14, 1);
	history_bytes_fini(&bytes);
	history_writer_free(writer, false);
}
END_TEST
#endif

static const char *
pid_path(void)
{
	static char path[PATHS_MAX];

	snprintf(path, sizeof(path), "%s/pid", folder);
	return path;
}

static void
make_pid_file(void)
{
	struct pidfile *p;

	ck_assert_int_eq(pidfile_take(pid_path(), &p), 0);
	abandoned_pidfile = p;
}

START_TEST(a_pid_file_that_a_reader_has_locked)
{
	struct pidfile *p, *other;
	char text[32] = "", mine[32];
	int fd, read_fd;

	kill_in_child(make_pid_file);
	fd = lock_for_reading(pid_path());
	ck_assert_msg(pidfile_take(pid_path(), &p) == 0, "%s", log_reason());
	read_fd = open(pid_path(), O_RDONLY | O_CLOEXEC);
	ck_assert_int_gt(read(read_fd, text, sizeof(text) - 1), 0);
	close(read_fd);
	snprintf(mine, sizeof(mine), "%ld\n", (long)getpid());
	ck_assert_str_eq(text, mine);
	ck_assert_int_eq(pidfile_take(pid_path(), &other), -1);
	pidfile_release(p);
	ck_assert_int_ne(access(pid_path(), F_OK), 0);
	close(fd);
}
END_TEST

/* Removed by hand, and made by another broker since: it is that one's. */
START_TEST(a_pid_file_of_another_stays)
{
	struct pidfile *p, *other;

	ck_assert_int_eq(pidfile_take(pid_path(), &p), 0);
	ck_assert_int_eq(unlink(pid_path()), 0);
	ck_assert_int_eq(pidfile_take(pid_path(), &other), 0);
	pidfile_release(p);
	ck_assert_int_eq(access(pid_path(), F_OK), 0);
	pidfile_release(other);
	ck_assert_int_ne(access(pid_path(), F_OK), 0);
}
END_TEST

/* Also one of a broker that let them. */
START_TEST(others_cannot_read_the_lock_of_a_folder)
{
	char lock[PATHS_MAX];
	struct sockdir *s;
	struct stat st;

	snprintf(lock, sizeof(lock), "%s/lock", folder);
	for (int old = 0; old < 2; old++) {
		int fd = old ? open(lock, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644) : -1;

		ck_assert_int_eq(fd >= 0, old);
		ck_assert_msg(sockdir_take(folder, false, &s) == 0, "%s", log_reason());
		ck_assert_int_eq(stat(lock, &st), 0);
		ck_assert_uint_eq(st.st_mode & 0777, 0600);
		sockdir_release(s, true);
		if (fd >= 0)
			close(fd);
	}
}
END_TEST

int
main(void)
{
	static const TTest *const *const tests[] = {
		&a_history_that_a_reader_has_locked,
		&no_room_for_another_history,
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		&no_memory_for_the_history,
#endif
		&a_pid_file_that_a_reader_has_locked,
		&a_pid_file_of_another_stays,
		&others_cannot_read_the_lock_of_a_folder
	};
	const struct history_loop loop = {statistics_that_a_reader_has_locked, 1};
	int failed;

	failed = history_main("owner-lock", tests, sizeof(tests) / sizeof(tests[0]), &loop);
	remove_files();
	return failed;
}
