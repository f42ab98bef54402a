/* SPDX-License-Identifier: PostgreSQL */
/*
 * Memory that is not to be had: each call of malloc in turn fails, in a worker and in the broker; and in a worker every call from
 * there on, too. Whatever they were doing, it ends with an error in words or goes well; nobody crashes or hangs, no slot is lost, and as
 * soon as there is memory again all is well.
 *
 * This program's malloc is its own, and so is that of everything it links: libpq, libevent, the library and the broker's code, which
 * runs in a child. Where all calls fail from one on, only every third is that one, unless PGLEASE_TEST_MEMORY_STEP is set.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "it.h"
#include "paths.h"
#include "text_stream.h"

#define ALWAYS_STEP 3 /* most of them wait half a second for a dying broker's control connection */
#define ROUND_MS 30000 /* ends a failing test only */

/* Shared with children. `left`: calls until one fails; 0: none will. */
static struct {
	_Atomic long left;
	_Atomic unsigned failed;
	_Atomic bool always; /* once one has failed, all do */
} *plan;
static bool is_counting; /* this process */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *p);

/* Also of the libraries that this program loads. */
#define EVERYBODYS __attribute__((visibility("default")))

static bool
is_to_fail(void)
{
	long left;

	if (!is_counting || atomic_load(&plan->left) <= 0)
		return false;
	left = atomic_fetch_sub(&plan->left, 1);
	if (left != 1)
		return false;
	if (atomic_load(&plan->always))
		atomic_store(&plan->left, 1);
	atomic_fetch_add(&plan->failed, 1);
	errno = ENOMEM;
	return true;
}

EVERYBODYS void *
malloc(size_t size)
{
	return is_to_fail() ? NULL : __libc_malloc(size);
}

EVERYBODYS void *
calloc(size_t n, size_t size)
{
	return is_to_fail() ? NULL : __libc_calloc(n, size);
}

EVERYBODYS void *
realloc(void *p, size_t size)
{
	return is_to_fail() ? NULL : __libc_realloc(p, size);
}

EVERYBODYS void *
memalign(size_t alignment, size_t size)
{
	return is_to_fail() ? NULL : __libc_memalign(alignment, size);
}

EVERYBODYS void *
aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

EVERYBODYS int
posix_memalign(void **ret, size_t alignment, size_t size)
{
	void *p = memalign(alignment, size);

	if (p == NULL)
		return ENOMEM;
	*ret = p;
	return 0;
}

EVERYBODYS void
free(void *p)
{
	__libc_free(p);
}

static void
fail_at(long call, bool always)
{
	atomic_store(&plan->failed, 0);
	atomic_store(&plan->always, always);
	atomic_store(&plan->left, call);
	is_counting = true;
}

static void
make_plan(void)
{
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(plan, MAP_FAILED);
}

/* --- A text. --- */

/* Whatever fails, in whichever piece: all of it, or nothing. */
START_TEST(a_text_is_never_cut)
{
	static const size_t lines = 3000, line_size = sizeof("00000000 line\n") - 1;
	unsigned refused = 0;
	bool was_last = false;

	make_plan();
	for (long n = 1; !was_last; n++) {
		struct text_stream text;
		char *taken;
		FILE *f;

		fail_at(n, false);
		f = text_stream_open(&text);
		for (size_t i = 0; f != NULL && i < lines; i++)
			fprintf(f, "%08zu line\n", i);
		taken = text_stream_close(&text, f);
		was_last = atomic_exchange(&plan->left, 0) > 0;
		if (taken != NULL)
			ck_assert_uint_eq(strlen(taken), lines * line_size);
		else
			refused++;
		ck_assert(!was_last || taken != NULL);
		free(taken);
	}
	ck_assert_uint_gt(refused, 2);
}
END_TEST

/* --- A worker. --- */

/* From attach to detach; the first error, or 0. Words are not checked while there is no memory for them. */
static int
whole_life(void)
{
	pglease_pool *pool;
	pglease_lease lease;
	pglease *client;
	PGresult *result;
	PGconn *conn;
	char *text;
	int r = pglease_attach(NULL, NULL, &client), released;

	if (r != 0)
		return r;
	r = pglease_pool_open(client, "app", &pool);
	for (unsigned i = 0; r == 0 && i < 2; i++) {
		r = pglease_acquire(pool, 20000, &lease, &conn);
		if (r != 0)
			break;
		/* A result that is NULL is libpq's word for no memory. */
		result = PQexec(conn, "select 7");
		PQclear(result);
		result = pglease_exec_cached(conn, "select 8", 0, NULL, NULL, NULL, NULL, 0);
		PQclear(result);
		released = pglease_release(&lease);
		/* One that is lost meanwhile is told. */
		if (released != 0 && released != PGLEASE_ESTALE)
			r = released;
	}
	if (r == 0) {
		r = pglease_stats_json(pool, &text);
		if (r == 0)
			pglease_free(text);
	}
	pglease_detach(client);
	return r;
}

/* With the n-th call failing; then, in the same process, with memory. Status 0: well; 1: an error was told. */
static int
live_twice(long n, bool always)
{
	int r;

	fail_at(n, always);
	r = whole_life();
	atomic_store(&plan->left, 0);
	if (r > 0 || (r != 0 && atomic_load(&plan->failed) == 0))
		return 2;
	return whole_life() == 0 ? r != 0 : 3;
}

