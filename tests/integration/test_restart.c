/* SPDX-License-Identifier: PostgreSQL */
/* pgleasectl restart: what goes over to the other program and goes on there. */
#include "restart.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "stats.h"

static pglease_pool *pool;
static pglease_lease lease;

static void
start(unsigned min, unsigned max, const char *extra)
{
	restart_prepare();
	it_start(min, max, extra);
	pool = it_attach();
}

static bool
has_total(const pglease_stats *stats, const void *arg)
{
	return stats->total == *(const uint32_t *)arg && stats->idle == stats->total;
}

static void
await_total(uint32_t n)
{
	it_await(pool, has_total, &n, "all connections");
}

START_TEST(a_lease_and_its_transaction_go_on)
{
	char pid[32], before[512], after[512];
	PGconn *conn;

	start(2, 2, NULL);
	await_total(2);
	it_backends(before);
	conn = it_acquire(pool, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	it_query(conn, "begin");
	it_query(conn, "create temp table t (n int) on commit drop");
	it_query(conn, "insert into t values (42)");
	restart_now();
	ck_assert_str_eq(it_query(conn, "select n from t"), "42");
	restart_now();
	it_query(conn, "commit");
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	it_release(&lease);
	it_backends(after);
	ck_assert_str_eq(before, after);
}
END_TEST

START_TEST(a_query_can_be_cancelled_after_it)
{
	pglease_stats stats;
	PGconn *conn;

	start(1, 1, NULL);
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(1000)"), 1);
	restart_now();
	it_cancel(conn);
	it_release(&lease);
	it_await_all_idle(pool);
	/* By a lease and an adoption that the second program has served, too. */
	conn = it_acquire(pool, &lease);
	PQreset(conn);
	ck_assert_int_eq(PQstatus(conn), CONNECTION_OK);
	restart_now();
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(1000)"), 1);
	it_cancel(conn);
	it_release(&lease);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(it_published("app", "opened"), 2);
	ck_assert_uint_eq(it_published("app", "cancels_refused"), 0);
}
END_TEST

START_TEST(the_broker_resets_what_it_has_taken_over)
{
	PGconn *conn;
	uint64_t resets;
	char pid[32];

	start(1, 1, "reset_after = 20ms");
	conn = it_acquire(pool, &lease);
	snprintf(pid, sizeof(pid), "%s", it_query(conn, "select pg_backend_pid()"));
	restart_now();
	resets = it_published("app", "broker_resets");
	it_query(conn, "set search_path to nowhere");
	it_release(&lease);
	it_await_published("app", "broker_resets", resets + 1);
	it_await_all_idle(pool);
	conn = it_acquire(pool, &lease);
	ck_assert_str_ne(it_query(conn, "show search_path"), "nowhere");
	ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), pid);
	it_release(&lease);
}
END_TEST

START_TEST(idle_old_and_tried_ones_are_seen_to_after_it)
{
	pglease_lease other;
	uint64_t old, tried;

	start(1, 2, "idle_timeout = 300ms\nmax_lifetime = 1500ms\nkeepalive = 50ms");
	it_acquire(pool, &lease);
	it_acquire(pool, &other);
	restart_now();
	it_release(&lease);
	it_release(&other);
	tried = it_published("app", "keepalives");
	it_await_published("app", "keepalives", tried + 1);
	it_await_published("app", "closed_idle", 1);
	old = it_published("app", "closed_lifetime");
	it_await_published("app", "closed_lifetime", old + 1);
	it_await_published("app", "total", 1);
	ck_assert_uint_eq(it_published("app", "closed_broken"), 0);
	ck_assert_uint_eq(it_published("app", "closed_upstream"), 0);
}
END_TEST

START_TEST(a_server_that_hangs_up_is_noticed_after_it)
{
	PGconn *conn, *admin;
	char sql[512];

	start(2, 2, NULL);
	await_total(2);
	conn = it_acquire(pool, &lease);
	snprintf(sql, sizeof(sql),
	    "select pg_terminate_backend(pid) from pg_stat_activity where pid != %s and application_name like 'pglease %%'",
	    it_query(conn, "select pg_backend_pid()"));
	restart_now();
	admin = PQconnectdb(pglease_test_conninfo(it_env));
	it_query(admin, sql);
	PQfinish(admin);
	it_await_published("app", "closed_upstream", 1);
	it_await_published("app", "opened", 3);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
}
END_TEST

