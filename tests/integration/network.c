/* SPDX-License-Identifier: PostgreSQL */
/* See network.h. */
#include "network.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int place_fd[NETWORK_NPLACES];
static enum network_place present = NETWORK_PLACE_FAR;

/* Commands for the shell, where the thread is. */
static void __attribute__((format(printf, 1, 2)))
run(const char *format, ...)
{
	char commands[1024] = "exec 2>&1; set -e; PATH=$PATH:/usr/sbin:/sbin; ", said[1024] = "";
	size_t used = strlen(commands), n;
	va_list args;
	FILE *f;

	va_start(args, format);
	vsnprintf(commands + used, sizeof(commands) - used, format, args);
	va_end(args);
	f = popen(commands, "re");
	ck_assert_ptr_nonnull(f);
	n = fread(said, 1, sizeof(said) - 1, f);
	said[n] = '\0';
	ck_assert_msg(pclose(f) == 0, "the network cannot be made (this needs root, and iproute2): %s", said);
}

void
network_enter(enum network_place place)
{
	ck_assert_msg(setns(place_fd[place], CLONE_NEWNET) == 0, "setns: %s", strerror(errno));
	present = place;
}

void
network_pass(bool passes)
{
	enum network_place before = present;
	int fd;

	network_enter(NETWORK_PLACE_BETWEEN);
	/* A host that does not forward does not say so, either. */
	fd = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC);
	ck_assert_msg(fd >= 0 && write(fd, passes ? "1" : "0", 1) == 1, "ip_forward: %s", strerror(errno));
	close(fd);
	network_enter(before);
}

void
network_make(void)
{
	for (unsigned i = 0; i < NETWORK_NPLACES; i++) {
		ck_assert_msg(unshare(CLONE_NEWNET) == 0, "this test makes a network of its own: run it as root: %s", strerror(errno));
		place_fd[i] = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		ck_assert_int_ge(place_fd[i], 0);
	}
	network_enter(NETWORK_PLACE_BETWEEN);
	run("ip link add name b1 type veth peer name near netns /proc/%d/fd/%d; ip addr add 10.213.1.1/24 dev b1; ip link set b1 up; "
	    "ip link add name b2 type veth peer name far netns /proc/%d/fd/%d; ip addr add 10.213.2.1/24 dev b2; ip link set b2 up",
	    (int)getpid(), place_fd[NETWORK_PLACE_NEAR], (int)getpid(), place_fd[NETWORK_PLACE_FAR]);
	network_enter(NETWORK_PLACE_NEAR);
	run("ip link set lo up; ip addr add 10.213.1.2/24 dev near; ip link set near up; ip route add default via 10.213.1.1");
	network_enter(NETWORK_PLACE_FAR);
	run("ip link set lo up; ip addr add " NETWORK_FAR "/24 dev far; ip link set far up; ip route add default via 10.213.2.1");
	network_pass(true);
}