static void
worker_without_memory(bool always, long step)
{
	unsigned errors = 0;
	pglease_pool *pool;
	pglease_stats stats;
	bool was_last = false;
	long n;

	it_start(1, 1, NULL);
	make_plan();
	for (n = 1; !was_last; n += step) {
		pid_t pid = check_fork();
		int status;

		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			alarm(ROUND_MS / 1000);
			_exit(live_twice(n, always));
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) <= 1, "call %ld: status %x", n, status);
		errors += WEXITSTATUS(status) == 1;
		was_last = atomic_load(&plan->failed) == 0;
	}
	printf("# %ld of about %ld calls of malloc in a worker's life, %u of which end it when they fail\n", (n - step) / step,
	    n - step, errors);
	ck_assert_uint_gt(errors, 0);
	/* Its one slot is there. */
	pool = it_attach();
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.total, 1);
	ck_assert_uint_eq(stats.leased, 0);
}

START_TEST(each_call_fails_in_a_worker)
{
	worker_without_memory(false, 1);
}
END_TEST

START_TEST(all_calls_fail_from_one_on_in_a_worker)
{
	worker_without_memory(true, getenv("PGLEASE_TEST_MEMORY_STEP") != NULL ? 1 : ALWAYS_STEP);
}
END_TEST

/* --- The broker. --- */

static char errors_of_broker[256];

/* In the child. */
static void
be_broker(long n)
{
	char name[] = "pgleased", option[] = "-c", file[256];
	char *argv[] = {name, option, file, NULL};
	int fd = open(errors_of_broker, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	snprintf(file, sizeof(file), "%s", pglease_test_config(it_env));
	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		_exit(126);
	close_range(3, UINT32_MAX, 0);
	signal(SIGTERM, SIG_DFL);
	optind = 0;
	fail_at(n, false);
	_exit(daemon_main(3, argv));
}

static bool
has_ended(pid_t pid, int *ret_status)
{
	return waitpid(pid, ret_status, WNOHANG) == pid;
}

static void
say_errors(void)
{
	char text[4096];
	int fd = open(errors_of_broker, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	close(fd);
	printf("# the broker said: %s\n", text);
	fflush(stdout);
}

/* Its last line begins so. */
static bool
last_line_is_told(void)
{
	char line[2048], last[2048] = "";
	FILE *f = fopen(errors_of_broker, "re");

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		memcpy(last, line, sizeof(last));
	fclose(f);
	return strncmp(last, "pgleased: ", 10) == 0 && strlen(last) > 12;
}

/* Nothing of it is left. */
static void
check_gone(long n)
{
	char name[PATHS_MAX], path[PATHS_MAX + 16];

	ck_assert_int_eq(paths_stats_name(pglease_test_instance(it_env), name, sizeof(name)), 0);
	snprintf(path, sizeof(path), "/dev/shm%s", name);
	ck_assert_msg(access(path, F_OK) != 0, "call %ld: %s is left", n, path);
	ck_assert_int_eq(paths_control_socket(pglease_test_socket_dir(it_env), path, sizeof(path)), 0);
	ck_assert_msg(access(path, F_OK) != 0, "call %ld: %s is left", n, path);
}

/* In a child: the library keeps a little of each pool that a process has had. */
static bool
is_served(void)
{
	pid_t pid = check_fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		alarm(ROUND_MS / 1000);
		_exit(whole_life() == 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status), "status %x", status);
	return WEXITSTATUS(status) == 0;
}

/* A broker whose n-th call fails: it says so and ends, or serves; and ends when it is asked to. False: it made fewer calls. */
static bool
broker_round(long n, unsigned *refusals)
{
	struct pollfd p = {.fd = -1};
	bool ended = false, served = false;
	int status = 0, waited;
	pid_t pid = check_fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		be_broker(n);
	/* Only one call fails: whoever asks again is served. */
	for (waited = 0; !served && !ended && waited < ROUND_MS; waited += 5) {
		served = is_served();
		ended = !served && has_ended(pid, &status);
		if (!served && !ended)
			poll(&p, 0, 5);
	}
	if (waited >= ROUND_MS)
		say_errors();
	ck_assert_msg(served || ended, "call %ld: it neither serves nor ends", n);
	if (served) {
		ck_assert_int_eq(kill(pid, SIGTERM), 0);
		for (waited = 0; !has_ended(pid, &status) && waited < ROUND_MS; waited += 5)
			poll(&p, 0, 5);
		if (waited >= ROUND_MS) {
			say_errors();
			kill(pid, SIGKILL);
		}
		ck_assert_msg(waited < ROUND_MS, "call %ld: it does not stop", n);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != (served ? 0 : 1))
		say_errors();
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == (served ? 0 : 1), "call %ld: status %x", n, status);
	if (!served) {
		if (!last_line_is_told())
			say_errors();
		ck_assert_msg(last_line_is_told(), "call %ld: it does not say why", n);
		(*refusals)++;
	}
	check_gone(n);
	return atomic_load(&plan->failed) != 0;
}

START_TEST(calls_fail_in_the_broker)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.no_broker = true);
	unsigned refusals = 0;
	long n = 1;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	snprintf(errors_of_broker, sizeof(errors_of_broker), "%s/broker.err", pglease_test_folder(it_env));
	make_plan();
	while (broker_round(n, &refusals))
		n++;
	printf("# %ld calls of malloc in a broker's life, %u of which end its start when they fail\n", n - 1, refusals);
	ck_assert_uint_gt(refusals, 0);
	ck_assert_int_gt(n - 1, refusals);
}
END_TEST

IT_MAIN("memory", a_text_is_never_cut, each_call_fails_in_a_worker, all_calls_fail_from_one_on_in_a_worker, calls_fail_in_the_broker)