START_TEST(a_drain_that_somebody_waits_for_goes_on)
{
	struct child drain;
	PGconn *conn;

	start(2, 2, NULL);
	conn = it_acquire(pool, &lease);
	it_ctl_start("drain", NULL, "60", &drain);
	restart_await_log("command drain");
	restart_now();
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	ck_assert_int_eq(it_ctl_end(&drain), 0);
	restart_now(); /* with nothing at all */
	ck_assert_int_eq(pglease_acquire(pool, 1000, &lease, &conn), PGLEASE_EDRAINING);
	ck_assert_int_eq(it_ctl("resume", NULL, NULL), 0);
	it_acquire(pool, &lease);
	it_release(&lease);
	ck_assert_int_eq(it_ctl("drain", NULL, NULL), 0);
}
END_TEST

static void
holder(int socket, const void *arg)
{
	PGconn *conn = it_acquire(it_attach(), &lease);

	it_query(conn, "select pg_advisory_lock(1)");
	it_say(socket, 'h');
	it_hear(socket, 'q');
}

START_TEST(a_worker_that_dies_after_it_is_noticed)
{
	struct it_worker worker, idle;

	start(1, 1, NULL);
	worker = it_worker(holder, NULL);
	it_hear(worker.socket, 'h');
	restart_now();
	it_kill(&worker);
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select pg_try_advisory_lock(1)"), "t");
	it_release(&lease);
	it_await_published("app", "revoked_death", 1);
	idle = it_worker(holder, NULL);
	it_hear(idle.socket, 'h');
	it_say(idle.socket, 'q');
	it_join(&idle);
}
END_TEST

/* The other program waits for the test before it begins. */
static void
start_slow_restart(struct child *ret)
{
	restart_script(NULL, "while [ ! -e \"$go\" ]; do sleep 0.01; done\nexec -a \"$0\" \"$real\" \"$@\"");
	it_ctl_start("restart", NULL, NULL, ret);
	restart_await_log("takes the place of this program");
}

static void
end_slow_restart(struct child *restart)
{
	restart_go();
	ck_assert_int_eq(it_ctl_end(restart), 0);
}

START_TEST(a_worker_that_dies_during_it_is_noticed)
{
	struct it_worker worker;
	struct child restart;

	start(1, 1, NULL);
	worker = it_worker(holder, NULL);
	it_hear(worker.socket, 'h');
	start_slow_restart(&restart);
	it_kill(&worker);
	end_slow_restart(&restart);
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select pg_try_advisory_lock(1)"), "t");
	it_release(&lease);
	it_await_published("app", "revoked_death", 1);
}
END_TEST

static void
newcomer(int socket, const void *arg)
{
	it_hear(socket, 'g');
	ck_assert_str_eq(it_query(it_acquire(it_attach(), &lease), "select 1"), "1");
	it_release(&lease);
	pglease_detach(it_client());
}

static void *
wait_and_query(void *arg)
{
	pglease_lease mine;
	PGconn *conn;

	if (pglease_acquire(pool, 30000, &mine, &conn) != 0)
		return arg;
	PQclear(PQexec(conn, "select 1"));
	return pglease_release(&mine) == 0 ? NULL : arg;
}

static void *
cancel_in_a_thread(void *conn)
{
	it_cancel(conn);
	return conn;
}

START_TEST(what_is_asked_of_the_broker_during_it_waits)
{
	struct it_worker worker;
	struct child restart;
	pthread_t thread, canceller;
	pglease_lease other;
	void *result = NULL;
	PGconn *conn, *second;

	start(2, 2, "acquire_timeout = 30s");
	worker = it_worker(newcomer, NULL);
	conn = it_acquire(pool, &lease);
	second = it_acquire(pool, &other);
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(1000)"), 1);
	start_slow_restart(&restart);
	ck_assert_str_eq(it_query(second, "select 2"), "2");
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_and_query, conn), 0);
	ck_assert_int_eq(pthread_create(&canceller, NULL, cancel_in_a_thread, conn), 0);
	it_await_waiting(pool, 1);
	it_say(worker.socket, 'g'); /* attaches */
	it_release(&other); /* to the waiter, without a broker */
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert_ptr_null(result);
	end_slow_restart(&restart);
	ck_assert_int_eq(pthread_join(canceller, &result), 0);
	it_release(&lease);
	it_join(&worker);
}
END_TEST

START_TEST(a_signal_that_comes_during_it_is_obeyed_after_it)
{
	struct pollfd end;
	struct child restart;

	start(1, 1, NULL);
	end = (struct pollfd){.fd = pidfd_open(pglease_test_broker_pid(it_env), 0), .events = POLLIN};
	start_slow_restart(&restart);
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGTERM), 0);
	ck_assert_int_eq(poll(&end, 1, 50), 0); /* it has not ended it */
	end_slow_restart(&restart);
	restart_await_log("stops: SIGTERM");
	ck_assert_int_eq(poll(&end, 1, IT_PATIENCE_MS), 1);
	close(end.fd);
}
END_TEST

