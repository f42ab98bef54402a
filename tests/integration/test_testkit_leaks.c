/* SPDX-License-Identifier: PostgreSQL */
/*
 * The kit's leak report: leaks of each kind are planted, many times, and found, each by name; and where nothing was
 * leaked, nothing is reported. Counts are printed: $PGLEASE_PLANTED and $PGLEASE_CLEAN_RUNS say how many rounds.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "it.h"

#define PLANTED 12
#define CLEAN_RUNS 60
#define BLOCK ((size_t)100000) /* more than the slack */

static pglease_pool *pool;

static unsigned
rounds(const char *name, unsigned normally)
{
	const char *given = getenv(name);

	return given != NULL ? (unsigned)strtoul(given, NULL, 10) : normally;
}

#define kit_ok(call) ck_assert_msg((call) == 0, "%s: %s", #call, pglease_test_error_message())

static void
start(void)
{
	static const pglease_test_pool app = {.name = "app", .min = 2, .max = 4};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &app, .npools = 1);

	kit_ok(pglease_test_env_new(&options, &it_env));
	kit_ok(pglease_test_environment(it_env));
	kit_ok(pglease_test_pool_open(it_env, "app", &pool));
	it_await_all_idle(pool);
	kit_ok(pglease_test_mark(it_env));
}

/* One of this kind, with this in its description; and what it says otherwise. */
static void
expect(enum pglease_test_leak_kind kind, const char *words, unsigned *found)
{
	const pglease_test_leak *leak;
	unsigned n = 0, of_kind = 0, other = 0;

	kit_ok(pglease_test_report(it_env, &leak, &n));
	for (unsigned i = 0; i < n; i++) {
		if (leak[i].kind == kind && strstr(leak[i].what, words) != NULL)
			of_kind++;
		else
			other++;
	}
	if (of_kind == 1 && other == 0)
		++*found;
	else
		pglease_test_report_write(it_env, stdout, 0);
	ck_assert_str_eq(pglease_test_report_unseen(it_env), "");
}

static void
expect_none(void)
{
	unsigned n = 1;

	kit_ok(pglease_test_report(it_env, NULL, &n));
	if (n != 0)
		pglease_test_report_write(it_env, stdout, 0);
	ck_assert_uint_eq(n, 0);
}

static void
tell(const char *kind, unsigned found, unsigned planted)
{
	printf("# %s: %u of %u planted leaks found\n", kind, found, planted);
	/* More than 99 %: of this many, all. */
	ck_assert_uint_ge(found * 100, planted * 99 + (planted < 100 ? 1 : 0));
}

START_TEST(leases_are_found_with_their_line)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);

	start();
	for (unsigned i = 0; i < n; i++) {
		pglease_lease lease;
		PGconn *conn;
		char words[128];

		snprintf(words, sizeof(words), "acquired at %s:%d", "test_testkit_leaks.c", __LINE__ + 1);
		it_ok(pglease_acquire(pool, 20000, &lease, &conn));
		expect(PGLEASE_TEST_LEAK_LEASE, words, &found);
		it_ok(pglease_release(&lease));
	}
	tell("leases", found, n);
	expect_none();
}
END_TEST

START_TEST(shells_are_found)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);

	start();
	for (unsigned i = 0; i < n; i++) {
		pglease_lease lease;
		PGconn *conn = it_acquire(pool, &lease);
		int copy = dup(PQsocket(conn));

		ck_assert_int_ge(copy, 0);
		it_release(&lease);
		expect(PGLEASE_TEST_LEAK_SHELL, "server connection", &found);
		close(copy);
	}
	tell("shells", found, n);
	expect_none();
}
END_TEST

START_TEST(descriptors_are_found_with_what_they_are)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);
	pglease *other;
	int fd, pair[2];

	start();
	for (unsigned i = 0; i < n; i++) {
		fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
		expect(PGLEASE_TEST_LEAK_DESCRIPTOR, "/etc/passwd", &found);
		close(fd);
		fd = open("/dev/null", O_RDWR | O_CLOEXEC); /* the library has one just like it */
		expect(PGLEASE_TEST_LEAK_DESCRIPTOR, "/dev/null", &found);
		close(fd);
		ck_assert_int_eq(pipe(pair), 0);
		close(pair[0]);
		expect(PGLEASE_TEST_LEAK_DESCRIPTOR, "pipe", &found);
		close(pair[1]);
	}
	tell("descriptors", found, 3 * n);
	it_ok(pglease_attach(NULL, NULL, &other));
	found = 0;
	expect(PGLEASE_TEST_LEAK_DESCRIPTOR, "pglease_detach", &found);
	ck_assert_uint_eq(found, 1);
	pglease_detach(other);
	expect_none();
}
END_TEST

