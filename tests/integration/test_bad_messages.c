/* SPDX-License-Identifier: PostgreSQL */
/*
 * Garbage, halves of messages and silence on the broker's two sockets, while a worker goes on leasing: the broker survives
 * all of it, serves others meanwhile, and keeps nothing of it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "it.h"
#include "pglease_errors.h"
#include "script.h"

#define SILENT 1000
#define ROUNDS 400 /* of random bytes, for each socket */

/* Leases, uses and releases until it is told to stop. Says 'r' after the first lease, and 'd' at the end. */
static void
go_on_leasing(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	struct pollfd p = {.fd = socket, .events = POLLIN};
	pglease_lease lease;

	for (bool first = true; first || poll(&p, 1, 0) == 0; first = false) {
		ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 6 * 7"), "42");
		it_release(&lease);
		if (first)
			it_say(socket, 'r');
	}
	it_hear(socket, 's');
	pglease_detach(it_client());
	it_say(socket, 'd');
}

static struct it_worker
begin(pid_t *ret_broker)
{
	struct it_worker worker;

	it_start(2, 2, NULL);
	*ret_broker = pglease_test_broker_pid(it_env);
	worker = it_worker(go_on_leasing, NULL);
	it_hear(worker.socket, 'r');
	return worker;
}

/* The broker is the same, a new client can attach and lease, and the worker has gone on all the time. */
static void
finish(struct it_worker *worker)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;

	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
	it_say(worker->socket, 's');
	it_hear(worker->socket, 'd');
	it_join(worker);
	it_await_all_idle(pool);
}

static bool
all_leased(const pglease_stats *stats, const void *arg)
{
	return stats->released >= *(const uint64_t *)arg;
}

/* Control messages that a client may say, each sound. */
static size_t
valid_message(unsigned i, void *buf)
{
	static const struct {
		enum wire_type type;
		size_t size;
	} list[] = {{WIRE_HELLO, sizeof(struct wire_hello)}, {WIRE_OPEN, sizeof(struct wire_open)},
	    {WIRE_RING, sizeof(struct wire_ring)}, {WIRE_DETACH, sizeof(struct wire_header)},
	    {WIRE_COMMAND, sizeof(struct wire_command)}};
	struct wire_hello *hello = buf;
	struct wire_open *open_message = buf;

	if (i == sizeof(list) / sizeof(list[0]))
		return 0;
	memset(buf, 0, list[i].size);
	wire_header_init(buf, list[i].type);
	if (list[i].type == WIRE_HELLO) {
		hello->layout_version = LAYOUT_VERSION;
		hello->layout_hash = layout_hash();
		memset(hello->program, 'p', sizeof(hello->program)); /* without a zero */
	} else if (list[i].type == WIRE_OPEN) {
		memcpy(open_message->pool, "app", 3);
	}
	return list[i].size;
}

START_TEST(every_part_of_every_control_message)
{
	union {
		struct wire_header header;
		uint8_t bytes[WIRE_MAX];
	} message;
	struct it_worker worker;
	pid_t broker;
	size_t size;

	worker = begin(&broker);
	for (unsigned i = 0; (size = valid_message(i, &message)) != 0; i++) {
		for (size_t n = 1; n < size; n += n < 16 || n > size - 4 ? 1 : 7) {
			int sock = script_connect_control();

			script_send(sock, &message, n);
			script_expect_refusal(sock, PGLEASE_EPROTOCOL, "does not understand");
		}
		/* A byte too much. */
		{
			int sock = script_connect_control();

			script_send(sock, &message, size + 1);
			script_expect_refusal(sock, PGLEASE_EPROTOCOL, "does not understand");
		}
	}
	/* An empty message ends it. */
	{
		int sock = script_connect_control();

		ck_assert_int_eq(send(sock, "", 0, MSG_NOSIGNAL), 0);
		script_expect_end(sock);
	}
	finish(&worker);
}
END_TEST

