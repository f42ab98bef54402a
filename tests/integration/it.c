/* SPDX-License-Identifier: PostgreSQL */
/* See it.h. */
#include "it.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stats.h"

#define HEAR_MS 30000
#define CANCEL_AGAIN_MS 2000 /* not soon: each that is under way when the lease ends puts its session in doubt */

pglease_test_env *it_env;
bool it_leaks_on_purpose;
static pglease *client;

static void
start(unsigned min, unsigned max, const char *instance_extra, const char *pool_extra)
{
	pglease_test_pool pool = {.name = "app", .min = min, .max = max, .extra = pool_extra};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(
	    .pools = &pool, .npools = 1, .extra = instance_extra, .no_leak_check = it_leaks_on_purpose);

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
}

void
it_start(unsigned min, unsigned max, const char *extra)
{
	start(min, max, NULL, extra);
}

void
it_start_as(const char *instance_extra, const char *pool_extra, unsigned max)
{
	start(1, max, instance_extra, pool_extra);
}

void
it_teardown(void)
{
	pglease_detach(client);
	client = NULL;
	ck_assert_msg(pglease_test_env_free(it_env) == 0, "%s", pglease_test_error_message());
	it_env = NULL;
}

pglease_pool *
it_attach(void)
{
	pglease_pool *pool;

	it_ok(pglease_attach(NULL, NULL, &client));
	it_ok(pglease_pool_open(client, "app", &pool));
	return pool;
}

pglease *
it_client(void)
{
	return client;
}

void
it_detach(void)
{
	pglease_detach(client);
	client = NULL;
}

PGconn *
it_acquire(pglease_pool *pool, pglease_lease *lease)
{
	PGconn *conn;

	it_ok(pglease_acquire(pool, 20000, lease, &conn));
	return conn;
}

void
it_release(const pglease_lease *lease)
{
	it_ok(pglease_release(lease));
}

void
it_cancel(PGconn *conn)
{
	PGcancel *cancel = PQgetCancel(conn);
	PGresult *result;
	char error[256];

	ck_assert_ptr_nonnull(cancel);
	do { /* a backend that has not read the query yet ignores it */
		struct pollfd answer = {.fd = PQsocket(conn), .events = POLLIN};

		ck_assert_msg(PQcancel(cancel, error, sizeof(error)) == 1, "%s", error);
		ck_assert_int_ge(poll(&answer, 1, CANCEL_AGAIN_MS), 0);
	} while (PQconsumeInput(conn) == 1 && PQisBusy(conn));
	PQfreeCancel(cancel);
	result = PQgetResult(conn);
	ck_assert_msg(PQresultStatus(result) == PGRES_FATAL_ERROR, "%s: %s", PQresStatus(PQresultStatus(result)), PQerrorMessage(conn));
	ck_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014");
	PQclear(result);
	ck_assert_ptr_null(PQgetResult(conn));
}