static int wait_for[2];

static void *
wait_there(void *arg)
{
	char byte;

	(void)arg;
	while (read(wait_for[0], &byte, 1) < 0 && errno == EINTR)
		;
	return NULL;
}

START_TEST(threads_are_found)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);
	pthread_t thread;

	ck_assert_int_eq(pipe(wait_for), 0);
	start();
	/* What the first thread takes is kept by libc. */
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_there, NULL), 0);
	ck_assert_int_eq(write(wait_for[1], "", 1), 1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	kit_ok(pglease_test_mark(it_env));
	for (unsigned i = 0; i < n; i++) {
		ck_assert_int_eq(pthread_create(&thread, NULL, wait_there, NULL), 0);
		expect(PGLEASE_TEST_LEAK_THREAD, "thread", &found);
		ck_assert_int_eq(write(wait_for[1], "", 1), 1);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	}
	tell("threads", found, n);
	expect_none();
}
END_TEST

START_TEST(memory_is_found)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);

	start();
	for (unsigned i = 0; i < n; i++) {
		void *one = malloc(BLOCK), *large = malloc(10 * BLOCK), *small[2000];

		ck_assert(one != NULL && large != NULL);
		free(large);
		expect(PGLEASE_TEST_LEAK_MEMORY, "bytes more in use", &found);
		free(one);
		large = malloc(10 * BLOCK); /* mapped by itself */
		ck_assert_ptr_nonnull(large);
		expect(PGLEASE_TEST_LEAK_MEMORY, "bytes more in use", &found);
		free(large);
		for (unsigned j = 0; j < 2000; j++) {
			small[j] = malloc(64);
			ck_assert_ptr_nonnull(small[j]);
		}
		expect(PGLEASE_TEST_LEAK_MEMORY, "bytes more in use", &found);
		for (unsigned j = 0; j < 2000; j++)
			free(small[j]);
	}
	tell("memory", found, 3 * n);
	expect_none();
}
END_TEST

START_TEST(segments_are_found)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);
	char name[128];

	start();
	for (unsigned i = 0; i < n; i++) {
		void *map;
		int fd, id;

		fd = memfd_create("planted", MFD_CLOEXEC);
		expect(PGLEASE_TEST_LEAK_SEGMENT, "planted", &found);
		ck_assert_int_eq(ftruncate(fd, 4096), 0);
		map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
		expect(PGLEASE_TEST_LEAK_SEGMENT, "planted", &found);
		munmap(map, 4096);
		snprintf(name, sizeof(name), "/planted-%s", pglease_test_instance(it_env));
		fd = shm_open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		close(fd);
		expect(PGLEASE_TEST_LEAK_SEGMENT, name + 1, &found);
		shm_unlink(name);
		id = shmget(IPC_PRIVATE, 4096, 0600);
		expect(PGLEASE_TEST_LEAK_SEGMENT, "System V", &found);
		shmctl(id, IPC_RMID, NULL);
	}
	tell("segments", found, 4 * n);
	expect_none();
}
END_TEST

START_TEST(semaphores_are_found)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);
	char name[128];

	start();
	for (unsigned i = 0; i < n; i++) {
		sem_t *sem;
		int id;

		/* Opened, though nobody finds it by its name any more; and found by its name, though nobody has it open. */
		snprintf(name, sizeof(name), "/planted-%d", (int)getpid());
		sem = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
		sem_unlink(name);
		expect(PGLEASE_TEST_LEAK_SEMAPHORE, "opened", &found); /* by the name that libc first gave it */
		sem_close(sem);
		snprintf(name, sizeof(name), "/%s", pglease_test_instance(it_env));
		sem = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
		sem_close(sem);
		expect(PGLEASE_TEST_LEAK_SEMAPHORE, name + 1, &found);
		sem_unlink(name);
		id = semget(IPC_PRIVATE, 1, 0600);
		ck_assert_int_eq(semctl(id, 0, SETVAL, 1), 0);
		expect(PGLEASE_TEST_LEAK_SEMAPHORE, "System V", &found);
		semctl(id, 0, IPC_RMID);
	}
	tell("semaphores", found, 3 * n);
	expect_none();
}
END_TEST

