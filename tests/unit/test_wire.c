/* SPDX-License-Identifier: PostgreSQL */
/* Control messages with and without descriptors, and where an instance is found. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "paths.h"
#include "wire.h"

START_TEST(a_message_and_its_descriptor_arrive)
{
	struct wire_ring sent = {.pool = 3}, got;
	int pair[2], fd = -1;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	wire_header_init(&sent.header, WIRE_RING);
	ck_assert_int_eq(wire_send(pair[0], &sent, sizeof(sent), STDIN_FILENO), (int)sizeof(sent));
	ck_assert_int_eq(wire_recv(pair[1], &got, sizeof(got), &fd), (int)sizeof(got));
	ck_assert(wire_is(&got, sizeof(got), WIRE_RING));
	ck_assert_uint_eq(got.pool, 3);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
	close(fd);
	ck_assert_int_eq(wire_send(pair[0], &sent, sizeof(sent), -1), (int)sizeof(sent));
	ck_assert_int_eq(wire_recv(pair[1], &got, sizeof(got), &fd), (int)sizeof(got));
	ck_assert_int_eq(fd, -1);
	close(pair[0]);
	ck_assert_int_eq(wire_recv(pair[1], &got, sizeof(got), &fd), 0);
	ck_assert_int_eq(wire_send(pair[1], &sent, sizeof(sent), -1), -EPIPE); /* and no signal */
}
END_TEST

START_TEST(only_exact_messages_are_taken)
{
	struct wire_ring ring = {.pool = 0};

	wire_header_init(&ring.header, WIRE_RING);
	ck_assert(wire_is(&ring, sizeof(ring), WIRE_RING));
	ck_assert(!wire_is(&ring, sizeof(ring), WIRE_OPEN));
	ck_assert(!wire_is(&ring, sizeof(ring) - 1, WIRE_RING));
	ck_assert(!wire_is(&ring, 3, WIRE_RING));
	ring.header.version++;
	ck_assert(!wire_is(&ring, sizeof(ring), WIRE_RING));
	ck_assert_uint_eq(wire_other_version(&ring, sizeof(ring)), WIRE_VERSION + 1);
	ck_assert_uint_eq(wire_other_version(&ring, sizeof(ring.header)), WIRE_VERSION + 1);
	ck_assert_uint_eq(wire_other_version(&ring, sizeof(ring.header) - 1), 0);
	ring.header.magic = 0;
	ck_assert_uint_eq(wire_other_version(&ring, sizeof(ring)), 0);
	wire_header_init(&ring.header, WIRE_RING);
	ck_assert_uint_eq(wire_other_version(&ring, sizeof(ring)), 0);
	ring.header.magic = 0;
	ck_assert(!wire_is(&ring, sizeof(ring), WIRE_RING));
}
END_TEST

START_TEST(instance_names)
{
	ck_assert_int_eq(paths_check_name("main-1_A"), 0);
	ck_assert_int_eq(paths_check_name(""), -EINVAL);
	ck_assert_int_eq(paths_check_name("a/b"), -EINVAL);
	ck_assert_int_eq(paths_check_name(".."), -EINVAL);
	ck_assert_int_eq(paths_check_name("012345678901234567890123456789012345678901234567"), -EINVAL);
	unsetenv("PGLEASE_INSTANCE");
	ck_assert_str_eq(paths_instance(NULL), "main");
	setenv("PGLEASE_INSTANCE", "other", 1);
	ck_assert_str_eq(paths_instance(NULL), "other");
	ck_assert_str_eq(paths_instance("x"), "x");
}
END_TEST

START_TEST(candidates_in_order)
{
	char buf[PATHS_MAX], expect[64];

	unsetenv("PGLEASE_SOCKET_DIR");
	setenv("XDG_RUNTIME_DIR", "/xdg", 1);
	ck_assert_int_eq(paths_candidate_socket_dir("i", 0, buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "/run/pglease/i");
	ck_assert_int_eq(paths_candidate_socket_dir("i", 1, buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "/xdg/pglease/i");
	ck_assert_int_eq(paths_candidate_socket_dir("i", 2, buf, sizeof(buf)), 0);
	snprintf(expect, sizeof(expect), "/tmp/pglease-%u/i", (unsigned)geteuid());
	ck_assert_str_eq(buf, expect);
	ck_assert_int_eq(paths_candidate_socket_dir("i", 3, buf, sizeof(buf)), -ENOENT);
	unsetenv("XDG_RUNTIME_DIR");
	ck_assert_int_eq(paths_candidate_socket_dir("i", 1, buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, expect);
	ck_assert_int_eq(paths_candidate_socket_dir("i", 2, buf, sizeof(buf)), -ENOENT);
	setenv("PGLEASE_SOCKET_DIR", "/only", 1);
	ck_assert_int_eq(paths_candidate_socket_dir("i", 0, buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "/only");
	ck_assert_int_eq(paths_candidate_socket_dir("i", 1, buf, sizeof(buf)), -ENOENT);
}
END_TEST

START_TEST(socket_paths_must_fit_an_address)
{
	char dir[120], buf[PATHS_MAX];

	ck_assert_int_eq(paths_control_socket("/d", buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "/d/control");
	ck_assert_int_eq(paths_adopt_socket("/d", buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "/d/.s.PGSQL.5432");
	memset(dir, 'x', sizeof(dir));
	dir[100] = '\0';
	ck_assert_int_eq(paths_control_socket(dir, buf, sizeof(buf)), -ENAMETOOLONG);
}
END_TEST

UNIT_MAIN("wire", a_message_and_its_descriptor_arrive, only_exact_messages_are_taken, instance_names, candidates_in_order,
    socket_paths_must_fit_an_address)
