/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's side of PostgreSQL's protocol, with a client that sends what no libpq at hand would send: newer
 * protocols, encryption requests, claims that are not true, cancel requests with wrong keys, and all of it in pieces.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "it.h"
#include "script.h"

#define REQUEST_SIZE (sizeof(WIRE_FD_REQUEST) - 1)

static struct script_client client;

static void
begin(struct script_claim *claim)
{
	it_start(1, 1, NULL);
	script_attach(&client);
	script_lease(&client, claim);
}

static void
finish(struct script_claim *claim)
{
	script_release(&client, claim);
	script_detach(&client);
}

/* The adopted socket leads to PostgreSQL. */
static void
assert_postgres(int fd)
{
	static const char query[] = "Q\0\0\0\x0dselect 7\0";
	char answer[256];
	ssize_t n = 0, at = 0;
	static const uint8_t end[] = {'Z', 0, 0, 0, 5, 'I'};
	bool seven = false;

	script_send(fd, query, sizeof(query) - 1);
	while (at < (ssize_t)sizeof(end) || memcmp(answer + at - sizeof(end), end, sizeof(end)) != 0) {
		/* Not blocking: that belongs to the connection, and so to all who hold it. */
		struct pollfd p = {.fd = fd, .events = POLLIN};

		ck_assert_int_eq(poll(&p, 1, 30000), 1);
		n = recv(fd, answer + at, sizeof(answer) - (size_t)at, MSG_DONTWAIT);
		ck_assert_int_gt(n, 0);
		at += n;
	}
	for (ssize_t i = 0; i + 10 < at; i++)
		seven |= memcmp(answer + i, "D\0\0\0\x0b\0\1\0\0\0\1", 11) == 0 && answer[i + 11] == '7';
	ck_assert(seven);
	close(fd);
}

/* A whole adoption on a connection where something has been said before. */
static void
adopt_on(int sock, const struct script_claim *claim)
{
	struct script_packet p;

	script_claim_packet(&p, SCRIPT_3_0, claim);
	script_send_packet(sock, &p);
	script_expect_welcome(sock, &client, claim, NULL);
	assert_postgres(script_take_descriptor(sock));
}

START_TEST(an_adoption_byte_for_byte)
{
	struct script_claim claim;
	uint64_t served;

	begin(&claim);
	served = script_counter(&client, COUNTER_ADOPTIONS_SERVED);
	adopt_on(script_connect_adopt(), &claim);
	adopt_on(script_connect_adopt(), &claim);
	ck_assert_uint_eq(script_counter(&client, COUNTER_ADOPTIONS_SERVED), served + 2);
	ck_assert_uint_eq(script_counter(&client, COUNTER_ADOPTIONS_REFUSED), 0);
	finish(&claim);
}
END_TEST

START_TEST(encryption_is_declined_twice_and_then_no_more)
{
	static const uint32_t orders[][2] = {{SCRIPT_SSL, 0}, {SCRIPT_GSS, 0}, {SCRIPT_GSS, SCRIPT_SSL},
	    {SCRIPT_SSL, SCRIPT_GSS}, {SCRIPT_SSL, SCRIPT_SSL}};
	struct script_claim claim;
	struct script_packet p;
	int sock;

	begin(&claim);
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		sock = script_connect_adopt();
		for (size_t n = 0; n < 2 && orders[i][n] != 0; n++) {
			script_code(&p, orders[i][n]);
			script_send_packet(sock, &p);
			script_expect(sock, "N", 1);
		}
		adopt_on(sock, &claim);
	}
	/* Too many; also when they come at once. */
	sock = script_connect_adopt();
	script_code(&p, SCRIPT_SSL);
	for (unsigned i = 0; i < 3; i++)
		script_send_packet(sock, &p);
	script_expect(sock, "NN", 2);
	script_expect_end(sock);
	/* With something in it. */
	sock = script_connect_adopt();
	script_begin(&p, SCRIPT_GSS);
	script_put(&p, "x", 1);
	script_end(&p);
	script_send_packet(sock, &p);
	script_expect_error(sock, "08P01", "encryption request");
	finish(&claim);
}
END_TEST