/* In another process, so that it is no descriptor of this one's too. */
static void
connect_directly(int socket, const void *arg)
{
	PGconn *conn = PQconnectdb(arg);

	PQclear(PQexec(conn, "select 'planted'"));
	it_say(socket, PQstatus(conn) == CONNECTION_OK ? 'c' : '!');
	it_hear(socket, 'e');
	PQfinish(conn);
}

START_TEST(sessions_are_found)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);
	char words[64];

	start();
	for (unsigned i = 0; i < n; i++) {
		PGconn *conn = pglease_test_connect(it_env);
		const pglease_test_leak *leak;
		unsigned count;

		ck_assert_ptr_nonnull(conn);
		ck_assert_str_eq(it_query(conn, "select 1"), "1");
		snprintf(words, sizeof(words), "server pid %d", PQbackendPID(conn));
		kit_ok(pglease_test_report(it_env, &leak, &count));
		for (unsigned j = 0; j < count; j++)
			found += leak[j].kind == PGLEASE_TEST_LEAK_SESSION && strstr(leak[j].what, words) != NULL &&
			         strstr(leak[j].what, "select 1") != NULL;
		PQfinish(conn);
	}
	tell("sessions", found, n);
	expect_none();
	/* A process that was started before the mark opens one. */
	{
		struct it_worker worker = it_worker(connect_directly, pglease_test_conninfo(it_env));

		it_hear(worker.socket, 'c');
		kit_ok(pglease_test_report(it_env, NULL, &n));
		ck_assert_uint_ge(n, 2); /* the worker, its socket, its session */
		it_say(worker.socket, 'e');
		it_join(&worker);
	}
	expect_none();
}
END_TEST

START_TEST(files_are_found)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);

	start();
	for (unsigned i = 0; i < n; i++) {
		char path[256], folder[256];
		int fd;

		snprintf(path, sizeof(path), "%s/planted-XXXXXX", getenv("TMPDIR"));
		fd = mkstemp(path);
		ck_assert_int_ge(fd, 0);
		close(fd);
		expect(PGLEASE_TEST_LEAK_FILE, path, &found);
		unlink(path);
		snprintf(folder, sizeof(folder), "%s/planted-XXXXXX", getenv("TMPDIR"));
		ck_assert_ptr_nonnull(mkdtemp(folder));
		expect(PGLEASE_TEST_LEAK_FILE, "a folder", &found);
		rmdir(folder);
	}
	tell("files", found, 2 * n);
	expect_none();
}
END_TEST

START_TEST(processes_are_found)
{
	unsigned found = 0, n = rounds("PGLEASE_PLANTED", PLANTED);

	start();
	for (unsigned i = 0; i < n; i++) {
		siginfo_t info;
		pid_t pid = fork();

		if (pid == 0) {
			pause();
			_exit(0);
		}
		expect(PGLEASE_TEST_LEAK_PROCESS, "child process", &found);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
		expect(PGLEASE_TEST_LEAK_PROCESS, "nobody has waited for it", &found);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	}
	tell("processes", found, 2 * n);
	expect_none();
}
END_TEST

/* Leases another process holds count as well, and the end says so. */
static void
hold_one(int socket, const void *arg)
{
	pglease_lease lease;

	(void)arg;
	it_acquire(it_attach(), &lease);
	it_say(socket, 'l');
	it_hear(socket, 'e');
}

START_TEST(the_end_tells_of_leaks)
{
	struct it_worker worker;

	start();
	worker = it_worker(hold_one, NULL);
	it_hear(worker.socket, 'l');
	ck_assert_int_eq(pglease_test_env_free(it_env), -ENOTEMPTY);
	it_env = NULL;
	ck_assert_msg(strstr(pglease_test_error_message(), "lease: pool app, slot") != NULL &&
	                  strstr(pglease_test_error_message(), "it.c:") != NULL &&
	                  strstr(pglease_test_error_message(), "process: child process") != NULL,
	    "%s", pglease_test_error_message());
	it_kill(&worker);
}
END_TEST

