/* SPDX-License-Identifier: PostgreSQL */
/* A control socket that a service manager holds: who comes before the broker waits, and so does who comes between two. */
#include "it.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager.h"
#include "paths.h"

static void
begin(void)
{
	static const pglease_test_pool pool = {.name = "app", .min = 1, .max = 2};
	const pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = &pool, .npools = 1, .no_broker = true);

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	manager_start();
}

/* Attaches, however long it takes, and leases. */
static void
lease_once(int socket, const void *arg)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	options.timeout_ms = IT_PATIENCE_MS;
	it_ok(pglease_attach(NULL, &options, &client));
	it_ok(pglease_pool_open(client, "app", &pool));
	it_ok(pglease_acquire(pool, IT_PATIENCE_MS, &lease, &conn));
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	pglease_detach(client);
}

static void
await_caller(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	ck_assert_int_eq(poll(&p, 1, IT_PATIENCE_MS), 1);
}

static void
stop(pid_t broker)
{
	int status;

	ck_assert_int_eq(kill(broker, SIGTERM), 0);
	status = manager_reap(broker);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x: %s", status, manager_log());
}

START_TEST(nobody_is_missed)
{
	int listener;
	struct it_worker worker;
	char adopt[PATHS_MAX];
	struct stat st, after;
	pid_t broker;

	begin();
	listener = manager_socket(manager_control(), SOCK_SEQPACKET, 64);
	manager_pass(listener, "control");
	ck_assert_int_eq(stat(manager_control(), &st), 0);
	/* Before there is a broker at all. */
	worker = it_worker(lease_once, NULL);
	await_caller(listener);
	broker = manager_broker();
	manager_hears("READY=1");
	it_join(&worker);
	/* One that comes while it serves, and hears of the broker itself who listens. */
	worker = it_worker(lease_once, NULL);
	it_join(&worker);
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	worker = it_worker(lease_once, NULL);
	it_join(&worker);
	/* It was killed: the next one serves whoever has come meanwhile. */
	ck_assert_int_eq(kill(broker, SIGKILL), 0);
	manager_reap(broker);
	worker = it_worker(lease_once, NULL);
	await_caller(listener);
	broker = manager_broker();
	it_join(&worker);
	manager_hears("READY=1");
	/* It was stopped: likewise. The socket is the manager's, and stays; all else goes. */
	stop(broker);
	ck_assert_int_eq(stat(manager_control(), &after), 0);
	ck_assert(st.st_ino == after.st_ino);
	ck_assert_int_eq(paths_adopt_socket(pglease_test_socket_dir(it_env), adopt, sizeof(adopt)), 0);
	ck_assert_int_ne(access(adopt, F_OK), 0);
	worker = it_worker(lease_once, NULL);
	await_caller(listener);
	broker = manager_broker();
	it_join(&worker);
	/* A manager that does not listen holds the broker up: its socket has room for ten messages. */
	manager_hears("READY=1");
	/* By pgleasectl, which waits for the process to be gone: it is the broker's that it finds at the socket. */
	ck_assert_int_eq(it_ctl("stop", NULL, NULL), 0);
	manager_reap(broker);
	manager_end();
	unlink(manager_control());
	rmdir(pglease_test_socket_dir(it_env));
}
END_TEST

/* On one line, and nothing is left behind. */
static void
refused(const char *says)
{
	pid_t broker = manager_broker();
	int status = manager_reap(broker);
	const char *log = manager_log(), *last = strrchr(log, '\n');

	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %x: %s", status, log);
	ck_assert_ptr_nonnull(last);
	while (last > log && last[-1] != '\n')
		last--;
	ck_assert_msg(strncmp(last, "pgleased: ", 10) == 0 && strstr(last, says) != NULL, "no \"%s\" in: %s", says, last);
}

static void
wrong(int fd, const char *name, const char *says)
{
	ck_assert_int_ge(fd, 0);
	manager_forget();
	manager_pass(fd, name);
	refused(says);
	unlink(manager_control());
}

START_TEST(what_is_no_control_socket_is_refused)
{
	char elsewhere[PATHS_MAX];
	int pipe_fds[2];

	begin();
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", pglease_test_folder(it_env));
	ck_assert_int_eq(pipe(pipe_fds), 0);
	close(pipe_fds[1]);
	wrong(pipe_fds[0], "control", "it is no socket");
	wrong(socket(AF_INET, SOCK_STREAM, 0), "control", "it is no Unix socket");
	wrong(manager_socket(manager_control(), SOCK_STREAM, 1), "control", "it is not of sequential packets");
	wrong(manager_socket(elsewhere, SOCK_SEQPACKET, 1), "control", "it is elsewhere");
	wrong(manager_socket(manager_control(), SOCK_SEQPACKET, 0), "control", "it does not listen");
	wrong(manager_socket(manager_control(), SOCK_SEQPACKET, 1), "pgleased@main.socket", "this instance has no use for it");
	manager_forget();
	manager_pass(manager_socket(manager_control(), SOCK_SEQPACKET, 1), "control");
	ck_assert_int_eq(setenv("LISTEN_FDS", "2", 1), 0);
	refused("4 is not open");
	ck_assert_int_eq(setenv("LISTEN_FDS", "many", 1), 0);
	refused("LISTEN_FDS is \"many\"");
	unlink(manager_control());
	rmdir(pglease_test_socket_dir(it_env));
	unlink(elsewhere);
	manager_end();
}
END_TEST

IT_MAIN("activation", nobody_is_missed, what_is_no_control_socket_is_refused)