/* A start-up packet with these _pq_ options before the claim, and what NegotiateProtocolVersion says to it. */
static void
negotiate(const struct script_claim *claim, uint32_t version, const char *const unknown[], unsigned n)
{
	struct script_packet whole, p, expected = {.size = 0};
	size_t size = 8;
	int sock = script_connect_adopt();

	script_claim_packet(&whole, version, claim);
	script_begin(&p, version);
	for (unsigned i = 0; i < n; i++) {
		script_put_text(&p, unknown[i]);
		script_put_text(&p, "on");
		size += strlen(unknown[i]) + 1;
	}
	script_put(&p, whole.bytes + 8, whole.size - 8);
	script_end(&p);
	script_put(&expected, "v", 1);
	script_put32(&expected, (uint32_t)(4 + size));
	script_put32(&expected, SCRIPT_3_0);
	script_put32(&expected, n);
	for (unsigned i = 0; i < n; i++)
		script_put_text(&expected, unknown[i]);
	script_send_packet(sock, &p);
	script_expect(sock, expected.bytes, expected.size);
	script_expect_welcome(sock, &client, claim, NULL);
	assert_postgres(script_take_descriptor(sock));
}

START_TEST(newer_protocols_are_negotiated_down)
{
	static const char *const one[] = {"_pq_.test_protocol_negotiation"};
	static const char *const many[] = {"_pq_.a", "_pq_.b", "_pq_.c", "_pq_.d", "_pq_.e", "_pq_.f",
	    "_pq_.g", "_pq_.h", "_pq_.i", "_pq_.j", "_pq_.k", "_pq_."};
	char longest[3000];
	const char *const lengthy[] = {longest};
	struct script_claim claim;

	begin(&claim);
	negotiate(&claim, SCRIPT_3_0 + 2, NULL, 0);
	negotiate(&claim, SCRIPT_3_0 + 9999, NULL, 0);
	negotiate(&claim, SCRIPT_3_0 + 0xffff, one, 1);
	negotiate(&claim, SCRIPT_3_0, one, 1);
	negotiate(&claim, SCRIPT_3_0 + 2, many, 12);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	memcpy(longest, "_pq_.", 5);
	negotiate(&claim, SCRIPT_3_0, lengthy, 1);
	finish(&claim);
}
END_TEST

START_TEST(other_protocols_are_refused)
{
	static const uint32_t versions[] = {
	    2u << 16, 4u << 16, 1u << 16, 0, 0xffffffff, 80877105, 0x7fff0000};
	struct script_claim claim;
	struct script_packet p;

	begin(&claim);
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		int sock = script_connect_adopt();

		script_claim_packet(&p, versions[i], &claim);
		script_send_packet(sock, &p);
		script_expect_error(sock, "08P01", "protocol");
	}
	ck_assert_uint_eq(script_counter(&client, COUNTER_ADOPTIONS_SERVED), 0);
	finish(&claim);
}
END_TEST

START_TEST(all_of_it_in_single_bytes)
{
	struct script_claim claim;
	struct script_packet p;
	int sock, fd;

	begin(&claim);
	sock = script_connect_adopt();
	script_code(&p, SCRIPT_GSS);
	for (size_t i = 0; i < p.size; i++)
		script_send(sock, p.bytes + i, 1);
	script_expect(sock, "N", 1);
	script_claim_packet(&p, SCRIPT_3_0, &claim);
	for (size_t i = 0; i < p.size; i++)
		script_send(sock, p.bytes + i, 1);
	script_expect_welcome(sock, &client, &claim, NULL);
	for (size_t i = 0; i < REQUEST_SIZE; i++)
		script_send(sock, WIRE_FD_REQUEST + i, 1);
	ck_assert_int_eq(script_answer(sock, &fd), WIRE_FD_OK);
	ck_assert_int_ge(fd, 0);
	script_expect_end(sock);
	assert_postgres(fd);
	finish(&claim);
}
END_TEST

/* Says a part of it, then nothing more: the connection ends, and nothing is answered. */
static void
say_a_part(const struct script_packet *p, size_t size)
{
	int sock = script_connect_adopt();

	script_send(sock, p->bytes, size);
	ck_assert_int_eq(shutdown(sock, SHUT_WR), 0);
	script_expect_end(sock);
}

