/* SPDX-License-Identifier: PostgreSQL */
/*
 * Upstreams that are stuck: one that takes connections and says nothing, one that does not even take them. They have an
 * hour to answer, and the tests look that they have not: whatever gets done meanwhile was not delayed by them.
 */
#include "it.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "dial.h"

#define STUCK "max_connections = 3\nmin_connections = 3\nconnect_timeout = 1h"

static void
start(const char *stuck_conninfo)
{
	pglease_test_pool pools[] = {
	    {.name = "stuck", .conninfo = stuck_conninfo, .extra = STUCK},
	    {.name = "app", .min = 1, .max = 2},
	};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2);

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
}

/* The work of an ordinary day: leases, a cancel, another process, a command. */
static void
work(void)
{
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	struct wire_result result;
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn;
	pid_t pid;
	int sock, status;

	for (unsigned i = 0; i < 100; i++) {
		it_acquire(pool, &lease);
		it_release(&lease);
	}
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(3600)"), 1);
	it_cancel(conn);
	it_release(&lease);

	pid = check_fork();
	if (pid == 0) {
		pool = it_attach();
		conn = it_acquire(pool, &lease);
		ck_assert_str_eq(it_query(conn, "select 1"), "1");
		it_release(&lease);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);

	ck_assert_msg(
	    dial_broker(pglease_test_instance(it_env), pglease_test_socket_dir(it_env), dir, &sock, tried) == 0,
	    "%s", tried);
	ck_assert_int_eq(command_ask(sock, "status", "", -1, 0, NULL, NULL, &result), 0);
	ck_assert_int_eq(result.code, 0);
	close(sock);
}

START_TEST(a_server_that_takes_connections_and_says_nothing)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char top[] = "/tmp/test_stuck_XXXXXX", conninfo[128], byte;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd[3];

	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.5432", top);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 16), 0);
	snprintf(conninfo, sizeof(conninfo), "host=%s port=5432 user=u dbname=d", top);
	start(conninfo);
	for (unsigned i = 0; i < 3; i++) {
		fd[i] = accept(listener, NULL, NULL);
		ck_assert_int_ge(fd[i], 0);
	}
	work();
	/* Still there: nobody has given up, and nobody has been answered. */
	for (unsigned i = 0; i < 3; i++) {
		while (recv(fd[i], &byte, 1, MSG_DONTWAIT) == 1)
			; /* its start-up packet */
		ck_assert_int_eq(errno, EAGAIN);
		close(fd[i]);
	}
	ck_assert_uint_eq(it_published("stuck", "opened"), 0);
	close(listener);
	unlink(address.sun_path);
	ck_assert_int_eq(rmdir(top), 0);
}
END_TEST

START_TEST(a_server_that_takes_no_connections)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	char conninfo[128];
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), filler[8];

	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 0), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	/* Its queue is full; from now on the kernel answers no SYN. */
	for (unsigned i = 0; i < 8; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		ck_assert(connect(filler[i], (struct sockaddr *)&address, sizeof(address)) == 0 ||
		          errno == EINPROGRESS);
	}
	snprintf(
	    conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d user=u dbname=d", ntohs(address.sin_port));
	start(conninfo);
	it_await_published("stuck", "busy", 3);
	work();
	ck_assert_uint_eq(it_published("stuck", "busy"), 3);
	ck_assert_uint_eq(it_published("stuck", "open_failed"), 0);
	for (unsigned i = 0; i < 8; i++)
		close(filler[i]);
	close(listener);
}
END_TEST

IT_MAIN("stuck", a_server_that_takes_connections_and_says_nothing, a_server_that_takes_no_connections)
