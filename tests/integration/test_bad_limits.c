/* SPDX-License-Identifier: PostgreSQL */
/*
 * Limits that are reached: open files of a client, at whatever step, and of the broker; lessee rows; clients. Each is told
 * in words, costs nobody else a connection, and is over when it is over.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "it.h"
#include "script.h"

#define MOST_FREE 12

static void
limit_files(rlim_t limit)
{
	struct rlimit r;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &r), 0);
	r.rlim_cur = limit == 0 ? r.rlim_max : limit;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &r), 0);
}

/* Fills all descriptors below the limit but `room`. Those it took go to `taken`. */
static unsigned
fill_files(int taken[], unsigned size, unsigned room)
{
	unsigned n = 0;
	int fd;

	while (n < size && (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		taken[n++] = fd;
	ck_assert_uint_lt(n, size);
	ck_assert_int_eq(errno, EMFILE);
	for (; room > 0; room--)
		close(taken[--n]);
	return n;
}

static void
free_files(const int taken[], unsigned n)
{
	while (n > 0)
		close(taken[--n]);
}

static void
assert_names_the_limit(const char *what, unsigned room, int code)
{
	const char *message = pglease_error_message();

	ck_assert_msg(
	    code == PGLEASE_ESYSTEM, "%s with %u free: %s: %s", what, room, pglease_strerror(code), message);
	ck_assert_msg(strstr(message, "open files") != NULL && strchr(message, '\n') == NULL,
	    "%s with %u free: %s", what, room, message);
}

START_TEST(a_client_without_descriptors_at_each_step)
{
	struct {
		unsigned attach, acquire;
	} failed = {0};
	int taken[256];
	pglease_stats stats;
	pglease_pool *pool, *own;
	pglease_lease lease;

	it_start(1, 1, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	limit_files(128);
	for (unsigned room = 0; room <= MOST_FREE; room++) {
		unsigned before = it_open_files(getpid()), n = fill_files(taken, 256, room);
		pglease *client = NULL;
		PGconn *conn;
		int r = pglease_attach(NULL, NULL, &client);

		if (r != 0) {
			assert_names_the_limit("attach", room, r);
			failed.attach++;
		} else if ((r = pglease_pool_open(client, "app", &own)) != 0) {
			assert_names_the_limit("open", room, r);
		} else if ((r = pglease_acquire(own, 20000, &lease, &conn)) != 0) {
			assert_names_the_limit("acquire", room, r);
			failed.acquire++;
		} else {
			ck_assert_str_eq(it_query(conn, "select 1"), "1");
			it_release(&lease);
		}
		free_files(taken, n);
		/* The same client goes on when there is room again. */
		if (client != NULL) {
			it_ok(pglease_pool_open(client, "app", &own));
			ck_assert_str_eq(it_query(it_acquire(own, &lease), "select 1"), "1");
			it_release(&lease);
		}
		pglease_detach(client);
		ck_assert_uint_eq(it_open_files(getpid()), before);
	}
	/* Opening a pool needs no more than attaching did: without any it fails too. */
	{
		pglease *client;
		unsigned n;

		it_ok(pglease_attach(NULL, NULL, &client));
		n = fill_files(taken, 256, 0);
		assert_names_the_limit("open", 0, pglease_pool_open(client, "app", &own));
		free_files(taken, n);
		it_ok(pglease_pool_open(client, "app", &own));
		pglease_detach(client);
	}
	/* Each step has failed at some time, and the server's connection has not been lost by it. */
	ck_assert_uint_gt(failed.attach, 0);
	ck_assert_uint_gt(failed.acquire, 0);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 1);
	ck_assert_uint_eq(stats.returned, 0);
}
END_TEST

static void
attach_and_stay(int socket, const void *arg)
{
	pglease *client;
	int r;

	(void)arg;
	r = pglease_attach(NULL, NULL, &client);
	if (r != 0) {
		/* The broker's reason, or at least that it did not answer: never a crash or a hang. */
		ck_assert_msg(strstr(pglease_error_message(), "open files") != NULL || r == PGLEASE_EGONE ||
		                  r == PGLEASE_ENOBROKER,
		    "%s", pglease_error_message());
		it_say(socket, 'n');
		return;
	}
	it_say(socket, 'y');
	it_hear(socket, 's');
	pglease_detach(client);
}

START_TEST(a_broker_without_descriptors)
{
	struct it_worker worker[16];
	unsigned attached = 0, n;
	struct rlimit limit, before;
	pglease_pool *pool;
	pglease_lease lease, another;
	pid_t broker;
	PGconn *conn;

	it_start(1, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	broker = pglease_test_broker_pid(it_env);
	ck_assert_int_eq(prlimit(broker, RLIMIT_NOFILE, NULL, &before), 0);
	/* Room for some clients. What the broker has keeps its numbers, so the limit counts from there. */
	limit = before;
	limit.rlim_cur = it_open_files(broker) + 7;
	ck_assert_int_eq(prlimit(broker, RLIMIT_NOFILE, &limit, NULL), 0);
	for (n = 0; n < 16; n++) {
		char answer;

		worker[n] = it_worker(attach_and_stay, NULL);
		ck_assert_int_eq(read(worker[n].socket, &answer, 1), 1);
		if (answer == 'n')
			break;
		attached++;
	}
	ck_assert_uint_lt(n, 16);
	it_join(&worker[n]);
	/* Those who are there go on; more connections cannot be opened now, and are when it is over. */
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	ck_assert_int_ne(pglease_acquire(pool, 200, &another, &conn), 0);
	ck_assert_int_eq(prlimit(broker, RLIMIT_NOFILE, &before, NULL), 0);
	conn = it_acquire(pool, &another);
	ck_assert_str_eq(it_query(conn, "select 2"), "2");
	it_release(&lease);
	it_release(&another);
	worker[n] = it_worker(attach_and_stay, NULL);
	it_hear(worker[n].socket, 'y');
	for (unsigned i = 0; i <= attached; i++) {
		it_say(worker[i].socket, 's');
		it_join(&worker[i]);
	}
}
END_TEST

static uint64_t
cpu_of_broker(void)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pglease_test_broker_pid(it_env));
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%llu", &ns), 1);
	fclose(f);
	return ns;
}

#define SOME_TICKS 15

/* What the broker needs for some ticks. */
static uint64_t
cpu_of_ticks(void)
{
	uint64_t before = cpu_of_broker();

	it_await_ticks(SOME_TICKS);
	return cpu_of_broker() - before;
}

static unsigned
lines_with(const char *words)
{
	FILE *f = fopen(pglease_test_log(it_env), "re");
	char line[2048];
	unsigned n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		n += strstr(line, words) != NULL;
	fclose(f);
	return n;
}

/* Not even for the moment that a refusal takes: they wait in the listeners, which are looked at once a tick. */
START_TEST(a_broker_that_cannot_accept)
{
	pglease_options hasty = PGLEASE_OPTIONS_INIT;
	struct rlimit none = {.rlim_cur = 4}, before;
	pglease *client = NULL, *late = NULL;
	pglease_pool *pool, *own;
	pglease_lease lease, another;
	pglease_stats stats;
	uint64_t rested, starved;
	pid_t broker;
	PGconn *conn;
	int pid;

	hasty.timeout_ms = 200;
	it_start(2, 2, "retry_min = 20ms\nretry_max = 100ms\n");
	pool = it_attach();
	it_await_all_idle(pool);
	conn = it_acquire(pool, &lease);
	it_ok(pglease_attach(NULL, NULL, &client));
	it_ok(pglease_pool_open(client, "app", &own));
	rested = cpu_of_ticks();
	broker = pglease_test_broker_pid(it_env);
	ck_assert_int_eq(prlimit(broker, RLIMIT_NOFILE, NULL, &before), 0);
	none.rlim_max = before.rlim_max;
	ck_assert_int_eq(prlimit(broker, RLIMIT_NOFILE, &none, NULL), 0);
	/* Who attaches, and who has to adopt, is told at its time-out that the broker does not answer. The slot comes back. */
	ck_assert_int_ne(pglease_attach(NULL, &hasty, &late), 0);
	ck_assert_msg(strstr(pglease_error_message(), "answer") != NULL, "%s", pglease_error_message());
	ck_assert_int_ne(pglease_acquire(own, 200, &another, &conn), 0);
	ck_assert_msg(*pglease_error_message() != '\0' && strchr(pglease_error_message(), '\n') == NULL, "%s",
	    pglease_error_message());
	ck_assert_msg(pglease_test_await_log(it_env, "cannot accept on ", IT_PATIENCE_MS) == 0, "%s", pglease_test_error_message());
	/* It waits; and who has what it needs goes on. */
	starved = cpu_of_ticks();
	ck_assert_msg(starved < 5 * rested + SOME_TICKS * UINT64_C(3000000), "%lu us of CPU time in %d ticks, %lu us before",
	    (unsigned long)(starved / 1000), SOME_TICKS, (unsigned long)(rested / 1000));
	ck_assert_uint_le(lines_with("cannot accept on "), 2); /* one for each listener */
	it_release(&lease);
	conn = it_acquire(pool, &lease);
	pid = PQbackendPID(conn);
	/* A connection that is lost now cannot be replaced, and the reason is told. */
	{
		char sql[96];

		snprintf(sql, sizeof(sql), "select pg_terminate_backend(%d, 60000)", pid);
		ck_assert_int_eq(pglease_test_sql(it_env, sql, NULL, 0), 0);
	}
	it_ok(pglease_release_as(&lease, PGLEASE_SESSION_BROKEN));
	it_await_published("app", "open_failed", 3);
	ck_assert_msg(lines_with("Too many open files") >= 1, "the reason is not in the log");
	/* It is over. */
	ck_assert_int_eq(prlimit(broker, RLIMIT_NOFILE, &before, NULL), 0);
	ck_assert_str_eq(it_query(it_acquire(own, &another), "select 2"), "2");
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
	it_release(&another);
	it_ok(pglease_attach(NULL, NULL, &late));
	pglease_detach(late);
	pglease_detach(client);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.total, 2);
	ck_assert_uint_eq(stats.opened, 3);
}
END_TEST