START_TEST(a_pqreset_that_hangs_goes_on)
{
	struct child restart;
	PGconn *conn;

	start(1, 1, "connect_timeout = 60s");
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(pglease_test_pause(it_env, PGLEASE_TEST_SERVER, 0), 0);
	ck_assert_int_eq(PQresetStart(conn), 1);
	for (unsigned i = 0; i < 3; i++)
		PQresetPoll(conn);
	it_ctl_start("restart", NULL, "0.2", &restart);
	ck_assert_int_eq(it_ctl_end(&restart), 0);
	ck_assert_int_eq(pglease_test_continue(it_env, PGLEASE_TEST_SERVER, 0), 0);
	for (;;) {
		PostgresPollingStatusType polled = PQresetPoll(conn);

		ck_assert_msg(polled != PGRES_POLLING_FAILED, "%s", PQerrorMessage(conn));
		if (polled == PGRES_POLLING_OK)
			break;
		usleep(1000);
	}
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

static unsigned
descriptors(void)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pglease_test_broker_pid(it_env));
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static int
are_no_more(void *before)
{
	return descriptors() <= *(unsigned *)before;
}

/* What is held back until the restart has come to its end has no other limit meanwhile: not that of handshakes, of five seconds. */
START_TEST(what_is_held_back_is_served_in_the_end)
{
	PostgresPollingStatusType polled = PGRES_POLLING_WRITING;
	struct pollfd answer = {.events = POLLIN};
	struct child restart;
	pthread_t thread;
	void *result = NULL;
	PGconn *conn;

	start(1, 2, "connect_timeout = 60s\nacquire_timeout = 60s");
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(pglease_test_pause(it_env, PGLEASE_TEST_SERVER, 0), 0);
	/* A connection is being opened, for as long as the server is stopped: the restart waits. */
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_and_query, conn), 0);
	it_await_waiting(pool, 1);
	it_await_published("app", "busy", 1);
	it_ctl_start("restart", NULL, "60", &restart);
	restart_await_log("has 60 s to come to its end");
	ck_assert_int_eq(PQresetStart(conn), 1);
	while (polled == PGRES_POLLING_WRITING)
		polled = PQresetPoll(conn);
	ck_assert_int_eq(polled, PGRES_POLLING_READING);
	answer.fd = PQsocket(conn);
	ck_assert_msg(poll(&answer, 1, 6000) == 0, "it has been answered, or let go");
	ck_assert_int_eq(pglease_test_continue(it_env, PGLEASE_TEST_SERVER, 0), 0);
	ck_assert_int_eq(it_ctl_end(&restart), 0);
	while (polled == PGRES_POLLING_READING || polled == PGRES_POLLING_WRITING) {
		answer.fd = PQsocket(conn);
		answer.events = polled == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		ck_assert_int_eq(poll(&answer, 1, IT_PATIENCE_MS), 1);
		polled = PQresetPoll(conn);
	}
	ck_assert_msg(polled == PGRES_POLLING_OK, "%s", PQerrorMessage(conn));
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert_ptr_null(result);
	it_release(&lease);
}
END_TEST

START_TEST(nothing_is_left_open)
{
	unsigned before;

	start(3, 3, NULL);
	await_total(3);
	it_acquire(pool, &lease);
	restart_now();
	before = descriptors();
	for (unsigned i = 0; i < 50; i++)
		restart_now();
	/* At a moment in which the tick does not read a file. */
	ck_assert_int_eq(pglease_test_await(are_no_more, &before, IT_PATIENCE_MS), 0);
	it_release(&lease);
}
END_TEST

static uint64_t
published_of_instance(struct stats_reader *reader, const char *column)
{
	struct stats_snapshot snapshot;
	const struct stats_view *view;
	uint64_t value = 0;

	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	ck_assert(!snapshot.gone);
	ck_assert(!snapshot.torn);
	view = stats_view_find(&snapshot, "instance");
	stats_value_u64(view, 0, stats_column_find(view, column), &value);
	stats_snapshot_fini(&snapshot);
	return value;
}

static int
add_rows(void *context, const pglease_history_row *row)
{
	unsigned *sum = context;

	sum[0] += row->starts;
	sum[1]++;
	return 0;
}

