/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a service manager hears of the broker: a socket of the test's own, in its place. And what systemd itself thinks of the unit
 * (without a running one).
 */
#include "it.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "child.h"

static int manager = -1;
static char folder[64], path[96];

static void
finish(void)
{
	unlink(path);
	rmdir(folder);
}

/* Before the environment: the broker inherits the variables. */
static void
listen_as_manager(const char *watchdog_us)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(folder, "/tmp/test_service_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/notify", folder);
	ck_assert_int_eq(atexit(finish), 0);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, path);
	ck_assert_int_eq(bind(manager, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(setenv("NOTIFY_SOCKET", path, 1), 0);
	ck_assert_int_eq(setenv("WATCHDOG_USEC", watchdog_us, 1), 0);
}

/* A message that has this line's beginning comes; others before it are passed over, but for one that must not come. */
static void
hears(const char *line, const char *not)
{
	char text[1024];

	for (;;) {
		struct pollfd p = {.fd = manager, .events = POLLIN};
		ssize_t n;

		ck_assert_msg(poll(&p, 1, IT_PATIENCE_MS) == 1, "%s was never said", line);
		n = recv(manager, text, sizeof(text) - 1, 0);
		ck_assert_int_gt(n, 0);
		text[n] = '\0';
		ck_assert_msg(not == NULL || strncmp(text, not, strlen(not)) != 0, "%s came before %s", text, line);
		if (strncmp(text, line, strlen(line)) == 0)
			return;
	}
}

START_TEST(what_the_manager_hears)
{
	pglease_pool *pool;
	pglease_lease lease;

	/* Seldom: who does not listen while a command runs holds the broker up when ten messages are in the socket. */
	listen_as_manager("4000000");
	it_start(1, 2, NULL);
	hears("READY=1", "STOPPING=1");
	hears("WATCHDOG=1", "STOPPING=1");
	pool = it_attach();
	it_acquire(pool, &lease);
	hears("STATUS=1 pools, 1 connections, 1 leased, 0 waiting", NULL);
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 0);
	hears("RELOADING=1\nMONOTONIC_USEC=", "READY=1");
	hears("READY=1", "STOPPING=1");
	/* The program that has taken its place goes on with it. */
	hears("WATCHDOG=1", NULL);
	it_release(&lease);
	hears("STATUS=1 pools, 1 connections, 0 leased, 0 waiting", NULL);
	ck_assert_int_eq(it_ctl("stop", NULL, NULL), 0);
	hears("STOPPING=1", NULL);
}
END_TEST

/* A broker that hangs says nothing: that is what a watchdog is for. */
START_TEST(one_that_hangs_is_silent)
{
	struct pollfd p;
	char text[1024];

	listen_as_manager("400000");
	it_start(1, 1, NULL);
	hears("WATCHDOG=1", NULL);
	ck_assert_int_eq(pglease_test_pause(it_env, PGLEASE_TEST_BROKER, 0), 0);
	p = (struct pollfd){.fd = manager, .events = POLLIN};
	while (recv(manager, text, sizeof(text), MSG_DONTWAIT) > 0)
		;
	ck_assert_int_eq(poll(&p, 1, 1000), 0);
	ck_assert_int_eq(pglease_test_continue(it_env, PGLEASE_TEST_BROKER, 0), 0);
	hears("WATCHDOG=1", NULL);
}
END_TEST

IT_MAIN("service", what_the_manager_hears, one_that_hangs_is_silent)
