/* SPDX-License-Identifier: PostgreSQL */
/* The history of a real broker's pool: recorded, carried over a kill and a stop, asked for by library and tool. */
#include "it.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <time.h>
#include <unistd.h>

#include "run.h"
#include "stats.h"

#define SECOND UINT64_C(1000000000)
#define AWAIT_TRIES 2000
#define LEASES 40
#define CONFIG_MAX 8192

/* All that there is, added up. */
struct sum {
	unsigned rows;
	uint64_t last_to, covered, acquired, released, opened, failures, starts, hold_count, wait_count;
	pglease_times hold; /* of the last row */
	uint32_t clients, total, max_connections;
};

static int
add(void *context, const pglease_history_row *row)
{
	struct sum *sum = context;

	ck_assert_uint_ge(row->from_ns, sum->last_to);
	ck_assert_uint_lt(row->from_ns, row->to_ns);
	sum->rows++;
	sum->last_to = row->to_ns;
	sum->covered += row->covered_ns;
	sum->acquired += row->acquired;
	sum->released += row->released;
	sum->opened += row->opened;
	sum->starts += row->starts;
	sum->hold_count += row->time[PGLEASE_TIME_HOLD].count;
	sum->wait_count += row->time[PGLEASE_TIME_WAIT].count;
	sum->hold = row->time[PGLEASE_TIME_HOLD];
	sum->clients = row->clients;
	sum->total = row->total;
	sum->max_connections = row->max_connections;
	return 0;
}

static struct sum
ask(pglease_pool *pool, uint64_t step)
{
	struct sum sum = {0};

	it_ok(pglease_history(pool, 0, UINT64_MAX, step, add, &sum));
	return sum;
}

static void
pause_a_moment(void)
{
	static const struct timespec step = {.tv_nsec = 10000000};

	nanosleep(&step, NULL);
}

/* Until so many leases have been recorded. There is nothing to wait on: it is looked at. */
static struct sum
await(pglease_pool *pool, uint64_t acquired)
{
	struct sum sum = {0};

	for (unsigned i = 0; i < AWAIT_TRIES; i++) {
		sum = ask(pool, 0);
		if (sum.acquired >= acquired && sum.released >= acquired)
			break;
		pause_a_moment();
	}
	ck_assert_uint_eq(sum.acquired, acquired);
	ck_assert_uint_eq(sum.released, acquired);
	return sum;
}

static void
lease(pglease_pool *pool, unsigned n, long hold_ns)
{
	struct timespec hold = {.tv_nsec = hold_ns};
	pglease_lease held;

	for (unsigned i = 0; i < n; i++) {
		it_acquire(pool, &held);
		if (hold_ns != 0)
			nanosleep(&hold, NULL);
		it_release(&held);
	}
}

static void
assert_within(uint64_t value, uint64_t expected, double share, const char *what)
{
	ck_assert_msg((double)value >= (double)expected * (1 - share) && (double)value <= (double)expected * (1 + share),
	    "%s: %" PRIu64 " is not %" PRIu64, what, value, expected);
}

static uint64_t
history_bytes_published(void)
{
	struct stats_snapshot snapshot;
	struct stats_reader *reader;
	const struct stats_view *view;
	uint64_t value = 0;

	ck_assert_int_eq(stats_reader_open(pglease_test_instance(it_env), &reader), 0);
	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	view = stats_view_find(&snapshot, "instance");
	ck_assert_ptr_nonnull(view);
	ck_assert(stats_value_u64(view, 0, stats_column_find(view, "history_segments"), &value));
	stats_snapshot_fini(&snapshot);
	stats_reader_close(reader);
	return value;
}

START_TEST(rows_agree_with_the_statistics)
{
	pglease_pool *pool;
	pglease_stats stats;
	pglease_times times;
	struct sum sum, seconds;

	it_start(2, 2, NULL);
	pool = it_attach();
	lease(pool, LEASES, 3000000);
	sum = await(pool, LEASES);
	it_ok(pglease_stats_get(pool, &stats));
	it_ok(pglease_times_get(pool, PGLEASE_TIME_HOLD, &times));
	ck_assert_uint_eq(sum.acquired, stats.acquired);
	ck_assert_uint_eq(sum.released, stats.released);
	ck_assert_uint_eq(sum.opened, stats.opened);
	ck_assert_uint_eq(sum.starts, 1);
	ck_assert_uint_eq(sum.total, 2);
	ck_assert_uint_eq(sum.clients, 1);
	ck_assert_uint_eq(sum.max_connections, 2);
	ck_assert_uint_eq(sum.hold.count, LEASES);
	ck_assert_uint_eq(sum.wait_count, LEASES);
	ck_assert_uint_eq(sum.hold.mean_ns, times.mean_ns);
	/* Two approximations of one number: their errors add. */
	assert_within(sum.hold.p50_ns, times.p50_ns, 0.15, "p50");
	assert_within(sum.hold.p95_ns, times.p95_ns, 0.15, "p95");
	assert_within(sum.hold.p99_ns, times.p99_ns, 0.15, "p99");
	assert_within(sum.hold.max_ns, times.max_ns, 0.15, "max");
	ck_assert_uint_ge(sum.hold.p50_ns, 2600000);
	ck_assert_uint_gt(history_bytes_published(), 15000000);
	/* Second by second it is the same. */
	seconds = ask(pool, SECOND);
	ck_assert_uint_eq(seconds.acquired, LEASES);
	ck_assert_uint_eq(seconds.hold_count, LEASES);
}
END_TEST