START_TEST(parts_of_every_packet)
{
	struct script_claim claim;
	struct script_packet p;

	begin(&claim);
	script_code(&p, SCRIPT_SSL);
	for (size_t size = 1; size < p.size; size++)
		say_a_part(&p, size);
	script_claim_packet(&p, SCRIPT_3_0, &claim);
	for (size_t size = 1; size < p.size; size++)
		say_a_part(&p, size);
	for (size_t size = 0; size < REQUEST_SIZE; size++) {
		int sock = script_connect_adopt();

		script_send_packet(sock, &p);
		script_expect_welcome(sock, &client, &claim, NULL);
		script_send(sock, WIRE_FD_REQUEST, size);
		ck_assert_int_eq(shutdown(sock, SHUT_WR), 0);
		script_expect_end(sock);
	}
	ck_assert_uint_eq(script_counter(&client, COUNTER_ADOPTIONS_SERVED), 0);
	adopt_on(script_connect_adopt(), &claim);
	finish(&claim);
}
END_TEST

START_TEST(lengths_that_are_none)
{
	static const uint32_t lengths[] = {0, 1, 7, 4097, 10001, 0x7fffffff, 0x80000000, 0xffffffff};
	struct script_claim claim;
	struct script_packet p = {.size = 0};

	begin(&claim);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		int sock = script_connect_adopt();

		p.size = 0;
		script_put32(&p, lengths[i]);
		script_send_packet(sock, &p);
		script_expect_error(sock, "08P01", "length");
	}
	finish(&claim);
}
END_TEST

START_TEST(parameters_that_are_none)
{
	/* No end; a name without value; bytes after the end; nothing; a value without its zero. */
	static const struct {
		const char *bytes;
		size_t size;
	} bodies[] = {
	    {"user\0u\0", 7}, {"user\0", 5}, {"user\0u\0\0x", 9}, {"", 0}, {"user\0u", 6}, {"\0\0", 2}};
	struct script_claim claim;
	struct script_packet p;

	begin(&claim);
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		int sock = script_connect_adopt();

		script_begin(&p, SCRIPT_3_0);
		script_put(&p, bodies[i].bytes, bodies[i].size);
		script_end(&p);
		script_send_packet(sock, &p);
		script_expect_error(sock, "08P01", "start-up packet");
	}
	finish(&claim);
}
END_TEST

START_TEST(options_that_are_no_adoption)
{
	static const char *const options[] = {NULL, "", "-c search_path=x",
	    "pglease.adopt=", "pglease.adopt=0:0:1:1:0:", "pglease.adopt=0:0:1:1:0:zz",
	    "pglease.adopt=-1:0:1:1:0:00000000000000000000000000000000",
	    "pglease.adopt=0:0:1:1:0:000000000000000000000000000000000", "pglease.adopt=%n%n%n%s",
	    "pglease.adopt=0:0:1:1:0:00000000000000000000000000000000 -c x=y"};
	struct script_claim claim;
	struct script_packet p;

	begin(&claim);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		int sock = script_connect_adopt();

		script_startup(&p, SCRIPT_3_0, options[i]);
		script_send_packet(sock, &p);
		script_expect_error(sock, "08P01", "use libpglease");
	}
	finish(&claim);
}
END_TEST

static void
assert_claim_refused(const struct script_claim *claim, const char *sqlstate, const char *word)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	script_claim_packet(&p, SCRIPT_3_0, claim);
	/* Together with the request for the descriptor: it must not be served either. */
	script_put(&p, WIRE_FD_REQUEST, REQUEST_SIZE);
	script_send_packet(sock, &p);
	script_expect_error(sock, sqlstate, word);
}