START_TEST(a_shell_outlives_its_attachment)
{
	pglease_lease lease;
	int copy;

	start();
	copy = dup(PQsocket(it_acquire(pool, &lease)));
	it_release(&lease);
	ck_assert_int_eq(pglease_test_env_free(it_env), -ENOTEMPTY);
	it_env = NULL;
	ck_assert_msg(strstr(pglease_test_error_message(), "shell: ") != NULL, "%s", pglease_test_error_message());
	close(copy);
}
END_TEST

START_TEST(what_cannot_be_seen_is_told)
{
	unsigned n;

	start();
	kit_ok(pglease_test_broker_kill(it_env));
	kit_ok(pglease_test_report(it_env, NULL, &n));
	ck_assert_ptr_nonnull(strstr(pglease_test_report_unseen(it_env), "the broker does not run"));
	pglease_test_client_end(it_env);
	kit_ok(pglease_test_broker_start(it_env));
	expect_none();
}
END_TEST

START_TEST(a_report_is_read_by_programs)
{
	char text[4096] = "";
	unsigned n;
	FILE *file = tmpfile();
	int fd;

	start();
	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	kit_ok(pglease_test_report(it_env, NULL, &n));
	ck_assert_uint_eq(n, 1);
	kit_ok(pglease_test_report_write(it_env, file, 1));
	rewind(file);
	ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, file), 0);
	ck_assert_ptr_nonnull(strstr(text, "\"kind\": \"descriptor\""));
	fclose(file);
	close(fd);
}
END_TEST

/* What a test does when it is as it should be. */
static void
a_clean_run(unsigned i)
{
	char path[256];
	pglease_lease lease;
	pglease *own;
	pglease_pool *own_pool;
	pthread_t thread;
	PGconn *conn;
	pid_t pid;
	int fd;

	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	if (i % 4 == 0) {
		it_ok(pglease_attach(NULL, NULL, &own));
		it_ok(pglease_pool_open(own, "app", &own_pool));
		it_acquire(own_pool, &lease);
		it_release(&lease);
		pglease_detach(own);
	}
	if (i % 4 == 1) {
		conn = pglease_test_connect(it_env);
		ck_assert_str_eq(it_query(conn, "select 2"), "2");
		PQfinish(conn);
	}
	if (i % 4 == 2) {
		ck_assert_int_eq(pthread_create(&thread, NULL, wait_there, NULL), 0);
		ck_assert_int_eq(write(wait_for[1], "", 1), 1);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	}
	if (i % 4 == 3) {
		pid = fork();
		if (pid == 0)
			_exit(0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	}
	snprintf(path, sizeof(path), "%s/clean-XXXXXX", getenv("TMPDIR"));
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	unlink(path);
}

START_TEST(clean_runs_raise_no_alarm)
{
	unsigned n = rounds("PGLEASE_CLEAN_RUNS", CLEAN_RUNS), alarms = 0;

	ck_assert_int_eq(pipe(wait_for), 0);
	start();
	for (unsigned i = 0; i < n; i++) {
		unsigned leaks;

		kit_ok(pglease_test_mark(it_env));
		a_clean_run(i);
		kit_ok(pglease_test_report(it_env, NULL, &leaks));
		if (leaks != 0)
			pglease_test_report_write(it_env, stdout, 0);
		alarms += leaks != 0;
	}
	printf("# %u false alarms in %u clean runs\n", alarms, n);
	ck_assert_uint_eq(alarms, 0);
}
END_TEST

IT_MAIN("testkit_leaks", leases_are_found_with_their_line, shells_are_found, descriptors_are_found_with_what_they_are,
    threads_are_found, memory_is_found, segments_are_found, semaphores_are_found, sessions_are_found, files_are_found,
    processes_are_found, the_end_tells_of_leaks, a_shell_outlives_its_attachment, what_cannot_be_seen_is_told,
    a_report_is_read_by_programs, clean_runs_raise_no_alarm)