START_TEST(a_killed_broker_is_continued)
{
	pglease_pool *pool;
	struct sum before, sum;

	it_start(1, 1, NULL);
	pool = it_attach();
	lease(pool, LEASES, 0);
	before = await(pool, LEASES);
	ck_assert_msg(pglease_test_broker_kill(it_env) == 0, "%s", pglease_test_error_message());
	/* Who has it mapped goes on reading. */
	sum = ask(pool, 0);
	ck_assert_uint_eq(sum.acquired, LEASES);
	pglease_detach(it_client());
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	lease(pool, 7, 0);
	sum = await(pool, LEASES + 7);
	ck_assert_uint_eq(sum.starts, 2);
	ck_assert_uint_ge(sum.covered, before.covered);
}
END_TEST

static bool
has_history(const char *pool)
{
	char path[300];

	snprintf(path, sizeof(path), "/dev/shm/pglease.%s.history.%s", pglease_test_instance(it_env), pool);
	return access(path, F_OK) == 0;
}

/* The configuration; returns where this section begins in it. */
static char *
read_config(char text[static CONFIG_MAX], const char *section)
{
	FILE *f = fopen(pglease_test_config(it_env), "re");
	char *at;

	ck_assert_ptr_nonnull(f);
	text[fread(text, 1, CONFIG_MAX - 1, f)] = '\0';
	fclose(f);
	at = strstr(text, section);
	ck_assert_ptr_nonnull(at);
	return at;
}