START_TEST(messages_of_another_kind_version_or_size)
{
	static uint8_t huge[WIRE_MAX * 64];
	struct wire_header header;
	struct it_worker worker;
	pid_t broker;
	int sock;

	worker = begin(&broker);
	for (unsigned type = 0; type < 20; type++) {
		if (type == WIRE_DETACH) /* is only a header */
			continue;
		wire_header_init(&header, (enum wire_type)type);
		sock = script_connect_control();
		script_send(sock, &header, sizeof(header));
		script_expect_refusal(sock, PGLEASE_EPROTOCOL, "does not understand");
	}
	for (size_t size = WIRE_MAX - 1; size <= sizeof(huge); size += size < WIRE_MAX + 2 ? 1 : 20000) {
		wire_header_init((struct wire_header *)huge, WIRE_HELLO);
		sock = script_connect_control();
		script_send(sock, huge, size);
		script_expect_refusal(sock, PGLEASE_EPROTOCOL, "does not understand");
	}
	/* Sound, but not now. */
	{
		struct wire_open open_message = {.pool = "app"};
		struct wire_ring ring = {.pool = 0};

		wire_header_init(&open_message.header, WIRE_OPEN);
		sock = script_connect_control();
		script_send(sock, &open_message, sizeof(open_message));
		script_expect_refusal(sock, PGLEASE_EPROTOCOL, "before HELLO");
		wire_header_init(&ring.header, WIRE_RING);
		sock = script_connect_control();
		script_send(sock, &ring, sizeof(ring));
		script_expect_refusal(sock, PGLEASE_EPROTOCOL, "before HELLO");
		wire_header_init(&header, WIRE_DETACH);
		sock = script_connect_control();
		script_send(sock, &header, sizeof(header));
		script_expect_end(sock);
	}
	/* What only the attached can get wrong. */
	for (unsigned i = 0; i < 3; i++) {
		struct wire_ring ring = {.pool = (const uint32_t[]){LAYOUT_MAX_POOLS, UINT32_MAX, 0x80000000}[i]};
		struct script_client c;

		script_attach(&c);
		wire_header_init(&ring.header, WIRE_RING);
		script_send(c.control, &ring, sizeof(ring));
		script_expect_refusal(c.control, PGLEASE_EPROTOCOL, "cannot be");
		segment_unmap(&c.seg);
	}
	finish(&worker);
}
END_TEST

START_TEST(a_library_of_another_version)
{
	struct wire_hello hello = {.program = "old"};
	char versions[64];
	struct it_worker worker;
	pid_t broker;
	int sock;

	worker = begin(&broker);
	/* Older, newer, and the same version built differently: both sides' versions are named, and what to do. */
	for (unsigned i = 0; i < 3; i++) {
		hello.layout_version = LAYOUT_VERSION + i - 1;
		hello.layout_hash = layout_hash() ^ 1;
		snprintf(versions, sizeof(versions), "the library has layout %u (%08x)", hello.layout_version,
		    hello.layout_hash);
		wire_header_init(&hello.header, WIRE_HELLO);
		sock = script_connect_control();
		script_send(sock, &hello, sizeof(hello));
		script_expect_refusal(sock, PGLEASE_EVERSION, versions);
		snprintf(versions, sizeof(versions), "has layout %u (%08x): use the library that",
		    LAYOUT_VERSION, layout_hash());
		sock = script_connect_control();
		script_send(sock, &hello, sizeof(hello));
		script_expect_refusal(sock, PGLEASE_EVERSION, versions);
	}
	/* The messages themselves are of another version, of whatever size and kind: the answer is one that it can read. */
	for (unsigned i = 0; i < 4; i++) {
		uint8_t message[WIRE_MAX] = {0};
		struct wire_error error;

		hello.header.version = (uint16_t)(i % 2 == 0 ? WIRE_VERSION - 1 : WIRE_VERSION + 1);
		hello.header.type = (uint16_t)(i < 2 ? WIRE_HELLO : WIRE_COMMAND);
		memcpy(message, &hello, sizeof(hello));
		sock = script_connect_control();
		script_send(sock, message, i < 2 ? sizeof(hello) : 200);
		ck_assert_int_eq(wire_recv(sock, &error, sizeof(error), NULL), sizeof(error));
		ck_assert_int_eq(wire_other_version(&error, sizeof(error)), hello.header.version);
		ck_assert_int_eq(error.header.type, WIRE_ERROR);
		ck_assert_int_eq(error.code, PGLEASE_EVERSION);
		snprintf(versions, sizeof(versions), "speaks version %u of the control protocol, the broker",
		    hello.header.version);
		ck_assert_ptr_nonnull(strstr(error.text, versions));
		snprintf(versions, sizeof(versions), "version %u: use the library and the tools", WIRE_VERSION);
		ck_assert_ptr_nonnull(strstr(error.text, versions));
		script_expect_end(sock);
	}
	finish(&worker);
}
END_TEST

/* A descriptor that nobody asked for is not kept. */
START_TEST(descriptors_sent_to_the_broker)
{
	struct wire_header header;
	struct it_worker worker;
	unsigned before;
	pid_t broker;

	worker = begin(&broker);
	{
		struct script_client c;

		script_attach(&c);
		before = it_open_files(broker);
		for (unsigned i = 0; i < 200; i++) {
			struct wire_ring ring = {.pool = 0};

			wire_header_init(&ring.header, WIRE_RING);
			ck_assert_int_eq(
			    wire_send(c.control, &ring, sizeof(ring), STDIN_FILENO), sizeof(ring));
		}
		for (unsigned i = 0; i < 20; i++) {
			int sock = script_connect_adopt();

			ck_assert_int_eq(wire_send(sock, "\0\0\0\x08", 4, STDIN_FILENO), 4);
			ck_assert_int_eq(shutdown(sock, SHUT_WR), 0);
			script_expect_end(sock);
		}
		/* An answer to a later message says that all before it have been read. */
		wire_header_init(&header, WIRE_OPEN);
		{
			struct wire_open open_message = {.header = header, .pool = "app"};
			struct wire_pool answer;

			script_send(c.control, &open_message, sizeof(open_message));
			ck_assert_int_eq(wire_recv(c.control, &answer, sizeof(answer), NULL), sizeof(answer));
		}
		ck_assert_uint_eq(it_open_files(broker), before);
		script_detach(&c);
	}
	finish(&worker);
}
END_TEST