#define ROWS 64 /* of a pool with max_clients = 2 */

struct crowd {
	pglease_pool *pool;
	pthread_barrier_t in, out;
	_Atomic unsigned with_row, without;
	char message[256];
};

/* Asks for a lease, gets none, and so has a row until the thread ends. */
static void *
take_a_row(void *arg)
{
	struct crowd *c = arg;
	pglease_lease lease;
	PGconn *conn;
	int r = pglease_acquire(c->pool, PGLEASE_TIMEOUT_TRY, &lease, &conn);

	if (r == PGLEASE_ETIMEOUT) {
		c->with_row++;
	} else if (r == PGLEASE_ENOROWS) {
		if (c->without++ == 0)
			snprintf(c->message, sizeof(c->message), "%s", pglease_error_message());
	}
	pthread_barrier_wait(&c->in);
	pthread_barrier_wait(&c->out);
	return NULL;
}

START_TEST(all_rows_in_use)
{
	static const pglease_test_pool pools[] = {{.name = "app", .max = 1}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 1, .extra = "max_clients = 2");
	pthread_t thread[ROWS + 2];
	struct crowd crowd = {.with_row = 0};
	pglease_lease lease;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	crowd.pool = it_attach();
	ck_assert_str_eq(it_query(it_acquire(crowd.pool, &lease), "select 1"), "1"); /* one row */
	ck_assert_int_eq(pthread_barrier_init(&crowd.in, NULL, ROWS + 3), 0);
	ck_assert_int_eq(pthread_barrier_init(&crowd.out, NULL, ROWS + 3), 0);
	for (unsigned round = 0; round < 2; round++) {
		crowd.with_row = crowd.without = 0;
		for (unsigned i = 0; i < ROWS + 2; i++)
			ck_assert_int_eq(pthread_create(&thread[i], NULL, take_a_row, &crowd), 0);
		pthread_barrier_wait(&crowd.in);
		ck_assert_uint_eq(crowd.with_row, ROWS - 1);
		ck_assert_uint_eq(crowd.without, 3);
		ck_assert_msg(strstr(crowd.message, "all 64 lessee rows of pool app are in use") != NULL &&
		                  strstr(crowd.message, "raise max_clients") != NULL,
		    "%s", crowd.message);
		pthread_barrier_wait(&crowd.out);
		for (unsigned i = 0; i < ROWS + 2; i++)
			pthread_join(thread[i], NULL);
	}
	/* Who has a row goes on, and who comes later finds one. */
	it_release(&lease);
	ck_assert_str_eq(it_query(it_acquire(crowd.pool, &lease), "select 1"), "1");
	it_release(&lease);
	it_await_all_idle(crowd.pool);
}
END_TEST