START_TEST(claims_that_are_not_true_get_no_descriptor)
{
	struct script_claim claim, wrong;
	struct script_client other;
	uint64_t refused = 0;

	begin(&claim);
	script_attach(&other);
	for (unsigned bit = 0; bit < 8 * WIRE_NONCE; bit += 37) {
		wrong = claim;
		wrong.nonce[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_claim_refused(&wrong, "28000", "attach");
		refused++;
	}
	/* Another client, who says truly who it is but does not hold the slot; the index of another with one's own nonce. */
	wrong = claim;
	wrong.client = other.welcome.client;
	assert_claim_refused(&wrong, "28000", "attach");
	memcpy(wrong.nonce, other.welcome.nonce, sizeof(wrong.nonce));
	assert_claim_refused(&wrong, "55000", "acquire again");
	for (size_t i = 0; i < 3; i++) {
		wrong = claim;
		wrong.client = (const uint32_t[]){claim.client + 2, 256, UINT32_MAX}[i];
		assert_claim_refused(&wrong, "28000", "attach");
		wrong = claim;
		wrong.slot = (const uint32_t[]){claim.slot + 1, client.seg.nslots, UINT32_MAX}[i];
		assert_claim_refused(&wrong, "55000", i == 0 ? "acquire again" : "no such slot");
		wrong = claim;
		wrong.generation += (const uint64_t[]){1, UINT64_MAX, UINT64_C(1) << 32}[i];
		assert_claim_refused(&wrong, "55000", "acquire again");
		wrong = claim;
		wrong.sequence += (const uint64_t[]){1, UINT64_MAX, UINT64_C(1) << 40}[i];
		assert_claim_refused(&wrong, "55000", "acquire again");
	}
	refused += 2 + 12;
	ck_assert_uint_eq(script_counter(&client, COUNTER_ADOPTIONS_REFUSED), refused);
	/* Without a pool there is none to count it for. */
	wrong = claim;
	wrong.pool = 1;
	assert_claim_refused(&wrong, "55000", "no such slot");
	wrong.pool = UINT32_MAX;
	assert_claim_refused(&wrong, "55000", "no such slot");
	ck_assert_uint_eq(script_counter(&client, COUNTER_ADOPTIONS_REFUSED), refused);
	ck_assert_uint_eq(script_counter(&client, COUNTER_ADOPTIONS_SERVED), 0);
	script_detach(&other);
	/* One that has gone. */
	wrong = claim;
	wrong.client = other.welcome.client;
	memcpy(wrong.nonce, other.welcome.nonce, sizeof(wrong.nonce));
	assert_claim_refused(&wrong, "28000", "attach");
	adopt_on(script_connect_adopt(), &claim);
	finish(&claim);
}
END_TEST

START_TEST(requests_for_the_descriptor_at_other_times)
{
	struct script_claim claim;
	struct script_packet p;
	int sock, fd;

	begin(&claim);
	/* Before the handshake. */
	sock = script_connect_adopt();
	script_send(sock, WIRE_FD_REQUEST, REQUEST_SIZE);
	script_expect_error(sock, "08P01", "length");
	/* With the start-up packet: the descriptor comes after ReadyForQuery. */
	sock = script_connect_adopt();
	script_claim_packet(&p, SCRIPT_3_0, &claim);
	script_put(&p, WIRE_FD_REQUEST, REQUEST_SIZE);
	script_send_packet(sock, &p);
	script_expect_welcome(sock, &client, &claim, NULL);
	ck_assert_int_eq(script_answer(sock, &fd), WIRE_FD_OK);
	script_expect_end(sock);
	assert_postgres(fd);
	/* Twice at once: that is nothing that a client of ours says. */
	sock = script_connect_adopt();
	script_claim_packet(&p, SCRIPT_3_0, &claim);
	script_send_packet(sock, &p);
	script_expect_welcome(sock, &client, &claim, NULL);
	script_send(sock, WIRE_FD_REQUEST WIRE_FD_REQUEST, 2 * REQUEST_SIZE);
	script_expect_error(sock, "08P01", "pglease broker");
	/* Half of it, and then something else. */
	sock = script_connect_adopt();
	script_send_packet(sock, &p);
	script_expect_welcome(sock, &client, &claim, NULL);
	script_send(sock, WIRE_FD_REQUEST, 4);
	script_send(sock, "XXXX", 4);
	script_expect_error(sock, "08P01", "pglease broker");
	/* After the lease has ended. */
	sock = script_connect_adopt();
	script_send_packet(sock, &p);
	script_expect_welcome(sock, &client, &claim, NULL);
	script_release(&client, &claim);
	script_send(sock, WIRE_FD_REQUEST, REQUEST_SIZE);
	ck_assert_int_eq(script_answer(sock, &fd), WIRE_FD_REFUSED);
	ck_assert_int_eq(fd, -1);
	script_expect_end(sock);
	/* The same slot again is another lease. */
	script_lease(&client, &claim);
	sock = script_connect_adopt();
	script_send_packet(sock, &p);
	script_expect_error(sock, "55000", "acquire again");
	adopt_on(script_connect_adopt(), &claim);
	finish(&claim);
}
END_TEST

START_TEST(what_comes_after_ready_for_query)
{
	static const char *const messages[] = {"Q\0\0\0\x0dselect 1", "P", "\0", "p\0\0\0\x05", "PGLSFD2\n"};
	static const size_t sizes[] = {14, 1, 1, 5, 8};
	struct script_claim claim;
	struct script_packet p;
	int sock;

	begin(&claim);
	script_claim_packet(&p, SCRIPT_3_0, &claim);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		sock = script_connect_adopt();
		script_send_packet(sock, &p);
		script_expect_welcome(sock, &client, &claim, NULL);
		script_send(sock, messages[i], sizes[i]);
		if (i == 1) /* so does a request begin: nothing is wrong yet */
			script_send(sock, "x", 1);
		script_expect_error(sock, "08P01", "acquire again");
	}
	/* Terminate, and nothing at all. */
	for (size_t i = 0; i < 2; i++) {
		sock = script_connect_adopt();
		script_send_packet(sock, &p);
		script_expect_welcome(sock, &client, &claim, NULL);
		if (i == 0)
			script_send(sock, "X\0\0\0\x04", 5);
		else
			ck_assert_int_eq(shutdown(sock, SHUT_WR), 0);
		script_expect_end(sock);
	}
	adopt_on(script_connect_adopt(), &claim);
	finish(&claim);
}
END_TEST

