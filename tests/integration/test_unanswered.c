/* SPDX-License-Identifier: PostgreSQL */
/*
 * Who asks something and gets no answer in time: the broker is stopped, or ends, between a question and its answer, in a process that has
 * attached before and in a child that has not; and a server that owes the answer to a reset.
 */
#include "survive.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define WAIT_MS 60000
#define HOUR_MS 3600000

static pglease_pool *pool;
static pglease_lease lease;
static PGconn *conn;

static void
stop_broker(void)
{
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGSTOP), 0);
}

static int
sleeps(void *context)
{
	char path[32], line[256] = "";
	const char *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)*(const pid_t *)context);
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	(void)!fgets(line, sizeof(line), file);
	fclose(file);
	end = strrchr(line, ')');
	return end != NULL && strncmp(end, ") S", 3) == 0;
}

/* A process of one thread that has nothing to wait for but the broker's answer. */
static void
await_sleep(pid_t pid)
{
	ck_assert_msg(pglease_test_await(sleeps, &pid, IT_PATIENCE_MS) == 0, "it does not wait");
}

static void
lets_broker_go_on(int socket, const void *arg)
{
	it_hear(socket, 'g');
	await_sleep(getppid());
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGCONT), 0);
}

/* Two questions are with the broker when it goes on. */
START_TEST(a_late_answer_is_not_the_next_questions)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	struct it_worker other_one;
	pglease *client;
	int r;

	it_start(1, 1, NULL);
	options.timeout_ms = 2000;
	it_ok(pglease_attach(NULL, &options, &client));
	other_one = it_worker(lets_broker_go_on, NULL);
	stop_broker();
	ck_assert_int_eq(pglease_pool_open(client, "first", &pool), PGLEASE_ENOBROKER);
	it_say(other_one.socket, 'g');
	do
		r = pglease_pool_open(client, "second", &pool);
	while (r == PGLEASE_ENOBROKER);
	ck_assert_int_eq(r, PGLEASE_ENOPOOL);
	ck_assert_msg(strstr(pglease_error_message(), "second") != NULL, "%s", pglease_error_message());
	it_ok(pglease_pool_open(client, "app", &pool));
	it_acquire(pool, &lease);
	it_release(&lease);
	it_join(&other_one);
	pglease_detach(client);
}
END_TEST

static void
attaches(int socket, const void *arg)
{
	pglease *client;

	it_say(socket, 'r');
	ck_assert_int_eq(pglease_attach(NULL, NULL, &client), PGLEASE_ENOBROKER);
}

/* Has its parent's pool. */
static void
tries(int socket, const void *arg)
{
	it_say(socket, 'r');
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ENOBROKER);
}

static void
killed_before_it_answers(it_body body)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	pool = it_attach();
	stop_broker();
	worker = it_worker(body, NULL);
	it_hear(worker.socket, 'r');
	await_sleep(worker.pid);
	survive_kill();
	it_join(&worker);
}

START_TEST(a_broker_that_dies_before_it_answers_is_none)
{
	killed_before_it_answers(attaches);
}
END_TEST

START_TEST(a_broker_that_dies_before_it_answers_a_child_is_none)
{
	killed_before_it_answers(tries);
}
END_TEST

/* A broker that ends when it is asked for the first pool: its socket, and what it does then. */
static int
listen_as_broker(struct sockaddr_un *ret_address)
{
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "%s/control", pglease_test_socket_dir(it_env));
	unlink(ret_address->sun_path);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)ret_address, sizeof(*ret_address)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	return listener;
}

static void
end_when_asked_for_a_pool(int listener, const struct sockaddr_un *address)
{
	struct wire_welcome welcome = {.incarnation = 1, .instance_id = 1};
	struct wire_hello hello;
	struct wire_open question;
	int fd, sock = accept(listener, NULL, NULL);

	ck_assert_int_ge(sock, 0);
	ck_assert_int_eq(wire_recv(sock, &hello, sizeof(hello), &fd), sizeof(hello));
	wire_header_init(&welcome.header, WIRE_WELCOME);
	ck_assert_int_eq(wire_send(sock, &welcome, sizeof(welcome), -1), sizeof(welcome));
	ck_assert_int_eq(wire_recv(sock, &question, sizeof(question), &fd), sizeof(question));
	ck_assert_int_eq(question.header.type, WIRE_OPEN);
	close(sock);
	close(listener);
	unlink(address->sun_path);
}