/* The configuration without what begins with this section. */
static void
forget_pool(const char *section)
{
	char text[CONFIG_MAX];
	FILE *f;

	*read_config(text, section) = '\0';
	f = fopen(pglease_test_config(it_env), "we");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

/* So that nobody else can. */
static int
listen_somewhere(unsigned *ret_port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

static void
set_http_listen(const char *address)
{
	static const char section[] = "[pglease]\n";
	char text[CONFIG_MAX], *at = read_config(text, section) + strlen(section);
	FILE *f = fopen(pglease_test_config(it_env), "we");

	ck_assert_ptr_nonnull(f);
	fprintf(f, "%.*shttp_listen = %s\n%s", (int)(at - text), text, address, at + (strncmp(at, "http_listen", 11) == 0 ? strcspn(at, "\n") + 1 : 0));
	ck_assert_int_eq(fclose(f), 0);
}

/* It was killed, and its pool is not configured any more: nobody else would take its history away. */
START_TEST(of_a_pool_that_is_no_more)
{
	static const pglease_test_pool pools[] = {{.name = "app", .max = 1}, {.name = "gone", .max = 1}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2);
	const char *args[] = {"-c", NULL, NULL};
	pglease_pool *pool;
	char address[32], unfinished[160];
	unsigned port;
	int fd;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	lease(pool, LEASES, 0);
	await(pool, LEASES);
	it_detach();
	ck_assert(has_history("app") && has_history("gone"));
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	ck_assert(has_history("app") && has_history("gone"));
	forget_pool("[pool gone]");
	/* As one that is killed while it makes a history leaves it. */
	snprintf(unfinished, sizeof(unfinished), "/pglease.%s.history.app.0123456789abcdef", pglease_test_instance(it_env));
	fd = shm_open(unfinished, O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	/* Nor may one that cannot start. */
	fd = listen_somewhere(&port);
	snprintf(address, sizeof(address), "127.0.0.1:%u", port);
	set_http_listen(address);
	args[1] = pglease_test_config(it_env);
	run_refused(args, NULL, address, NULL, NULL);
	close(fd);
	ck_assert(has_history("app") && has_history("gone"));
	set_http_listen("");
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert(has_history("app") && !has_history("gone") && !has_history("app.0123456789abcdef"));
	await(it_attach(), LEASES);
}
END_TEST

static const char *
saved_file(void)
{
	static char path[300];

	snprintf(path, sizeof(path), "%s/embedded/history.app", pglease_test_folder(it_env));
	return path;
}

START_TEST(a_stop_saves_and_a_start_reads)
{
	pglease_pool *pool;
	struct stat st;
	struct sum sum;

	it_start(1, 1, NULL);
	ck_assert_int_ne(access(saved_file(), F_OK), 0);
	for (unsigned i = 0; i < 3; i++) {
		pool = it_attach();
		if (i > 0)
			sum = await(pool, i * LEASES);
		lease(pool, LEASES, 0); /* right before the stop: the last row has them */
		pglease_detach(it_client());
		ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
		ck_assert_int_eq(stat(saved_file(), &st), 0);
		ck_assert_uint_eq(st.st_mode & 0777, 0600);
		ck_assert_uint_lt((uint64_t)st.st_size, 10000000); /* what there is, not what there could be */
		ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	}
	pool = it_attach();
	sum = await(pool, 3 * LEASES);
	ck_assert_uint_ge(sum.starts, 3);
}
END_TEST

START_TEST(a_bad_file_is_no_reason_not_to_start)
{
	pglease_pool *pool;
	off_t offset = 0;
	int fd;

	it_start(1, 1, NULL);
	pool = it_attach();
	lease(pool, 3, 0);
	pglease_detach(it_client());
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	fd = open(saved_file(), O_WRONLY);
	ck_assert_int_eq((int)pwrite(fd, "nonsense", 8, 300), 8);
	close(fd);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	/* Said before the broker was ready: it is in the log. */
	ck_assert_int_eq(child_await_line(pglease_test_log(it_env), &offset, "history.app: it is damaged", NULL, 0), 0);
	pool = it_attach();
	lease(pool, 5, 0);
	await(pool, 5);
}
END_TEST

/* --- Without one. --- */

static int
stat_tool(const char *const *arguments, char *buf, size_t size)
{
	char program[512], log[512];
	const char *argv[16] = {program};
	struct child child;
	int status, fd;
	ssize_t n;

	snprintf(program, sizeof(program), "%s/pgleasestat", getenv("PGLEASE_BUILDDIR"));
	snprintf(log, sizeof(log), "%s/stat.log", pglease_test_folder(it_env));
	unlink(log);
	for (unsigned i = 0; arguments[i] != NULL; i++)
		argv[i + 1] = arguments[i];
	ck_assert_msg(child_start(argv, log, NULL, &child) == 0, "%s", child_error());
	ck_assert_int_eq(child_wait(&child, 30000, &status), 0);
	fd = open(log, O_RDONLY);
	n = read(fd, buf, size - 1);
	ck_assert_int_ge(n, 0);
	buf[n] = '\0';
	close(fd);
	ck_assert_int_eq(status & 0x7f, 0);
	return status >> 8;
}

static int
never(void *context, const pglease_history_row *row)
{
	ck_abort_msg("a row");
}

START_TEST(without_a_history)
{
	static const char *const off[] = {"history = no", "monitoring = no"};
	static const char *const arguments[] = {"--history", NULL};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.extra = NULL);
	char path[300], text[4096];
	pglease_pool *pool;
	pglease_lease held;

	for (unsigned i = 0; i < 2; i++) {
		options.extra = off[i];
		ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
		pool = it_attach();
		ck_assert_int_eq(pglease_history(pool, 0, UINT64_MAX, 0, never, NULL), PGLEASE_ENOHISTORY);
		ck_assert_ptr_nonnull(strstr(pglease_error_message(), "no history of pool app"));
		it_acquire(pool, &held);
		it_release(&held);
		snprintf(path, sizeof(path), "/dev/shm/pglease.%s.history.app", pglease_test_instance(it_env));
		ck_assert_int_ne(access(path, F_OK), 0);
		ck_assert_int_eq(stat_tool(arguments, text, sizeof(text)), 2);
		ck_assert_msg(strstr(text, i == 0 ? "its broker keeps none" : "monitoring is off") != NULL, "%s", text);
		it_teardown();
	}
}
END_TEST

START_TEST(only_minutes)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.extra = "metrics_retention = 0");
	pglease_pool *pool;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	lease(pool, 5, 0);
	pglease_detach(it_client());
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	ck_assert_uint_eq(ask(pool, 0).acquired, 5); /* the minute that the stop ended */
}
END_TEST

START_TEST(not_saved)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.extra = "history_save = no");
	pglease_pool *pool;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	lease(pool, 5, 0);
	await(pool, 5);
	pglease_detach(it_client());
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_int_ne(access(saved_file(), F_OK), 0);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	ck_assert_uint_eq(ask(pool, 0).acquired, 0);
}
END_TEST