/* The answer to a whole cancel request is the end of the connection and nothing else. */
static void
cancel_with(const struct script_packet *p)
{
	int sock = script_connect_adopt();

	script_send_packet(sock, p);
	script_expect_end(sock);
}

START_TEST(cancel_requests_with_wrong_keys)
{
	static const size_t long_sizes[] = {1, 3, 5, 8, 32, 255, 256};
	struct script_claim claim;
	struct script_packet p;
	uint8_t key[4096] = {0};
	uint32_t right, guess, pid;
	uint64_t refused = 0;
	int sock, fd;

	begin(&claim);
	pid = atomic_load(&client.seg.slot[claim.slot].server_pid);
	sock = script_connect_adopt();
	script_claim_packet(&p, SCRIPT_3_0, &claim);
	script_send_packet(sock, &p);
	script_expect_welcome(sock, &client, &claim, &right);
	fd = script_take_descriptor(sock);

	guess = right ^ htonl(1);
	script_cancel(&p, pid, &guess, sizeof(guess));
	cancel_with(&p);
	script_cancel(&p, pid, "\0\0\0", 4);
	cancel_with(&p);
	script_cancel(&p, pid + 1, &right, sizeof(right));
	cancel_with(&p);
	script_cancel(&p, 0, &right, sizeof(right));
	cancel_with(&p);
	refused += 4;
	ck_assert_uint_eq(script_counter(&client, COUNTER_CANCELS_REFUSED), refused);
	/* Keys of protocol 3.2, one of which begins with the right one. */
	for (size_t i = 0; i < sizeof(long_sizes) / sizeof(long_sizes[0]); i++) {
		memcpy(key, &right, sizeof(right));
		script_cancel(&p, pid, key, long_sizes[i]);
		cancel_with(&p);
	}
	/* Too short, too long, cut off, without any key. */
	script_cancel(&p, pid, key, 257);
	cancel_with(&p);
	script_cancel(&p, pid, key, 4000);
	cancel_with(&p);
	script_cancel(&p, pid, key, 0);
	cancel_with(&p);
	script_code(&p, SCRIPT_CANCEL);
	cancel_with(&p);
	script_cancel(&p, pid, &right, sizeof(right));
	for (size_t size = 0; size < p.size; size++)
		say_a_part(&p, size);
	ck_assert_uint_eq(script_counter(&client, COUNTER_CANCELS), 0);
	/* None of them was, and the right one is. */
	cancel_with(&p);
	ck_assert_uint_eq(script_counter(&client, COUNTER_CANCELS), 1);
	assert_postgres(fd);
	/* A key is good for a lease, and no longer. */
	refused = script_counter(&client, COUNTER_CANCELS_REFUSED);
	script_release(&client, &claim);
	cancel_with(&p);
	ck_assert_uint_eq(script_counter(&client, COUNTER_CANCELS), 1);
	ck_assert_uint_eq(script_counter(&client, COUNTER_CANCELS_REFUSED), refused + 1);
	script_detach(&client);
}
END_TEST

IT_MAIN("protocol", an_adoption_byte_for_byte, encryption_is_declined_twice_and_then_no_more,
    newer_protocols_are_negotiated_down, other_protocols_are_refused, all_of_it_in_single_bytes,
    parts_of_every_packet, lengths_that_are_none, parameters_that_are_none, options_that_are_no_adoption,
    claims_that_are_not_true_get_no_descriptor, requests_for_the_descriptor_at_other_times,
    what_comes_after_ready_for_query, cancel_requests_with_wrong_keys)