static void
tries_twice(int socket, const void *arg)
{
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ENOBROKER);
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ENOBROKER);
}

/* It ends when it is asked for one pool; and what a child wants is another one, which is not the parent's for that. */
static void
ends_when_asked(unsigned wanted)
{
	static const pglease_test_pool pools[] = {{.name = "app", .min = 1, .max = 1}, {.name = "two", .min = 1, .max = 1}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2);
	struct sockaddr_un address;
	pglease_pool *opened[2];
	struct it_worker worker;
	int listener;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	opened[0] = it_attach();
	it_ok(pglease_pool_open(it_client(), "two", &opened[1]));
	/* This process has a PGconn for each: no other is to get it. */
	for (unsigned i = 0; i < 2; i++) {
		it_acquire(opened[i], &lease);
		it_release(&lease);
	}
	survive_kill();
	listener = listen_as_broker(&address);
	pool = opened[wanted];
	worker = it_worker(tries_twice, NULL);
	end_when_asked_for_a_pool(listener, &address);
	it_join(&worker);
}

START_TEST(a_broker_that_dies_before_it_gives_a_pool_is_none)
{
	ends_when_asked(1);
}
END_TEST

START_TEST(a_broker_that_dies_before_it_gives_another_pool_is_none)
{
	ends_when_asked(0);
}
END_TEST

/* The attachment's hour is not waited for, whatever it is that finds no answer; and the broker serves it in the end. */
static void
child_of_a_patient_one(int socket, const void *arg)
{
	pglease_request *request;
	pglease_stats stats;

	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ENOBROKER);
	ck_assert_int_eq(pglease_stats_get(pool, &stats), PGLEASE_ENOBROKER);
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	pglease_acquire_cancel(request);
	it_ok(pglease_acquire_start(pool, WAIT_MS, &request));
	it_say(socket, 'r');
	it_ok(survive_finish(request, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 'mine'"), "mine");
	it_release(&lease);
	it_ok(pglease_acquire(pool, WAIT_MS, &lease, &conn));
	it_release(&lease);
}

START_TEST(a_child_waits_for_no_answer_for_long)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	struct it_worker worker;
	pglease *client;

	it_start(1, 1, NULL);
	options.timeout_ms = HOUR_MS;
	it_ok(pglease_attach(NULL, &options, &client));
	it_ok(pglease_pool_open(client, "app", &pool));
	stop_broker();
	worker = it_worker(child_of_a_patient_one, NULL);
	it_hear(worker.socket, 'r');
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGCONT), 0);
	it_join(&worker);
	pglease_detach(client);
}
END_TEST

static bool
is_leased(const pglease_stats *stats, const void *arg)
{
	return stats->leased == 1;
}

/* A request, with an hour, that waits for the answer to a reset: the server does not give it, and there is no broker to leave it to. */
static pid_t
waits_for_a_reset(pglease_request **ret_request)
{
	pid_t server;

	/* reset_after: the connection is not to be in the broker's hands when it is killed. */
	it_start(1, 1, "reset_after = 1h\nreset = always\n");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	server = PQbackendPID(conn);
	survive_kill();
	ck_assert_int_eq(kill(server, SIGSTOP), 0);
	it_release(&lease);
	it_ok(pglease_acquire_start(pool, HOUR_MS, ret_request));
	it_await(pool, is_leased, NULL, "the lease of the request");
	return server;
}

START_TEST(a_cancel_does_not_wait_for_a_reset)
{
	pglease_request *request;
	pid_t server = waits_for_a_reset(&request);

	pglease_acquire_cancel(request);
	ck_assert_int_eq(kill(server, SIGCONT), 0);
}
END_TEST

START_TEST(a_detach_does_not_wait_for_a_reset)
{
	pglease_request *request;
	pid_t server = waits_for_a_reset(&request);

	it_detach();
	pglease_acquire_cancel(request);
	ck_assert_int_eq(kill(server, SIGCONT), 0);
}
END_TEST

IT_MAIN("unanswered", a_late_answer_is_not_the_next_questions,
    a_broker_that_dies_before_it_answers_is_none, a_broker_that_dies_before_it_answers_a_child_is_none,
    a_broker_that_dies_before_it_gives_a_pool_is_none, a_broker_that_dies_before_it_gives_another_pool_is_none,
    a_child_waits_for_no_answer_for_long, a_cancel_does_not_wait_for_a_reset, a_detach_does_not_wait_for_a_reset)