START_TEST(all_clients_in_use)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.extra = "max_clients = 2");
	struct it_worker worker;
	pglease *client[2], *another = NULL;
	char said[64];

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	for (unsigned i = 0; i < 2; i++)
		it_ok(pglease_attach(NULL, NULL, &client[i]));
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(pglease_attach(NULL, NULL, &another), PGLEASE_ENOCLIENTS);
		ck_assert_ptr_null(another);
	}
	snprintf(said, sizeof(said), "2 processes are attached");
	ck_assert_msg(strstr(pglease_error_message(), said) != NULL &&
	                  strstr(pglease_error_message(), pglease_test_instance(it_env)) != NULL &&
	                  strstr(pglease_error_message(), "raise max_clients") != NULL,
	    "%s", pglease_error_message());
	/* A place is free when one detaches. */
	pglease_detach(client[0]);
	worker = it_worker(attach_and_stay, NULL);
	it_hear(worker.socket, 'y');
	ck_assert_int_eq(pglease_attach(NULL, NULL, &another), PGLEASE_ENOCLIENTS);
	/* And when one dies, as soon as the broker has seen it. */
	snprintf(said, sizeof(said), "(pid %d) died", (int)worker.pid);
	it_kill(&worker);
	ck_assert_msg(pglease_test_await_log(it_env, said, 30000) == 0, "%s", pglease_test_error_message());
	it_ok(pglease_attach(NULL, NULL, &another));
	pglease_detach(another);
	pglease_detach(client[1]);
}
END_TEST

/* Who has gone before the broker comes to read what he said takes no place; a service manager's queue may have many of them. */
START_TEST(those_that_have_given_up)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.extra = "max_clients = 2");
	struct wire_hello hello = {.layout_version = LAYOUT_VERSION, .layout_hash = layout_hash(), .program = "impatient"};
	pglease *client[2];

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	wire_header_init(&hello.header, WIRE_HELLO);
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGSTOP), 0);
	for (unsigned i = 0; i < 4; i++) {
		int sock = script_connect_control();

		script_send(sock, &hello, sizeof(hello));
		close(sock);
	}
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGCONT), 0);
	for (unsigned i = 0; i < 2; i++)
		it_ok(pglease_attach(NULL, NULL, &client[i]));
	for (unsigned i = 0; i < 2; i++)
		pglease_detach(client[i]);
}
END_TEST

IT_MAIN("bad_limits", a_client_without_descriptors_at_each_step, a_broker_without_descriptors,
    a_broker_that_cannot_accept, all_rows_in_use, all_clients_in_use, those_that_have_given_up)