/* Reads whatever comes until the end, which must come after the other side has seen ours. */
static void
drain(int sock)
{
	char buf[4096];
	ssize_t n;

	shutdown(sock, SHUT_WR);
	while ((n = recv(sock, buf, sizeof(buf), 0)) > 0)
		;
	ck_assert_msg(n == 0 || errno == ECONNRESET, "%s", strerror(errno));
	close(sock);
}

START_TEST(random_bytes)
{
	static uint8_t bytes[2 * WIRE_MAX];
	struct it_worker worker;
	pid_t broker;

	it_seed_random();
	worker = begin(&broker);
	for (unsigned round = 0; round < 2 * ROUNDS; round++) {
		bool control = round % 2 == 0;
		int sock = control ? script_connect_control() : script_connect_adopt();

		for (unsigned n = 1 + it_random() % 4; n > 0; n--) {
			size_t size = 1 + it_random() % (it_random() % 2 ? 64 : sizeof(bytes)), from = 0;

			/* Something sound to begin with, which is then bent in a few places or everywhere. */
			for (size_t i = 0; i < sizeof(bytes); i++)
				bytes[i] = (uint8_t)it_random();
			if (control && it_random() % 4 != 0) {
				size = valid_message(it_random() % 5, bytes);
				from = it_random() % 2 ? size : 8;
			} else if (!control && it_random() % 4 != 0) {
				struct script_packet p;

				script_startup(&p,
				    it_random() % 2 ? SCRIPT_3_0 : SCRIPT_CANCEL + it_random() % 3,
				    "pglease.adopt=0:0:1:1:0:00000000000000000000000000000000");
				size = p.size;
				memcpy(bytes, p.bytes, size);
				from = 4 + it_random() % (size - 4);
			}
			if (from < size && size != 0)
				for (unsigned bent = it_random() % 8; bent > 0; bent--)
					bytes[from + it_random() % (size - from)] = (uint8_t)it_random();
			/* The broker may have closed it already. */
			if (send(sock, bytes, size, MSG_NOSIGNAL) < 0) {
				ck_assert_msg(errno == EPIPE || errno == ECONNRESET, "%s", strerror(errno));
				break;
			}
		}
		drain(sock);
	}
	ck_assert_int_eq(pglease_test_broker_pid(it_env), broker);
	finish(&worker);
}
END_TEST

/* Holds many connections of one kind that say nothing, until told. */
static void
say_nothing(int socket, const void *arg)
{
	bool control = *(const bool *)arg;
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (unsigned i = 0; i < SILENT; i++)
		(void)(control ? script_connect_control() : script_connect_adopt());
	it_say(socket, 'c');
	it_hear(socket, 's');
}

/* Before, while and after a thousand of each: new clients attach, and the worker goes on. */
static void
silence(struct it_worker *worker)
{
	static const bool control = true, adopt = false;
	struct it_worker silent[2];
	uint64_t enough;
	pglease_stats stats;
	pglease_pool *pool;

	silent[0] = it_worker(say_nothing, &control);
	silent[1] = it_worker(say_nothing, &adopt);
	for (unsigned i = 0; i < 2; i++)
		it_hear(silent[i].socket, 'c');
	pool = it_attach();
	it_ok(pglease_stats_get(pool, &stats));
	enough = stats.released + 100;
	it_await(pool, all_leased, &enough, "a hundred more leases");
	for (unsigned i = 0; i < 3; i++) {
		struct script_client c;

		script_attach(&c);
		script_detach(&c);
	}
	{
		pglease_lease lease;

		ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1"); /* adopts */
		it_release(&lease);
	}
	pglease_detach(it_client());
	for (unsigned i = 0; i < 2; i++)
		it_say(silent[i].socket, 's');
	for (unsigned i = 0; i < 2; i++)
		it_join(&silent[i]);
	finish(worker);
}

START_TEST(a_thousand_connections_that_say_nothing)
{
	struct it_worker worker;
	pid_t broker;

	worker = begin(&broker);
	silence(&worker);
}
END_TEST

START_TEST(a_thousand_connections_that_say_nothing_and_few_descriptors)
{
	struct rlimit limit;
	struct it_worker worker;
	pid_t broker;

	worker = begin(&broker);
	ck_assert_int_eq(prlimit(broker, RLIMIT_NOFILE, NULL, &limit), 0);
	limit.rlim_cur = 128;
	ck_assert_int_eq(prlimit(broker, RLIMIT_NOFILE, &limit, NULL), 0);
	silence(&worker);
}
END_TEST

IT_MAIN("bad_messages", every_part_of_every_control_message, messages_of_another_kind_version_or_size,
    a_library_of_another_version, descriptors_sent_to_the_broker, random_bytes,
    a_thousand_connections_that_say_nothing, a_thousand_connections_that_say_nothing_and_few_descriptors)
