/* SPDX-License-Identifier: PostgreSQL */
/*
 * The leases of an environment's pools, from their segments: as a client for a moment, which leases nothing and writes
 * nothing. So what is said is of now, not of the broker's last publication.
 */
#include "look.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dial.h"
#include "rows.h"
#include "segment.h"
#include "slots.h"
#include "wire.h"

#define ANSWER_MS 5000

/* Asks, and takes the answer, which may bring a descriptor. */
static int
ask(int sock, const void *question, size_t size, enum wire_type type, void *answer, size_t answer_size, int *ret_fd)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	char buf[WIRE_MAX];
	ssize_t n;
	int fd = -1;

	if (wire_send(sock, question, size, -1) != (ssize_t)size)
		return -EPIPE;
	do {
		int ready = poll(&p, 1, ANSWER_MS);

		if (ready < 0 && errno == EINTR) {
			n = -EAGAIN;
			continue;
		}
		if (ready <= 0)
			return -ETIMEDOUT;
		n = wire_recv(sock, buf, sizeof(buf), &fd);
	} while (n == -EAGAIN);
	if (n != (ssize_t)answer_size || !wire_is(buf, answer_size, type) || (ret_fd != NULL && fd < 0)) {
		if (fd >= 0)
			close(fd);
		return n > 0 ? -EPROTO : -EPIPE;
	}
	memcpy(answer, buf, answer_size);
	if (ret_fd != NULL)
		*ret_fd = fd;
	else if (fd >= 0)
		close(fd);
	return 0;
}

static void
note_lease(struct look *look, const struct segment *seg, const char *pool, uint32_t slot, uint64_t w)
{
	char key[LAYOUT_NAME + 64], site[SLOT_SITE], program[40] = "?";
	unsigned row = word_who(w), client = row < seg->nrows ? word_who(row_load(seg, row)) : WORD_NONE;
	uint64_t now = clock_ns(), since = atomic_load(&seg->slot[slot].leased_at);
	uint32_t pid = 0;

	if (client < seg->nclients) {
		pid = atomic_load(&seg->client[client].pid);
		snprintf(program, sizeof(program), "%.*s", (int)sizeof(seg->client[client].program) - 1,
		    seg->client[client].program);
	}
	slot_site(seg, slot, site);
	snprintf(key, sizeof(key), "%s/%u/%llu", pool, slot, (unsigned long long)word_seq(w));
	look_note(look, PGLEASE_TEST_LEAK_LEASE, key,
	    "pool %s, slot %u: leased for %.3f s by pid %u (%s), thread %u; acquired at %s", pool, slot,
	    now > since ? (double)(now - since) / 1e9 : 0.0, pid, program, atomic_load(&seg->slot[slot].holder_tid),
	    site[0] != '\0' ? site : "an unknown place");
}

static void
look_pool(struct pglease_test_env *env, struct look *look, const struct segment *seg, const char *pool)
{
	for (uint32_t i = 0; i < seg->nslots; i++) {
		uint64_t w = slot_load(seg, i);
		uint32_t backend = atomic_load(&seg->slot[i].server_pid);

		if (word_state(w) == SLOT_LEASED)
			note_lease(look, seg, pool, i, w);
		if (backend != 0 && env->nbackends < sizeof(env->backend) / sizeof(env->backend[0]))
			env->backend[env->nbackends++] = (pid_t)backend;
	}
}

static int
attach(const struct pglease_test_env *env, int *ret_sock)
{
	struct wire_hello hello = {
	    .layout_version = LAYOUT_VERSION, .layout_hash = layout_hash(), .program = "pglease-test"};
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	struct wire_welcome welcome;
	int sock, r;

	r = dial_broker(env->instance, env->socket_dir, dir, &sock, tried);
	if (r)
		return r;
	wire_header_init(&hello.header, WIRE_HELLO);
	r = ask(sock, &hello, sizeof(hello), WIRE_WELCOME, &welcome, sizeof(welcome), NULL);
	if (r)
		close(sock);
	else
		*ret_sock = sock;
	return r;
}

void
look_pools(struct pglease_test_env *env, struct look *look)
{
	struct wire_header bye;
	int sock, r;

	env->nbackends = 0;
	if (env->broker.pid == 0) {
		look_unseen(look, "leases: the broker does not run");
		return;
	}
	r = attach(env, &sock);
	if (r) {
		look_unseen(look, "leases: the broker cannot be asked (%s)", strerror(-r));
		return;
	}
	for (unsigned i = 0; i < env->npools; i++) {
		struct wire_open question = {0};
		struct wire_pool answer;
		struct segment seg;
		int fd;

		wire_header_init(&question.header, WIRE_OPEN);
		snprintf(question.pool, sizeof(question.pool), "%s", env->pool_name[i]);
		r = ask(sock, &question, sizeof(question), WIRE_POOL, &answer, sizeof(answer), &fd);
		if (r == 0) {
			r = segment_map_readonly(fd, &seg);
			close(fd);
		}
		if (r) {
			look_unseen(look, "leases of pool %s (%s)", env->pool_name[i], strerror(-r));
			break; /* after an error the broker closes the connection */
		}
		look_pool(env, look, &seg, env->pool_name[i]);
		segment_unmap(&seg);
	}
	wire_header_init(&bye, WIRE_DETACH);
	wire_send(sock, &bye, sizeof(bye), -1);
	close(sock);
}

bool
look_is_pools(const struct pglease_test_env *env, pid_t backend)
{
	for (unsigned i = 0; i < env->nbackends; i++)
		if (env->backend[i] == backend)
			return true;
	return false;
}