START_TEST(statistics_and_history_go_on)
{
	struct stats_reader *reader;
	uint64_t uptime, cpu, leases;
	unsigned before[2] = {0, 0}, after[2] = {0, 0};

	start(2, 2, NULL);
	ck_assert_int_eq(stats_reader_open(pglease_test_instance(it_env), &reader), 0);
	for (unsigned i = 0; i < 20; i++) {
		it_acquire(pool, &lease);
		it_release(&lease);
	}
	it_await_published("app", "server_cpu", 0);
	it_ok(pglease_history(pool, 0, UINT64_MAX, 1, add_rows, before)); /* maps it */
	for (unsigned i = 0; i < 5; i++) {
		uptime = published_of_instance(reader, "uptime");
		leases = it_published("app", "leases_immediate");
		cpu = it_published("app", "server_cpu");
		restart_now();
		ck_assert_uint_gt(published_of_instance(reader, "uptime"), uptime);
		ck_assert_uint_ge(it_published("app", "leases_immediate"), leases);
		ck_assert_uint_ge(it_published("app", "server_cpu"), cpu);
	}
	stats_reader_close(reader);
	/* A row of this second comes into what is mapped already. */
	do {
		memset(after, 0, sizeof(after));
		usleep(10000);
		it_ok(pglease_history(pool, 0, UINT64_MAX, 1, add_rows, after));
	} while (after[1] < before[1] + 2);
	ck_assert_uint_eq(after[0], 1);
}
END_TEST

START_TEST(settings_take_effect)
{
	FILE *config;

	start(1, 1, NULL);
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 10 * UINT64_C(1000000000));
	config = fopen(pglease_test_config(it_env), "ae");
	ck_assert_ptr_nonnull(config);
	fputs("acquire_timeout = 7s\n", config);
	ck_assert_int_eq(fclose(config), 0);
	restart_now();
	ck_assert_uint_eq(it_published("app", "acquire_timeout"), 7 * UINT64_C(1000000000));
}
END_TEST

static pid_t
parent_of(pid_t pid)
{
	char path[64];
	int parent = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%*d %*s %*c %d", &parent), 1); /* "(postgres)" has no blank */
	fclose(f);
	return parent;
}

START_TEST(an_embedded_server_goes_on)
{
	pglease_test_pool embedded = {.name = "app", .embedded = 1, .max = 2};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &embedded, .npools = 1, .no_server = 1);
	char started[64];
	PGconn *conn;

	restart_prepare();
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	snprintf(started, sizeof(started), "%s", it_query(conn, "select pg_postmaster_start_time()"));
	for (unsigned i = 0; i < 3; i++)
		restart_now();
	ck_assert_str_eq(it_query(conn, "select pg_postmaster_start_time()"), started);
	it_release(&lease);
	/* It is still the broker's to watch. */
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(kill(parent_of(PQbackendPID(conn)), SIGQUIT), 0);
	(void)!pglease_release(&lease);
	restart_await_log("embedded PostgreSQL: restarting");
	restart_now();
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

/* Also a broker that was started with SIGCHLD ignored, as some programs start others. */
START_TEST(an_embedded_server_comes_back)
{
	pglease_test_pool embedded = {.name = "app", .embedded = 1, .max = 2};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &embedded, .npools = 1, .no_server = 1, .no_broker = 1);
	char log[512], aside[520];
	int r;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	signal(SIGCHLD, SIG_IGN);
	r = pglease_test_broker_start(it_env);
	signal(SIGCHLD, SIG_DFL);
	ck_assert_msg(r == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	/* What it writes to cannot be opened: the broker says so, and tries again. */
	snprintf(log, sizeof(log), "%s/embedded/postgres.log", pglease_test_folder(it_env));
	snprintf(aside, sizeof(aside), "%s.aside", log);
	ck_assert_int_eq(rename(log, aside), 0);
	ck_assert_int_eq(symlink(aside, log), 0);
	ck_assert_int_eq(kill(parent_of(PQbackendPID(it_acquire(pool, &lease))), SIGQUIT), 0);
	(void)!pglease_release(&lease);
	restart_await_log("embedded PostgreSQL ended");
	restart_await_log("postgres.log: Too many levels of symbolic links");
	ck_assert_int_eq(rename(aside, log), 0);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

IT_MAIN("restart", a_lease_and_its_transaction_go_on, a_query_can_be_cancelled_after_it,
    the_broker_resets_what_it_has_taken_over, idle_old_and_tried_ones_are_seen_to_after_it,
    a_server_that_hangs_up_is_noticed_after_it, a_drain_that_somebody_waits_for_goes_on,
    a_worker_that_dies_after_it_is_noticed, a_worker_that_dies_during_it_is_noticed,
    what_is_asked_of_the_broker_during_it_waits, a_signal_that_comes_during_it_is_obeyed_after_it,
    a_pqreset_that_hangs_goes_on, what_is_held_back_is_served_in_the_end, nothing_is_left_open,
    statistics_and_history_go_on, settings_take_effect, an_embedded_server_goes_on,
    an_embedded_server_comes_back)