const char *
it_query(PGconn *conn, const char *sql)
{
	static char value[256];
	PGresult *result = PQexec(conn, sql);
	ExecStatusType status = PQresultStatus(result);

	ck_assert_msg(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, "%s: %s", sql, PQerrorMessage(conn));
	snprintf(value, sizeof(value), "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return value;
}

struct it_worker
it_worker(it_body body, const void *arg)
{
	struct it_worker worker;
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	worker.pid = check_fork();
	ck_assert_int_ge(worker.pid, 0);
	if (worker.pid == 0) {
		close(pair[0]);
		body(pair[1], arg);
		/* Without atexit handlers: they are the test's. */
		_exit(0);
	}
	close(pair[1]);
	worker.socket = pair[0];
	return worker;
}

void
it_say(int socket, char byte)
{
	ck_assert_int_eq(send(socket, &byte, 1, MSG_NOSIGNAL), 1);
}

void
it_hear(int socket, char byte)
{
	struct pollfd p = {.fd = socket, .events = POLLIN};
	char got = 0;

	ck_assert_msg(poll(&p, 1, HEAR_MS) == 1, "nothing heard, expected '%c'", byte);
	ck_assert_msg(recv(socket, &got, 1, 0) == 1, "the other side has gone, expected '%c'", byte);
	ck_assert_int_eq(got, byte);
}

void
it_kill(struct it_worker *worker)
{
	int status;

	ck_assert_int_eq(kill(worker->pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(worker->pid, &status, 0), worker->pid);
	close(worker->socket);
}

void
it_join(struct it_worker *worker)
{
	int status;

	ck_assert_int_eq(waitpid(worker->pid, &status, 0), worker->pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "worker ended with status %x", status);
	close(worker->socket);
}

void
it_cut_off(void)
{
	unsigned closed = 0;

	for (int fd = 3; fd < 256; fd++) {
		struct sockaddr_un peer;
		socklen_t length = sizeof(peer);

		/* The control socket: the one with a peer named so. */
		if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sun_family == AF_UNIX &&
		    length > sizeof(sa_family_t) && strstr(peer.sun_path, "/control") != NULL) {
			close(fd);
			closed++;
		}
	}
	ck_assert_uint_ge(closed, 1);
}

/* What is looked for in a pool's statistics. */
struct awaited {
	pglease_pool *pool;
	it_condition condition;
	const void *arg;
	pglease_stats stats;
};

static int
is_there(void *context)
{
	struct awaited *a = context;

	it_ok(pglease_stats_get(a->pool, &a->stats));
	return a->condition(&a->stats, a->arg);
}

void
it_await(pglease_pool *pool, it_condition condition, const void *arg, const char *what)
{
	struct awaited awaited = {.pool = pool, .condition = condition, .arg = arg};
	pglease_stats stats;

	if (pglease_test_await(is_there, &awaited, IT_PATIENCE_MS) == 0)
		return;
	stats = awaited.stats;
	ck_abort_msg("%s never came: total %u idle %u leased %u granted %u busy %u waiting %u clients %u", what,
	    stats.total, stats.idle, stats.leased, stats.granted, stats.busy, stats.pending, stats.clients);
}

uint64_t
it_timed(pglease_pool *pool, enum pglease_time time)
{
	pglease_times times;

	it_ok(pglease_times_get(pool, time, &times));
	return times.count;
}

static bool
waiting_is(const pglease_stats *stats, const void *arg)
{
	return stats->pending == *(const uint32_t *)arg;
}

void
it_await_waiting(pglease_pool *pool, uint32_t n)
{
	it_await(pool, waiting_is, &n, "the number of waiters");
}

static bool
all_idle(const pglease_stats *stats, const void *arg)
{
	return stats->leased == 0 && stats->granted == 0 && stats->busy == 0 && stats->pending == 0 && stats->idle > 0;
}

void
it_await_all_idle(pglease_pool *pool)
{
	it_await(pool, all_idle, NULL, "an idle pool");
}

uint64_t
it_published(const char *pool, const char *column)
{
	struct stats_snapshot snapshot;
	struct stats_reader *reader;
	const struct stats_view *view;
	uint64_t value = 0;
	uint32_t row;

	ck_assert_int_eq(stats_reader_open(pglease_test_instance(it_env), &reader), 0);
	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	view = stats_view_find(&snapshot, "pools");
	ck_assert_ptr_nonnull(view);
	for (row = 0; row < view->nrows; row++)
		if (strcmp(stats_value_text(view, row, stats_column_find(view, "name")), pool) == 0)
			break;
	ck_assert_msg(row < view->nrows, "no pool %s", pool);
	ck_assert_ptr_nonnull(stats_column_find(view, column));
	stats_value_u64(view, row, stats_column_find(view, column), &value);
	stats_snapshot_fini(&snapshot);
	stats_reader_close(reader);
	return value;
}

struct published {
	const char *pool, *column;
	uint64_t least;
};

static int
is_published(void *context)
{
	const struct published *p = context;

	return it_published(p->pool, p->column) >= p->least;
}

void
it_await_published(const char *pool, const char *column, uint64_t least)
{
	struct published published = {.pool = pool, .column = column, .least = least};

	if (pglease_test_await(is_published, &published, IT_PATIENCE_MS) == 0)
		return;
	ck_abort_msg("%s of pool %s stays at %llu", column, pool, (unsigned long long)it_published(pool, column));
}

/* How often the statistics have been published: once a tick. */
static uint64_t
ticks(void)
{
	struct stats_snapshot snapshot;
	struct stats_reader *reader;
	uint64_t n;

	ck_assert_int_eq(stats_reader_open(pglease_test_instance(it_env), &reader), 0);
	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	n = snapshot.header.sequence / 2;
	stats_snapshot_fini(&snapshot);
	stats_reader_close(reader);
	return n;
}

static int
has_ticked(void *context)
{
	return ticks() >= *(const uint64_t *)context;
}

void
it_await_ticks(unsigned n)
{
	uint64_t end = ticks() + n;

	ck_assert_msg(pglease_test_await(has_ticked, &end, IT_PATIENCE_MS) == 0, "the broker does not look at anything any more");
}

void
it_ctl_start(const char *verb, const char *argument, const char *timeout, struct child *ret)
{
	char program[512], log[512];
	const char *argv[8] = {program};
	unsigned n = 1;

	snprintf(program, sizeof(program), "%s/pgleasectl", getenv("PGLEASE_BUILDDIR"));
	snprintf(log, sizeof(log), "%s/pgleasectl.log", pglease_test_folder(it_env));
	if (timeout != NULL) {
		argv[n++] = "-t";
		argv[n++] = timeout;
	}
	argv[n++] = verb;
	if (argument != NULL)
		argv[n++] = argument;
	ck_assert_msg(child_start(argv, log, NULL, ret) == 0, "%s", child_error());
}

int
it_ctl_end(struct child *child)
{
	int status;

	ck_assert_msg(child_wait(child, 30000, &status) == 0, "pgleasectl: %s", child_error());
	ck_assert_int_eq(status & 0x7f, 0);
	return status >> 8;
}

int
it_ctl(const char *verb, const char *argument, const char *timeout)
{
	struct child child;

	it_ctl_start(verb, argument, timeout, &child);
	return it_ctl_end(&child);
}

/* xorshift64* (Vigna, 2016). */
static uint64_t random_state;

void
it_seed_random(void)
{
	const char *given = getenv("PGLEASE_TEST_SEED");

	if (given != NULL)
		random_state = strtoull(given, NULL, 10);
	else
		ck_assert_int_eq(getrandom(&random_state, sizeof(random_state), 0), sizeof(random_state));
	random_state |= 1;
	printf("# PGLEASE_TEST_SEED=%" PRIu64 "\n", random_state);
	fflush(stdout);
}

uint32_t
it_random(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)(random_state * UINT64_C(2685821657736338717) >> 32);
}

unsigned
it_open_files(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	/* "." and "..". */
	return n - 2 - (pid == getpid());
}

void
it_backends(char buf[static 512])
{
	PGconn *conn = PQconnectdb(pglease_test_conninfo(it_env));

	ck_assert_int_eq(PQstatus(conn), CONNECTION_OK);
	snprintf(buf, 512, "%s", it_query(conn,
				     "select string_agg(pid::text, ' ' order by pid) from pg_stat_activity "
				     "where application_name like 'pglease %'"));
	PQfinish(conn);
}