/* --- The library's call. --- */

static int
three(void *context, const pglease_history_row *row)
{
	return ++*(unsigned *)context == 1 ? 3 : 0;
}

START_TEST(arguments)
{
	pglease_pool *pool;
	unsigned n = 0;

	it_start(1, 1, NULL);
	pool = it_attach();
	ck_assert_int_eq(pglease_history(NULL, 0, 1, 0, never, NULL), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_history(pool, 0, 1, 0, NULL, NULL), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_history(pool, 5, 5, 0, never, NULL), PGLEASE_EINVAL);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "from_ns < to_ns"));
	it_ok(pglease_history(pool, 0, SECOND, 1, never, NULL)); /* nobody recorded in 1970 */
	lease(pool, 3, 0);
	await(pool, 3);
	ck_assert_int_eq(pglease_history(pool, 0, UINT64_MAX, SECOND, three, &n), 3);
	ck_assert_uint_eq(n, 1);
}
END_TEST

/* Any system call but exit, and Check's write, is the process's death. (SECCOMP_MODE_STRICT would forbid the processor's counter of time, too.) */
static void
forbid_system_calls(void)
{
	struct sock_filter filter[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 1, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void
ask_without_system_calls(int socket, const void *arg)
{
	pglease_pool *pool = *(pglease_pool *const *)arg;
	struct sum sum;
	pglease_lease held;

	/* The child attaches itself, and maps the history anew, at its first call. */
	it_acquire(pool, &held);
	it_release(&held);
	sum = await(pool, 4);
	forbid_system_calls();
	sum = ask(pool, SECOND);
	syscall(SYS_exit, sum.acquired == 4 ? 0 : 1);
}

START_TEST(no_system_call_is_made)
{
	pglease_pool *pool;
	struct it_worker worker;

	it_start(1, 1, NULL);
	pool = it_attach();
	lease(pool, 3, 0);
	await(pool, 3);
	worker = it_worker(ask_without_system_calls, &pool);
	it_join(&worker);
}
END_TEST

/* --- The tool. --- */

START_TEST(pgleasestat_shows_it)
{
	static const char *const json[] = {"--history", "--since", "10min", "--step", "1h", "-J", NULL};
	static const char *const csv[] = {"--history", "--since", "2020-01-01", "--csv", "-o", "pool,leases", NULL};
	static const char *const one[] = {"--history", "-i", "nope", NULL};
	char *text = malloc(1 << 16);
	json_t *document, *rows, *row;
	json_error_t error;
	uint64_t leases = 0;
	pglease_pool *pool;

	it_start(1, 1, NULL);
	pool = it_attach();
	lease(pool, LEASES, 1000000);
	await(pool, LEASES);
	ck_assert_int_eq(stat_tool(json, text, 1 << 16), 0);
	document = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	ck_assert_msg(document != NULL, "%s: %s", error.text, text);
	rows = json_object_get(document, "history");
	/* One, or two when it is the hour. */
	ck_assert_uint_ge(json_array_size(rows), 1);
	ck_assert_uint_le(json_array_size(rows), 2);
	for (size_t i = 0; i < json_array_size(rows); i++) {
		row = json_array_get(rows, i);
		ck_assert_str_eq(json_string_value(json_object_get(row, "pool")), "app");
		ck_assert_int_eq((int)json_real_value(json_object_get(row, "time")) % 3600, 0);
		leases += (uint64_t)json_integer_value(json_object_get(row, "leases"));
		if (json_integer_value(json_object_get(row, "hold_count")) == LEASES) {
			ck_assert_double_ge(json_real_value(json_object_get(row, "hold_p50")), 0.0009);
			ck_assert_double_ge(json_real_value(json_object_get(row, "covered")), 0.01);
		}
	}
	ck_assert_uint_eq(leases, LEASES);
	json_decref(document);
	ck_assert_int_eq(stat_tool(csv, text, 1 << 16), 0);
	ck_assert_int_eq(strncmp(text, "pool,leases\napp,", 16), 0);
	ck_assert_int_eq(stat_tool(one, text, 1 << 16), 3);
	ck_assert_ptr_nonnull(strstr(text, "'nope'"));
	free(text);
}
END_TEST

IT_MAIN("recorder", rows_agree_with_the_statistics, a_killed_broker_is_continued, of_a_pool_that_is_no_more,
    a_stop_saves_and_a_start_reads, a_bad_file_is_no_reason_not_to_start, without_a_history, only_minutes, not_saved, arguments, no_system_call_is_made,
    pgleasestat_shows_it)
